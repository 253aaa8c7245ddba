/**
 * The log as the rest of the server sees it: submit a change, get it back with its place and a proof. It is always the same applied
 * log; what changes is who extends it:
 *
 * - it *follows*: brings in what others commit, answers reads, and takes no changes;
 * - it *leads*: one term of office as the writer (`tenure.ts`).
 *
 * `openLog` recovers, then leads or follows; `lead` and `follow` switch later, one at a time and never both. Who should lead is not
 * decided here (`election.ts`), and safety never depends on it: two that lead contend for the same slot, and one learns of it.
 */
import type { Index } from "../index/index.ts";
import { inclusionProof, type LastProof } from "../merkle/proofs.ts";
import type { VerifierKey } from "../note/keys.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import type { ValidCommit } from "../record/chain.ts";
import { parseCommit } from "../record/commit.ts";
import { parseRecord } from "../record/record.ts";
import { assert, assertDefined } from "../std/assert.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import type { Clock, Random } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { commitKey, HEAD_CHECKPOINT } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { persist } from "../store/place.ts";
import type { Applied } from "./applied.ts";
import type { Findings } from "./findings.ts";
import { Follower } from "./follower.ts";
import { nativeVerifier } from "./native-verifier.ts";
import type { Junk, SlotReading } from "./next-slot.ts";
import { assertExtends, checkNotes, Inconsistent, openPublished, readNotes, type SignedBefore } from "./notes.ts";
import type { LastSigned, LedgerKeys, Logger } from "./ports.ts";
import type { Published } from "./publish.ts";
import { recover } from "./recovery.ts";
import { createRetention, type Retention, tailFrom } from "./retention.ts";
import type { Seal } from "./seal.ts";
import type { SignedHead, TreeHead } from "./signer.ts";
import { createCommitSlots } from "./slots.ts";
import type { Outcome, Submission } from "./submission.ts";
import { type Pace, type Tenure, type TenureOptions, takeOver } from "./tenure.ts";
import { createTiledLog, type TiledLog } from "./tlog.ts";

export type { Seal } from "./seal.ts";
export type { Draft, Outcome, Submission } from "./submission.ts";

/** Why an entry is in the log: `proof` leads from `leafHash` to the root of `checkpoint`. */
export interface LogReceipt {
  readonly index: LogIndex;
  readonly entry: string;
  readonly leafHash: Uint8Array;
  readonly proof: readonly Uint8Array[];
  readonly size: TreeSize;
  /** A signed note. */
  readonly checkpoint: string;
}

/** `leader` takes changes, `follower` brings in what the leader commits. */
export type Role = "leader" | "follower";

export interface LogHealth {
  readonly role: Role;
  /** Whether changes are taken; with the code of what stopped the writer when not. */
  readonly writing: boolean;
  readonly stopped?: string;
  /** Code of what stopped materialising or publishing, or of what was found wrong in the bucket. */
  readonly alarm?: string;
  /** Slots of commits over which something was laid. */
  readonly hiddenCommits: number;
  readonly size: TreeSize;
  readonly signed: TreeSize;
  readonly materialised: TreeSize;
  readonly published: TreeSize;
  readonly queuedRecords: number;
  readonly queuedBytes: number;
  /** How long the oldest change has waited for its commit and signature; 0 when none waits. */
  readonly waitingMs: number;
  /**
   * How old the state may be: time since a look at the bucket began that found nothing more. Of a leader, since its last commit or
   * look: it need not be the leader any more, and not know it.
   */
  readonly lagMs: number;
  /** Time of the newest applied commit. */
  readonly committedAt: string;
}

export interface Log extends AsyncDisposable {
  /**
   * Admits, sequences, commits, applies and signs. Rejects with what `admit` threw, or Fault STATE_CHANGED, RATE_LIMITED,
   * DEADLINE_EXCEEDED, WRITER_LOST, NOT_WRITER. "Failed" is never said of what may be committed: DEADLINE_EXCEEDED and
   * WRITER_LOST leave that open, and the same request id answers it later.
   */
  submit<T>(submission: Submission<T>): Promise<Outcome<T>>;
  /**
   * Against the newest signed checkpoint, or against the signed checkpoint of `size` while it is remembered. A follower knows what
   * is published: before that, Fault REPLICA_BEHIND.
   */
  receipt(index: LogIndex, size?: TreeSize): LogReceipt;
  /** The newest signed note; of a follower the newest published one. */
  checkpoint(): string;
  /** The newest published note; null before the first. */
  published(): Uint8Array | null;
  /** Appends a seal and archives the checkpoint that it closes; callers at the same time share one. */
  seal(signal?: AbortSignal): Promise<Seal>;
  readonly index: Index;
  readonly origin: string;
  readonly genesis: RecordId;
  readonly tiles: TiledLog;
  /** Called after a commit is applied, in order. */
  onCommit(listener: (commit: ValidCommit) => void): () => void;
  health(): LogHealth;
  /** What lay behind the last commit when a follower, or a takeover, looked last: bytes that no commit key signed. */
  junk(): readonly Junk[];
  readonly role: Role;
  /** Of the newest applied commit. */
  readonly epoch: number;
  /** Keys that may sign commits now. */
  commitKeys(): readonly VerifierKey[];
  /** Called with the new role after each change of it. */
  onRole(listener: (role: Role) => void): () => void;
  /**
   * Asks whether the store keeps its promises, as a takeover must, which then does not ask again: nobody need give way to a process
   * that cannot lead. Rejects when it does not, or does not answer.
   */
  probe(isTakeover?: boolean): Promise<void>;
  /** Takes over: from now on changes are taken. Rejects when this log may not be extended from here; it then neither leads nor follows. */
  lead(asked?: Candidacy): Promise<Term>;
  /** Ends the term of office, if there is one, and brings in what others commit from now on. */
  follow(): Promise<void>;
  /** Stops taking changes at once, because another process leads; `follow` ends the term. */
  resign(): void;
  /** Whether the applied tree has this size, within the time. */
  reached(size: number, withinMs: number, signal?: AbortSignal): Promise<boolean>;
  /** Resolves when the applied state is the newest there was when this was called; Fault NOT_WRITER when this process cannot know. */
  confirm(signal?: AbortSignal): Promise<void>;
}

/** What tells one term of office from another. */
export interface Term {
  readonly epoch: number;
  /** 32 hex characters. */
  readonly writer: string;
}

export interface Candidacy {
  /** Id of the writer, in every commit of the term: 32 hex characters, never used before. */
  readonly writer?: string;
  readonly signal?: AbortSignal;
  /** Whether a writer before this one probed the store whole, so that a few probes are enough; when absent, whether that was this log. */
  readonly isTakeover?: boolean;
}

export interface LogOptions extends Pace {
  readonly store: ObjectStore;
  readonly index: Index;
  /** Without keys and the signer's memory a log only follows. */
  readonly keys?: LedgerKeys;
  readonly lastSigned?: LastSigned;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Told of what is wrong in the bucket. */
  readonly findings?: Findings;
  readonly verifier?: SignatureVerifier;
  /** Follows at first, instead of taking over. */
  readonly follow?: boolean;
  readonly probe?: TenureOptions["probe"];
  /** Named by an operator when the signer's memory is lost: the tree that was known last. */
  readonly acceptHead?: TreeHead;
  readonly voids?: TenureOptions["voids"];
  readonly threadsFrom?: number;
  /** Ends the start-up. */
  readonly signal?: AbortSignal;
}

/** Ends of a term that say nothing of the bucket. */
const QUIET_ENDS: ReadonlySet<string> = new Set(["closed", "internal", "writer.lost"]);
const SIGNED_KEPT = 256;
const RECENT = 8;
const decoder = new TextDecoder();
const PUBLISHED_LOOK_MS = 1_000;
/** A store that passed is not asked again by a takeover that follows so soon. */
const PROBED_MS = 60_000;
const never = (): AbortSignal => new AbortController().signal;

/** Reads what the genesis record says before anything is verified: only how long to lock what start-up may write. */
function retentionDaysOf(genesis: Uint8Array): number {
  const record = parseCommit(genesis).items[0]?.record;
  const days = record === null || record === undefined ? undefined : parseRecord(record).body["default_retention_days"];
  if (typeof days !== "number") throw new Violation("commit.squatted", "slot 0 does not begin with a `ledger` record");
  return days;
}

async function readRetentionDays(reading: SlotReading, clock: Clock, signal: AbortSignal): Promise<number> {
  const { slots } = reading;
  const plain = await persist({ clock, signal }, () => slots.read(0, signal));
  if (plain !== null) {
    try {
      return retentionDaysOf(plain);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
    }
  }
  const [genesis] = (await persist({ clock, signal }, () => slots.history(0, signal))).contents;
  if (genesis === undefined)
    throw new Violation("ledger.missing", "the ledger bucket holds no ledger; make one with `datapilot init`");
  reading.onHidden(0, "slot 0 reads as something else than its oldest version");
  return retentionDaysOf(genesis);
}

export async function openLog(options: LogOptions): Promise<Log> {
  const { clock, index, keys, lastSigned, logger, store, verifier = nativeVerifier } = options;
  const signal = options.signal ?? never();
  let days = 0;
  const retention: Retention = () => createRetention(clock, days)();
  const hidden = new Map<number, string>();
  const reading: SlotReading = {
    onHidden(n, detail) {
      if (hidden.has(n)) return;
      hidden.set(n, detail);
      options.findings?.report({ code: "commit.hidden", detail, object: commitKey(n) });
      logger.error({ code: "commit.hidden", detail, n }, "something was laid over a commit; its oldest version counts");
    },
    slots: createCommitSlots(store, retention),
    verifier,
  };
  days = await readRetentionDays(reading, clock, signal);
  const recovering = {
    ...(options.threadsFrom === undefined ? {} : { threadsFrom: options.threadsFrom }),
    clock,
    index,
    logger,
    reading,
    signal,
  };
  const noteReading = keys === undefined || lastSigned === undefined ? undefined : { ...options, lastSigned, verifier };
  const notes = noteReading === undefined ? undefined : await readNotes(noteReading, signal);
  let applied = await recover(recovering);
  let before: SignedBefore | undefined;
  /** Of a process that only follows: what it signed once is not in the bucket. */
  let contradiction: Violation | undefined;
  if (noteReading !== undefined && notes !== undefined) {
    const check = (): void => {
      before = checkNotes(noteReading, applied, notes);
    };
    try {
      try {
        check();
      } catch (error) {
        if (!(error instanceof Inconsistent)) throw error;
        // The proof came from the index: only a fresh one can tell a wrong row from a wrong bucket.
        logger.warn({ code: error.code }, "a signed tree does not fit; rebuilding the index before believing it");
        applied[Symbol.dispose]();
        index.clear();
        applied = await recover(recovering);
        check();
      }
    } catch (error) {
      if (options.follow !== true || !(error instanceof Violation)) throw error;
      if (error.code !== "ledger.head-unknown") contradiction = error;
    }
  }
  const log = new OpenLog({
    applied,
    hidden,
    options,
    reading,
    retention,
    setDays: (n) => {
      days = n;
    },
  });
  if (contradiction !== undefined) log.raise(contradiction, "what was signed here is not what the bucket holds");
  try {
    if (options.follow === true) {
      await log.catchUp(signal);
      await log.follow();
    } else await log.lead({ signal }, before);
    return log;
  } catch (error) {
    await log[Symbol.asyncDispose]();
    throw error;
  }
}

interface Parts {
  readonly options: LogOptions;
  readonly applied: Applied;
  readonly reading: SlotReading;
  readonly retention: Retention;
  readonly hidden: ReadonlyMap<number, string>;
  readonly setDays: (days: number) => void;
}

/** A signed tree, with what the answers that it covers have in common. */
interface Remembered extends SignedHead {
  readonly text: string;
  readonly lastProof: LastProof;
}

/** Brings in what others commit, until it is aborted. */
interface Following {
  readonly stop: AbortController;
  readonly done: Promise<void>;
}

class OpenLog implements Log {
  readonly index: Index;
  readonly origin: string;
  readonly genesis: RecordId;
  readonly tiles: TiledLog;
  readonly #parts: Parts;
  readonly #applied: Applied;
  readonly #follower: Follower;
  readonly #listeners = new Set<(commit: ValidCommit) => void>();
  readonly #roleListeners = new Set<(role: Role) => void>();
  readonly #signed = new Map<number, Remembered>();
  /** Entries of the newest commits, newest first: most receipts are asked for as soon as they are signed. */
  readonly #recent: { readonly first: number; readonly entries: readonly Uint8Array[] }[] = [];
  #newest: SignedHead | undefined;
  #published: Published | null = null;
  /** ETag of what was last found published, so that it is opened once. */
  #publishedTag: string | undefined;
  #tenure: Tenure | undefined;
  #hasLed = false;
  /** When the store passed last, by the monotonic clock. */
  #probedAtMs = Number.NEGATIVE_INFINITY;
  #following: Following | undefined;
  /** One change of role at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Why this process does not write. */
  #stopped: string | undefined;
  #alarm: string | undefined;
  #closed: Promise<void> | undefined;

  constructor(parts: Parts) {
    const { applied, options, reading } = parts;
    this.#parts = parts;
    this.#applied = applied;
    this.index = options.index;
    this.origin = applied.chain.origin;
    this.genesis = assertDefined(applied.reader.entry(0), "a ledger has entry 0").record;
    this.#follower = new Follower({
      applied,
      clock: options.clock,
      onApplied: (commit) => this.#onApplied(commit),
      reading,
    });
    this.tiles = createTiledLog(options.store, applied, () => this.#published);
    this.#useNewestLedgerRecord();
  }

  get role(): Role {
    return this.#tenure !== undefined && this.#tenure.stopped === undefined ? "leader" : "follower";
  }

  get epoch(): number {
    return this.#applied.chain.epoch;
  }

  commitKeys(): readonly VerifierKey[] {
    const { chain } = this.#applied;
    return chain.keys.inForce("KEY_ROLE_COMMIT", chain.size);
  }

  submit<T>(submission: Submission<T>): Promise<Outcome<T>> {
    return this.#tenure === undefined ? Promise.reject(this.#notWriter()) : this.#tenure.submit(submission);
  }

  seal(signal?: AbortSignal): Promise<Seal> {
    return this.#tenure === undefined ? Promise.reject(this.#notWriter()) : this.#tenure.seal(signal);
  }

  confirm(signal: AbortSignal = never()): Promise<void> {
    return this.#tenure === undefined ? Promise.reject(this.#notWriter()) : this.#tenure.confirm(signal);
  }

  #notWriter(): Fault {
    return new Fault("NOT_WRITER", "This process follows the log and does not write; send the request to the leader.", {
      retryAfterMs: 1_000,
    });
  }

  receipt(index: LogIndex, size?: TreeSize): LogReceipt {
    const signed =
      size === undefined && this.#newest !== undefined
        ? this.#signed.get(this.#newest.size)
        : this.#signed.get(size ?? 0);
    if (this.role === "follower" && (signed === undefined || index >= signed.size)) throw this.#behind();
    assert(signed !== undefined && index < signed.size, `entry ${index} is below a remembered signed size`);
    return {
      checkpoint: signed.text,
      entry: decoder.decode(this.#entryBytes(index)),
      index,
      leafHash: this.#applied.tree.read(0, index),
      proof: inclusionProof(index, signed.size, this.#applied.tree.read, signed.lastProof),
      size: signed.size as TreeSize,
    };
  }

  #entryBytes(index: LogIndex): Uint8Array {
    const recent = this.#recent.find(({ first, entries }) => index >= first && index < first + entries.length);
    if (recent !== undefined) return assertDefined(recent.entries[index - recent.first], "the commit holds it");
    return assertDefined(this.#applied.reader.entry(index), `entry ${index} is applied`).entryBytes;
  }

  checkpoint(): string {
    if (this.#newest === undefined) throw this.#behind();
    return decoder.decode(this.#newest.note);
  }

  #behind(): Fault {
    return new Fault(
      "REPLICA_BEHIND",
      "This replica knows no signed checkpoint that covers it yet; ask again in a second, or ask the leader.",
      { retryAfterMs: PUBLISHED_LOOK_MS },
    );
  }

  published(): Uint8Array | null {
    return this.#published?.note ?? null;
  }

  onCommit(listener: (commit: ValidCommit) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onRole(listener: (role: Role) => void): () => void {
    this.#roleListeners.add(listener);
    return () => this.#roleListeners.delete(listener);
  }

  health(): LogHealth {
    const { materialised, published, size } = this.index.watermark;
    const tenure = this.#tenure;
    const { bytes, records } = tenure?.queued ?? { bytes: 0, records: 0 };
    const stopped = tenure === undefined ? this.#stopped : tenure.stopped;
    const hiddenCommits = this.#parts.hidden.size;
    const { findings } = this.#parts.options;
    const alarm = this.#alarm ?? (hiddenCommits > 0 ? "commit.hidden" : findings?.alarm);
    return {
      ...(alarm === undefined ? {} : { alarm }),
      ...(stopped === undefined ? {} : { stopped }),
      hiddenCommits,
      committedAt: this.#applied.chain.time,
      lagMs: tenure !== undefined && this.role === "leader" ? tenure.lagMs : this.#follower.lagMs,
      materialised,
      published,
      queuedBytes: bytes,
      queuedRecords: records,
      role: this.role,
      signed: (this.#newest?.size ?? 0) as TreeSize,
      size,
      waitingMs: tenure?.waitingMs ?? 0,
      writing: this.role === "leader" && this.#closed === undefined,
    };
  }

  async reached(size: number, withinMs: number, signal: AbortSignal = never()): Promise<boolean> {
    if (this.#applied.size >= size) return true;
    const late = new AbortController();
    const timer = AbortSignal.any([late.signal, signal]);
    const grown = Promise.withResolvers<void>();
    const forget = this.onCommit(() => {
      if (this.#applied.size >= size) grown.resolve();
    });
    await Promise.race([grown.promise, this.#parts.options.clock.sleep(withinMs, timer).catch(() => undefined)]);
    forget();
    late.abort();
    return this.#applied.size >= size;
  }

  resign(): void {
    this.#tenure?.resign("writer.lost");
  }

  get #isProbed(): boolean {
    return this.#parts.options.clock.monotonic() - this.#probedAtMs < PROBED_MS;
  }

  async probe(isTakeover = this.#hasLed): Promise<void> {
    if (this.#isProbed) return;
    const { clock, probe } = this.#parts.options;
    await probe?.(isTakeover ? "again" : "start");
    this.#probedAtMs = clock.monotonic();
  }

  lead({ isTakeover = this.#hasLed, signal = never(), writer }: Candidacy = {}, before?: SignedBefore): Promise<Term> {
    return this.#inTurn(async () => {
      if (this.#tenure !== undefined && this.role === "leader") return this.#tenure;
      await this.#endTerm();
      await this.#endFollowing();
      try {
        this.#tenure = await takeOver(this.#tenureOptions(!isTakeover), writer, signal, before);
      } catch (error) {
        const code = error instanceof Violation ? error.code : error instanceof Fault ? error.reason : "internal";
        // Whoever calls a takeover off is told of no failure.
        this.#stopped = signal.aborted ? "closed" : code;
        if (!signal.aborted && error instanceof Violation && !QUIET_ENDS.has(code))
          this.#parts.options.findings?.report({ code, detail: error.message, object: error.at ?? "" });
        throw error;
      } finally {
        this.#probedAtMs = Number.NEGATIVE_INFINITY;
      }
      this.#hasLed = true;
      this.#stopped = undefined;
      this.#alarm = undefined;
      const { epoch } = this.#tenure;
      // Of a process that was started to lead, that it listens says so: the first line is that of its addresses.
      this.#parts.options.logger[isTakeover ? "info" : "debug"]({ epoch, writer: this.#tenure.writer }, "leading");
      this.#tellRole();
      return this.#tenure;
    });
  }

  /** Brings in what is there now, hidden commits included. */
  async catchUp(signal: AbortSignal): Promise<void> {
    await this.#follower.catchUp(signal, true);
  }

  junk(): readonly Junk[] {
    return this.#follower.junk;
  }

  follow(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#endTerm();
      if (this.#following !== undefined || this.#closed !== undefined) return;
      const stop = new AbortController();
      this.#following = { done: this.#run(stop), stop };
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#inTurn(async () => {
      await this.#endTerm();
      await this.#endFollowing();
      this.#applied[Symbol.dispose]();
    });
    return this.#closed;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  #tenureOptions(isFirst: boolean): TenureOptions {
    const { applied, options, reading, retention } = this.#parts;
    const { keys, lastSigned } = options;
    if (keys === undefined || lastSigned === undefined)
      throw new Fault("NOT_WRITER", "This replica has no keys: it reads, and never leads.");
    return {
      ...(options.acceptHead === undefined ? {} : { acceptHead: options.acceptHead }),
      ...(options.probe === undefined ? {} : { probe: options.probe }),
      ...(options.voids === undefined ? {} : { voids: options.voids }),
      applied,
      clock: options.clock,
      follower: this.#follower,
      isFirst,
      isProbed: this.#isProbed,
      keys,
      lastSigned,
      logger: options.logger,
      onAlarm: (error) => this.raise(error, "materialising or publishing stopped"),
      onApplied: (commit) => this.#onApplied(commit),
      onPublished: (published) => {
        this.#published = published;
      },
      onSigned: (head) => this.#remember(head),
      onStopped: (code) => {
        if (!QUIET_ENDS.has(code))
          options.findings?.report({ code, detail: "changes are not taken any more", object: "" });
        this.#tellRole();
      },
      pace: options,
      random: options.random,
      reading,
      retention,
      store: options.store,
    };
  }

  async #endTerm(): Promise<void> {
    const tenure = this.#tenure;
    if (tenure === undefined) return;
    const { stopped } = tenure;
    await tenure[Symbol.asyncDispose]();
    this.#stopped = stopped ?? tenure.stopped;
    this.#tenure = undefined;
  }

  async #endFollowing(): Promise<void> {
    const following = this.#following;
    if (following === undefined) return;
    following.stop.abort(new Error("following ends"));
    await following.done;
    this.#following = undefined;
  }

  async #run({ signal }: AbortController): Promise<void> {
    const watching = this.#watchPublished(signal);
    try {
      await this.#follower.run(signal);
    } catch (error) {
      if (!signal.aborted) {
        this.#stopped = error instanceof Violation ? error.code : "internal";
        this.raise(error, "following stopped");
      }
    }
    await watching;
  }

  /** What the leader publishes is how a follower comes to signed checkpoints; head is not trusted, so each is opened and proved. */
  async #watchPublished(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#parts.options;
    while (!signal.aborted) {
      try {
        await this.#lookAtPublished(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Violation) this.raise(error, "the published checkpoint is not of this log");
        else logger.warn({ err: error }, "the published checkpoint could not be read");
      }
      await clock.sleep(PUBLISHED_LOOK_MS, signal).catch(() => undefined);
    }
  }

  async #lookAtPublished(signal: AbortSignal): Promise<void> {
    const { options, reading } = this.#parts;
    const found = await options.store.get("head", HEAD_CHECKPOINT, { signal });
    if (found === null || found.etag === this.#publishedTag) return;
    const head = openPublished({ logger: options.logger, verifier: reading.verifier }, this.#applied, found.body);
    // Published and not read here yet: it is looked at again.
    if (head !== undefined && head.size > this.#applied.size) return;
    this.#publishedTag = found.etag;
    if (head === undefined || head.size <= (this.#published?.size ?? 0)) return;
    assertExtends(this.#applied, head, "checkpoint.root", "the published checkpoint");
    this.#published = { note: found.body, size: head.size };
    this.#remember({ ...head, note: found.body });
    const { watermark } = this.index;
    const size = head.size as TreeSize;
    if (watermark.materialised < size) this.index.setMaterialised(size);
    if (watermark.published < size) this.index.setPublished(size, tailFrom(options.clock));
  }

  #onApplied(commit: ValidCommit): void {
    if (this.#tenure !== undefined) {
      this.#recent.unshift({ entries: commit.items.map((item) => item.entryBytes), first: commit.header.first });
      if (this.#recent.length > RECENT) this.#recent.pop();
    }
    if (commit.items.some((i) => i.record?.kind === "ledger")) this.#useNewestLedgerRecord();
    for (const listener of this.#listeners) {
      try {
        listener(commit);
      } catch (error) {
        this.#parts.options.logger.error({ err: error, n: commit.n }, "a listener failed; the commit stands");
      }
    }
  }

  #tellRole(): void {
    for (const listener of this.#roleListeners) listener(this.role);
  }

  #remember(signed: SignedHead): void {
    this.#signed.set(signed.size, { ...signed, lastProof: { index: 0, path: [] }, text: decoder.decode(signed.note) });
    if (this.#newest === undefined || signed.size >= this.#newest.size) this.#newest = signed;
    for (const size of this.#signed.keys()) {
      if (this.#signed.size <= SIGNED_KEPT) break;
      if (size !== this.#newest.size) this.#signed.delete(size);
    }
  }

  #useNewestLedgerRecord(): void {
    const { reader } = this.#applied;
    const newest = reader.get("ledger", "")?.value.record;
    const days = newest === undefined ? undefined : reader.record(newest)?.record.body["default_retention_days"];
    if (typeof days === "number") this.#parts.setDays(days);
  }

  raise(error: unknown, message: string): void {
    this.#alarm = error instanceof Violation ? error.code : "internal";
    if (error instanceof Violation)
      this.#parts.options.findings?.report({ code: error.code, detail: error.message, object: error.at ?? "" });
    this.#parts.options.logger.error({ code: this.#alarm, err: error }, message);
  }
}
