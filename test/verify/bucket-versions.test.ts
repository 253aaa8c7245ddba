/** Buckets with versions and locks: what an attacker lays over objects is found, and hides nothing. */
import { beforeAll, describe, expect, it } from "vitest";
import { assertDefined } from "../../src/std/assert.ts";
import { digestOf } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { artifactKey, commitKey } from "../../src/store/keys.ts";
import { formatResumed, parseResumed, type Resumed } from "../../src/verify/bucket/resume.ts";
import type { BucketReader, BucketReport } from "../../src/verify/bucket.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { copyTo, Lab, NOW_MS, sha256, verify, withReceive } from "../replicate/lab.ts";

const LATER = NOW_MS + 3_000 * 86_400_000;
let lab: Lab;
let artifacts: string[];

/** A primary whose store keeps versions and enforces locks. */
async function primary(): Promise<MemoryStore> {
  const store = withReceive(createMemoryStore({ lock: "compliance" }));
  await copyTo(lab.store, store);
  return store;
}

beforeAll(async () => {
  lab = await Lab.create();
  await lab.datasets(265);
  artifacts = [await lab.artifact("rows"), await lab.artifact("weights"), await lab.artifact("of a person")];
  await lab.record(
    "operation",
    { basis: "asked for", digests: [`sha256:${sha256(utf8("of a person"))}`], type: "OPERATION_TYPE_ERASURE" },
    "erasure",
  );
  await lab.log.seal();
}, 60_000);

const codesOf = ({ checks }: BucketReport): string[] => [
  ...new Set(checks.flatMap((c) => c.failures.map((f) => `${c.id} ${f.code}`))),
];
const bytesOf = async (store: MemoryStore, key: string): Promise<Uint8Array> =>
  assertDefined(await store.get("ledger", key), key).body;
const keyOf = (store: MemoryStore, prefix: string, at = 0): string =>
  assertDefined(store.keys("ledger").filter((k) => k.startsWith(prefix))[at], prefix);
const PREFIXES = ["commits/", "records/", "tile/0/", "tile/entries/", "checkpoints/", "artifacts/"] as const;

it("finds nothing in a bucket as it is", async () => {
  const report = await verify(await primary(), { artifacts: true });
  expect(codesOf(report)).toEqual([]);
  expect(report).toMatchObject({
    artifacts: { erased: 0, missing: 0, verified: 3 },
    records: { lock_short: 0, missing: 0, shadowed: 0, verified: report.entries },
    verdict: "COMPLETE",
  });
  expect(report.notes.filter((n) => n.startsWith("object."))).toEqual([]);
});

describe("what was laid over an object", () => {
  it.each(PREFIXES)("%s: other bytes", async (prefix) => {
    const store = await primary();
    const key = keyOf(store, prefix, 0);
    store.shadow(key, utf8("mine"));
    const report = await verify(store, { artifacts: true });
    expect(codesOf(report)).toEqual([expect.stringMatching(/ object\.shadowed$/)]);
    expect(report).toMatchObject({ verdict: "COMPLETE", verified: report.claimed });
    if (prefix === "records/") expect(report.records).toMatchObject({ shadowed: 1, verified: report.entries - 1 });
    if (prefix === "artifacts/") expect(report.artifacts).toMatchObject({ shadowed: 1, verified: 2 });
  });

  it.each(PREFIXES)("%s: a delete marker", async (prefix) => {
    const store = await primary();
    const key = keyOf(store, prefix, 0);
    store.hide(key);
    const report = await verify(store, { artifacts: true });
    expect(codesOf(report)).toEqual([expect.stringMatching(/ object\.hidden$/)]);
    expect(report).toMatchObject({ verdict: "COMPLETE", verified: report.claimed });
  });

  it("the newest commits: none is cut off by hiding it", async () => {
    const store = await primary();
    const keys = store.keys("ledger").filter((k) => k.startsWith("commits/"));
    for (const key of keys.slice(-3)) store.hide(key);
    const report = await verify(store);
    expect(report).toMatchObject({ commits: keys.length, verdict: "COMPLETE", verified: report.claimed });
    expect(report.checks.flatMap((c) => c.failures).map((f) => f.at)).toEqual(keys.slice(-3));
  });

  it("another commit of the same log", async () => {
    const store = await primary();
    store.shadow(commitKey(8), await bytesOf(store, commitKey(9)));
    const report = await verify(store);
    expect(codesOf(report)).toEqual(["commits object.shadowed"]);
    expect(report.verdict).toBe("COMPLETE");
  });

  it("contradicts when the right version is gone", async () => {
    const store = await primary();
    const key = keyOf(store, "records/", 40);
    const { versionId } = assertDefined(await store.head("ledger", key), key);
    store.shadow(key, utf8("mine"), { retainUntil: LATER });
    store.removeVersion(key, versionId ?? "");
    const report = await verify(store);
    expect(codesOf(report)).toEqual(["records record.digest"]);
    expect(report).toMatchObject({ records: { missing: 1 }, verdict: "CONTRADICTED", verified: 0 });
  });

  it("is below the right version all the same", async () => {
    const store = await primary();
    const key = keyOf(store, "records/", 40);
    const right = await bytesOf(store, key);
    store.shadow(key, utf8("mine"));
    store.shadow(key, right, { retainUntil: LATER });
    const report = await verify(store);
    expect(codesOf(report)).toEqual(["records object.shadowed"]);
    expect(report.records).toMatchObject({ shadowed: 0, verified: report.entries });
  });
});

describe("identical versions", () => {
  it("are noted, and accuse nobody, locked or not", async () => {
    const store = await primary();
    for (const [i, prefix] of PREFIXES.entries()) {
      const key = keyOf(store, prefix);
      store.shadow(key, await bytesOf(store, key), i % 2 === 0 ? { retainUntil: LATER } : {});
    }
    const report = await verify(store, { artifacts: true });
    expect(codesOf(report)).toEqual([]);
    expect(report.notes.filter((n) => n.startsWith("object.redundant-version"))).toEqual([
      expect.stringContaining("and 3 more"),
    ]);
    expect(report).toMatchObject({ records: { lock_short: 0 }, verdict: "COMPLETE" });
  });
});

describe("a lock", () => {
  it.each([
    ["too short", { retainUntil: NOW_MS + 86_400_000 }],
    ["that others may lift", { lockMode: "GOVERNANCE", retainUntil: LATER }],
    ["that is none", {}],
  ] as const)("%s is found at each object", async (_, lock) => {
    for (const prefix of PREFIXES) {
      const store = await primary();
      const key = keyOf(store, prefix);
      const { versionId } = assertDefined(await store.head("ledger", key), key);
      store.shadow(key, await bytesOf(store, key), lock);
      store.removeVersion(key, versionId ?? "");
      const report = await verify(store, { artifacts: true });
      // Of checkpoints and tiles no date is known, only that they are locked.
      const isEnough = "retainUntil" in lock && !("lockMode" in lock) && /^(?:check|tile)/.test(prefix);
      expect(codesOf(report), prefix).toEqual(isEnough ? [] : [expect.stringMatching(/ object\.retention$/)]);
      expect(report.verdict, prefix).toBe("COMPLETE");
      if (prefix === "records/") expect(report.records).toMatchObject({ lock_short: 1 });
      if (prefix === "artifacts/") expect(report.artifacts).toMatchObject({ lock_short: 1 });
    }
  });
});

describe("an artifact", () => {
  const nowLater = NOW_MS + 3_650 * 86_400_000;

  it("that is gone is missing, erased, or was let go of", async () => {
    const store = await primary();
    store.forget("ledger", assertDefined(artifacts[0], "an artifact"));
    store.forget("ledger", assertDefined(artifacts[2], "an artifact"));
    const report = await verify(store, { artifacts: true });
    expect(codesOf(report)).toEqual(["artifacts artifact.missing"]);
    expect(report).toMatchObject({
      artifacts: { erased: 1, expired_unrecorded: 0, missing: 1, verified: 1 },
      verdict: "HOLED",
      verified: report.claimed,
    });
    const later = await verify(store, { artifacts: true, nowMs: nowLater });
    expect(later.artifacts).toMatchObject({ erased: 1, expired_unrecorded: 1, missing: 0 });
    expect((await verify(store)).verdict).toBe("COMPLETE");
  });

  it("of other bytes contradicts", async () => {
    const store = await primary();
    store.tamper("ledger", assertDefined(artifacts[1], "an artifact"), utf8("weighty"));
    expect(await verify(store, { artifacts: true })).toMatchObject({
      artifacts: { missing: 1 },
      verdict: "CONTRADICTED",
    });
    expect(artifacts).toContain(artifactKey(digestOf(lab.project), sha256(utf8("weights"))));
  });
});

describe("a verification that was stopped", () => {
  /** Counts the record objects that are read; the store stops answering after some. */
  function counted(inner: MemoryStore, dieAfter = Number.POSITIVE_INFINITY): BucketReader & { reads: number } {
    const store = {
      ...inner,
      async get(...args: Parameters<MemoryStore["get"]>) {
        if (!args[1].startsWith("records/")) return inner.get(...args);
        if (store.reads >= dieAfter) throw new Fault("STORE_UNAVAILABLE", "the network is gone");
        store.reads++;
        return inner.get(...args);
      },
      lock: inner.lock,
      reads: 0,
    };
    return store;
  }

  async function stopped(inner: MemoryStore, after: number): Promise<Resumed> {
    let kept: Resumed | undefined;
    const save = async (resumed: Resumed): Promise<void> => {
      kept = parseResumed(formatResumed(resumed));
    };
    await expect(verify(counted(inner, after), { resume: { from: undefined, save } })).rejects.toThrow("network");
    return assertDefined(kept, "what was read");
  }
  const save = (): Promise<void> => Promise.resolve();

  it("goes on where it was, to the same report", async () => {
    const inner = await primary();
    const [early, late] = [keyOf(inner, "records/", 3), keyOf(inner, "records/", 200)];
    inner.tamper("ledger", early, utf8("mine"));
    inner.forget("ledger", late);
    const whole = await verify(inner);
    const from = await stopped(inner, 200);
    expect(from.commits).toBeGreaterThan(150);
    const rest = counted(inner);
    const report = await verify(rest, { resume: { from, save } });
    expect(rest.reads).toBe(whole.entries - from.commits);
    expect({ ...report, notes: [] }).toEqual({ ...whole, notes: [] });
    expect(report.notes).toContain(`resumed: the record objects of the first ${from.commits} commits were read before`);
  });

  it("reads everything when what was kept is of something else", async () => {
    const inner = await primary();
    const from = await stopped(inner, 200);
    const rest = counted(inner);
    const report = await verify(rest, { resume: { from: { ...from, hash: "0".repeat(64) }, save } });
    expect(rest.reads).toBe(report.entries);
    expect(report.verdict).toBe("COMPLETE");
  });

  it.each([
    "",
    "{}",
    '{"v":1}',
    formatResumed({
      absent: [],
      commits: 0,
      failures: [],
      hash: "",
      states: { lock_short: 0, missing: 0, shadowed: 0, verified: 0 },
    }),
  ])("refuses what no verification left: %s", (text) => {
    expect(() => parseResumed(text)).toThrow(expect.objectContaining({ code: "resume.malformed" }));
  });
});
