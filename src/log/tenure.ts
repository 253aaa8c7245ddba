/**
 * One term of office as the writer. `takeOver` makes a follower's log one that may be extended, in the order that safety rests on:
 *
 * 1. signed notes are read, then the bucket to its end, thoroughly: nothing hidden, no hole, the last commit where it belongs;
 * 2. the tree extends everything that was ever signed, as far as anybody here remembers, and no slot since the last publication
 *    holds two commits;
 * 3. the fence: an empty commit of a higher epoch, after which no older writer's commit can be the next one (W5);
 * 4. a checkpoint is signed, and changes are taken.
 *
 * A `Tenure` owns what only a writer runs: sequencer, materialiser, publisher, sealer. It ends by itself at the first sign of
 * another writer, and is over when it is disposed of; the applied log outlives it.
 */
import type { ValidCommit } from "../record/chain.ts";
import type { TreeSize } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import type { Clock, Random } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { persist } from "../store/place.ts";
import { describeOver, type Over } from "../store/right-version.ts";
import { acceptance } from "./acceptance.ts";
import type { Applied } from "./applied.ts";
import { assertOneCommitEach, CommitAudit } from "./audit.ts";
import { Batch } from "./batch.ts";
import { Committer } from "./committer.ts";
import type { Follower } from "./follower.ts";
import { Materialiser } from "./materialise.ts";
import { readKnown, type SlotReading, squatted } from "./next-slot.ts";
import { checkNotes, type NoteReading, readNotes, type SignedBefore } from "./notes.ts";
import type { LastSigned, LedgerKeys, Logger } from "./ports.ts";
import { type Published, Publisher } from "./publish.ts";
import type { QueueLimits } from "./queue.ts";
import { giveBack } from "./recovery.ts";
import { type Retention, tailFrom } from "./retention.ts";
import { type Seal, Sealer } from "./seal.ts";
import { Sequencer, type Writer } from "./sequencer.ts";
import { createSigner, type SignedHead, type Signer, type TreeHead } from "./signer.ts";
import type { Outcome, Submission } from "./submission.ts";

/** How a writer works; nothing here is needed for safety. */
export interface Pace {
  readonly queueLimits?: QueueLimits;
  readonly backlogRecords?: number;
  readonly publishIntervalMs?: number;
  readonly sealIntervalMs?: number;
  readonly probeIntervalMs?: number;
  /** How long the end of a term waits for a store that does not answer. */
  readonly graceMs?: number;
}

export interface TenureOptions {
  readonly applied: Applied;
  readonly follower: Follower;
  readonly reading: SlotReading;
  readonly store: ObjectStore;
  readonly retention: Retention;
  readonly keys: LedgerKeys;
  readonly lastSigned: LastSigned;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly pace: Pace;
  readonly acceptHead?: NoteReading["acceptHead"];
  /**
   * Throws when the store does not keep its promises, with `code` STORE_UNSAFE in the Fault's metadata when it was seen to break
   * one; run before anything is written, and now and then while writing.
   */
  readonly probe?: (extent: ProbeExtent) => Promise<void>;
  /** Whether the store is probed as at a start. */
  readonly isFirst: boolean;
  /** Whether the store was probed just now. */
  readonly isProbed: boolean;
  /** Slots of junk that an operator lets the next commit void; all that lie there, or none. */
  readonly voids?: readonly number[];
  readonly onApplied: (commit: ValidCommit) => void;
  readonly onSigned: (signed: SignedHead) => void;
  readonly onPublished: (published: Published) => void;
  /** Something beside the sequencer failed; changes are still taken. */
  readonly onAlarm: (error: unknown) => void;
  /** Changes are not taken any more; the code says why. */
  readonly onStopped: (code: string) => void;
}

/** `start` for the first term of a process; `again` for what is asked later. */
export type ProbeExtent = "start" | "again";
export const STORE_UNSAFE = "store.unsafe";

const PROBE_MS = 600_000;
const GRACE_MS = 10_000;
/** A fence gives up when another process wrote so many commits meanwhile, and for so long: who leads gives way when it next looks at the lease. */
const FENCE_ATTEMPTS = 16;
const FENCE_MS = 10_000;
const MAX_FENCE_ATTEMPTS = 8_192;
const LOOK_AGAIN_MS = 5;

/** `writerId` is made here when absent; `before` is what a check of the notes found just now, when the caller made one. */
export async function takeOver(
  options: TenureOptions,
  writerId: string | undefined,
  signal: AbortSignal,
  before?: SignedBefore,
): Promise<Tenure> {
  const { applied, clock, follower, keys, lastSigned, logger, probe, random, reading } = options;
  if (!options.isProbed) await probe?.(options.isFirst ? "start" : "again");
  const notes = before === undefined ? await readNotes(options, signal) : undefined;
  await follower.catchUp(signal, true);
  await assertLastIsThere(options, signal);
  skipJunk(options);
  assertKeys(applied, keys);
  const { accepted, last, published } =
    notes === undefined
      ? (before as SignedBefore)
      : checkNotes({ ...options, verifier: reading.verifier }, applied, notes);
  const notAudited = published === null ? 0 : (applied.reader.entry(published.size - 1)?.commit ?? 0);
  const placing = { clock, signal, store: options.store };
  await assertOneCommitEach(placing, applied, reading, Math.min(notAudited, applied.chain.n - 1));
  const signer = createSigner({ clock, keys, last, lastSigned, origin: applied.chain.origin });
  let tenure: Tenure | undefined;
  const committer = new Committer({
    clock,
    onRetry(attempt, cause) {
      // A store that does not answer is no silent wait: told after 1, 2, 4, 8 … repetitions.
      if (((attempt + 1) & attempt) === 0)
        logger.warn({ attempt: attempt + 1, err: cause }, "the store has not taken a commit; repeating it");
      tenure?.expire(cause);
    },
    reading,
  });
  const writer = await fence(
    options,
    committer,
    { key: keys.commit, writer: writerId ?? formatHex(random.bytes(16)) },
    accepted,
    signal,
  );
  const head = applied.head();
  const signed = await signer.sign(head, (from) => applied.prove(from, head.size));
  if (published !== null) {
    // What was published was materialised before: an index that was rebuilt need not ask the store again.
    const { index } = applied;
    const size = published.size as TreeSize;
    if (index.watermark.materialised < size) index.setMaterialised(size);
    if (index.watermark.published < size) index.setPublished(size, tailFrom(clock));
  }
  tenure = new Tenure(options, { committer, notAudited, published, signed, signer, writer });
  return tenure;
}

/** The last commit is in its slot: else the next one would stand over a hole. */
async function assertLastIsThere(options: TenureOptions, signal: AbortSignal): Promise<void> {
  const { applied, clock, reading } = options;
  const { index } = applied;
  const { commitHash, n } = index.watermark;
  const isThere = async (): Promise<boolean> =>
    (await persist({ clock, signal }, () => readKnown(reading, n - 1, commitHash, signal))) !== null;
  if (await isThere()) return;
  if (!(await giveBack({ ...options, index, signal })) || !(await isThere()))
    throw new Violation(
      "ledger.rollback",
      `slot ${n - 1} was read before and is empty now: the store lost commits that are not all in the index's tail. Restore them from a copy`,
    );
}

/** Junk after the last commit stops a writer, unless an operator named exactly what is there. */
function skipJunk({ applied, follower, logger, reading, voids = [] }: TenureOptions): void {
  const { junk } = follower;
  if (junk.length === 0) return;
  const named = new Set(voids);
  if (junk.some(({ n }) => !named.has(n))) throw squatted(junk);
  for (const { bytes, n } of junk) {
    applied.skip(bytes, reading.verifier);
    logger.warn({ code: "commit.squatted", n }, "the next commit voids this slot");
  }
}

function assertKeys({ chain }: Applied, keys: LedgerKeys): void {
  for (const [role, key] of [
    ["KEY_ROLE_LOG", keys.log],
    ["KEY_ROLE_LOG_PQ", keys.logPq],
    ["KEY_ROLE_COMMIT", keys.commit],
  ] as const) {
    const known = chain.keys.inForce(role, chain.size).some((k) => k.id === key.id && k.name === key.name);
    if (!known)
      throw new Violation(
        "key.retired",
        `the key given for ${role} is not in force in this ledger at size ${chain.size}`,
      );
  }
}

/**
 * The fence: a commit with a higher epoch, empty but for the head that an operator vouched for. From then on no older writer's
 * commit can be the next one.
 */
async function fence(
  { applied, clock, onApplied, random }: TenureOptions,
  committer: Committer,
  writer: Omit<Writer, "epoch">,
  accepted: TreeHead | undefined,
  signal: AbortSignal,
): Promise<Writer> {
  const begunMs = clock.monotonic();
  let attempt = 0;
  const isPatient = (): boolean =>
    attempt < FENCE_ATTEMPTS || (attempt < MAX_FENCE_ATTEMPTS && clock.monotonic() - begunMs < FENCE_MS);
  for (; isPatient(); attempt++) {
    const mine: Writer = { ...writer, epoch: applied.chain.epoch + 1 };
    const nowMs = clock.now();
    const batch = new Batch(applied);
    if (accepted !== undefined) batch.place(acceptance(applied, accepted, { nowMs, random }));
    const made = batch.seal({ ...mine, nowMs });
    const result = await committer.commit(applied, made.bytes, signal);
    if (result.kind === "ours") {
      applied.apply(made.commit, made.bytes);
      onApplied(made.commit);
      return mine;
    }
    if (result.kind === "refused") throw result.fault;
    applied.apply(result.commit, result.bytes);
    onApplied(result.commit);
  }
  throw new Violation(
    "writer.lost",
    `another process wrote ${attempt} commits while this one tried to take over; stop it first`,
  );
}

interface Begun {
  readonly committer: Committer;
  readonly signer: Signer;
  readonly signed: SignedHead;
  readonly writer: Writer;
  readonly published: Published | null;
  /** The first slot that was not audited before a publication. */
  readonly notAudited: number;
}

export class Tenure implements AsyncDisposable {
  readonly epoch: number;
  /** 32 hex characters, in every commit of this term. */
  readonly writer: string;
  readonly #options: TenureOptions;
  readonly #sequencer: Sequencer;
  readonly #materialiser: Materialiser;
  readonly #publisher: Publisher;
  readonly #sealer: Sealer;
  readonly #stop = new AbortController();
  readonly #probing: Promise<void>;
  #failed = false;
  /** When nobody else had written for certain, by the monotonic clock. */
  #newestAtMs: number;
  #confirming: Promise<void> | undefined;
  #confirmed: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  constructor(options: TenureOptions, begun: Begun) {
    const { committer, notAudited, published, signed, signer, writer } = begun;
    const { applied, clock, logger, onApplied, onSigned, pace, random, reading, retention, store } = options;
    const { index } = applied;
    this.#options = options;
    this.#newestAtMs = clock.monotonic();
    this.epoch = writer.epoch;
    this.writer = writer.writer;
    const onOver = (key: string, over: Over): void =>
      options.onAlarm(new Violation(over, `${key}: ${describeOver(over)}, which counts`));
    const onFailed = (error: unknown): void => {
      // What ends while the term ends is no failure.
      if (this.#closed !== undefined) return;
      this.#failed = true;
      // Another process publishes. Whether its checkpoint extends this log is asked before the next term.
      if (error instanceof Violation && error.code === "checkpoint.ahead") this.resign("writer.lost");
      else options.onAlarm(error);
    };
    this.#sequencer = new Sequencer({
      ...(pace.queueLimits === undefined ? {} : { limits: pace.queueLimits }),
      applied,
      clock,
      committer,
      logger,
      onApplied: (commit, sinceMs) => {
        this.#newestAtMs = sinceMs;
        this.#materialiser.wake();
        onApplied(commit);
      },
      onSigned: (head) => {
        onSigned(head);
        this.#publisher.offer(head);
      },
      onStopped: options.onStopped,
      pressure: () => this.#materialiser.pressure(),
      random,
      signed,
      signer,
      writer,
    });
    this.#materialiser = new Materialiser({
      ...(pace.backlogRecords === undefined ? {} : { backlogRecords: pace.backlogRecords }),
      clock,
      index,
      isBusy: () => this.#sequencer.busy,
      onFailed,
      onOver,
      retention,
      store,
    });
    this.#publisher = new Publisher({
      ...(pace.publishIntervalMs === undefined ? {} : { intervalMs: pace.publishIntervalMs }),
      applied,
      audit: new CommitAudit({ applied, reading, retention }, notAudited),
      clock,
      materialiser: this.#materialiser,
      onFailed,
      onOver,
      onPublished: options.onPublished,
      published,
      retention,
      signer,
      store,
    });
    this.#sealer = new Sealer({
      ...(pace.sealIntervalMs === undefined ? {} : { intervalMs: pace.sealIntervalMs }),
      applied,
      clock,
      onFailed,
      onOver,
      publisher: this.#publisher,
      retention,
      sequencer: this.#sequencer,
      signer,
      store,
    });
    onSigned(signed);
    this.#publisher.offer(signed);
    this.#publisher.sweep().catch(onFailed);
    this.#probing = this.#probe();
  }

  /** A store may lose its promises while it runs, as a cluster does that gets a second pool: then nothing is written any more. */
  async #probe(): Promise<void> {
    const { clock, logger, onAlarm, pace, probe } = this.#options;
    const { signal } = this.#stop;
    if (probe === undefined) return;
    while (this.stopped === undefined) {
      await clock.sleep(pace.probeIntervalMs ?? PROBE_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await probe("again");
      } catch (error) {
        if (error instanceof Fault && error.metadata["code"] === STORE_UNSAFE) {
          onAlarm(new Violation(STORE_UNSAFE, error.message));
          this.resign(STORE_UNSAFE);
        } else logger.warn({ err: error }, "the store could not be probed");
      }
    }
  }

  /** Code of why changes are not taken any more. */
  get stopped(): string | undefined {
    return this.#sequencer.stopped;
  }

  get signed(): SignedHead {
    return this.#sequencer.signed;
  }

  get queued(): QueueLimits {
    return this.#sequencer.queued;
  }

  get waitingMs(): number {
    return this.#sequencer.waitingMs;
  }

  /** How old the state may be: another process may have written since, and this one not have noticed. */
  get lagMs(): number {
    return this.#options.clock.monotonic() - this.#newestAtMs;
  }

  submit<T>(submission: Submission<T>): Promise<Outcome<T>> {
    return this.#sequencer.submit(submission);
  }

  seal(signal?: AbortSignal): Promise<Seal> {
    return this.#sealer.seal(signal);
  }

  /** Whoever waits past a deadline is told so, and why, while the store does not take a commit. */
  expire(cause: unknown): void {
    this.#sequencer.expire(cause);
  }

  /** Stops taking changes, because another process writes. */
  resign(code: string): void {
    this.#sequencer.resign(code);
  }

  /**
   * Resolves when nobody else had written after this was called: the next slot was empty in a read that began later, so the
   * applied state was the newest (read index). Callers at the same time share a look.
   */
  confirm(signal: AbortSignal): Promise<void> {
    const next = (this.#confirming ??= this.#confirmed.then(() => {
      this.#confirming = undefined;
      return this.#look(signal);
    }));
    this.#confirmed = next.catch(() => undefined);
    return next;
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { applied, clock, reading } = this.#options;
    for (;;) {
      const { n } = applied.chain;
      const begunMs = clock.monotonic();
      const found = await persist({ clock, signal }, () => reading.slots.read(n, signal));
      if (this.stopped !== undefined || (found !== null && applied.chain.n === n && !this.#sequencer.isCommitting)) {
        this.resign("writer.lost");
        throw new Fault("NOT_WRITER", "Another process writes; send the request to it.", { retryAfterMs: 1_000 });
      }
      if (found === null) {
        this.#newestAtMs = Math.max(this.#newestAtMs, begunMs);
        return;
      }
      // Our own commit, about to be applied.
      await clock.sleep(LOOK_AGAIN_MS, signal);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** Finishes what waits, seals what came since the last seal, publishes it, and stops. */
  async #close(): Promise<void> {
    const { clock, logger, pace } = this.#options;
    const graceMs = pace.graceMs ?? GRACE_MS;
    this.#stop.abort(new Error("the term ends"));
    const late = new AbortController();
    const sealing = this.stopped === undefined && !this.#failed ? this.#sealer.seal(late.signal) : Promise.resolve();
    const timer = new AbortController();
    const bound = clock.sleep(graceMs, timer.signal).then(
      () => late.abort(new Error("closing took too long")),
      () => undefined,
    );
    await sealing.catch((error: unknown) => logger.warn({ err: error }, "no seal at the end of the term"));
    timer.abort();
    await bound;
    await this.#sequencer.close(graceMs);
    await this.#materialiser.close();
    await this.#publisher.close();
    await this.#sealer.close();
    await this.#probing;
  }
}
