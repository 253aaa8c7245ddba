/** What is done with a ledger of 10⁵ entries without a server: verify its bucket, rebuild its index, prove a part of it. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { buildPack } from "../../src/evidence/pack.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { rebuild } from "../../src/index/rebuild.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { homeOf } from "../../src/main/home.ts";
import { leafHash, sha256, sha256Hex } from "../../src/merkle/hash.ts";
import { canonicalize } from "../../src/record/canonical.ts";
import { parseCommit } from "../../src/record/commit.ts";
import type { Json } from "../../src/record/json.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { type RecordId, type TreeSize } from "../../src/std/brand.ts";
import { concat, utf8 } from "../../src/std/bytes.ts";
import { openFileCopy } from "../../src/store/fs/file-copy.ts";
import { commitKey, recordKey } from "../../src/store/keys.ts";
import { type BucketVerdict, type RecordCheck, verifyBucket } from "../../src/verify/bucket.ts";
import { DEFAULT_LIMITS } from "../../src/verify/limits.ts";
import { verifyPack } from "../../src/verify/pack.ts";
import { readPolicy } from "../e2e/log-copy.ts";
import { type Filled, fillHome } from "./fill.ts";
import { atLeast, atMost, type Bench, beside, median, type Row } from "./row.ts";

const ENTRIES = 100_000;
const AT_ONCE = 32;
/** The first warms the code up; the median counts. */
const ROUNDS = 3;
const LF = 0x0a;

async function* commitsIn(dir: string): AsyncGenerator<Uint8Array> {
  for (let n = 0; ; n++) {
    const bytes = await readFile(join(dir, "ledger", commitKey(n))).catch(() => undefined);
    if (bytes === undefined) return;
    yield bytes;
  }
}

interface Took {
  readonly seconds: number;
  /** Of all threads of this process, which says more than seconds where others use the machine as well. */
  readonly processorMicros: number;
}

async function timed(work: () => Promise<void>): Promise<Took> {
  const from = performance.now();
  const before = process.cpuUsage();
  await work();
  const { system, user } = process.cpuUsage(before);
  return { processorMicros: system + user, seconds: (performance.now() - from) / 1_000 };
}

async function trustIn(dir: string) {
  const kept = [new Uint8Array(await readFile(join(dir, "trust/kept-checkpoint")))];
  return {
    kept,
    mirrors: new Set<string>(),
    policy: await readPolicy(dir),
    requirePq: false,
    verifier: nativeVerifier,
  };
}

/** Where the payload of a commit begins: behind its second empty line. */
const payloadAt = (commit: Buffer): number => commit.indexOf("\n\n", commit.indexOf("\n\n") + 2) + 2;

/** What the log alone makes one hash: each commit, its payload, each record, and a leaf and a node of the tree for each. */
function hashSame(commit: Buffer, pair: Buffer): void {
  sha256Hex(commit);
  const payload = commit.subarray(payloadAt(commit));
  sha256Hex(payload);
  for (let at = 0; at < payload.length; ) {
    const entryEnd = payload.indexOf(LF, at);
    const recordEnd = payload.indexOf(LF, entryEnd + 1);
    sha256Hex(payload.subarray(entryEnd + 1, recordEnd));
    leafHash(payload.subarray(at, entryEnd));
    sha256(pair);
    at = recordEnd + 1;
  }
}

async function verifyRows(dir: string, progress: (text: string) => void): Promise<Row[]> {
  const trust = await trustIn(dir);
  // The loops read as verification does.
  const copy = openFileCopy(dir);
  const keys: string[] = [];
  let entries = 0;
  for await (const bytes of commitsIn(dir))
    for (const { record } of parseCommit(bytes).items) {
      entries++;
      if (record !== null) keys.push(recordKey(sha256Hex(record)));
    }
  const verify = (records: RecordCheck, expected: BucketVerdict) => async (): Promise<void> => {
    const report = await verifyBucket(copy, trust, { concurrency: AT_ONCE, nowMs: Date.now(), records });
    if (report.verdict !== expected || report.checks.some((c) => c.status === "fail"))
      throw new Error(`assertion failed: the bucket is ${report.verdict}`);
  };
  const forCommits = (work: (commit: Buffer) => void) => async (): Promise<void> => {
    for (let n = 0; ; n++) {
      const found = await copy.get("ledger", commitKey(n));
      if (found === null) return;
      work(Buffer.from(found.body.buffer, found.body.byteOffset, found.body.length));
    }
  };
  const pair = Buffer.alloc(65, 1);
  const decoder = new TextDecoder();
  const canonical = (bytes: Uint8Array): string =>
    sha256Hex(utf8(canonicalize(JSON.parse(decoder.decode(bytes)) as Json)));
  const parsedObjects = (read: (key: string) => Promise<Uint8Array>) => async (): Promise<void> => {
    const waiting = keys.values();
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (const key of waiting) canonical(await read(key));
      }),
    );
  };
  const works = {
    hashed: forCommits((commit) => void sha256Hex(commit)),
    hashedSame: forCommits((commit) => hashSame(commit, pair)),
    inCommits: verify("commits", "COMPLETE"),
    // What records say is not read, and the verdict says so.
    logAlone: verify("digests", "BEHIND"),
    parsed: forCommits((commit) => {
      for (const { record } of parseCommit(commit).items) if (record !== null) canonical(record);
    }),
    parsedCopies: parsedObjects(async (key) => assertDefined(await copy.get("ledger", key), key).body),
    parsedFiles: parsedObjects((key) => readFile(join(dir, "ledger", key))),
    withObjects: verify("objects", "COMPLETE"),
  };
  type Name = keyof typeof works;
  const took: Record<string, Took[]> = {};
  for (let r = 0; r < ROUNDS; r++)
    for (const [name, work] of Object.entries(works)) {
      progress(`verify: ${name}, round ${r + 1} of ${ROUNDS}`);
      (took[name] ??= []).push(await timed(work));
    }
  const of = (name: Name): number => entries / median((took[name] ?? []).map((t) => t.seconds));
  const micros = (name: Name): number => median((took[name] ?? []).map((t) => t.processorMicros)) / entries;
  const noteOf = (name: Name, loop: Name): string =>
    `${micros(name).toFixed(1)} µs of the processors an entry, the loop ${micros(loop).toFixed(1)}: ${(micros(loop) / micros(name)).toFixed(2)} ×`;
  return [
    {
      baselines: [
        atLeast("a bare loop that hashes the same bytes", of("logAlone"), of("hashedSame"), 0.4),
        beside("a loop that hashes the commits whole", of("hashed")),
      ],
      note: noteOf("logAlone", "hashedSame"),
      unit: "entries/s",
      value: of("logAlone"),
      what: "verify bucket --log-only",
    },
    {
      baselines: [
        beside("a bare loop that parses, canonicalises and hashes the records in the commits", of("parsed")),
        beside("a bare loop that hashes the same bytes", of("hashedSame")),
      ],
      note: noteOf("inCommits", "parsed"),
      unit: "entries/s",
      value: of("inCommits"),
      what: "verify bucket --no-records",
    },
    {
      baselines: [
        atLeast(
          "a bare loop that reads, parses, canonicalises and hashes the record objects",
          of("withObjects"),
          of("parsedFiles"),
          0.6,
        ),
        beside("the same loop, reading as verification does", of("parsedCopies")),
        beside("the same loop over the records in the commits", of("parsed")),
      ],
      note: noteOf("withObjects", "parsedFiles"),
      unit: "entries/s",
      value: of("withObjects"),
      what: "verify bucket, with all records",
    },
  ];
}

async function rebuildRow(dir: string, folder: string, progress: (text: string) => void): Promise<Row> {
  const rates: number[] = [];
  const reads: number[] = [];
  const micros: number[] = [];
  for (let r = 0; r < ROUNDS; r++) {
    progress(`rebuild, round ${r + 1} of ${ROUNDS}`);
    await using index = await openLmdbIndex({ path: join(folder, `rebuilt-${r}`) });
    const { processorMicros, seconds } = await timed(() =>
      rebuild(index, commitsIn(dir), undefined, ({ size }) =>
        progress(`rebuild: ${size.toLocaleString("en")} entries`),
      ),
    );
    rates.push(index.watermark.size / seconds);
    micros.push(processorMicros / index.watermark.size);
    const read = await timed(async () => {
      for await (const bytes of commitsIn(dir)) parseCommit(bytes);
    });
    reads.push(index.watermark.size / read.seconds);
  }
  const value = median(rates);
  return {
    baselines: [
      { name: "goal", reach: { met: value >= 30_000, words: "≥ 30,000" }, value: 30_000 },
      beside("a loop that reads and splits the commits", median(reads)),
    ],
    note: `${median(micros).toFixed(0)} µs of the processors a record, of two threads`,
    unit: "records/s",
    value,
    what: "index rebuild from commits",
  };
}

async function packRows(filled: Filled, progress: (text: string) => void): Promise<Row[]> {
  const { dir } = filled;
  const trust = await trustIn(dir);
  const archived = (await readdir(join(dir, "ledger/checkpoints"))).toSorted().at(-1) ?? "";
  const checkpoint = new Uint8Array(await readFile(join(dir, "ledger/checkpoints", archived)));
  const size = Number(archived.slice(0, 20)) as TreeSize;
  const builds: Took[] = [];
  const verifications: Took[] = [];
  let records = 0;
  for (let r = 0; r < ROUNDS; r++) {
    progress(`pack, round ${r + 1} of ${ROUNDS}`);
    // Opened anew, so that nothing is warm but what the disk's cache holds.
    await using index = await openLmdbIndex({ path: homeOf(dir).index });
    using reader = index.reader(size);
    using before = index.reader((size - 1) as TreeSize);
    const root = assertDefined(reader.indexOf(filled.small.run as RecordId), "the run is there");
    let pack: Uint8Array = new Uint8Array();
    const store = openFileCopy(dir) as unknown as Parameters<typeof buildPack>[2];
    builds.push(
      await timed(async () => {
        const built = await buildPack(reader, index.nodes(), store, {
          anchors: [],
          checkpoint,
          complete: [],
          depth: undefined,
          governance: true,
          heads: before.heads(),
          blobs: undefined,
          personal: () => Promise.resolve(undefined),
          roots: [root],
          visible: () => true,
        });
        records = built.records;
        const parts: Uint8Array[] = [];
        for await (const part of built.stream()) parts.push(part);
        pack = concat(...parts);
      }),
    );
    verifications.push(
      await timed(async () => {
        async function* source(): AsyncGenerator<Uint8Array> {
          yield pack;
        }
        const { report } = await verifyPack(source(), trust, {
          allowOutside: new Set(["not-granted"]),
          complete: [],
          limits: DEFAULT_LIMITS,
        });
        const failed = report.checks.flatMap((c) => c.failures);
        if (failed.length > 0) throw new Error(`assertion failed: the pack holds, but ${JSON.stringify(failed[0])}`);
      }),
    );
  }
  const build = median(builds.map((t) => t.seconds));
  const verified = median(verifications.map((t) => t.seconds));
  return [
    {
      baselines: [atMost("goal", build, 1, "< 1 s")],
      unit: "s",
      value: build,
      what: `a pack of ${records.toLocaleString("en")} records out of ${size.toLocaleString("en")}: built`,
    },
    { baselines: [atMost("goal", verified, 1, "< 1 s")], unit: "s", value: verified, what: "the same pack: verified" },
  ];
}

export const offline: Bench = async ({ folder, progress, quick }) => {
  const filled = await fillHome(join(folder, "offline"), quick ? ENTRIES / 5 : ENTRIES, progress);
  return [
    ...(await verifyRows(filled.dir, progress)),
    await rebuildRow(filled.dir, folder, progress),
    ...(await packRows(filled, progress)),
  ];
};
