/** Copies of a ledger: whole, kept up to date, killed and resumed, refused. */
import { mkdtempSync, rmSync } from "node:fs";
import { cp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { rebuild } from "../../src/index/rebuild.ts";
import type { Target } from "../../src/replicate/ports.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { formatHex, utf8 } from "../../src/std/bytes.ts";
import { openFileCopy } from "../../src/store/fs/file-copy.ts";
import { createFileStore, type FileStore } from "../../src/store/fs/file-store.ts";
import { commitKey, HEAD_CHECKPOINT, REPLICA } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { Crash, createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { createDataset, MemoryLastSigned, openIn } from "../log/world.ts";
import { machineClock, machineRandom } from "../store/machine.ts";
import { appendDetached, cloned, contents, copyTo, Lab, trust, verify, withReceive } from "./lab.ts";

const root = mkdtempSync(join(tmpdir(), "datapilot-replicate-"));
afterAll(() => rmSync(root, { force: true, recursive: true }), 120_000);

/** The ledger after a first part and a seal, and after all. */
let lab: Lab;
let early: MemoryStore;
let store: MemoryStore;

beforeAll(async () => {
  lab = await Lab.create();
  await lab.datasets(40);
  await lab.artifact("rows of a dataset");
  await lab.person("Vera");
  await lab.log.seal();
  early = await cloned(lab.store);
  await lab.datasets(280);
  await lab.artifact("weights ".repeat(100_000));
  await lab.log.seal();
  store = await cloned(lab.store);
}, 60_000);

/** Fresh copies, since tests damage them. */
const source = (): Promise<MemoryStore> => cloned(store);
const empty = (): MemoryStore & Target => withReceive(createMemoryStore());
const codes = ({ findings }: { findings: readonly { code: string }[] }): string[] => [
  ...new Set(findings.map((f) => f.code)),
];
const commits = (from: ObjectStore & { keys(bucket: "ledger"): string[] }): string[] =>
  from.keys("ledger").filter((k) => k.startsWith("commits/"));

const noteOf = async (from: ObjectStore): Promise<Uint8Array> =>
  assertDefined(await from.get("head", HEAD_CHECKPOINT), "a checkpoint").body;

let folders = 0;
const inFolder = (): Promise<FileStore> => fileStore(join(root, String(folders++)));
const fileStore = (path: string): Promise<FileStore> =>
  createFileStore({
    allowAdvisoryLock: true,
    clock: machineClock,
    minimumFreeBytes: 0,
    random: machineRandom,
    root: path,
  });

async function expectEqual(copy: ObjectStore, of: ObjectStore): Promise<void> {
  expect(await contents(copy, "ledger")).toEqual(await contents(of, "ledger"));
  const head = await contents(copy, "head");
  head.delete(REPLICA);
  expect(head).toEqual(await contents(of, "head"));
}

async function stateOf(from: ObjectStore, name: string): Promise<{ root: string; state: string }> {
  await using index = await openLmdbIndex({ path: join(root, name) });
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for (let n = 0; ; n++) {
      const found = await from.get("ledger", commitKey(n));
      if (found === null) return;
      yield found.body;
    }
  }
  await rebuild(index, bytes());
  const { root: tree, state } = index.watermark;
  return { root: tree, state };
}

describe("from folder to folder", () => {
  it("copies everything, then what is new, then nothing", async () => {
    const path = join(root, "home");
    {
      await using home = await fileStore(path);
      expect(await copyTo(early, home)).toMatchObject({ verdict: "COPIED" });
    }
    await using copy = await inFolder();
    const first = await copyTo(openFileCopy(path), copy);
    expect(first).toMatchObject({ findings: [], from: { commits: 0, entries: 0 }, verdict: "COPIED" });
    expect(first.written.artifacts).toBe(1);
    {
      await using home = await fileStore(path);
      expect(await copyTo(store, home)).toMatchObject({ verdict: "COPIED" });
    }
    const second = await copyTo(openFileCopy(path), copy);
    expect(second).toMatchObject({ findings: [], from: first.to, verdict: "COPIED" });
    expect(second.written.commits).toBe(commits(store).length - commits(early).length);
    expect(second.published).toBe(second.to.entries);
    await expectEqual(copy, store);
    const third = await copyTo(openFileCopy(path), copy);
    expect(third).toMatchObject({ from: second.to, to: second.to, verdict: "COPIED" });
    expect(Object.values(third.written).every((n) => n === 0)).toBe(true);
    const report = await verify(copy);
    expect(report.checks.flatMap((c) => c.failures)).toEqual([]);
    expect(report).toMatchObject({ verdict: "COMPLETE", verified: second.to.entries });
    expect(report.notes.filter((n) => n.startsWith("object.unknown"))).toEqual([]);
    expect(await stateOf(copy, "index-copy")).toEqual(await stateOf(store, "index-source"));
  });

  it("locks what it writes for the ledger's floor, or as long as the source does", async () => {
    await using copy = await inFolder();
    const late = Date.parse("2099-01-01T00:00:00.000Z");
    const held = withReceive(createMemoryStore({ lock: "compliance" }));
    await copyTo(store, held);
    await held.extend("ledger", commitKey(3), late);
    await copyTo(held, copy, { clock: machineClock });
    const floor = Date.now() + 364 * 86_400_000;
    for await (const { key, retainUntil } of copy.list("ledger", ""))
      expect(retainUntil, key).toBeGreaterThan(key === commitKey(3) ? late - 1 : floor);
  });

  it("takes personal values only when asked, and then all", async () => {
    const copy = empty();
    await copyTo(store, copy);
    expect(copy.keys("personal")).toEqual([]);
    const asked = await copyTo(store, copy, { personal: true });
    expect(asked).toMatchObject({ from: { commits: 0 }, verdict: "COPIED", written: { personal: 1, records: 0 } });
    expect(await contents(copy, "personal")).toEqual(await contents(store, "personal"));
  });

  it("is a ledger from which a server goes on", async () => {
    const copy = empty();
    await copyTo(store, copy);
    const log = await openIn(lab.world, copy);
    const { size } = await log.seal();
    await log[Symbol.asyncDispose]();
    const report = await verify(copy);
    expect(report).toMatchObject({ verdict: "COMPLETE" });
    expect(report.verified).toBeGreaterThanOrEqual(size);
  });
});

/** Calls that a whole copy of the early ledger takes at the target. */
async function callsOfWhole(): Promise<number> {
  const inner = createFaultStore(createMemoryStore());
  await copyTo(early, withReceive(inner));
  return inner.faults.calls;
}

describe("a copy that was killed", () => {
  it.each(["crash-before", "crash-after"] as const)(
    "at any call (%s) goes on to the same copy",
    { timeout: 300_000 },
    async (kind) => {
      const calls = await callsOfWhole();
      let killed = 0;
      for (let at = 0; at < calls; at += 3) {
        const inner = createMemoryStore();
        const dying = createFaultStore(inner);
        dying.faults.at(at, kind);
        const dead = await copyTo(early, withReceive(dying)).catch((error: unknown) => error);
        // After a read there is nothing that could have happened.
        if (!(dead instanceof Crash)) continue;
        killed++;
        expect((await verify(inner)).verdict, `call ${at}`).not.toBe("CONTRADICTED");
        expect(await copyTo(early, withReceive(inner)), `call ${at}`).toMatchObject({
          findings: [],
          verdict: "COPIED",
        });
        await expectEqual(inner, early);
        inner.assertSound();
      }
      expect(killed).toBeGreaterThan(30);
    },
  );

  it("by its signal goes on where its watermark is", async () => {
    const copy = empty();
    const stop = new AbortController();
    const stopped = copyTo(store, copy, {
      progress: (done, _, what) => {
        if (what === "copied" && done > 150) stop.abort(new Error("stopped"));
      },
      signal: stop.signal,
      stride: 20,
    });
    await expect(stopped).rejects.toThrow();
    expect(commits(copy).length).toBeLessThan(commits(store).length);
    const rest = await copyTo(store, copy);
    expect(rest.from.entries).toBeGreaterThan(100);
    expect(rest.verdict).toBe("COPIED");
    await expectEqual(copy, store);
  });

  it("gets through a store that fails, answers twice, or lands late", async () => {
    const inner = createMemoryStore();
    const flaky = createFaultStore(inner, {
      rates: {
        "disk-full": 0.02,
        "error-after": 0.05,
        "error-before": 0.05,
        duplicate: 0.03,
        torn: 0.05,
        zombie: 0.05,
      },
      seed: 7,
      zombieCalls: 20,
    });
    expect(await copyTo(store, withReceive(flaky))).toMatchObject({ findings: [], verdict: "COPIED" });
    await flaky.faults.quiet();
    expect(flaky.faults.struck.zombie).toBeGreaterThan(0);
    await expectEqual(inner, store);
    inner.assertSound();
  });
});

describe("refuses, and writes nothing, when", () => {
  /** A copy of the early ledger, and what it holds. */
  async function kept(): Promise<{ copy: MemoryStore & Target; before: Map<string, string> }> {
    const copy = empty();
    await copyTo(early, copy);
    return { before: await contents(copy, "ledger"), copy };
  }

  it("the source's history forked below the copy's end", async () => {
    const other = await Lab.create();
    await other.datasets(60);
    await other.log.seal();
    const { before, copy } = await kept();
    const report = await copyTo(other.store, copy);
    expect(report.verdict).toBe("CONTRADICTED");
    expect(codes(report)).toContain("replica.fork");
    expect(await contents(copy, "ledger")).toEqual(before);
  });

  /** The early ledger, gone on by whoever has its keys. */
  async function fork(name: string): Promise<MemoryStore> {
    const forked = await cloned(early);
    const lastSigned = new MemoryLastSigned();
    lastSigned.notes = [assertDefined(await early.get("head", HEAD_CHECKPOINT), "a note").body];
    const log = await openIn({ ...lab.world, lastSigned }, forked);
    await log.submit(createDataset(lab.project, name));
    await log.seal();
    await log[Symbol.asyncDispose]();
    return forked;
  }

  it("its history forked beyond the copy's watermark", async () => {
    const [one, other] = [await fork("one"), await fork("other")];
    const n = commits(early).length;
    const { copy } = await kept();
    // What a copy that was killed leaves: a commit that the watermark does not cover.
    await copy.create(
      "ledger",
      commitKey(n),
      assertDefined(await one.get("ledger", commitKey(n)), "a commit").body,
      {},
    );
    const before = await contents(copy, "ledger");
    const report = await copyTo(other, copy);
    expect(report.verdict).toBe("CONTRADICTED");
    expect(report.findings).toEqual([expect.objectContaining({ at: commitKey(n), code: "replica.fork" })]);
    expect(await contents(copy, "ledger")).toEqual(before);
    expect(await copyTo(one, copy)).toMatchObject({ verdict: "COPIED" });
    expect(codes(await copyTo(other, copy))).toContain("replica.fork");
    await expectEqual(copy, one);
  });

  it.each([
    ["a byte of a new commit", "commit.body", (s: MemoryStore) => commitKey(commits(s).length - 5)],
    ["a byte of an old commit, compared from the start", "commit.body", () => commitKey(5)],
  ])("%s was changed", async (name, code, keyOf) => {
    const bad = await source();
    const key = keyOf(bad);
    const bytes = assertDefined(await bad.get("ledger", key), key).body;
    bytes[bytes.length - 10] = (bytes[bytes.length - 10] ?? 0) ^ 1;
    bad.tamper("ledger", key, bytes);
    const { before, copy } = await kept();
    const report = await copyTo(bad, copy, { fromStart: name.includes("start") });
    expect(report.verdict).toBe("CONTRADICTED");
    expect(codes(report)).toContain(code);
    expect(await contents(copy, "ledger")).toEqual(before);
  });

  it("a checkpoint signs another tree than the commits give", async () => {
    const [one, other] = [await fork("one"), await fork("other")];
    one.tamper("head", HEAD_CHECKPOINT, assertDefined(await other.get("head", HEAD_CHECKPOINT), "a note").body);
    const { before, copy } = await kept();
    const report = await copyTo(one, copy);
    expect(report.verdict).toBe("CONTRADICTED");
    expect(codes(report)).toEqual(["checkpoint.root"]);
    expect(await contents(copy, "ledger")).toEqual(before);
  });

  it("the genesis, or the policy, is another", async () => {
    const copy = empty();
    const strange = `sha256:${"0".repeat(64)}`;
    expect(codes(await copyTo(store, copy, { genesis: strange as never }))).toEqual(["ledger.genesis"]);
    expect(copy.keys("ledger")).toEqual([]);
    const unsigned = await source();
    for (const key of unsigned.keys("ledger")) if (key.startsWith("checkpoints/")) unsigned.tamper("ledger", key, null);
    unsigned.tamper("head", HEAD_CHECKPOINT, utf8("not a note"));
    expect(codes(await copyTo(unsigned, copy))).toEqual(["checkpoint.signature"]);
    unsigned.tamper("head", HEAD_CHECKPOINT, null);
    expect(await copyTo(unsigned, copy)).toMatchObject({ verdict: "INCOMPLETE" });
    expect(copy.keys("ledger")).toEqual([]);
  });
});

describe("a source that lacks something", () => {
  it("is copied up to its last whole checkpoint when its end is cut off", async () => {
    const cut = await source();
    const ending = commits(early).length + 30;
    for (const key of commits(cut).slice(ending)) cut.tamper("ledger", key, null);
    const copy = empty();
    const report = await copyTo(cut, copy);
    expect(report).toMatchObject({ to: { commits: ending }, verdict: "INCOMPLETE" });
    expect(codes(report)).toEqual(["checkpoint.ahead"]);
    const { verified, verdict } = await verify(copy);
    expect(verdict).toBe("COMPLETE");
    expect(verified).toBe(report.published);
    expect(report.published).toBeGreaterThan(40);
    // What was missing comes later, and the copy is whole.
    expect(await copyTo(store, copy)).toMatchObject({ verdict: "COPIED" });
    await expectEqual(copy, store);
  });

  it("a commit in the middle, ends there", async () => {
    const holed = await source();
    holed.tamper("ledger", commitKey(commits(early).length + 5), null);
    const report = await copyTo(holed, empty());
    expect(report.verdict).toBe("INCOMPLETE");
    expect(codes(report).toSorted()).toEqual(["checkpoint.ahead", "commit.gap"]);
  });

  it("an artifact, copies the rest and is owed it", async () => {
    const poor = await source();
    const [key, bytes] = assertDefined([...lab.artifacts][1], "an artifact");
    poor.tamper("ledger", key, null);
    const copy = empty();
    expect(await copyTo(poor, copy)).toMatchObject({
      findings: [{ at: key, code: "artifact.missing" }],
      verdict: "INCOMPLETE",
    });
    expect((await verify(copy)).verdict).toBe("COMPLETE");
    expect(await copyTo(poor, copy)).toMatchObject({ findings: [{ at: key }], verdict: "INCOMPLETE" });
    await poor.create("ledger", key, bytes, {});
    const paid = await copyTo(poor, copy);
    expect(paid).toMatchObject({ verdict: "COPIED", written: { artifacts: 1, commits: 0 } });
    expect(await copyTo(poor, copy)).toMatchObject({ verdict: "COPIED", written: { artifacts: 0 } });
  });

  it("an artifact's right bytes, does not take the wrong ones", async () => {
    const shadowed = await source();
    const [key] = assertDefined([...lab.artifacts][0], "an artifact");
    shadowed.tamper("ledger", key, utf8("rows of a dataseT"));
    const copy = empty();
    expect(await copyTo(shadowed, copy)).toMatchObject({
      findings: [{ at: key, code: "artifact.digest" }],
      verdict: "CONTRADICTED",
    });
    expect(copy.keys("ledger")).not.toContain(key);
  });

  it("the object of a record that is apart, holds its checkpoints back", async () => {
    const apart = await source();
    const key = await appendDetached(apart, lab.project);
    const poor = await cloned(apart);
    poor.tamper("ledger", key, null);
    const copy = empty();
    const report = await copyTo(poor, copy);
    expect(report.verdict).toBe("INCOMPLETE");
    expect(codes(report)).toEqual(["record.missing"]);
    expect(report.published).toBe(report.claimed - 1);
    expect((await verify(copy)).verified).toBe(report.published);
    poor.tamper("ledger", key, utf8("{}"));
    expect(codes(await copyTo(poor, copy))).toEqual(["record.digest"]);
    expect(copy.keys("ledger")).not.toContain(key);
    expect(await copyTo(apart, copy)).toMatchObject({ verdict: "COPIED", written: { records: 1 } });
    expect(await contents(copy, "ledger")).toEqual(await contents(apart, "ledger"));
    expect(await verify(copy)).toMatchObject({ verdict: "COMPLETE", verified: report.claimed });
  });

  it("nothing but its record objects and tiles, loses nothing", async () => {
    const bare = await source();
    for (const key of bare.keys("ledger"))
      if (key.startsWith("records/") || key.startsWith("tile/")) bare.tamper("ledger", key, null);
    // A shadow at the source is not what is copied.
    bare.tamper("ledger", "tile/0/000", new Uint8Array(8192));
    const copy = empty();
    expect(await copyTo(bare, copy)).toMatchObject({ verdict: "COPIED" });
    await expectEqual(copy, store);
  });

  it("contradicts a checkpoint that somebody kept, writes nothing", async () => {
    const kept = await noteOf(await source());
    const other = await Lab.create(createMemoryStore());
    await other.datasets(400);
    await other.log.seal();
    const copy = empty();
    // Another history under the same keys, as who has stolen them writes it.
    const report = await copyTo(other.store, copy, { trust: { ...trust, kept: [kept] } });
    expect(codes(report)).toContain("consistency.mismatch");
    expect(report.verdict).toBe("CONTRADICTED");
    expect(copy.keys("ledger")).toEqual([]);
    await other.log[Symbol.asyncDispose]();
  });

  it("extends a checkpoint that somebody kept, is copied, also behind the copy's watermark", async () => {
    const copy = empty();
    const old = await noteOf(early);
    expect((await copyTo(early, copy, { trust: { ...trust, kept: [old] } })).verdict).toBe("COPIED");
    const report = await copyTo(await source(), copy, {
      trust: { ...trust, kept: [old, await noteOf(await source())] },
    });
    expect(report).toMatchObject({ findings: [], verdict: "COPIED" });
    const again = await copyTo(await source(), copy, { trust: { ...trust, kept: [old] } });
    expect(again).toMatchObject({ findings: [], from: { commits: 0 }, verdict: "COPIED" });
    await expectEqual(copy, store);
  });

  it("ends before a checkpoint that somebody kept, is copied and said to be incomplete", async () => {
    const report = await copyTo(early, empty(), { trust: { ...trust, kept: [await noteOf(await source())] } });
    expect(codes(report)).toEqual(["checkpoint.ahead"]);
    expect(report.verdict).toBe("INCOMPLETE");
  });

  it("is older than the copy, changes nothing", async () => {
    const copy = empty();
    await copyTo(store, copy);
    const before = await contents(copy, "ledger");
    const report = await copyTo(early, copy);
    expect(report.verdict).toBe("INCOMPLETE");
    expect(codes(report)).toEqual(["replica.ahead"]);
    expect(await contents(copy, "ledger")).toEqual(before);
  });

  it("passes over what a stranger put beside the checkpoints", async () => {
    const visited = await source();
    visited.tamper("ledger", "checkpoints/x", utf8("x"));
    const copy = empty();
    const report = await copyTo(visited, copy);
    expect(report.verdict).toBe("COPIED");
    expect(report.notes).toEqual([expect.stringContaining("checkpoints/x is passed over")]);
    await expectEqual(copy, store);
  });
});

describe("over what an attacker laid", () => {
  it("reaches the right versions, and copies those", async () => {
    const attacked = await source();
    const apart = await appendDetached(attacked, lab.project);
    const whole = await cloned(attacked);
    const [artifact] = assertDefined([...lab.artifacts][0], "an artifact");
    const note = assertDefined(
      attacked.keys("ledger").find((k) => k.startsWith("checkpoints/")),
      "a note",
    );
    const last = commitKey(commits(attacked).length - 1);
    attacked.shadow(commitKey(7), utf8("mine"));
    attacked.shadow(commitKey(8), assertDefined(await attacked.get("ledger", commitKey(9)), "a commit").body);
    attacked.hide(commitKey(9));
    attacked.hide(last);
    attacked.shadow(apart, utf8("{}"));
    attacked.shadow(artifact, utf8("rows of a dataseT"));
    attacked.shadow(note, utf8("mine"));
    const [, hidden] = attacked.keys("ledger").filter((k) => k.startsWith("checkpoints/"));
    attacked.hide(assertDefined(hidden, "another note"));
    const copy = empty();
    const report = await copyTo(attacked, copy);
    expect(report).toMatchObject({ findings: [], verdict: "COPIED" });
    const told = (key: string): string[] =>
      report.notes.filter((n) => n.includes(key)).map((n) => n.split(":")[0] ?? "");
    for (const key of [commitKey(7), commitKey(8), apart, artifact, note])
      expect(told(key)).toEqual(["object.shadowed"]);
    for (const key of [commitKey(9), last]) expect(told(key)).toEqual(["object.hidden"]);
    expect(await contents(copy, "ledger")).toEqual(await contents(whole, "ledger"));
    expect((await verify(copy)).verdict).toBe("COMPLETE");
  });
});

describe("the watermark", () => {
  const marked = async (): Promise<MemoryStore & Target> => {
    const copy = empty();
    await copyTo(early, copy);
    return copy;
  };
  const change = async (copy: MemoryStore, by: (mark: Record<string, unknown>) => void): Promise<void> => {
    const mark = JSON.parse(Buffer.from(assertDefined(await copy.get("head", REPLICA), "a mark").body).toString()) as {
      [name: string]: unknown;
    };
    by(mark);
    copy.tamper("head", REPLICA, utf8(JSON.stringify(mark)));
  };

  it.each<[string, (mark: Record<string, unknown>) => void]>([
    ["no JSON of ours", (m) => (m["v"] = 2)],
    ["another number of commits", (m) => (m["n"] = 7)],
    ["another edge", (m) => ((m["tiles"] as string[][])[0] ?? []).fill("0".repeat(64))],
    ["another entry", (m) => ((m["entries"] as string[])[0] = "x")],
    ["another ledger", (m) => ((m["ledgers"] as { id: string }[])[0] = { id: `sha256:${"0".repeat(64)}` })],
    ["other heads", (m) => ((m["heads"] as unknown[][])[2] = [...((m["heads"] as unknown[][])[2] ?? [])].with(1, 1))],
    ["no heads", (m) => (m["heads"] = [])],
  ])("with %s is not believed", async (_, by) => {
    const copy = await marked();
    await change(copy, by);
    const report = await copyTo(store, copy);
    expect(report).toMatchObject({ findings: [], from: { commits: 0 }, verdict: "COPIED" });
    await expectEqual(copy, store);
  });

  it("is believed when it is right, and the source is read from there on", async () => {
    const copy = await marked();
    const part = await source();
    for (const key of commits(part).slice(1, commits(early).length - 1)) part.tamper("ledger", key, null);
    expect(await copyTo(part, copy)).toMatchObject({ verdict: "COPIED" });
    await expectEqual(copy, store);
  });
});

it("copies a plain copy of the folders into one that has everything but the watermark", async () => {
  const path = join(root, "plain");
  {
    await using home = await fileStore(path);
    await copyTo(store, home);
  }
  const other = join(root, "plain-copy");
  await cp(path, other, { recursive: true });
  rmSync(join(other, "head", REPLICA));
  await using copy = await fileStore(other);
  const report = await copyTo(openFileCopy(path), copy);
  expect(report.verdict).toBe("COPIED");
  expect(Object.values(report.written).every((n) => n === 0)).toBe(true);
  expect(formatHex(assertDefined(await copy.get("head", REPLICA), "a mark").body)).not.toBe("");
});
