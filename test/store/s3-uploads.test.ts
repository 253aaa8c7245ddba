/**
 * Presigned addresses on a real MinIO, in the hands of somebody who wants something else than what was signed. What the store cannot
 * refuse by itself, the proxy of `deploy/proxy` does (`test/platform/proxy.test.ts`).
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createS3BlobUrls } from "../../src/main/blob-urls.ts";
import type { Digest } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { findBlob } from "../../src/store/find-blob.ts";
import { artifactKey, commitKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store, type PresignedPut, type PresignedUrl, type S3Store } from "../../src/store/s3/s3-store.ts";
import type { S3Credentials, S3Request } from "../../src/store/s3/transport.ts";
import { collect } from "../contract/object-store.ts";
import { type Minio, startMinio } from "../minio/minio.ts";
import { machineClock } from "./machine.ts";

const NAME = "uploads";
const PROJECT = "ab".repeat(32) as Digest;
const LATER = Date.UTC(2035, 0, 1);
const RIGHT = utf8("what was announced");
const WRONG = utf8("What was announced");

let minio: Minio;
let writer: S3Store;
let presigner: S3Store;
let root: S3Store;
const openAs = (credentials: S3Credentials): S3Store =>
  createS3Store({ address: parseS3Address(minio.address(NAME)), clock: machineClock, credentials });

beforeAll(async () => {
  minio = await startMinio();
  await makeBuckets({ address: parseS3Address(minio.address(NAME)), credentials: minio.root }, 1);
  writer = openAs(await minio.as("writer", NAME));
  presigner = openAs(await minio.as("presigner", NAME));
  root = openAs(minio.root);
}, 20 * 60_000);
afterAll(async () => {
  for (const owned of [writer, presigner, root, minio]) await owned[Symbol.asyncDispose]();
});

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
let keys = 0;
/** A key of its own for each try; what it names does not matter to the store. */
const freshKey = (): string => artifactKey(PROJECT, sha256(utf8(String(keys++))) as Digest);

const sign = (key: string, more: Partial<PresignedPut> = {}): Promise<PresignedUrl> =>
  presigner.presignPut({
    ifAbsent: true,
    key,
    retainUntil: LATER,
    seconds: 60,
    sha256: sha256(RIGHT),
    sizeBytes: RIGHT.length,
    ...more,
  });

const headersOf = ({ headers }: PresignedUrl): Record<string, string> =>
  Object.fromEntries(headers.filter((h) => h.name !== "content-length").map((h) => [h.name, h.value]));

const send = async (
  url: string,
  headers: Readonly<Record<string, string>>,
  body = RIGHT,
  method = "PUT",
): Promise<number> => {
  const answer = await fetch(url, { headers, method, ...(method === "GET" ? {} : { body }) });
  await answer.arrayBuffer();
  return answer.status;
};

it("takes exactly the bytes that were announced, once, under the lock that was signed", async () => {
  const key = freshKey();
  const signed = await sign(key);
  const headers = headersOf(signed);
  expect(await send(signed.url, headers, WRONG), "other bytes").toBe(400);
  expect(await send(signed.url, headers, utf8("shorter")), "fewer bytes").toBe(403);
  expect(await send(signed.url, headers, utf8(`${"x".repeat(RIGHT.length)}+`)), "more bytes").toBe(403);
  expect(await collect(root.versions("ledger", key))).toEqual([]);
  expect(await send(signed.url, headers)).toBe(200);
  expect(await send(signed.url, headers), "again").toBe(412);
  expect(await writer.head("ledger", key)).toMatchObject({
    lockMode: "COMPLIANCE",
    retainUntil: LATER,
    sha256: sha256(RIGHT),
    sizeBytes: RIGHT.length,
  });
  expect(await collect(root.versions("ledger", key))).toHaveLength(1);
});

it("refuses who leaves a header out or changes one, another key, another method, and who comes late", async () => {
  const key = freshKey();
  const signed = await sign(key);
  const headers = headersOf(signed);
  for (const name of Object.keys(headers)) {
    const { [name]: _, ...rest } = headers;
    expect(await send(signed.url, rest), `without ${name}`).toBeGreaterThanOrEqual(400);
  }
  for (const [name, value] of [
    ["x-amz-object-lock-mode", "GOVERNANCE"],
    ["x-amz-object-lock-retain-until-date", new Date(Date.now() + 60_000).toISOString()],
    ["x-amz-checksum-sha256", createHash("sha256").update(WRONG).digest("base64")],
    ["if-none-match", '"x"'],
  ] as const)
    expect(await send(signed.url, { ...headers, [name]: value }, WRONG), name).toBe(403);
  const other = freshKey();
  expect(await send(signed.url.replace(key, other), headers), "another key").toBe(403);
  expect(await send(signed.url, headers, RIGHT, "DELETE"), "another method").toBe(403);
  expect(await send(signed.url, headers, RIGHT, "GET"), "reading").toBe(403);
  const brief = await sign(key, { seconds: 1 });
  await sleep(2_100);
  expect(await send(brief.url, headersOf(brief)), "late").toBe(403);
  for (const k of [key, other]) expect(await collect(root.versions("ledger", k))).toEqual([]);
});

it("keeps the lock whatever unsigned header says otherwise, and copies nothing", async () => {
  const secret = commitKey(0);
  await writer.create("ledger", secret, utf8("a commit"), { retainUntil: LATER });
  for (const extra of [
    { "x-amz-object-lock-legal-hold": "OFF" },
    { "x-amz-bypass-governance-retention": "true" },
    { "x-amz-copy-source": `/${NAME}-ledger/${secret}` },
    { "x-amz-tagging": "a=b" },
  ]) {
    const key = freshKey();
    const signed = await sign(key);
    const status = await send(signed.url, { ...headersOf(signed), ...extra });
    const info = await writer.head("ledger", key);
    if (status === 200)
      expect(info, JSON.stringify(extra)).toMatchObject({
        lockMode: "COMPLIANCE",
        retainUntil: LATER,
        sha256: sha256(RIGHT),
      });
    else expect([status >= 400, info], JSON.stringify(extra)).toEqual([true, null]);
  }
});

it("lets who signs uploads read nothing, and neither writer nor presigner take anything back", async () => {
  const key = freshKey();
  const signed = await sign(key);
  expect(await send(signed.url, headersOf(signed))).toBe(200);
  const versionId = (await writer.head("ledger", key))?.versionId ?? "";
  const peek = await presigner.presignGet({ key, seconds: 60, versionId });
  expect((await fetch(peek.url)).status).toBe(403);
  await expect(presigner.get("ledger", key)).rejects.toThrow("deploy/iam");
  const path = `${NAME}-ledger/${key}`;
  const bypass = { "x-amz-bypass-governance-retention": "true" };
  const retention = (mode: string): S3Request => ({
    body: utf8(
      `<Retention xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Mode>${mode}</Mode><RetainUntilDate>${new Date(Date.now() + 60_000).toISOString()}</RetainUntilDate></Retention>`,
    ),
    method: "PUT",
    path,
    query: { retention: "", versionId },
  });
  for (const store of [writer, presigner])
    for (const request of [
      { method: "DELETE", path } as const,
      { method: "DELETE", path, query: { versionId } } as const,
      { headers: bypass, method: "DELETE", path, query: { versionId } } as const,
      retention("COMPLIANCE"),
      { ...retention("GOVERNANCE"), headers: bypass },
    ]) {
      const { status } = await store.transport.send(request);
      expect([400, 403], `${request.method} ${JSON.stringify(request)}`).toContain(status);
    }
  // The administrator neither: the lock binds him too.
  expect((await root.transport.send({ method: "DELETE", path, query: { versionId } })).status).toBeGreaterThanOrEqual(
    400,
  );
  expect(await writer.head("ledger", key)).toMatchObject({ lockMode: "COMPLIANCE", retainUntil: LATER, versionId });
  expect(await collect(root.versions("ledger", key))).toHaveLength(1);
});

it("reads the version that was signed, and finds the bytes under a shadow and a marker", async () => {
  const key = freshKey();
  const signed = await sign(key);
  expect(await send(signed.url, headersOf(signed))).toBe(200);
  const urls = createS3BlobUrls(writer, presigner);
  const blob = { key, sha256: sha256(RIGHT), sizeBytes: RIGHT.length };
  const before = await urls.get(blob);
  const path = `${NAME}-ledger/${key}`;
  expect((await root.transport.send({ body: WRONG, method: "PUT", path })).status).toBe(200);
  expect((await root.transport.send({ method: "DELETE", path })).status).toBe(204);
  for (const { url } of [before, await urls.get(blob)]) {
    const answer = await fetch(url);
    expect(answer.headers.get("content-disposition")).toMatch(/^attachment/);
    expect(new Uint8Array(await answer.arrayBuffer())).toEqual(RIGHT);
  }
  expect((await findBlob(writer, key, sha256(RIGHT)))?.isVerified).toBe(true);
  // Of the shadow the store says nothing, so it has to be read.
  expect(await findBlob(writer, key, sha256(utf8("never there")))).toMatchObject({ isVerified: false });
  await expect(urls.get({ ...blob, key: freshKey() })).rejects.toMatchObject({ reason: "ERASED" });
});

it("lets the right bytes over foreign ones, and asks for no second upload of right ones", async () => {
  const key = freshKey();
  const urls = createS3BlobUrls(writer, presigner);
  const blob = { key, sha256: sha256(RIGHT), sizeBytes: RIGHT.length };
  expect((await root.transport.send({ body: WRONG, method: "PUT", path: `${NAME}-ledger/${key}` })).status).toBe(200);
  const over = await urls.put(blob);
  expect(over.headers.map((h) => h.name)).not.toContain("if-none-match");
  expect(await send(over.url, headersOf(over))).toBe(200);
  expect(await findBlob(writer, key, sha256(RIGHT))).toMatchObject({ isVerified: true });
  const again = await urls.put(blob);
  expect(await send(again.url, headersOf(again))).toBe(412);
});

it("gives clients the address of the proxy, and signs for it", async () => {
  const address = parseS3Address(minio.address(NAME, "?public=https://store.example.org"));
  await using store = createS3Store({ address, clock: machineClock, credentials: await minio.as("presigner", NAME) });
  const { url } = await store.presignPut({
    ifAbsent: true,
    key: freshKey(),
    retainUntil: LATER,
    seconds: 60,
    sha256: sha256(RIGHT),
    sizeBytes: RIGHT.length,
  });
  expect(url).toMatch(/^https:\/\/store\.example\.org\/uploads-ledger\/artifacts\//);
  expect(new URL(url).searchParams.get("X-Amz-SignedHeaders")?.split(";")).toEqual([
    "content-length",
    "host",
    "if-none-match",
    "x-amz-checksum-sha256",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
  ]);
});
