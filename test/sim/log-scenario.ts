/**
 * A short life of a ledger, run by processes that die, and what must hold of its bucket afterwards whatever happened.
 */
import { expect } from "vitest";
import type { Index } from "../../src/index/index.ts";
import { initLedger } from "../../src/log/init.ts";
import type { Log, LogOptions, LogReceipt, Submission } from "../../src/log/log.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { leafHash } from "../../src/merkle/hash.ts";
import { HashStore, verifyInclusion } from "../../src/merkle/proofs.ts";
import { entriesPath, TILE_WIDTH, tilePath, tilesOf } from "../../src/merkle/tiles.ts";
import { openCheckpoint, parseCheckpoint } from "../../src/note/checkpoint.ts";
import { parseVkey } from "../../src/note/keys.ts";
import { parseNote } from "../../src/note/note.ts";
import { CommitChain, type ValidItem } from "../../src/record/chain.ts";
import { headsRoot } from "../../src/record/heads.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { digestOf, type RecordId } from "../../src/std/brand.ts";
import { formatHex, utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { commitKey, HEAD_CHECKPOINT, parseKey, recordKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { createFaultStore, type FaultStore, type FaultStoreOptions } from "../fakes/fault-store.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "../log/memory-index.ts";
import {
  createDataset,
  createProject,
  JumpingClock,
  MemoryLastSigned,
  ORIGIN,
  openIn,
  seededRandom,
  testKeys,
} from "../log/world.ts";

const logKey = assertDefined(parseVkey(testKeys.log.vkey), "a key");

/** Remembers every note that was signed. */
class WitnessedLastSigned extends MemoryLastSigned {
  readonly all: Uint8Array[] = [];
  override async write(note: Uint8Array): Promise<void> {
    await super.write(note);
    this.all.push(note);
  }
}

export interface Life {
  readonly inner: MemoryStore;
  readonly clock: JumpingClock;
  readonly lastSigned: WitnessedLastSigned;
  /** What clients hold. */
  readonly acknowledged: { readonly id: RecordId; readonly receipt: LogReceipt }[];
  /** Answers by request: a request is never made twice. */
  readonly refused: string[];
  index: Index;
  processes: number;
}

export interface LifeOptions {
  readonly seed?: number;
  /** Faults of each process in turn; of the ones after, none. */
  readonly faults: readonly ((store: FaultStore) => void)[];
  readonly rates?: FaultStoreOptions["rates"];
  /** Whether the index survives a crash. */
  readonly keepIndex?: boolean;
  readonly log?: Partial<LogOptions>;
  readonly createIndex?: () => Index;
}

class ProcessDied extends Error {}

const DEAD = new Set(["WRITER_LOST", "NOT_WRITER"]);

async function attempt<T>(life: Life, log: Log, submission: Submission<T>): Promise<T> {
  try {
    const { committed, value } = await log.submit(submission);
    for (const record of committed?.records ?? []) {
      expect(committed?.size).toBeGreaterThan(record.index);
      life.acknowledged.push({ id: record.id, receipt: log.receipt(record.index) });
    }
    return value;
  } catch (error) {
    if (error instanceof Fault && !DEAD.has(error.reason)) throw error;
    throw new ProcessDied("the writer stopped", { cause: error });
  }
}

/** Does everything; safe to do again. */
async function work(life: Life, log: Log): Promise<void> {
  const system = assertDefined(log.index.reader().entry(1), "entry 1").record;
  const projects = await Promise.all(
    ["fraud", "risk"].map(async (name) => {
      const value = await attempt(life, log, createProject(name, system));
      return value === "new"
        ? assertDefined(log.index.reader().get("name", `-/project/${name}`), name).value.id
        : value;
    }),
  );
  await Promise.all(
    projects.flatMap((project) =>
      ["a", "b", "a"].map((name, k) =>
        attempt(life, log, createDataset(project, name, `request-${name}-${k}`)).catch((error: unknown) => {
          if (!(error instanceof Fault) || error.reason !== "ALREADY_EXISTS") throw error;
        }),
      ),
    ),
  );
  await life.clock.sleep(2_500);
  await log.seal().catch((error: unknown) => {
    throw new ProcessDied("no seal", { cause: error });
  });
  for (const name of ["c", "d"]) await attempt(life, log, createDataset(assertDefined(projects[0], "a project"), name));
  await life.clock.sleep(2_500);
}

async function processOnce(life: Life, store: ObjectStore, options: LifeOptions): Promise<void> {
  const random = seededRandom((options.seed ?? 1) * 100 + life.processes);
  const shared = { clock: life.clock, keys: testKeys, lastSigned: life.lastSigned, random, store };
  if (life.lastSigned.notes.length === 0) await initLedger({ ...shared, origin: ORIGIN, retentionDays: 30 });
  const log = await openIn({ ...shared, init: undefined as never }, store, life.index, options.log);
  let died: unknown;
  try {
    await work(life, log);
  } catch (error) {
    died = error;
  }
  await log[Symbol.asyncDispose]();
  const { alarm, stopped } = log.health();
  if (died !== undefined) throw died as Error;
  if (alarm !== undefined || (stopped !== undefined && stopped !== "closed")) throw new ProcessDied(alarm ?? stopped);
}

const MAX_PROCESSES = 12;

/** Lives until a process ends in peace. */
export async function live(options: LifeOptions): Promise<Life & { readonly calls: number }> {
  const createIndex = options.createIndex ?? createMemoryIndex;
  const life: Life = {
    acknowledged: [],
    clock: new JumpingClock(),
    index: createIndex(),
    inner: createMemoryStore(),
    lastSigned: new WitnessedLastSigned(),
    processes: 0,
    refused: [],
  };
  let calls = 0;
  for (; life.processes < MAX_PROCESSES; life.processes++) {
    const faulty = life.processes < options.faults.length || options.rates !== undefined;
    const store = createFaultStore(life.inner, {
      seed: (options.seed ?? 1) * 31 + life.processes,
      ...(options.rates !== undefined && life.processes < 4 ? { rates: options.rates } : {}),
    });
    options.faults[life.processes]?.(store);
    try {
      await processOnce(life, store, options);
      calls += store.faults.calls;
      const { struck } = store.faults;
      if (struck["crash-before"] + struck["crash-after"] > 0) throw new ProcessDied("while it closed");
      await store.faults.quiet();
      return { ...life, calls };
    } catch (error) {
      const crashed = error instanceof ProcessDied || (error instanceof Error && error.name === "Crash");
      if (!crashed || !faulty) throw error;
      await assertMaterialised(life);
      if (options.keepIndex !== true) life.index = createIndex();
    }
  }
  throw new Error("the ledger never came to peace");
}

/** Reads the whole bucket as a stranger would. */
export async function assertWhole(life: Life): Promise<void> {
  const { inner } = life;
  inner.assertSound();
  let chain = CommitChain.genesis();
  const items: ValidItem[] = [];
  const slots = inner.keys("ledger").filter((k) => k.startsWith("commits/"));
  const seen = new Set<RecordId>();
  for (const [n, key] of slots.entries()) {
    expect(key).toBe(commitKey(n));
    const bytes = assertDefined(await inner.get("ledger", key), key).body;
    const commit = chain.check(bytes, nativeVerifier, (id) => seen.has(id));
    chain = chain.advance(commit);
    for (const item of commit.items) {
      seen.add(item.entry.record);
      items.push(item);
    }
  }
  const tree = new HashStore();
  for (const item of items) tree.append(item.leaf);
  assertAnswers(life, items, tree);
  assertSignatures(life, tree);
  assertGuards(items);
  await assertPublished(life, items, tree);
  assertSeals(life, items);
  // Thrown away and made again, the index says the same.
  const again = createMemoryIndex();
  let replay = CommitChain.genesis();
  for (const key of slots) {
    const commit = replay.check(assertDefined(await inner.get("ledger", key), key).body, nativeVerifier);
    const seal = commit.items.find((i) => i.record?.kind === "ledger.seal");
    if (seal !== undefined) {
      // Alone in its commit, and true of all before it.
      expect(commit.items).toHaveLength(1);
      expect(seal.record?.body).toMatchObject({
        heads: formatHex(headsRoot(replay.heads)),
        projects: replay.heads.size,
        size: seal.index,
        state: again.watermark.state,
      });
    }
    again.apply([commit]);
    replay = replay.advance(commit);
  }
  expect(again.watermark.state).toBe(life.index.watermark.state);
  expect(again.watermark.root).toBe(life.index.watermark.root);
}

function assertAnswers({ acknowledged }: Life, items: readonly ValidItem[], tree: HashStore): void {
  for (const { id, receipt } of acknowledged) {
    expect(items.filter((i) => i.entry.record === id).map((i) => i.index)).toEqual([receipt.index]);
    const { checkpoint, signedBy } = openCheckpoint(utf8(receipt.checkpoint), [logKey], nativeVerifier);
    expect(signedBy).toHaveLength(1);
    expect(
      verifyInclusion(receipt.index, receipt.size, leafHash(utf8(receipt.entry)), receipt.proof, checkpoint.root),
    ).toBe(true);
    // The proof extends to the final tree.
    expect(formatHex(tree.root(checkpoint.size))).toBe(formatHex(checkpoint.root));
  }
}

function assertSignatures({ lastSigned }: Life, tree: HashStore): void {
  for (const note of lastSigned.all) {
    const { root, size } = parseCheckpoint(parseNote(note).text);
    expect(formatHex(root)).toBe(formatHex(tree.root(size)));
  }
}

/** No request twice, no name twice in a project. */
function assertGuards(items: readonly ValidItem[]): void {
  const requests = items.map((i) => `${i.record?.project ?? "-"} ${i.record?.request_id}`);
  expect(new Set(requests).size).toBe(requests.length);
  const names = items
    .filter((i) => i.record?.kind === "dataset")
    .map((i) => `${i.entry.project} ${JSON.stringify(i.record?.body["name"])}`);
  expect(new Set(names).size).toBe(names.length);
}

/** At any time, a crash included: what is published exists record by record. */
async function assertMaterialised({ inner }: Life): Promise<void> {
  const head = await inner.get("head", HEAD_CHECKPOINT);
  const size = head === null ? 0 : parseCheckpoint(parseNote(head.body).text).size;
  const records = inner.keys("ledger").filter((k) => k.startsWith("records/")).length;
  expect(records, "records below the published size").toBeGreaterThanOrEqual(size);
}

async function assertPublished({ inner }: Life, items: readonly ValidItem[], tree: HashStore): Promise<void> {
  const head = assertDefined(await inner.get("head", HEAD_CHECKPOINT), "a published checkpoint").body;
  const { root, size } = parseCheckpoint(parseNote(head).text);
  expect(formatHex(root)).toBe(formatHex(tree.root(size)));
  expect(size).toBe(items.length);
  const ledger = new Set(inner.keys("ledger"));
  for (const item of items.slice(0, size)) expect(ledger.has(recordKey(digestOf(item.entry.record)))).toBe(true);
  const heads = new Set(inner.keys("head"));
  for (const { level, n, width } of tilesOf(size)) {
    const paths = [tilePath(level, n, width), ...(level === 0 ? [entriesPath(n, width)] : [])];
    for (const path of paths) expect((width === TILE_WIDTH ? ledger : heads).has(path), path).toBe(true);
  }
}

function assertSeals(life: Life, items: readonly ValidItem[]): void {
  const seals = items.filter((i) => i.record?.kind === "ledger.seal");
  expect(seals.length).toBeGreaterThan(0);
  for (const seal of seals) expect(seal.record?.body["size"]).toBe(seal.index);
  const archived = life.inner.keys("ledger").flatMap((k) => {
    const key = parseKey("ledger", k);
    return key?.type === "checkpoint" ? [key.size] : [];
  });
  for (const size of archived) expect(items[size - 1]?.record?.kind).toBe("ledger.seal");
}
