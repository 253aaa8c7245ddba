/**
 * The log as the rest of the server sees it: submit a change, get it back with its place and a proof. `openLog` recovers, fences
 * older writers off, and joins the parts; it is the only place that knows them all.
 */
import type { Index } from "../index/index.ts";
import { inclusionProof } from "../merkle/proofs.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import type { ValidCommit } from "../record/chain.ts";
import { parseCommit } from "../record/commit.ts";
import { parseRecord } from "../record/record.ts";
import { assert, assertDefined } from "../std/assert.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import type { Clock, Random } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { persist } from "../store/place.ts";
import { acceptance } from "./acceptance.ts";
import type { Applied } from "./applied.ts";
import { Batch } from "./batch.ts";
import { Committer } from "./committer.ts";
import { Materialiser } from "./materialise.ts";
import { nativeVerifier } from "./native-verifier.ts";
import type { LastSigned, LedgerKeys, Logger } from "./ports.ts";
import { Publisher } from "./publish.ts";
import type { QueueLimits } from "./queue.ts";
import { type RecoveryOptions, recover } from "./recovery.ts";
import { createRetention, type Retention } from "./retention.ts";
import { type Seal, Sealer } from "./seal.ts";
import { Sequencer, type Writer } from "./sequencer.ts";
import { createSigner, type SignedHead, type Signer, type TreeHead } from "./signer.ts";
import { createCommitSlots } from "./slots.ts";
import type { Outcome, Submission } from "./submission.ts";
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

export interface LogHealth {
  /** Whether changes are taken; with the code of what stopped the writer when not. */
  readonly writing: boolean;
  readonly stopped?: string;
  /** Code of what stopped materialising or publishing. */
  readonly alarm?: string;
  readonly size: TreeSize;
  readonly signed: TreeSize;
  readonly materialised: TreeSize;
  readonly published: TreeSize;
  readonly queuedRecords: number;
  readonly queuedBytes: number;
  /** How long the oldest change has waited for its commit and signature; 0 when none waits. */
  readonly waitingMs: number;
}

export interface Log extends AsyncDisposable {
  /**
   * Admits, sequences, commits, applies and signs. Rejects with what `admit` threw, or Fault STATE_CHANGED, RATE_LIMITED,
   * DEADLINE_EXCEEDED, WRITER_LOST, NOT_WRITER. "Failed" is never said of what may be committed: DEADLINE_EXCEEDED and
   * WRITER_LOST leave that open, and the same request id answers it later.
   */
  submit<T>(submission: Submission<T>): Promise<Outcome<T>>;
  /** Against the newest signed checkpoint, or against the signed checkpoint of `size` while it is remembered. */
  receipt(index: LogIndex, size?: TreeSize): LogReceipt;
  /** The newest signed note. */
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
}

export interface LogOptions {
  readonly store: ObjectStore;
  readonly index: Index;
  readonly keys: LedgerKeys;
  readonly lastSigned: LastSigned;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly verifier?: SignatureVerifier;
  /** Throws when the store does not keep its promises; run before anything is written. */
  readonly probe?: () => Promise<void>;
  readonly acceptHead?: RecoveryOptions["acceptHead"];
  readonly threadsFrom?: number;
  readonly queueLimits?: QueueLimits;
  readonly backlogRecords?: number;
  readonly publishIntervalMs?: number;
  readonly sealIntervalMs?: number;
  /** How long closing waits for a store that does not answer. */
  readonly graceMs?: number;
  /** Ends the start-up. */
  readonly signal?: AbortSignal;
}

const GRACE_MS = 10_000;
const FENCE_ATTEMPTS = 16;
const SIGNED_KEPT = 256;

/** Reads what the genesis record says before anything is verified: only how long to lock what start-up may write. */
function retentionDaysOf(genesis: Uint8Array): number {
  const record = parseCommit(genesis).items[0]?.record;
  const days = record === null || record === undefined ? undefined : parseRecord(record).body["default_retention_days"];
  if (typeof days !== "number") throw new Violation("commit.squatted", "slot 0 does not begin with a `ledger` record");
  return days;
}

/**
 * The fence: a commit with a higher epoch, empty but for the head that an operator vouched for. From then on no older writer's
 * commit can be the next one.
 */
async function fence(
  applied: Applied,
  committer: Committer,
  writer: Omit<Writer, "epoch">,
  accepted: TreeHead | undefined,
  { clock, random }: Pick<LogOptions, "clock" | "random">,
  signal: AbortSignal,
): Promise<Writer> {
  for (let attempt = 0; attempt < FENCE_ATTEMPTS; attempt++) {
    const mine: Writer = { ...writer, epoch: applied.chain.epoch + 1 };
    const nowMs = clock.now();
    const batch = new Batch(applied);
    if (accepted !== undefined) batch.place(acceptance(applied, accepted, { nowMs, random }));
    const made = batch.seal({ ...mine, nowMs });
    const result = await committer.commit(applied, made.bytes, signal);
    if (result.kind === "ours") {
      applied.apply(made.commit, made.bytes);
      return mine;
    }
    if (result.kind === "refused") throw result.fault;
    applied.apply(result.commit, result.bytes);
  }
  throw new Violation(
    "writer.lost",
    `another process wrote ${FENCE_ATTEMPTS} commits while this one tried to take over; stop it first`,
  );
}

export async function openLog(options: LogOptions): Promise<Log> {
  const { clock, index, keys, lastSigned, logger, probe, random, store, verifier = nativeVerifier } = options;
  const signal = options.signal ?? new AbortController().signal;
  await probe?.();
  let days = 0;
  const retention: Retention = () => createRetention(clock, days)();
  const slots = createCommitSlots(store, retention);
  const genesis = await persist({ clock, signal }, () => slots.read(0, signal));
  if (genesis === null)
    throw new Violation("ledger.missing", "the ledger bucket holds no ledger; make one with `datapilot init`");
  days = retentionDaysOf(genesis);
  const recovered = await recover({
    ...(options.acceptHead === undefined ? {} : { acceptHead: options.acceptHead }),
    ...(options.threadsFrom === undefined ? {} : { threadsFrom: options.threadsFrom }),
    clock,
    index,
    lastSigned,
    logger,
    signal,
    slots,
    store,
    verifier,
  });
  const { applied } = recovered;
  const { origin } = applied.chain;
  assertKeys(applied, keys);
  const signer = createSigner({ clock, keys, last: recovered.last, lastSigned, origin });
  const committer: Committer = new Committer({
    clock,
    onRetry(attempt, fault) {
      // A store that does not answer is no silent wait: told after 1, 2, 4, 8 … repetitions.
      if (((attempt + 1) & attempt) === 0)
        logger.warn({ attempt: attempt + 1, err: fault }, "the store has not taken a commit; repeating it");
      log?.expire();
    },
    slots,
    verifier,
  });
  let log: OpenLog | undefined;
  const writer = await fence(
    applied,
    committer,
    { key: keys.commit, writer: formatHex(random.bytes(16)) },
    recovered.accepted,
    { clock, random },
    signal,
  );
  const head = applied.head();
  const signed = await signer.sign(head, (from) => applied.prove(from, head.size));
  if (recovered.published !== null) {
    // What was published was materialised before: an index that was rebuilt need not ask the store again.
    const size = recovered.published.size as TreeSize;
    if (index.watermark.materialised < size) index.setMaterialised(size);
    if (index.watermark.published < size) index.setPublished(size);
  }
  log = new OpenLog({
    applied,
    committer,
    options,
    published: recovered.published,
    retention,
    setDays: (n) => {
      days = n;
    },
    signed,
    signer,
    writer,
  });
  return log;
}

function assertKeys(applied: Applied, keys: LedgerKeys): void {
  const { chain } = applied;
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

interface Parts {
  readonly options: LogOptions;
  readonly applied: Applied;
  readonly committer: Committer;
  readonly signer: Signer;
  readonly signed: SignedHead;
  readonly writer: Writer;
  readonly retention: Retention;
  readonly published: { readonly size: number; readonly note: Uint8Array } | null;
  readonly setDays: (days: number) => void;
}

class OpenLog implements Log {
  readonly index: Index;
  readonly origin: string;
  readonly genesis: RecordId;
  readonly tiles: TiledLog;
  readonly #applied: Applied;
  readonly #sequencer: Sequencer;
  readonly #materialiser: Materialiser;
  readonly #publisher: Publisher;
  readonly #sealer: Sealer;
  readonly #graceMs: number;
  readonly #clock: Clock;
  readonly #setDays: (days: number) => void;
  readonly #listeners = new Set<(commit: ValidCommit) => void>();
  readonly #signed = new Map<number, SignedHead & { readonly text: string }>();
  readonly #logger: Logger;
  #alarm: string | undefined;
  #closed: Promise<void> | undefined;

  constructor({ applied, committer, options, published, retention, setDays, signed, signer, writer }: Parts) {
    const { clock, index, logger, random, store } = options;
    this.index = index;
    this.origin = applied.chain.origin;
    this.genesis = assertDefined(applied.reader.entry(0), "a ledger has entry 0").record;
    this.#applied = applied;
    this.#clock = clock;
    this.#graceMs = options.graceMs ?? GRACE_MS;
    this.#logger = logger;
    this.#setDays = setDays;
    this.#useNewestLedgerRecord();
    const onFailed = (error: unknown): void => this.#raise(error);
    this.#materialiser = new Materialiser({
      ...(options.backlogRecords === undefined ? {} : { backlogRecords: options.backlogRecords }),
      clock,
      index,
      onFailed,
      retention,
      store,
    });
    this.#publisher = new Publisher({
      ...(options.publishIntervalMs === undefined ? {} : { intervalMs: options.publishIntervalMs }),
      applied,
      clock,
      materialiser: this.#materialiser,
      onFailed,
      published,
      retention,
      signer,
      store,
    });
    this.#sequencer = new Sequencer({
      ...(options.queueLimits === undefined ? {} : { limits: options.queueLimits }),
      applied,
      clock,
      committer,
      logger,
      onApplied: (commit) => this.#onApplied(commit),
      onSigned: (head) => this.#onSigned(head),
      pressure: () => this.#materialiser.pressure(),
      random,
      signed,
      signer,
      writer,
    });
    this.#sealer = new Sealer({
      ...(options.sealIntervalMs === undefined ? {} : { intervalMs: options.sealIntervalMs }),
      applied,
      clock,
      onFailed,
      publisher: this.#publisher,
      retention,
      sequencer: this.#sequencer,
      signer,
      store,
    });
    this.tiles = createTiledLog(store, applied, () => this.#publisher.published);
    this.#onSigned(signed);
    this.#publisher.sweep().catch(onFailed);
  }

  submit<T>(submission: Submission<T>): Promise<Outcome<T>> {
    return this.#sequencer.submit(submission);
  }

  receipt(index: LogIndex, size?: TreeSize): LogReceipt {
    const signed = this.#signed.get(size ?? this.#sequencer.signed.size);
    assert(signed !== undefined && index < signed.size, `entry ${index} is below a remembered signed size`);
    const { entryBytes } = assertDefined(this.#applied.reader.entry(index), `entry ${index} is applied`);
    return {
      checkpoint: signed.text,
      entry: new TextDecoder().decode(entryBytes),
      index,
      leafHash: this.#applied.tree.read(0, index),
      proof: inclusionProof(index, signed.size, this.#applied.tree.read),
      size: signed.size as TreeSize,
    };
  }

  checkpoint(): string {
    return new TextDecoder().decode(this.#sequencer.signed.note);
  }

  published(): Uint8Array | null {
    return this.#publisher.published?.note ?? null;
  }

  seal(signal?: AbortSignal): Promise<Seal> {
    return this.#sealer.seal(signal);
  }

  onCommit(listener: (commit: ValidCommit) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  health(): LogHealth {
    const { materialised, published, size } = this.index.watermark;
    const { bytes, records } = this.#sequencer.queued;
    const { stopped } = this.#sequencer;
    return {
      ...(this.#alarm === undefined ? {} : { alarm: this.#alarm }),
      ...(stopped === undefined ? {} : { stopped }),
      materialised,
      published,
      queuedBytes: bytes,
      queuedRecords: records,
      signed: this.#sequencer.signed.size as TreeSize,
      size,
      waitingMs: this.#sequencer.waitingMs,
      writing: stopped === undefined && this.#closed === undefined,
    };
  }

  /** Whoever waits past a deadline is told so, while the store does not answer. */
  expire(): void {
    this.#sequencer.expire();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** Finishes what waits, seals what came since the last seal, publishes it, and stops. */
  async #close(): Promise<void> {
    const late = new AbortController();
    const sealing =
      this.#sequencer.stopped === undefined && this.#alarm === undefined
        ? this.#sealer.seal(late.signal)
        : Promise.resolve();
    const timer = new AbortController();
    const bound = this.#clock.sleep(this.#graceMs, timer.signal).then(
      () => late.abort(new Error("closing took too long")),
      () => undefined,
    );
    await sealing.catch((error: unknown) => this.#logger.warn({ err: error }, "no seal at shutdown"));
    timer.abort();
    await bound;
    await this.#sequencer.close(this.#graceMs);
    await this.#materialiser.close();
    await this.#publisher.close();
    await this.#sealer.close();
    this.#applied[Symbol.dispose]();
  }

  #onApplied(commit: ValidCommit): void {
    if (commit.items.some((i) => i.record?.kind === "ledger")) this.#useNewestLedgerRecord();
    this.#materialiser.wake();
    for (const listener of this.#listeners) {
      try {
        listener(commit);
      } catch (error) {
        this.#logger.error({ err: error, n: commit.n }, "a listener failed; the commit stands");
      }
    }
  }

  #onSigned(signed: SignedHead): void {
    this.#signed.set(signed.size, { ...signed, text: new TextDecoder().decode(signed.note) });
    for (const size of this.#signed.keys()) {
      if (this.#signed.size <= SIGNED_KEPT) break;
      this.#signed.delete(size);
    }
    this.#publisher.offer(signed);
  }

  #useNewestLedgerRecord(): void {
    const { reader } = this.#applied;
    const newest = reader.get("ledger", "")?.value.record;
    const days = newest === undefined ? undefined : reader.record(newest)?.record.body["default_retention_days"];
    if (typeof days === "number") this.#setDays(days);
  }

  #raise(error: unknown): void {
    this.#alarm = error instanceof Violation ? error.code : "internal";
    this.#logger.error({ code: this.#alarm, err: error }, "materialising or publishing stopped");
  }
}
