/** Copies of buckets: right ones, damaged ones, and what is junk in them. */
import { beforeAll, describe, expect, it } from "vitest";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { sha256Hex } from "../../src/merkle/hash.ts";
import { TILE_WIDTH } from "../../src/merkle/tiles.ts";
import { formatNote, parseNote } from "../../src/note/note.ts";
import { parseTrustPolicy } from "../../src/note/trust-policy.ts";
import { CommitChain } from "../../src/record/chain.ts";
import { formatCommit } from "../../src/record/commit.ts";
import { headsRoot } from "../../src/record/heads.ts";
import { formatRecord, type LedgerRecord, parseRecord, recordId } from "../../src/record/record.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { digestOf, idOf, type RecordId } from "../../src/std/brand.ts";
import { equalBytes, formatHex, utf8 } from "../../src/std/bytes.ts";
import { checkpointKey, commitKey, HEAD_CHECKPOINT, recordKey } from "../../src/store/keys.ts";
import { type BucketOptions, type BucketReport, verifyBucket } from "../../src/verify/bucket.ts";
import type { Trust } from "../../src/verify/checkpoint.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { createDataset, createProject, createWorld, openIn, testKeys, type World } from "../log/world.ts";
import { labKey } from "./pack-lab.ts";

const DATASETS = 300;
const NOW_MS = Date.parse("2026-11-24T00:00:00.000Z");
const WITNESS = labKey("witness.example/a", 4);
const NONE = `log ${testKeys.log.vkey}\nlog ${testKeys.logPq.vkey}\nquorum none\n`;
const SOME = NONE.replace("quorum none", `witness a ${WITNESS.vkey}\nquorum a`);

let world: World;
let objects: ReadonlyMap<string, Uint8Array>;
let headNote: Uint8Array;
let early: Uint8Array;
let size = 0;

/** A copy that may be damaged. */
async function copied(lock: "advisory" | "compliance" = "advisory", retainUntil = NOW_MS * 2): Promise<MemoryStore> {
  const store = createMemoryStore({ lock });
  for (const [key, body] of objects) await store.create("ledger", key, body, { retainUntil });
  await store.swap("head", HEAD_CHECKPOINT, headNote, null);
  return store;
}

const trustOf = (policy = NONE, more: Partial<Trust> = {}): Trust => ({
  kept: [],
  mirrors: new Set(),
  policy: parseTrustPolicy(policy),
  requirePq: false,
  verifier: nativeVerifier,
  ...more,
});

const verify = (store: MemoryStore, trust = trustOf(), more: Partial<BucketOptions> = {}): Promise<BucketReport> =>
  verifyBucket(store, trust, {
    concurrency: 7,
    genesis: world.init.genesis,
    nowMs: NOW_MS,
    records: "objects",
    state: true,
    ...more,
  });

const codesOf = ({ checks }: BucketReport): string[] => [
  ...new Set(checks.flatMap((c) => c.failures.map((f) => `${c.id} ${f.code}`))),
];

beforeAll(async () => {
  const store = createMemoryStore();
  world = await createWorld(store);
  const log = await openIn(world, store);
  await log.submit(createProject("fraud", world.init.system));
  const project = assertDefined(log.index.reader().get("name", "-/project/fraud"), "a project").value.id;
  early = utf8(log.checkpoint());
  for (let i = 0; i < DATASETS; i++) await log.submit(createDataset(project, `set-${i}`));
  await log.seal();
  ({ size } = await log.seal());
  await log[Symbol.asyncDispose]();
  objects = new Map(
    await Promise.all(
      store.keys("ledger").map(async (key) => [key, (await store.get("ledger", key))?.body ?? utf8("")] as const),
    ),
  );
  headNote = assertDefined((await store.get("head", HEAD_CHECKPOINT))?.body, "a checkpoint");
});

const commits = (): string[] => [...objects.keys()].filter((k) => k.startsWith("commits/")).toSorted();
const archived = (): string[] => [...objects.keys()].filter((k) => k.startsWith("checkpoints/")).toSorted();
const flipped = (key: string, at = -10): Uint8Array => {
  const out = assertDefined(objects.get(key), key).slice();
  const place = at < 0 ? out.length + at : at;
  out[place] = (out[place] ?? 0) ^ 1;
  return out;
};
const indexOf = (bytes: Uint8Array, text: string): number => Buffer.from(bytes).indexOf(text);

describe("a copy", () => {
  it("as it is", async () => {
    const report = await verify(await copied());
    expect(codesOf(report)).toEqual([]);
    expect(report).toMatchObject({ claimed: report.entries, verdict: "COMPLETE", verified: report.entries });
    expect(report.entries).toBeGreaterThan(DATASETS);
    expect(report.checks.flatMap((c) => c.skipped)).toEqual([]);
    expect((await verify(await copied(), trustOf(NONE, { kept: [early, headNote] }))).verdict).toBe("COMPLETE");
    expect((await verify(await copied(), trustOf(), { records: "commits", state: false })).verdict).toBe("COMPLETE");
  });

  it("under locks", async () => {
    expect((await verify(await copied("compliance"))).verdict).toBe("COMPLETE");
    const over = await verify(await copied("compliance", NOW_MS));
    expect(codesOf(over)).toEqual(
      expect.arrayContaining(["checkpoints object.retention", "commits object.retention", "records object.retention"]),
    );
    expect(over).toMatchObject({ records: { lock_short: size, verified: 0 }, verdict: "COMPLETE", verified: size });
  });

  it("without anything signed, or of nothing", async () => {
    const unsigned = await copied();
    for (const key of archived()) unsigned.tamper("ledger", key, null);
    unsigned.tamper("head", HEAD_CHECKPOINT, null);
    expect(await verify(unsigned)).toMatchObject({ checkpoint: null, verdict: "HOLED", verified: 0 });
    expect(await verify(createMemoryStore())).toMatchObject({ entries: 0, verdict: "HOLED", verified: 0 });
  });

  it("asked with no readers at all reads it all the same", async () => {
    const store = await copied();
    store.tamper("ledger", assertDefined(commits()[9], "a commit"), flipped(commits()[9] ?? ""));
    expect((await verify(store, trustOf(), { concurrency: 0 })).verdict).toBe("CONTRADICTED");
  });
});

type Damage = readonly [name: string, codes: readonly string[], verdict: string, by: (store: MemoryStore) => void];
const put = (store: MemoryStore, key: string, body: Uint8Array | null): void => store.tamper("ledger", key, body);
const someRecord = (): string =>
  assertDefined([...objects.keys()].filter((k) => k.startsWith("records/"))[40], "a record");

const DAMAGES: readonly Damage[] = [
  [
    "a byte of a commit's payload",
    ["commits commit.body"],
    "CONTRADICTED",
    (s) => put(s, commits()[20] ?? "", flipped(commits()[20] ?? "")),
  ],
  [
    "a byte of the time of a commit",
    ["commits commit.signature"],
    "CONTRADICTED",
    (s) => {
      const key = commits()[20] ?? "";
      put(s, key, flipped(key, indexOf(objects.get(key) ?? utf8(""), '"time":"') + 30));
    },
  ],
  ["a commit that is gone", ["commits commit.gap"], "HOLED", (s) => put(s, commits()[20] ?? "", null)],
  [
    "a key that is none among the commits",
    ["commits commit.n"],
    "CONTRADICTED",
    (s) => put(s, "commits/0000000000000000/x", utf8("x")),
  ],
  ["a byte of a record", ["records record.digest"], "CONTRADICTED", (s) => put(s, someRecord(), flipped(someRecord()))],
  ["a record that is gone", ["records record.missing"], "HOLED", (s) => put(s, someRecord(), null)],
  [
    "a key that is none among the records",
    ["records record.key"],
    "CONTRADICTED",
    (s) => put(s, "records/x", utf8("x")),
  ],
  ["a byte of a tile", ["tiles tile.mismatch"], "CONTRADICTED", (s) => put(s, "tile/0/000", flipped("tile/0/000"))],
  [
    "a byte of a bundle",
    ["tiles tile.mismatch"],
    "CONTRADICTED",
    (s) => put(s, "tile/entries/000", flipped("tile/entries/000")),
  ],
  [
    "a bundle that is cut off",
    ["tiles tile.mismatch"],
    "CONTRADICTED",
    (s) => put(s, "tile/entries/000", flipped("tile/entries/000").subarray(0, 900)),
  ],
  ["a tile that is gone", ["tiles tile.missing"], "HOLED", (s) => put(s, "tile/0/000", null)],
  ["a tile of what is not there", ["tiles tile.ahead"], "BEHIND", (s) => put(s, "tile/0/009", new Uint8Array(8192))],
  [
    "a partial tile among the full ones",
    ["tiles tile.mismatch"],
    "CONTRADICTED",
    (s) => put(s, "tile/0/001.p/7", new Uint8Array(224)),
  ],
  [
    "a byte of an archived note",
    ["checkpoints checkpoint.signature"],
    "CONTRADICTED",
    (s) =>
      put(
        s,
        archived()[0] ?? "",
        flipped(archived()[0] ?? "", indexOf(objects.get(archived()[0] ?? "") ?? utf8(""), "\n\n") - 4),
      ),
  ],
  [
    "a note under another key",
    ["checkpoints checkpoint.key"],
    "CONTRADICTED",
    (s) => put(s, checkpointKey(7, "0".repeat(16)), objects.get(archived()[0] ?? "") ?? null),
  ],
  [
    "a key that is none among the notes",
    ["checkpoints checkpoint.key"],
    "CONTRADICTED",
    (s) => put(s, "checkpoints/x", utf8("x")),
  ],
  [
    "the newest commits are cut off",
    ["checkpoints checkpoint.ahead", "tiles tile.ahead"],
    "BEHIND",
    (s) => {
      for (const key of commits().slice(20)) put(s, key, null);
    },
  ],
];

describe("finds", () => {
  it.each(DAMAGES)("%s", async (_, codes, verdict, damage) => {
    const store = await copied();
    damage(store);
    const report = await verify(store);
    expect(codesOf(report).filter((c) => !codes.includes(c) && !c.endsWith(".ahead"))).toEqual([]);
    expect(codesOf(report)).toEqual(expect.arrayContaining([...codes]));
    expect(report.verdict).toBe(verdict);
    if (verdict === "CONTRADICTED") expect(report.verified).toBe(0);
    else expect(report.verified).toBeLessThan(size + 1);
  });

  it("that a wrong byte hides behind a hundred absent ones", async () => {
    const store = await copied();
    const records = [...objects.keys()].filter((k) => k.startsWith("records/"));
    for (const key of records.slice(0, 200)) put(store, key, null);
    put(store, records[250] ?? "", flipped(records[250] ?? ""));
    expect((await verify(store)).verdict).toBe("CONTRADICTED");
  });

  it("another genesis, another log, a kept note of what is gone", async () => {
    const strange = `sha256:${"0".repeat(64)}` as RecordId;
    expect(codesOf(await verify(await copied(), trustOf(), { genesis: strange }))).toEqual(["commits ledger.genesis"]);
    const other = labKey("log.example/other", 1);
    expect(codesOf(await verify(await copied(), trustOf(`log ${other.vkey}\nquorum none\n`)))).toContain(
      "checkpoints checkpoint.origin",
    );
    const cut = await copied();
    for (const key of commits().slice(20)) put(cut, key, null);
    for (const key of archived()) put(cut, key, null);
    cut.tamper("head", HEAD_CHECKPOINT, early);
    const report = await verify(cut, trustOf(NONE, { kept: [headNote] }));
    expect(codesOf(report)).toContain("kept checkpoint.ahead");
    expect(report.verdict).toBe("BEHIND");
  });

  it("what the reader demands of the newest checkpoint", async () => {
    expect((await verify(await copied(), trustOf(NONE, { requirePq: true }))).verdict).toBe("COMPLETE");
    const classic = await copied();
    const { signatures, text } = parseNote(headNote);
    for (const key of archived()) put(classic, key, null);
    classic.tamper("head", HEAD_CHECKPOINT, formatNote(text, [assertDefined(signatures[0], "a line").line]));
    expect(codesOf(await verify(classic, trustOf(NONE, { requirePq: true })))).toEqual([
      "checkpoints checkpoint.signature",
    ]);
    expect((await verify(classic)).verdict).toBe("COMPLETE");
    const unseen = await verify(await copied(), trustOf(SOME));
    expect(codesOf(unseen)).toEqual(["checkpoints checkpoint.quorum"]);
    expect(unseen).toMatchObject({ verdict: "BEHIND", verified: 0 });
    const aged = await verify(await copied(), trustOf(NONE, { maxAgeS: 10, nowS: NOW_MS / 1000 }));
    expect(aged.verdict).toBe("BEHIND");
  });

  it("signatures of one tree in two notes", async () => {
    const { signatures, text } = parseNote(headNote);
    const store = await copied();
    const seenS = NOW_MS / 1000 - 100;
    store.tamper("head", HEAD_CHECKPOINT, formatNote(text, [...signatures, WITNESS.line(text, seenS)]));
    const fresh = await verify(store, trustOf(SOME, { maxAgeS: 100, nowS: seenS + 100 }));
    expect(codesOf(fresh)).toEqual([]);
    expect(fresh).toMatchObject({ checkpoint: { quorum: true, split_view: "excluded" }, verdict: "COMPLETE" });
    const stale = await verify(store, trustOf(SOME, { maxAgeS: 100, nowS: seenS + 101 }));
    expect(codesOf(stale)).toEqual(["checkpoints checkpoint.stale"]);
    expect(stale.verdict).toBe("BEHIND");
  });

  it("refuses a kept note that no key signed", async () => {
    const text = parseNote(headNote).text;
    const stranger = labKey(testKeys.log.name, 1, "a stranger");
    const kept = [formatNote(text, [stranger.line(text)])];
    await expect(verify(await copied(), trustOf(NONE, { kept }))).rejects.toMatchObject({ code: "kept.signature" });
  });
});

/** The log written again by whoever holds its keys, from slot `from` on. */
async function rewritten(
  from: number,
  {
    junk = [],
    change = (r) => r,
    time,
  }: {
    junk?: readonly Uint8Array[];
    change?: (record: LedgerRecord, chain: CommitChain) => LedgerRecord;
    time?: string;
  },
): Promise<MemoryStore> {
  const store = createMemoryStore({ lock: "advisory" });
  const put = (key: string, body: Uint8Array) => store.create("ledger", key, body, {});
  let chain = CommitChain.genesis();
  let old = CommitChain.genesis();
  for (const [n, key] of commits()
    .slice(0, from + 2)
    .entries()) {
    const was = old.check(assertDefined(objects.get(key), key), nativeVerifier);
    old = old.advance(was);
    if (n < from) {
      await put(key, assertDefined(objects.get(key), key));
      chain = chain.advance(chain.check(assertDefined(objects.get(key), key), nativeVerifier));
    } else {
      if (n === from)
        for (const bytes of junk) {
          await put(commitKey(chain.n), bytes);
          chain = chain.skip(bytes, nativeVerifier);
        }
      const records = was.items.map((i) => {
        const bytes = formatRecord(change(assertDefined(i.record ?? undefined, "a record"), chain));
        return { bytes, id: recordId(bytes), record: parseRecord(bytes) };
      });
      const next = chain.next(records);
      const bytes = formatCommit(
        chain.origin,
        {
          count: next.items.length,
          epoch: was.header.epoch,
          first: next.first,
          n: chain.n,
          prev: idOf(chain.prevHash),
          root: next.root,
          time: time ?? was.header.time,
          voids: chain.voids,
          writer: was.header.writer,
        },
        next.items.map((i) => ({ entry: i.entryBytes, record: i.recordBytes })),
        testKeys.commit,
      );
      await put(commitKey(chain.n), bytes);
      chain = chain.advance(chain.check(bytes, nativeVerifier));
    }
  }
  // Entries before the change are as they were, and no other fill a tile.
  for (const [key, body] of objects) if (key.startsWith("tile/") && chain.size >= TILE_WIDTH) await put(key, body);
  const text = `${chain.origin}\n${chain.size}\n${Buffer.from(chain.root()).toString("base64")}\n`;
  const line = formatNote(text, [
    { id: testKeys.log.id, name: testKeys.log.name, signature: testKeys.log.sign(utf8(text)) },
  ]);
  await put(checkpointKey(chain.size, sha256Hex(line).slice(0, 16)), line);
  return store;
}

describe("the log alone", () => {
  const alone = (store: MemoryStore): Promise<BucketReport> =>
    verify(store, trustOf(NONE, { kept: [early, headNote] }), { records: "digests", state: false });

  it("passes, and says what was not read", async () => {
    const report = await alone(await copied());
    expect(codesOf(report)).toEqual([]);
    expect(report).toMatchObject({ verdict: "BEHIND", verified: report.entries });
    expect(report.checks.filter((c) => c.status !== "pass").map((c) => c.id)).toEqual(["records"]);
  });

  it.each(DAMAGES.filter(([, codes]) => codes.every((c) => !c.startsWith("records "))))(
    "shows %s",
    async (_, codes, __, damage) => {
      const store = await copied();
      damage(store);
      expect(codesOf(await alone(store))).toEqual(expect.arrayContaining([...codes]));
    },
  );

  it("shows a seal that lies, and no more than that of what records say", async () => {
    const lie = (record: LedgerRecord): LedgerRecord =>
      record.kind === "ledger.seal"
        ? { ...record, body: { ...record.body, size: 7 } }
        : { ...record, links: [{ rel: "owner", to: `sha256:${"1".repeat(64)}` as RecordId }] };
    const store = await rewritten(commits().length - 2, { change: lie });
    const check = async (records: BucketOptions["records"]): Promise<string[]> =>
      codesOf(await verify(store, trustOf(), { records, state: false }));
    expect(await check("digests")).toEqual(["seals seal.mismatch"]);
    const linked = await rewritten(20, { change: lie });
    expect(codesOf(await verify(linked, trustOf(), { records: "digests", state: false }))).toEqual([]);
    expect(codesOf(await verify(linked, trustOf(), { records: "commits", state: false }))).toContain(
      "records link.dangling",
    );
  });
});

const logOnly = (store: MemoryStore): Promise<BucketReport> => verify(store, trustOf(), { records: "commits" });

describe("junk in a slot", () => {
  const JUNK = [utf8("mine"), utf8("mine too")];

  it("is passed over when a commit voids exactly it", async () => {
    const report = await logOnly(await rewritten(9, { junk: JUNK }));
    expect(codesOf(report)).toEqual([]);
    expect(report.verdict).toBe("COMPLETE");
    expect(report.notes.filter((n) => n.startsWith("commit.voided"))).toHaveLength(2);
  });

  it("is found when other bytes were voided", async () => {
    const store = await rewritten(9, { junk: JUNK });
    store.tamper("ledger", commitKey(9), utf8("theirs"));
    expect(codesOf(await logOnly(store))).toContain("commits commit.header");
    expect((await logOnly(store)).verdict).toBe("CONTRADICTED");
  });

  it("is squatting when nothing voids it", async () => {
    const store = await copied();
    store.tamper("ledger", commitKey(commits().length), utf8("mine"));
    const report = await verify(store);
    expect(codesOf(report)).toEqual(["commits commit.header", "commits commit.squatted"]);
    expect(report.verdict).toBe("CONTRADICTED");
  });
});

describe("lies that every key signed", () => {
  const sealAt = (): number => {
    let chain = CommitChain.genesis();
    for (const [n, key] of commits().entries()) {
      const commit = chain.check(assertDefined(objects.get(key), key), nativeVerifier);
      if (commit.items[0]?.record?.kind === "ledger.seal") return n;
      chain = chain.advance(commit);
    }
    throw new Error("there is a seal");
  };
  const lying = async (body: (chain: CommitChain) => LedgerRecord["body"]): Promise<string[]> =>
    codesOf(
      await logOnly(
        await rewritten(sealAt(), {
          change: (r, chain) => (r.kind === "ledger.seal" ? { ...r, body: { ...r.body, ...body(chain) } } : r),
        }),
      ),
    );

  it("are none when nothing is changed", async () => {
    const honest = await rewritten(sealAt(), {});
    expect(
      equalBytes(
        assertDefined((await honest.get("ledger", commitKey(3)))?.body, "a commit"),
        objects.get(commitKey(3)) ?? utf8(""),
      ),
    ).toBe(true);
    expect(await lying((chain) => ({ heads: formatHex(headsRoot(chain.heads)) }))).toEqual([]);
  });

  it.each([
    ["heads", { heads: "0".repeat(64) }],
    ["the number of projects", { projects: 9 }],
    ["the newest ledger record", { ledger: `sha256:${"0".repeat(64)}` }],
    ["its size", { size: 7 }],
    ["the state", { state: "0".repeat(64) }],
  ])("of a seal: %s", async (_, body) => {
    expect(await lying(() => body)).toEqual(["seals seal.mismatch"]);
  });

  it("of a link to nothing", async () => {
    const store = await rewritten(20, {
      change: (r) => ({ ...r, links: [{ rel: "owner", to: `sha256:${"1".repeat(64)}` as RecordId }] }),
    });
    expect(codesOf(await logOnly(store))).toContain("records link.dangling");
  });
});

it("reads a record that is apart from its commit", async () => {
  const key = commits()[20] ?? "";
  const store = createMemoryStore({ lock: "advisory" });
  let chain = CommitChain.genesis();
  for (const before of commits().slice(0, 20)) {
    const bytes = assertDefined(objects.get(before), before);
    await store.create("ledger", before, bytes, {});
    chain = chain.advance(chain.check(bytes, nativeVerifier));
  }
  const was = chain.clone().check(assertDefined(objects.get(key), key), nativeVerifier);
  const { body: _, bytes: __, v: ___, ...header } = was.header;
  const bytes = formatCommit(
    chain.origin,
    header,
    was.items.map((i) => ({ entry: i.entryBytes, record: null })),
    testKeys.commit,
  );
  await store.create("ledger", key, bytes, {});
  for (const [name, body] of objects) if (name.startsWith("records/")) await store.create("ledger", name, body, {});
  chain = chain.advance(chain.check(bytes, nativeVerifier));
  const text = `${chain.origin}\n${chain.size}\n${Buffer.from(chain.root()).toString("base64")}\n`;
  const note = formatNote(text, [
    { id: testKeys.log.id, name: testKeys.log.name, signature: testKeys.log.sign(utf8(text)) },
  ]);
  await store.create("ledger", checkpointKey(chain.size, sha256Hex(note).slice(0, 16)), note, {});
  expect(await verify(store, trustOf(), { state: false })).toMatchObject({ verdict: "COMPLETE" });
  expect((await verify(store, trustOf(), { records: "commits", state: false })).verdict).toBe("BEHIND");
  const apart = recordKey(digestOf(assertDefined(was.items[0], "an entry").entry.record));
  store.tamper("ledger", apart, flipped(apart));
  expect(codesOf(await verify(store, trustOf(), { state: false }))).toEqual(["records record.digest"]);
});
