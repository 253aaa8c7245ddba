/** Copies and verification of artifacts in chunks: each part counts, and what is owed comes later. */
import { beforeAll, describe, expect, it } from "vitest";
import { contentIdentity } from "../../src/fold/identity.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { type Digest, idOf } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import type { BucketReport } from "../../src/verify/bucket.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { contents, copyTo, Lab, NOW_MS, sha256, verify, withReceive } from "./lab.ts";

let lab: Lab;
let manifest: string;
let chunks: string[];
const CLAIM = sha256(utf8("not what it is"));

beforeAll(async () => {
  lab = await Lab.create();
  await lab.artifact("rows");
  [manifest = "", ...chunks] = await lab.chunked(["0123", "4567", "0123", "89"]);
  await lab.log.seal();
}, 60_000);

const copy = async () => {
  const store = withReceive(createMemoryStore({ lock: "compliance" }));
  expect(await copyTo(lab.store, store)).toMatchObject({ verdict: "COPIED", written: { artifacts: 5 } });
  return store;
};
const codesOf = ({ checks }: BucketReport): string[] =>
  checks.flatMap((c) => c.failures.map((f) => `${f.code} ${f.at}`));

/** Without one object. */
async function without(key: string) {
  const store = withReceive(createMemoryStore({ lock: "compliance" }));
  const whole = await copy();
  for (const bucket of ["ledger", "head"] as const)
    for (const k of whole.keys(bucket)) {
      if (k === key) continue;
      const { body } = assertDefined(await whole.get(bucket, k), k);
      await store.create(bucket, k, body, { retainUntil: NOW_MS * 2 });
    }
  return store;
}

it("copies the chunks with the manifest, once, and verifies them", async () => {
  const store = await copy();
  expect(await contents(store, "ledger")).toEqual(await contents(lab.store, "ledger"));
  expect(await copyTo(lab.store, store)).toMatchObject({ verdict: "COPIED", written: { artifacts: 0 } });
  const report = await verify(store, { artifacts: true });
  expect(codesOf(report)).toEqual([]);
  expect(report).toMatchObject({ artifacts: { missing: 0, verified: 2 }, verdict: "COMPLETE" });
  expect(report.notes.filter((n) => n.startsWith("artifact."))).toEqual([]);
});

describe("a chunk", () => {
  it("that is missing is found", async () => {
    const key = chunks[1] ?? "";
    const report = await verify(await without(key), { artifacts: true });
    expect(codesOf(report)).toEqual([`artifact.missing ${key}`]);
    expect(report).toMatchObject({ artifacts: { missing: 1, verified: 1 }, verdict: "HOLED" });
  });

  it("of other bytes contradicts, and one below a shadow does not", async () => {
    const key = chunks[3] ?? "";
    const shadowed = await copy();
    shadowed.shadow(key, utf8("xy"));
    const report = await verify(shadowed, { artifacts: true });
    expect(codesOf(report).map((c) => c.split(" ")[0])).toContain("object.shadowed");
    expect(report).toMatchObject({ artifacts: { shadowed: 1, verified: 1 }, verdict: "COMPLETE" });
    const wrong = await without(key);
    await wrong.create("ledger", key, utf8("xy"), { retainUntil: NOW_MS * 2 });
    expect(await verify(wrong, { artifacts: true })).toMatchObject({
      artifacts: { missing: 1 },
      verdict: "CONTRADICTED",
    });
  });

  it("that is not locked as long as the record is found", async () => {
    const key = chunks[1] ?? "";
    const store = await without(key);
    await store.create("ledger", key, utf8("4567"), { retainUntil: NOW_MS + 7 * 86_400_000 });
    const report = await verify(store, { artifacts: true });
    expect(codesOf(report)).toEqual([`object.retention ${key}`]);
    expect(report).toMatchObject({ artifacts: { lock_short: 1, verified: 1 } });
  });

  it("that the source lacks is owed, and comes with the next copy", async () => {
    const key = chunks[1] ?? "";
    const source = await without(key);
    const target = withReceive(createMemoryStore({ lock: "compliance" }));
    const first = await copyTo(source, target);
    expect(first).toMatchObject({ verdict: "INCOMPLETE", written: { artifacts: 4 } });
    expect(first.findings.map((f) => [f.code, f.at])).toEqual([["artifact.missing", key]]);
    expect(await copyTo(lab.store, target)).toMatchObject({ verdict: "COPIED", written: { artifacts: 1 } });
    expect(await verify(target, { artifacts: true })).toMatchObject({ verdict: "COMPLETE" });
  });
});

it("a manifest that the source lacks brings its chunks when it comes", async () => {
  const source = await without(manifest);
  const target = withReceive(createMemoryStore({ lock: "compliance" }));
  expect(await copyTo(source, target)).toMatchObject({ verdict: "INCOMPLETE", written: { artifacts: 1 } });
  expect(await copyTo(lab.store, target)).toMatchObject({ verdict: "COPIED", written: { artifacts: 4 } });
  expect(await verify(target, { artifacts: true })).toMatchObject({ artifacts: { verified: 2 }, verdict: "COMPLETE" });
});

describe("the SHA-256 of the whole", () => {
  it("is a claim: one that is not true is noted, and a record that vouches for it is wrong", async () => {
    const other = await Lab.create();
    const [key = ""] = await other.chunked(["0123", "45"], CLAIM);
    await other.log.seal();
    const claimed = await verify(other.store, { artifacts: true });
    expect(codesOf(claimed)).toEqual([]);
    expect(claimed.notes).toContainEqual(expect.stringContaining(`claimed ${CLAIM}`));
    const body = { digest: idOf(key.slice(-64) as Digest) };
    const identity = assertDefined(contentIdentity("artifact", other.project, body, []), "content");
    const subject = assertDefined(other.log.index.reader().get("content", identity), "an artifact").value.id;
    const draft = (digest: string) =>
      ({
        actor: { method: "system" },
        body: { digests: [`sha256:${digest}`], type: "OPERATION_TYPE_SCRUB" },
        kind: "operation",
        links: [{ rel: "subject", to: subject }],
        project: other.project,
        requestId: `read-${digest}`,
      }) as const;
    await other.log.submit({ admit: () => ({ drafts: [draft(CLAIM)], value: 0 }), project: other.project });
    await other.log.seal();
    expect(codesOf(await verify(other.store, { artifacts: true }))).toEqual([`artifact.digest ${key}`]);
  });
});
