/**
 * The one owner of the order of the log. Admits, queues, places, commits, applies, has the checkpoint signed, and answers.
 *
 * - Admission runs against the applied state; what it read is checked again where the group is placed, and when it moved the
 *   admission runs again on the state at that place, at most three times.
 * - No linger: a commit begins as soon as something waits and no commit is in flight; what comes meanwhile is the next batch.
 * - An answer leaves only when all that it rests on is committed, applied and under a signed checkpoint; refusals that were
 *   decided on the applied state leave at once.
 * - When a commit was applied, the next one leaves for the store first; the checkpoint over the applied one is signed meanwhile.
 * - After the first sign of another writer, or of a store that contradicts itself, nothing is written any more. What waited then, or
 *   was in a commit that lost its slot, is refused as NOT_WRITER: it is not recorded, and whoever leads may be asked. Of the rest
 *   nobody knows here: WRITER_LOST.
 */
import { consistencyProof } from "../merkle/proofs.ts";
import type { ValidCommit } from "../record/chain.ts";
import type { LogIndex, TreeSize } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import type { Clock, Random } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { type Admission, admit } from "./admission.ts";
import type { Applied } from "./applied.ts";
import { Batch, type CommitStamp } from "./batch.ts";
import type { Committer } from "./committer.ts";
import { Durations } from "./durations.ts";
import type { Logger } from "./ports.ts";
import { FairQueue, QUEUE_LIMITS, type QueueLimits } from "./queue.ts";
import type { SignedHead, Signer } from "./signer.ts";
import type { Committed, Lane, Outcome, Submission } from "./submission.ts";

const READMISSIONS = 3;
const RETRY_AFTER_MS = 100;
const REFUSED_RETRY_AFTER_MS = 1_000;
/** While the store has not taken a commit for so long, nothing more is taken here either. */
const UNTAKEN_MS = 5_000;
/** How long a caller without a deadline waits for a store that does not take a commit. */
const PATIENCE_MS = 30_000;

export type Writer = Omit<CommitStamp, "nowMs">;

export interface SequencerOptions {
  readonly applied: Applied;
  readonly committer: Committer;
  readonly signer: Signer;
  readonly signed: SignedHead;
  readonly writer: Writer;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly limits?: QueueLimits;
  /** Milliseconds to wait when records are written faster than they can be materialised; 0 when there is room. */
  pressure(): number;
  /** `sinceMs`: by the monotonic clock, when nobody else had written yet. */
  onApplied(commit: ValidCommit, sinceMs: number): void;
  onSigned(signed: SignedHead): void;
  /** Called once, when nothing is taken any more, with the code of why. */
  readonly onStopped: (code: string) => void;
}

interface Job {
  readonly submission: Submission<unknown>;
  readonly project: string;
  readonly lane: Lane;
  readonly load: QueueLimits;
  admission: Admission;
  readmissions: number;
  settled: boolean;
  readonly takenAtMs: number;
  resolve(outcome: Outcome<unknown>): void;
  reject(error: unknown): void;
}

/** An answer that waits until `size` is signed. */
interface Pending {
  readonly job: Job;
  readonly size: number;
  /** What it is, once its first entry's place is known. */
  answer(signed: SignedHead): void;
}

interface Exclusive {
  make(): Submission<unknown>;
  resolve(done: { readonly index: LogIndex; readonly signed: SignedHead }): void;
  reject(error: unknown): void;
}

export class Sequencer {
  readonly #options: SequencerOptions;
  readonly #queue: FairQueue<Job>;
  readonly #durations: Durations;
  readonly #stop = new AbortController();
  #exclusives: Exclusive[] = [];
  #pending: Pending[] = [];
  /** Placed in the commit that is in flight. */
  #flying: Pending[] = [];
  /** Taken and not answered, oldest first. */
  readonly #waiting = new Set<Job>();
  #signed: SignedHead;
  #signing: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  #closing = false;
  #committing = false;
  /** Since when the store has not taken the commit in flight, and what it said last. */
  #untaken: { readonly sinceMs: number; readonly why: string } | undefined;
  #stopped: string | undefined;
  readonly #loop: Promise<void>;

  constructor(options: SequencerOptions) {
    this.#options = options;
    this.#signed = options.signed;
    this.#durations = new Durations(options.clock);
    this.#queue = new FairQueue(options.limits ?? QUEUE_LIMITS);
    this.#loop = this.#run();
  }

  get signed(): SignedHead {
    return this.#signed;
  }

  get stopped(): string | undefined {
    return this.#stopped;
  }

  /** Whether a commit is on its way to its slot. */
  get isCommitting(): boolean {
    return this.#committing;
  }

  get queued(): QueueLimits {
    return { bytes: this.#queue.bytes, records: this.#queue.records };
  }

  /** Whether a change waits for its answer. */
  get busy(): boolean {
    return this.#waiting.size > 0;
  }

  /** How long the oldest change has waited since it was taken. */
  get waitingMs(): number {
    const [oldest] = this.#waiting;
    return oldest === undefined ? 0 : this.#options.clock.monotonic() - oldest.takenAtMs;
  }

  async submit<T>(submission: Submission<T>): Promise<Outcome<T>> {
    this.#assertOpen();
    const { applied, clock, random } = this.#options;
    const nowMs = clock.now();
    this.#shed(submission, nowMs);
    const admission = admit(submission, applied.reader, { knows: applied.knows, nowMs, random });
    if (admission.records.length === 0) {
      await this.#signedUpTo(admission.size);
      return { committed: null, value: admission.value as T };
    }
    const outcome = await new Promise<Outcome<unknown>>((resolve, reject) => {
      this.#enqueue(submission, admission, resolve, reject);
    });
    return outcome as Outcome<T>;
  }

  /** Commits one group alone, after all before it, and signs exactly that size. */
  exclusive(make: () => Submission<unknown>): Promise<{ readonly index: LogIndex; readonly signed: SignedHead }> {
    this.#assertOpen();
    return new Promise((resolve, reject) => {
      this.#exclusives.push({ make, reject, resolve });
      this.#wake?.();
    });
  }

  /** Takes nothing more, finishes what waits, and ends. After `graceMs` it gives up on a store that does not answer. */
  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    this.#wake?.();
    const done = new AbortController();
    const late = this.#options.clock.sleep(graceMs, done.signal).then(
      () => this.#halt("closed"),
      () => undefined,
    );
    await this.#loop;
    await this.#signedUp();
    done.abort();
    await late;
    this.#halt("closed");
  }

  /** Takes nothing more, at once: somebody else writes. What was on its way may have been committed, and its callers are told so. */
  resign(code: string): void {
    this.#halt(code);
  }

  #assertOpen(): void {
    if (this.#stopped !== undefined || this.#closing) {
      throw new Fault(
        "NOT_WRITER",
        `This process does not write (${this.#stopped ?? "shutting down"}); send the request to the writing process.`,
        { retryAfterMs: 1_000 },
      );
    }
  }

  /** Refuses what cannot be done in time, or only by making others wait without bound. */
  #shed(submission: Submission<unknown>, nowMs: number): void {
    const { deadlineMs, signal } = submission;
    if (signal?.aborted === true || (deadlineMs !== undefined && deadlineMs - nowMs < 2 * this.#durations.p99())) {
      throw new Fault(
        "DEADLINE_EXCEEDED",
        "The deadline leaves no time to commit the change; nothing was recorded. Repeat it with a later deadline.",
      );
    }
    const { sinceMs = Number.POSITIVE_INFINITY, why } = this.#untaken ?? {};
    const untakenMs = this.#options.clock.monotonic() - sinceMs;
    if (untakenMs >= UNTAKEN_MS)
      throw new Fault(
        "STORE_UNAVAILABLE",
        `The store has taken nothing for ${Math.round(untakenMs / 1_000)} s${why}. Repeat the request with the same request id.`,
        { retryAfterMs: REFUSED_RETRY_AFTER_MS },
      );
    const pressure = this.#options.pressure();
    if (pressure > 0)
      throw new Fault("RATE_LIMITED", `Records arrive faster than the store takes them; try again in ${pressure} ms.`, {
        retryAfterMs: pressure,
      });
  }

  #enqueue(
    submission: Submission<unknown>,
    admission: Admission,
    resolve: (o: Outcome<unknown>) => void,
    reject: (e: unknown) => void,
  ): void {
    const { signal } = submission;
    const abandon = (): void =>
      job.reject(
        new Fault(
          "DEADLINE_EXCEEDED",
          "The caller stopped waiting. The change may still be recorded: repeat it with the same request id to learn the outcome.",
        ),
      );
    const settle = (): boolean => {
      if (job.settled) return false;
      job.settled = true;
      this.#waiting.delete(job);
      signal?.removeEventListener("abort", abandon);
      return true;
    };
    const job: Job = {
      admission,
      lane: submission.lane ?? "normal",
      load: { bytes: admission.bytes, records: admission.records.length },
      project: submission.project,
      readmissions: 0,
      reject: (error) => {
        if (settle()) reject(error);
      },
      resolve: (outcome) => {
        if (settle()) resolve(outcome);
      },
      settled: false,
      submission,
      takenAtMs: this.#options.clock.monotonic(),
    };
    this.#queue.push(job, this.#retryAfterMs());
    this.#waiting.add(job);
    signal?.addEventListener("abort", abandon, { once: true });
    this.#wake?.();
  }

  #retryAfterMs(): number {
    return Math.max(RETRY_AFTER_MS, Math.ceil((this.#queue.records / 1_024) * this.#durations.p99()));
  }

  async #run(): Promise<void> {
    try {
      while (this.#stopped === undefined) {
        if (!this.#queue.empty) await this.#commit(this.#collect());
        else {
          this.#sign();
          const exclusive = this.#exclusives[0];
          if (exclusive !== undefined) await this.#commitAlone(exclusive);
          else if (this.#closing) return;
          else await this.#idle();
        }
        // A seal waits for at most one batch.
        const waiting = this.#exclusives[0];
        if (waiting !== undefined && this.#stopped === undefined) await this.#commitAlone(waiting);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  async #idle(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
  }

  #collect(): Batch {
    const { applied } = this.#options;
    const batch = new Batch(applied);
    const nowMs = this.#options.clock.now();
    for (let job = this.#queue.peek(); job !== undefined; job = this.#queue.peek()) {
      if (this.#late(job, nowMs)) {
        this.#queue.take(job);
        continue;
      }
      if (!this.#settleAdmission(job, batch, nowMs)) {
        this.#queue.take(job);
        continue;
      }
      if (!batch.fits(job.admission)) break;
      this.#queue.take(job);
      this.#place(job, batch);
    }
    return batch;
  }

  #late(job: Job, nowMs: number): boolean {
    const { deadlineMs } = job.submission;
    if (job.settled) return true;
    if (deadlineMs === undefined || nowMs < deadlineMs) return false;
    job.reject(
      new Fault(
        "DEADLINE_EXCEEDED",
        "The deadline passed while the change waited; nothing was recorded. Repeat it with a later deadline.",
      ),
    );
    return true;
  }

  /** Makes sure that the admission holds at its place; false when it was answered instead. */
  #settleAdmission(job: Job, batch: Batch, nowMs: number): boolean {
    if (batch.holds(job.admission)) return true;
    if (job.readmissions++ >= READMISSIONS) {
      job.reject(
        new Fault("STATE_CHANGED", "What this change rests on keeps changing; read it again and repeat the request.", {
          retryAfterMs: RETRY_AFTER_MS,
        }),
      );
      return false;
    }
    // Whatever comes of it rests on what stands before it, committed or not: the answer waits for that.
    try {
      job.admission = admit(job.submission, batch.reader, {
        knows: (id) => batch.knows(id),
        nowMs,
        random: this.#options.random,
      });
    } catch (error) {
      this.#flying.push({ answer: () => job.reject(error), job, size: batch.size });
      return false;
    }
    if (job.admission.records.length > 0) return true;
    const { value } = job.admission;
    this.#flying.push({ answer: () => job.resolve({ committed: null, value }), job, size: batch.size });
    return false;
  }

  #place(job: Job, batch: Batch): void {
    const first = batch.place(job.admission);
    const { records, value } = job.admission;
    this.#flying.push({
      answer: (signed) => job.resolve({ committed: committedOf(records, first, signed), value }),
      job,
      size: batch.size,
    });
  }

  /** Gives the fault with which the store refused the batch, when it did. */
  async #commit(batch: Batch): Promise<Fault | undefined> {
    const putting = batch.items.length > 0 ? this.#put(batch) : undefined;
    // What was applied before is signed while this one is on its way; the store begins first.
    this.#sign();
    const refusal = await putting;
    if (refusal === "lost") return undefined;
    this.#pending.push(...this.#flying);
    this.#flying = [];
    this.#answer();
    return refusal;
  }

  /** Brings the batch into its slot and applies it; or gives what became of it instead. */
  async #put(batch: Batch): Promise<Fault | "lost" | undefined> {
    const { applied, clock, committer, writer } = this.#options;
    const begun = clock.monotonic();
    const made = batch.seal({ ...writer, nowMs: clock.now() });
    this.#committing = true;
    try {
      const result = await committer.commit(applied, made.bytes, this.#stop.signal);
      if (result.kind === "lost") {
        this.#adopt(result.commit, result.bytes);
        return "lost";
      }
      if (result.kind === "refused") return this.#refuse(result.fault);
      applied.apply(made.commit, made.bytes);
    } finally {
      this.#committing = false;
      this.#untaken = undefined;
    }
    this.#durations.note(clock.monotonic() - begun);
    this.#options.onApplied(made.commit, begun);
    return undefined;
  }

  /** Nothing of the batch was written: what rests on it is told so; the rest stays to be answered. */
  #refuse(cause: Fault): Fault {
    const refusal = new Fault("STORE_UNAVAILABLE", `Nothing was recorded: ${cause.message}`, {
      cause,
      retryAfterMs: cause.retryAfterMs ?? REFUSED_RETRY_AFTER_MS,
    });
    this.#options.logger.warn({ err: cause }, "the store refuses commits");
    const { size } = this.#options.applied;
    for (const { job } of this.#flying.filter((p) => p.size > size)) job.reject(refusal);
    this.#flying = this.#flying.filter((p) => p.size <= size);
    return refusal;
  }

  #adopt(commit: ValidCommit, bytes: Uint8Array): void {
    this.#options.applied.apply(commit, bytes);
    this.#options.onApplied(commit, this.#options.clock.monotonic());
    this.#options.logger.warn(
      { code: "writer.lost", epoch: commit.header.epoch, n: commit.n, writer: commit.header.writer },
      "another process writes; stepping down",
    );
    // Another commit is in the slot that theirs names: it is nowhere, and comes nowhere.
    for (const { job } of this.#flying) job.reject(unwritten("writer.lost"));
    this.#flying = [];
    this.#halt("writer.lost");
  }

  async #commitAlone(exclusive: Exclusive): Promise<void> {
    this.#exclusives.shift();
    try {
      this.#sign();
      await this.#signedUp();
      const { applied, clock, random } = this.#options;
      const batch = new Batch(applied);
      const submission = exclusive.make();
      const admission = admit(submission, batch.reader, { knows: (id) => batch.knows(id), nowMs: clock.now(), random });
      const index = batch.place(admission);
      const refusal = await this.#commit(batch);
      if (refusal !== undefined) throw refusal;
      if (this.#stopped !== undefined) throw lost(this.#stopped);
      this.#sign();
      await this.#signedUp();
      if (this.#signed.size !== index + admission.records.length) throw lost(this.#stopped ?? "signer.failed");
      exclusive.resolve({ index, signed: this.#signed });
    } catch (error) {
      exclusive.reject(error);
      if (!(error instanceof Fault)) throw error;
    }
  }

  /** One signing at a time; the next covers all that was applied since. */
  #sign(): void {
    if (this.#signed.size >= this.#options.applied.size) return;
    this.#signing ??= this.#signAll()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#signing = undefined;
        if (this.#stopped !== undefined) this.#abandon(this.#stopped);
        // Applied between the last look and the end.
        else if (this.#signed.size < this.#options.applied.size) this.#sign();
      });
  }

  /** Resolves when nothing is being signed: a signing that ends may have begun the next. */
  async #signedUp(): Promise<void> {
    while (this.#signing !== undefined) await this.#signing;
  }

  /** Who is told of an entry is given its proof: an answer that rests on what is applied waits for its signature. */
  async #signedUpTo(size: TreeSize): Promise<void> {
    while (this.#signed.size < size) {
      if (this.#stopped === undefined) this.#sign();
      if (this.#signing === undefined) throw lost(this.#stopped ?? "signer.failed");
      await this.#signing;
    }
  }

  async #signAll(): Promise<void> {
    const { applied, signer } = this.#options;
    while (this.#signed.size < applied.size) {
      const head = applied.head();
      this.#signed = await signer.sign(head, (from) => consistencyProof(from, head.size, applied.tree.read));
      this.#answer();
      this.#options.onSigned(this.#signed);
    }
  }

  #answer(): void {
    const { size } = this.#signed;
    let done = 0;
    for (const pending of this.#pending) {
      if (pending.size > size) break;
      pending.answer(this.#signed);
      done++;
    }
    if (done > 0) this.#pending.splice(0, done);
  }

  /** Told before each repetition of a PUT, with what the store said of the last one, if it did. */
  expire(cause: unknown): void {
    const nowMs = this.#options.clock.now();
    const monotonicMs = this.#options.clock.monotonic();
    const why = cause instanceof Error ? ` (${cause.message})` : "";
    this.#untaken = { sinceMs: this.#untaken?.sinceMs ?? monotonicMs, why };
    const isLate = ({ submission: { deadlineMs }, takenAtMs }: Job): boolean =>
      deadlineMs === undefined ? monotonicMs - takenAtMs >= PATIENCE_MS : nowMs >= deadlineMs;
    this.#queue.discard((job) => {
      if (isLate(job))
        job.reject(
          new Fault(
            "DEADLINE_EXCEEDED",
            `The store takes nothing${why}; the change waited, and was not sent to it. Repeat it with the same request id.`,
          ),
        );
      return job.settled;
    });
    for (const { job } of this.#flying.filter((p) => isLate(p.job)))
      job.reject(
        new Fault(
          "DEADLINE_EXCEEDED",
          `The store does not take the change${why}. It may still be recorded: repeat it with the same request id to learn the outcome.`,
        ),
      );
  }

  #fail(error: unknown): void {
    const code = error instanceof Violation ? error.code : "internal";
    if (this.#stopped === undefined) this.#options.logger.error({ code, err: error }, "the log stops writing");
    this.#halt(code);
  }

  /** What is committed and waits only for its signature is still answered. */
  #halt(code: string): void {
    const first = this.#stopped === undefined;
    this.#stopped ??= code;
    this.#stop.abort(lost(code));
    for (const { job } of this.#flying) job.reject(lost(code));
    this.#flying = [];
    for (const job of this.#queue.drain()) job.reject(unwritten(code));
    for (const exclusive of this.#exclusives.splice(0)) exclusive.reject(lost(code));
    if (this.#signing === undefined) this.#abandon(code);
    this.#wake?.();
    if (first) this.#options.onStopped(code);
  }

  #abandon(code: string): void {
    for (const { job } of this.#pending.splice(0)) job.reject(lost(code));
  }
}

const unwritten = (code: string): Fault =>
  new Fault(
    "NOT_WRITER",
    `This process stopped writing (${code}) before it came to the change; nothing was recorded. Send the request to the writing process.`,
    { metadata: { code }, retryAfterMs: 1_000 },
  );

const lost = (code: string): Fault =>
  new Fault(
    "WRITER_LOST",
    `This process stopped writing (${code}). The change may have been recorded: repeat it with the same request id.`,
    {
      metadata: { code },
      retryAfterMs: 1_000,
    },
  );

const committedOf = (records: Admission["records"], first: LogIndex, signed: SignedHead): Committed => ({
  records: records.map(({ bytes, id, record }, i) => ({ bytes, id, index: (first + i) as LogIndex, record })),
  size: signed.size as TreeSize,
});
