/** Copies between folders and a real MinIO, in both directions, with the credentials that each side would have. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { assertDefined } from "../../src/std/assert.ts";
import { digestOf } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { openFileCopy } from "../../src/store/fs/file-copy.ts";
import { createFileStore } from "../../src/store/fs/file-store.ts";
import { artifactKey, commitKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import { type Duty, type Minio, startMinio } from "../minio/minio.ts";
import { machineClock, machineRandom } from "../store/machine.ts";
import { contents, copyTo, Lab, sha256, verify } from "./lab.ts";

const MINIO_MS = 20 * 60_000;
const root = mkdtempSync(join(tmpdir(), "datapilot-replicate-s3-"));
const LATER = Date.UTC(2035, 0, 1);

let minio: Minio;
let lab: Lab;

beforeAll(async () => {
  minio = await startMinio();
  lab = await Lab.create();
  await lab.datasets(30);
  await lab.artifact("weights ".repeat(200_000));
  await lab.log.seal();
}, MINIO_MS);
afterAll(async () => {
  await minio[Symbol.asyncDispose]();
  rmSync(root, { force: true, recursive: true });
}, 120_000);

async function buckets(name: string): Promise<(duty: Duty) => Promise<S3Store>> {
  const address = parseS3Address(minio.address(name));
  await makeBuckets({ address, credentials: minio.root }, 1);
  return async (duty) => createS3Store({ address, clock: machineClock, credentials: await minio.as(duty, name) });
}

it("goes from memory to MinIO, over an attack there, and back into a folder", async () => {
  const open = await buckets("mirror");
  await using writer = await open("writer");
  const first = await copyTo(lab.store, writer, { clock: machineClock });
  expect(first).toMatchObject({ findings: [], verdict: "COPIED", written: { artifacts: 1 } });
  expect(await contents(writer, "ledger")).toEqual(await contents(lab.store, "ledger"));
  const floor = Date.now() + 364 * 86_400_000;
  for await (const info of writer.list("ledger", "", { locks: true })) {
    expect(info.lockMode, info.key).toBe("COMPLIANCE");
    expect(info.retainUntil, info.key).toBeGreaterThan(floor);
  }
  await lab.datasets(5);
  await lab.log.seal();
  const second = await copyTo(lab.store, writer, { clock: machineClock });
  expect(second).toMatchObject({ findings: [], from: first.to, verdict: "COPIED" });
  const whole = await contents(writer, "ledger");

  await using attacker = createS3Store({
    address: parseS3Address(minio.address("mirror")),
    clock: machineClock,
    credentials: minio.root,
  });
  const [artifact] = assertDefined([...lab.artifacts][0], "an artifact");
  for (const key of [commitKey(3), artifact])
    await attacker.transport.send({ body: utf8("mine"), method: "PUT", path: `mirror-ledger/${key}` });
  await attacker.transport.send({ method: "DELETE", path: `mirror-ledger/${commitKey(4)}` });
  await using reader = await open("reader");
  await using home = await createFileStore({
    allowAdvisoryLock: true,
    clock: machineClock,
    minimumFreeBytes: 0,
    random: machineRandom,
    root: join(root, "home"),
  });
  const back = await copyTo(reader, home, { clock: machineClock });
  expect(back).toMatchObject({ findings: [], to: second.to, verdict: "COPIED" });
  expect(back.notes.map((n) => n.split(":", 1)[0] ?? "").toSorted()).toEqual([
    "object.hidden",
    "object.shadowed",
    "object.shadowed",
  ]);
  expect(await contents(home, "ledger")).toEqual(whole);
  expect((await verify(openFileCopy(join(root, "home")))).verdict).toBe("COMPLETE");
});

it("takes streams of exactly the bytes that were announced", async () => {
  const open = await buckets("streams");
  await using store = await open("writer");
  const body = utf8("0123456789".repeat(100_000));
  const key = artifactKey(digestOf(lab.project), sha256(body));
  async function* pieces(of: Uint8Array): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < of.length; at += 65_536) yield of.subarray(at, at + 65_536);
  }
  const send = (of: Uint8Array) => store.receive(key, sha256(body), body.length, pieces(of), { retainUntil: LATER });
  expect(await send(body.subarray(1))).toMatchObject({ field: "length", outcome: "mismatch" });
  expect(await send(utf8(`x${"0123456789".repeat(100_000)}`))).toMatchObject({ field: "length", outcome: "mismatch" });
  expect(await send(utf8("012345678x".repeat(100_000)))).toMatchObject({ field: "sha256", outcome: "mismatch" });
  expect(await store.head("ledger", key)).toBeNull();
  expect(await send(body)).toMatchObject({ outcome: "created" });
  expect(await store.head("ledger", key)).toMatchObject({ lockMode: "COMPLIANCE", sha256: sha256(body) });
});
