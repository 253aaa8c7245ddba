/**
 * Start-up (`docs/operating.md`): from the bucket, the index and the signer's memory to a log that may be extended, or to a refusal that
 * says which of them contradicts. The bucket decides what is; the index is adopted where it fits and rebuilt where it does not;
 * the last signed note decides whether the bucket is whole.
 */
import type { AppliedCommit, Index } from "../index/index.ts";
import { rebuild } from "../index/rebuild.ts";
import { sha256Hex } from "../merkle/hash.ts";
import { verifyConsistency } from "../merkle/proofs.ts";
import { openCheckpoint } from "../note/checkpoint.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { CommitChain } from "../record/chain.ts";
import type { RecordId } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import type { Clock } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { HEAD_CHECKPOINT } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { persist } from "../store/place.ts";
import { Applied } from "./applied.ts";
import { newestArchived } from "./archive.ts";
import { judge } from "./committer.ts";
import type { LastSigned, Logger } from "./ports.ts";
import type { Published } from "./publish.ts";
import { restoreChain } from "./restore.ts";
import type { TreeHead } from "./signer.ts";
import type { CommitSlots } from "./slots.ts";

export interface RecoveryOptions {
  readonly store: ObjectStore;
  readonly slots: CommitSlots;
  readonly index: Index;
  readonly lastSigned: LastSigned;
  readonly verifier: SignatureVerifier;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Named by an operator when the signer's memory is lost: the tree that was known last. */
  readonly acceptHead?: { readonly size: number; readonly root: Uint8Array };
  /** An empty index is filled in threads when the bucket holds more commits than this. */
  readonly threadsFrom?: number;
  readonly signal: AbortSignal;
}

export interface Recovered {
  readonly applied: Applied;
  /** What the signer signed last, or what the operator accepted. */
  readonly last: TreeHead;
  /** `last`, when nothing but the operator's word stands for it. */
  readonly accepted?: TreeHead;
  readonly published: Published | null;
}

/** Commits applied in one transaction while catching up. */
const CATCH_UP = { bytes: 8 << 20, commits: 64 } as const;
const THREADS_FROM = 256;
/** GETs ahead of the one that is being applied. */
const AHEAD = 16;

export async function recover(options: RecoveryOptions): Promise<Recovered> {
  // Before the commits: another writer may still publish, and what it publishes later may be ahead of what is read here.
  const notes = await readNotes(options);
  const first = await openState(options);
  try {
    return checkedAgainstNotes(options, first, notes);
  } catch (error) {
    // The proof came from the index: a wrong row there looks like a wrong bucket. Only a fresh index can tell.
    if (!(error instanceof Inconsistent)) throw error;
    options.logger.warn({ code: error.code }, "a signed tree does not fit; rebuilding the index before believing it");
    first[Symbol.dispose]();
    options.index.clear();
    return checkedAgainstNotes(options, await openState(options), notes);
  }
}

/** Two trees of which one should extend the other. */
class Inconsistent extends Violation {}

async function openState(options: RecoveryOptions): Promise<Applied> {
  const { index, logger } = options;
  const chain = await adoptIndex(options);
  if (chain === undefined && index.watermark.n > 0) {
    logger.warn({ n: index.watermark.n, size: index.watermark.size }, "the index does not fit the bucket; dropping it");
    index.clear();
  }
  const caughtUp = await catchUp(options, chain ?? CommitChain.genesis());
  if (caughtUp.n === 0)
    throw new Violation("ledger.missing", "the ledger bucket holds no ledger; make one with `datapilot init`");
  await assertEnd(options, caughtUp.n);
  return new Applied(caughtUp, index);
}

const assertEnd = ({ clock, signal, slots }: RecoveryOptions, n: number): Promise<boolean> =>
  persist({ clock, signal }, async () => {
    await slots.assertEnd(n, signal);
    return true;
  });

/** The chain at the index's watermark; undefined when the index is empty or worthless. */
async function adoptIndex(options: RecoveryOptions): Promise<CommitChain | undefined> {
  const { clock, index, signal, slots, verifier } = options;
  const { n } = index.watermark;
  if (n === 0) return undefined;
  let last = await persist({ clock, signal }, () => slots.read(n - 1, signal));
  if (last === null && (await giveBack(options)))
    last = await persist({ clock, signal }, () => slots.read(n - 1, signal));
  return last === null ? undefined : restoreChain(index, last, verifier);
}

/** A store that forgot its newest commits (`docs/operating.md`) gets them back, byte by byte, if all of them are here. */
async function giveBack(options: RecoveryOptions): Promise<boolean> {
  const { clock, index, logger, signal, slots } = options;
  const { commitHash, n } = index.watermark;
  const lost: { readonly n: number; readonly bytes: Uint8Array }[] = [];
  let hash: string = commitHash;
  for (let k = n - 1; k >= 0; k--) {
    const there = await persist({ clock, signal }, () => slots.read(k, signal));
    if (there !== null) {
      if (sha256Hex(there) !== hash) return false;
      break;
    }
    const bytes = index.commitBytes(k);
    if (bytes === undefined || sha256Hex(bytes) !== hash) return false;
    lost.unshift({ bytes, n: k });
    hash = prevOf(bytes);
  }
  await assertEnd(options, lost[0]?.n ?? n);
  for (const commit of lost) {
    const outcome = await persist({ clock, signal }, () => slots.create(commit.n, commit.bytes, signal));
    if (outcome !== "created") return false;
  }
  logger.warn({ commits: lost.length }, "the store had forgotten commits; they were put back from the index's tail");
  return true;
}

const prevOf = (bytes: Uint8Array): string =>
  /"prev":"sha256:([0-9a-f]{64})"/.exec(new TextDecoder().decode(bytes.subarray(0, 4_096)))?.[1] ?? "";

async function* commitsFrom({ clock, signal, slots }: RecoveryOptions, from: number): AsyncIterable<Uint8Array> {
  const read = (n: number): Promise<Uint8Array | null> => persist({ clock, signal }, () => slots.read(n, signal));
  const ahead: Promise<Uint8Array | null>[] = [];
  for (let n = from; ; n++) {
    while (ahead.length < AHEAD) {
      const next = read(n + ahead.length);
      next.catch(() => undefined);
      ahead.push(next);
    }
    const bytes = await ahead.shift();
    if (bytes === null || bytes === undefined) return;
    yield bytes;
  }
}

/** Fills an empty index in threads, when there is so much that threads pay. */
async function rebuilt(options: RecoveryOptions, start: CommitChain): Promise<CommitChain> {
  const { clock, index, logger, signal, slots, threadsFrom = THREADS_FROM } = options;
  if ((await persist({ clock, signal }, () => slots.read(threadsFrom, signal))) === null) return start;
  try {
    await rebuild(index, commitsFrom(options, 0), undefined, ({ n, size }) =>
      logger.info({ n, size }, "rebuilding the index"),
    );
  } catch (error) {
    // The plain way meets the same commit again and says what it is.
    if (!(error instanceof Violation)) throw error;
  }
  const chain = await adoptIndex(options);
  if (chain === undefined) index.clear();
  return chain ?? start;
}

/** Verifies and applies every commit that the bucket holds from the chain's place on. */
async function catchUp(options: RecoveryOptions, start: CommitChain): Promise<CommitChain> {
  const { index, verifier } = options;
  let chain = start.n === 0 ? await rebuilt(options, start) : start;
  let waiting: AppliedCommit[] = [];
  let bytesWaiting = 0;
  const seen = new Set<RecordId>();
  const flush = (): void => {
    if (waiting.length > 0) index.apply(waiting);
    waiting = [];
    bytesWaiting = 0;
    seen.clear();
  };
  for await (const bytes of commitsFrom(options, chain.n)) {
    using reader = index.reader();
    const commit = judge({ chain, knows: (id) => seen.has(id) || reader.indexOf(id) !== undefined }, bytes, verifier);
    chain = chain.advance(commit);
    for (const item of commit.items) seen.add(item.entry.record);
    waiting.push({ ...commit, bytes });
    bytesWaiting += bytes.length;
    if (waiting.length >= CATCH_UP.commits || bytesWaiting >= CATCH_UP.bytes) flush();
  }
  flush();
  return chain;
}

interface Notes {
  readonly lastSigned: readonly Uint8Array[];
  readonly archived: Uint8Array | null;
  readonly head: Uint8Array | null;
}

const readNotes = ({ clock, lastSigned, signal, store }: RecoveryOptions): Promise<Notes> =>
  persist({ clock, signal }, async () => ({
    archived: await newestArchived(store, signal),
    head: (await store.get("head", HEAD_CHECKPOINT, { signal }))?.body ?? null,
    lastSigned: await lastSigned.read(),
  }));

function checkedAgainstNotes(options: RecoveryOptions, applied: Applied, read: Notes): Recovered {
  const remembered = newestOf(options, applied, read.lastSigned);
  const last = remembered ?? options.acceptHead;
  if (last === undefined) {
    const { root, size } = applied.head();
    throw new Violation(
      "ledger.head-unknown",
      `nothing here remembers what was signed. If the ledger is known to have reached this head, start with --accept-head ${size}:${formatHex(root)}`,
    );
  }
  assertExtends(applied, last, "ledger.rollback", "the last signed checkpoint");
  const archived = read.archived === null ? undefined : newestOf(options, applied, [read.archived]);
  if (archived !== undefined) assertExtends(applied, archived, "checkpoint.root", "the newest archived checkpoint");
  const head = read.head === null ? undefined : newestOf(options, applied, [read.head]);
  if (head !== undefined) assertExtends(applied, head, "checkpoint.root", "the published checkpoint");
  const published =
    head !== undefined && read.head !== null && isPublished(options, applied, read.head)
      ? { note: read.head, size: head.size }
      : null;
  if (remembered !== undefined && options.acceptHead !== undefined)
    options.logger.warn({}, "the signer remembers what it signed: --accept-head has no effect");
  return { applied, last, published, ...(remembered === undefined ? { accepted: last } : {}) };
}

/** Only publication adds the ML-DSA-44 line: a note of an acknowledgement, put in its place, does not pass. */
function isPublished({ verifier }: RecoveryOptions, { chain }: Applied, note: Uint8Array): boolean {
  const keys = [...chain.keys.ever("KEY_ROLE_LOG"), ...chain.keys.ever("KEY_ROLE_LOG_PQ")];
  return openCheckpoint(note, keys, verifier).signedBy.some((key) => key.algorithm === 6);
}

/** The largest tree among notes that a log key of this ledger signed; others are torn or foreign and say nothing. */
function newestOf(
  { logger, verifier }: RecoveryOptions,
  { chain }: Applied,
  notes: readonly Uint8Array[],
): TreeHead | undefined {
  let newest: TreeHead | undefined;
  for (const bytes of notes) {
    try {
      const keys = chain.keys.ever("KEY_ROLE_LOG");
      const { checkpoint, signedBy } = openCheckpoint(bytes, keys, verifier);
      if (checkpoint.origin !== chain.origin || signedBy.length === 0) continue;
      if (newest === undefined || checkpoint.size > newest.size)
        newest = { root: checkpoint.root, size: checkpoint.size };
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      logger.warn({ code: error.code, detail: error.message }, "a note was passed over");
    }
  }
  return newest;
}

function assertExtends(applied: Applied, head: TreeHead, code: string, what: string): void {
  const now = applied.head();
  if (head.size > now.size) {
    throw new Violation(
      "ledger.rollback",
      `${what} has size ${head.size}, the bucket ends at ${now.size}: it is a part of an older state. Restore the bucket, or take over with new keys`,
    );
  }
  if (!verifyConsistency(head.size, now.size, head.root, now.root, applied.prove(head.size, now.size))) {
    throw new Inconsistent(code, `the bucket's tree of size ${now.size} does not extend ${what} of size ${head.size}`);
  }
}
