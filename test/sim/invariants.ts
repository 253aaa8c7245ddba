/**
 * What must hold of a ledger whatever its store and its processes met. Each invariant is stated here, once, and checked in one
 * function of its name; a run that breaks one ends with `Broken`, which names it.
 *
 * I5, I8 and I12 are watched while a run goes on (`history.ts`, `observed-store.ts`, `simulation.ts`); the rest is judged on what
 * a stranger reads from the bucket at the end.
 */
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import type { QueueLimits } from "../../src/log/queue.ts";
import { leafHash } from "../../src/merkle/hash.ts";
import { HashStore, verifyInclusion } from "../../src/merkle/proofs.ts";
import { entriesPath, TILE_WIDTH, tilePath, tilesOf } from "../../src/merkle/tiles.ts";
import { openCheckpoint } from "../../src/note/checkpoint.ts";
import { parseVkey } from "../../src/note/keys.ts";
import { parseTrustPolicy } from "../../src/note/trust-policy.ts";
import { CommitChain, type ValidCommit, type ValidItem } from "../../src/record/chain.ts";
import { headsRoot } from "../../src/record/heads.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { digestOf, type RecordId, ZERO_DIGEST } from "../../src/std/brand.ts";
import { formatHex, utf8 } from "../../src/std/bytes.ts";
import { commitKey, HEAD_CHECKPOINT, parseKey, recordKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { verifyBucket } from "../../src/verify/bucket.ts";
import type { MemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "../log/memory-index.ts";
import { testKeys } from "../log/world.ts";
import type { History } from "./history.ts";

export const INVARIANTS = {
  I1: "what is acknowledged is in the chain, once, at the answered index",
  I2: "no request is carried out twice",
  I3: "a slot has one content, and no commit lies beside the chain",
  I4: "the proof of an acknowledgement extends to the final checkpoint",
  I5: "never are two roots signed for one size",
  I6: "each project's sequence has no gap, and each entry names the one before",
  I7: "the state is the same live, rebuilt and on another machine",
  I8: "what is published lies record by record in its own locked object",
  I9: "guards hold at the place of the commit",
  I10: "nothing is called failed that is committed",
  I11: "when the faults end, work goes on",
  I12: "queues stay within their limits",
} as const;

export type Invariant = keyof typeof INVARIANTS;

export class Broken extends Error {
  override readonly name = "Broken";
  readonly invariant: Invariant;

  constructor(invariant: Invariant, detail: string, cause?: unknown) {
    super(`${invariant} (${INVARIANTS[invariant]}) is broken: ${detail}`, { cause });
    this.invariant = invariant;
  }
}

export function hold(invariant: Invariant, condition: boolean, detail: string): asserts condition {
  if (!condition) throw new Broken(invariant, detail);
}

/** Runs a check of the product's own code, whose complaint breaks `invariant`. */
async function holding<T>(invariant: Invariant, what: string, check: () => T | Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    throw new Broken(invariant, `${what}: ${String(error)}`, error);
  }
}

/** The ledger as a stranger reads it. */
export interface ReadLedger {
  readonly store: ObjectStore;
  readonly commits: readonly ValidCommit[];
  readonly items: readonly ValidItem[];
  /** Number of the commit of each item. */
  readonly commitOf: readonly number[];
  readonly tree: HashStore;
  /** State digests of a fresh fold, by number of commits. */
  readonly states: readonly string[];
  readonly places: ReadonlyMap<RecordId, readonly number[]>;
}

const keysOf = async (store: ObjectStore, bucket: "ledger" | "head", prefix: string): Promise<string[]> => {
  const keys: string[] = [];
  for await (const { key } of store.list(bucket, prefix)) keys.push(key);
  return keys;
};

/** I3: whatever lies below `commits/` is the next commit of the chain. */
export const readLedger = async (store: ObjectStore): Promise<ReadLedger> =>
  readSlots(store, await keysOf(store, "ledger", "commits/"));

async function readSlots(store: ObjectStore, slots: readonly string[]): Promise<ReadLedger> {
  let chain = CommitChain.genesis();
  const commits: ValidCommit[] = [];
  const items: ValidItem[] = [];
  const commitOf: number[] = [];
  const tree = new HashStore();
  const fold = createMemoryIndex();
  const states: string[] = [fold.watermark.state];
  const places = new Map<RecordId, number[]>();
  for (const [n, key] of slots.entries()) {
    hold("I3", key === commitKey(n), `${key} is there, and slot ${n} before it is empty`);
    const bytes = assertDefined(await store.get("ledger", key), key).body;
    const commit = await holding("I3", `slot ${n}`, () => chain.check(bytes, nativeVerifier, (id) => places.has(id)));
    holdSeal(commit, chain, fold.watermark.state);
    chain = chain.advance(commit);
    commits.push(commit);
    for (const item of commit.items) {
      items.push(item);
      commitOf.push(n);
      tree.append(item.leaf);
      places.set(item.entry.record, [...(places.get(item.entry.record) ?? []), item.index]);
    }
    fold.apply([commit]);
    states.push(fold.watermark.state);
  }
  return { commitOf, commits, items, places, states, store, tree };
}

/** I7: a seal stands alone in its commit, and what it says of heads and state is so. */
function holdSeal(commit: ValidCommit, before: CommitChain, state: string): void {
  const seal = commit.items.find((i) => i.record?.kind === "ledger.seal");
  if (seal === undefined) return;
  hold("I7", commit.items.length === 1, `the seal at ${seal.index} is not alone in its commit`);
  const body = seal.record?.body;
  const isTrue =
    body?.["heads"] === formatHex(headsRoot(before.heads)) &&
    body["projects"] === before.heads.size &&
    body["size"] === seal.index &&
    body["state"] === state;
  hold("I7", isTrue, `the seal at ${seal.index} says other heads or another state than the entries before it`);
}

/** As far as the chain goes, of a ledger that refused to go on: what comes after that is not judged. */
export async function readPrefix(store: ObjectStore): Promise<ReadLedger> {
  const slots: string[] = [];
  for (const key of await keysOf(store, "ledger", "commits/")) if (key === commitKey(slots.length)) slots.push(key);
  return readSlots(store, slots);
}

/** I3: neither has a record, a tile or an archived checkpoint two. */
export function holdOneContent(store: MemoryStore): void {
  try {
    store.assertSound();
  } catch (error) {
    throw new Broken("I3", String(error), error);
  }
}

/** I1; `isExcused` says which indexes the store has forgotten. */
export function holdAcknowledged(
  { places }: ReadLedger,
  { acknowledged }: History,
  isExcused: (index: number) => boolean = () => false,
): void {
  for (const { id, receipt, request } of acknowledged) {
    if (isExcused(receipt.index)) continue;
    const found = places.get(id) ?? [];
    hold(
      "I1",
      found.length === 1 && found[0] === receipt.index,
      `${request} was answered with index ${receipt.index}, and its record is at [${found.join()}]`,
    );
  }
}

/** I2: the records of one request lie side by side in one commit. A decision belongs to whatever it decides. */
export function holdOnce({ commitOf, items }: ReadLedger): void {
  const last = new Map<string, number>();
  for (const { index, record } of items) {
    if (record === null || record.kind === "decision" || record.actor.method === "init") continue;
    const { actor, kind, project, request_id } = record;
    const request = [actor.principal, project, request_id, kind].join(" ");
    const before = last.get(request);
    const isBeside = before === index - 1 && commitOf[before] === commitOf[index];
    hold("I2", before === undefined || isBeside, `${request} was carried out at ${before} and again at ${index}`);
    last.set(request, index);
  }
}

const logKey = assertDefined(parseVkey(testKeys.log.vkey), "a key");

/** I4; `isExcused` says which sizes the store has forgotten. */
export function holdProofs(
  { tree }: ReadLedger,
  { acknowledged }: History,
  isExcused: (size: number) => boolean = () => false,
): void {
  for (const { receipt, request } of acknowledged) {
    const { checkpoint, signedBy } = openCheckpoint(utf8(receipt.checkpoint), [logKey], nativeVerifier);
    hold("I4", signedBy.length === 1 && checkpoint.size === receipt.size, `${request}: the checkpoint is not signed`);
    const { entry, index, proof, size } = receipt;
    hold(
      "I4",
      verifyInclusion(index, size, leafHash(utf8(entry)), proof, checkpoint.root),
      `${request}: the receipt does not prove itself`,
    );
    if (isExcused(size)) continue;
    hold(
      "I4",
      size <= tree.size && formatHex(tree.root(size)) === formatHex(checkpoint.root),
      `${request}: the final tree does not extend the answered one of size ${size}`,
    );
  }
}

/** I5: what was signed by whichever machine is a prefix of the one chain; `History` saw already that no two contradict. */
export function holdSignatures({ tree }: ReadLedger, { signed }: History): void {
  for (const [size, root] of signed)
    hold(
      "I5",
      size <= tree.size && formatHex(tree.root(size)) === root,
      `a checkpoint of size ${size} was signed that the chain of size ${tree.size} does not extend`,
    );
}

/** I6 */
export function holdSequences({ items }: ReadLedger): void {
  const heads = new Map<string, { readonly seq: number; readonly leaf: string }>();
  for (const { entry, index, leaf } of items) {
    const { seq, leaf: last } = heads.get(entry.project) ?? { leaf: ZERO_DIGEST, seq: -1 };
    hold(
      "I6",
      entry.seq === seq + 1 && entry.prev === last,
      `entry ${index} is number ${entry.seq} of its project after ${seq}`,
    );
    heads.set(entry.project, { leaf: formatHex(leaf), seq: entry.seq });
  }
}

/** I7: of any machine's index. */
export function holdState({ states }: ReadLedger, where: string, n: number, state: string): void {
  hold("I7", n < states.length && state === states[n], `${where} has another state after ${n} commits`);
}

/** I8: at the end all is published, materialised and locked; tiles are where readers look for them. */
export async function holdPublished({ items, store, tree }: ReadLedger): Promise<void> {
  const head = await store.get("head", HEAD_CHECKPOINT);
  hold("I8", head !== null, "nothing is published");
  const { checkpoint } = openCheckpoint(head.body, [logKey], nativeVerifier);
  hold("I8", checkpoint.size === items.length, `size ${checkpoint.size} of ${items.length} is published`);
  hold("I5", formatHex(checkpoint.root) === formatHex(tree.root()), "another tree is published");
  for (const { entry, index } of items) {
    const info = await store.head("ledger", recordKey(digestOf(entry.record)));
    hold(
      "I8",
      (info?.retainUntil ?? 0) > 0,
      `the record of entry ${index} is ${info === null ? "absent" : "not locked"}`,
    );
  }
  const full = new Set(await keysOf(store, "ledger", "tile/"));
  const partial = new Set(await keysOf(store, "head", "tile/"));
  for (const { level, n, width } of tilesOf(checkpoint.size))
    for (const path of [tilePath(level, n, width), ...(level === 0 ? [entriesPath(n, width)] : [])])
      hold("I8", (width === TILE_WIDTH ? full : partial).has(path), `${path} is absent`);
  for (const key of await keysOf(store, "ledger", "checkpoints/")) {
    const parsed = parseKey("ledger", key);
    const isSeal = parsed?.type === "checkpoint" && items[parsed.size - 1]?.record?.kind === "ledger.seal";
    hold("I8", isSeal, `${key} is archived, and no seal ends there`);
  }
}

/** I10 */
export function holdDenials({ items }: ReadLedger, { denied }: History): void {
  for (const { index, record } of items) {
    const reason = denied.get(record?.request_id ?? "");
    hold("I10", reason === undefined, `${record?.request_id} was told ${reason}, and is entry ${index}`);
  }
}

/** I12: a group that is larger than the limits fits an empty queue. */
export function holdQueues({ queued }: History, limits: QueueLimits, largestGroup: number): void {
  hold(
    "I12",
    queued.records <= Math.max(limits.records, largestGroup) && queued.bytes <= limits.bytes,
    `${queued.records} records of ${queued.bytes} bytes waited; the limits are ${limits.records} and ${limits.bytes}`,
  );
}

const trust = {
  kept: [],
  mirrors: new Set<string>(),
  policy: parseTrustPolicy(`log ${testKeys.log.vkey}\nlog ${testKeys.logPq.vkey}\nquorum none\n`),
  requirePq: false,
  verifier: nativeVerifier,
};

/** The product's own verification of the whole bucket, as an auditor runs it. */
export async function holdVerdict({ items, store }: ReadLedger, nowMs: number): Promise<void> {
  const report = await verifyBucket(store, trust, {
    concurrency: 1,
    genesis: assertDefined(items[0], "a genesis").entry.record,
    nowMs,
    records: "objects",
    state: true,
  });
  const failures = report.checks.flatMap((c) => c.failures.map((f) => `${c.id} ${f.code}`));
  hold("I8", report.verdict === "COMPLETE", `\`verify bucket\` says ${report.verdict}: ${failures.join(", ")}`);
}
