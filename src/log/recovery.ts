/**
 * Start-up (`docs/operating.md`): from the bucket and the index to the applied log. The bucket decides what is; the index is adopted
 * where it fits and rebuilt where it does not. Whether the result may be extended is decided at a takeover (`tenure.ts`).
 */
import type { AppliedCommit, Index } from "../index/index.ts";
import { rebuild } from "../index/rebuild.ts";
import { sha256Hex } from "../merkle/hash.ts";
import { CommitChain, type ValidCommit } from "../record/chain.ts";
import type { RecordId } from "../std/brand.ts";
import type { Clock } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { persist } from "../store/place.ts";
import { Applied } from "./applied.ts";
import { readKnown, readNext, type SlotReading } from "./next-slot.ts";
import type { Logger } from "./ports.ts";
import { restoreChain } from "./restore.ts";
import { prevOf } from "./slots.ts";

export interface RecoveryOptions {
  readonly reading: SlotReading;
  readonly index: Index;
  readonly clock: Clock;
  readonly logger: Logger;
  /** An empty index is filled in threads when the bucket holds more commits than this. */
  readonly threadsFrom?: number;
  readonly signal: AbortSignal;
}

/** Commits applied in one transaction while catching up. */
const CATCH_UP = { bytes: 8 << 20, commits: 64 } as const;
const THREADS_FROM = 256;
/** GETs ahead of the one that is being applied. */
const AHEAD = 16;

export async function recover(options: RecoveryOptions): Promise<Applied> {
  const { index, logger } = options;
  const chain = await adoptIndex(options);
  if (chain === undefined && index.watermark.n > 0) {
    logger.warn({ n: index.watermark.n, size: index.watermark.size }, "the index does not fit the bucket; dropping it");
    index.clear();
  }
  const caughtUp = await catchUp(options, chain ?? CommitChain.genesis());
  // What start-up read of the index is not what the server will read.
  await index.release();
  if (caughtUp.n === 0)
    throw new Violation("ledger.missing", "the ledger bucket holds no ledger; make one with `datapilot init`");
  return new Applied(caughtUp, index);
}

/** The chain at the index's watermark; undefined when the index is empty or worthless. */
async function adoptIndex(options: RecoveryOptions): Promise<CommitChain | undefined> {
  const { clock, index, reading, signal } = options;
  const { commitHash, n } = index.watermark;
  if (n === 0) return undefined;
  const read = (): Promise<Uint8Array | null> =>
    persist({ clock, signal }, () => readKnown(reading, n - 1, commitHash, signal));
  let last = await read();
  if (last === null && (await giveBack(options))) last = await read();
  return last === null ? undefined : restoreChain(index, last, reading.verifier);
}

/**
 * A store that forgot its newest commits (`docs/operating.md`) gets them back, byte by byte, if all of them are in the index's tail.
 * Each is held to what the next one says of it, and the last to the watermark, so nothing else than what was committed is put.
 */
export async function giveBack(options: Omit<RecoveryOptions, "threadsFrom">): Promise<boolean> {
  const { clock, index, logger, reading, signal } = options;
  const { slots } = reading;
  const { commitHash, n } = index.watermark;
  const lost: { readonly n: number; readonly bytes: Uint8Array }[] = [];
  let hash: string = commitHash;
  for (let k = n - 1; k >= 0; k--) {
    const there = await persist({ clock, signal }, () => readKnown(reading, k, hash, signal));
    if (there !== null) {
      if (sha256Hex(there) !== hash) return false;
      break;
    }
    const bytes = index.commitBytes(k);
    if (bytes === undefined || sha256Hex(bytes) !== hash) return false;
    lost.unshift({ bytes, n: k });
    hash = prevOf(bytes);
  }
  await persist({ clock, signal }, async () => {
    await slots.assertEnd(lost[0]?.n ?? n, signal);
    return true;
  });
  for (const commit of lost) {
    const outcome = await persist({ clock, signal }, () => slots.create(commit.n, commit.bytes, signal));
    if (outcome === "created") continue;
    // The bytes of an attempt whose fate was unknown may be there by now.
    const there = await persist({ clock, signal }, () => slots.read(commit.n, signal));
    if (there === null || sha256Hex(there) !== sha256Hex(commit.bytes)) return false;
  }
  logger.warn({ commits: lost.length }, "the store had forgotten commits; they were put back from the index's tail");
  return true;
}

async function* commitsFrom(
  { clock, reading, signal }: RecoveryOptions,
  from: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const read = (n: number): Promise<Uint8Array | null> =>
    persist({ clock, signal }, () => reading.slots.read(n, signal));
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
  const { clock, index, logger, reading, signal, threadsFrom = THREADS_FROM } = options;
  if ((await persist({ clock, signal }, () => reading.slots.read(threadsFrom, signal))) === null) return start;
  try {
    await rebuild(index, commitsFrom(options, 0), undefined, ({ n, size }) =>
      logger.info({ n, size }, "rebuilding the index"),
    );
  } catch (error) {
    // The plain way meets the same slot again and says what it is.
    if (!(error instanceof Violation)) throw error;
  }
  const chain = await adoptIndex(options);
  if (chain === undefined) index.clear();
  return chain ?? start;
}

/** Verifies and applies every commit that the bucket holds from the chain's place on. */
async function catchUp(options: RecoveryOptions, start: CommitChain): Promise<CommitChain> {
  const { clock, index, reading, signal } = options;
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
  const take = (commit: ValidCommit, bytes: Uint8Array): void => {
    chain = chain.advance(commit);
    for (const item of commit.items) seen.add(item.entry.record);
    waiting.push({ ...commit, bytes });
    bytesWaiting += bytes.length;
    if (waiting.length >= CATCH_UP.commits || bytesWaiting >= CATCH_UP.bytes) flush();
  };
  for (;;) {
    for await (const bytes of commitsFrom(options, chain.n)) {
      using reader = index.reader();
      const knows = (id: RecordId): boolean => seen.has(id) || reader.indexOf(id) !== undefined;
      const commit = validOf(chain, bytes, reading, knows);
      if (commit === undefined) break;
      take(commit, bytes);
    }
    flush();
    // The plain way ended: at the end, or at what is not, or not plainly, a commit.
    using reader = index.reader();
    const base = { chain, knows: (id: RecordId): boolean => reader.indexOf(id) !== undefined };
    const next = await persist({ clock, signal }, () => readNext(base, reading, true, signal));
    if (next.kind === "end") return chain;
    take(next.commit, next.bytes);
    flush();
  }
}

function validOf(
  chain: CommitChain,
  bytes: Uint8Array,
  { verifier }: SlotReading,
  knows: (id: RecordId) => boolean,
): ValidCommit | undefined {
  try {
    return chain.check(bytes, verifier, knows);
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}
