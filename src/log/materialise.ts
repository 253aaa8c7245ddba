/**
 * Gives each applied record its own locked object. Owns the watermark `materialised`: every record below it exists. Runs behind the
 * commits, with as many writes in flight as the store takes without slowing down. While changes wait it gives way to them and writes
 * a tenth of the time, until a record has waited for some seconds. With half of the backlog used it takes all that the store gives, and
 * at its end it pushes back on admission, so that publication never lags without bound.
 */
import type { Index, IndexReader } from "../index/index.ts";
import { assertDefined } from "../std/assert.ts";
import { digestOf, type TreeSize } from "../std/brand.ts";
import type { Clock } from "../std/ports.ts";
import { recordKey } from "../store/keys.ts";
import { type Placing, placeLocked } from "../store/place.ts";
import type { Retention } from "./retention.ts";

export interface MaterialiserOptions extends Omit<Placing, "signal"> {
  readonly index: Index;
  readonly clock: Clock;
  readonly retention: Retention;
  /** Records that may be behind before admission is slowed. */
  readonly backlogRecords?: number;
  /** Whether changes wait for their commit: they go first. */
  isBusy(): boolean;
  onFailed(error: unknown): void;
}

const BACKLOG_RECORDS = 20_000;
const BACKLOG_MS = 60_000;
const RETRY_AFTER_MS = 1_000;
const CHUNK = 1_024;
/** While changes wait for their commit, a group of writes is followed by a pause this many times as long. */
const GIVING_WAY = 9;
/** Of a pause: a steady trickle is published as it comes. */
const LONGEST_PAUSE_MS = 200;
/** Whoever waits for publication waits for seconds. */
const LATE_MS = 8_000;

/** Additive increase, multiplicative decrease of the writes in flight, on the median time of one. */
export class Window {
  static readonly MIN = 8;
  static readonly MAX = 64;
  #size = Window.MIN;
  #best = Number.POSITIVE_INFINITY;
  #times: number[] = [];

  get size(): number {
    return this.#size;
  }

  note(ms: number): void {
    this.#times.push(ms);
    if (this.#times.length < this.#size) return;
    const median = this.#times.toSorted((a, b) => a - b)[this.#times.length >> 1] ?? 0;
    this.#times = [];
    // The best ages, so that a store which became slower for good is not held against the window for ever.
    this.#best = Math.min(this.#best * 1.02, median);
    this.#size =
      median > 2 * this.#best
        ? Math.max(Window.MIN, Math.floor(this.#size * 0.7))
        : Math.min(Window.MAX, this.#size + 4);
  }
}

export class Materialiser {
  readonly #options: MaterialiserOptions;
  readonly #window = new Window();
  readonly #stop = new AbortController();
  /** Applied sizes with the time of their arrival, while they are not materialised. */
  #arrivals: { readonly size: number; readonly at: number }[] = [];
  #waiters: { readonly size: number; resolve(): void; reject(error: unknown): void }[] = [];
  #running: Promise<void> | undefined;
  #failure: unknown;

  constructor(options: MaterialiserOptions) {
    this.#options = options;
    this.wake();
  }

  get size(): TreeSize {
    return this.#options.index.watermark.materialised;
  }

  /** There may be more to write. */
  wake(): void {
    const { clock, index } = this.#options;
    const { size } = index.watermark;
    if (size <= this.size || this.#stop.signal.aborted) return;
    if ((this.#arrivals.at(-1)?.size ?? 0) < size) this.#arrivals.push({ at: clock.monotonic(), size });
    this.#running ??= this.#run()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#running = undefined;
        this.wake();
      });
  }

  /** Milliseconds to wait before more is admitted; 0 when there is room. */
  pressure(): number {
    const { backlogRecords = BACKLOG_RECORDS, index } = this.#options;
    const behind = index.watermark.size - this.size;
    return behind > backlogRecords || this.#waitedMs > BACKLOG_MS ? RETRY_AFTER_MS : 0;
  }

  /** How long the oldest of the records that are no objects yet has waited. */
  get #waitedMs(): number {
    const oldest = this.#arrivals[0];
    return oldest === undefined ? 0 : this.#options.clock.monotonic() - oldest.at;
  }

  /** Resolves when every record below `size` exists as its own object. */
  reached(size: number): Promise<void> {
    if (this.size >= size) return Promise.resolve();
    if (this.#stop.signal.aborted) return Promise.reject(this.#stop.signal.reason as Error);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ reject, resolve, size });
    });
  }

  async close(): Promise<void> {
    this.#end(new Error("the materialiser is closed"));
    await this.#running;
  }

  #fail(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#failure = error;
    this.#end(error);
    this.#options.onFailed(this.#failure);
  }

  #end(reason: unknown): void {
    this.#stop.abort(reason);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(reason);
  }

  async #run(): Promise<void> {
    const { clock, index } = this.#options;
    const { signal } = this.#stop;
    while (this.size < index.watermark.size && !signal.aborted) {
      const givesWay = this.#givesWay();
      const from = this.size;
      const to = Math.min(index.watermark.size, from + (givesWay ? this.#window.size : CHUNK));
      const begun = clock.monotonic();
      using reader = index.reader();
      await this.#write(reader, from, to);
      index.setMaterialised(to as TreeSize);
      while (this.#arrivals[0] !== undefined && this.#arrivals[0].size <= to) this.#arrivals.shift();
      const done = this.#waiters.filter((w) => w.size <= to);
      this.#waiters = this.#waiters.filter((w) => w.size > to);
      for (const waiter of done) waiter.resolve();
      if (givesWay) await clock.sleep(Math.min(LONGEST_PAUSE_MS, GIVING_WAY * (clock.monotonic() - begun)), signal);
    }
  }

  async #write(reader: IndexReader, from: number, to: number): Promise<void> {
    const inFlight = new Set<Promise<void>>();
    const failures: unknown[] = [];
    for (let i = from; i < to && failures.length === 0; i++) {
      while (inFlight.size >= this.#width()) await Promise.race(inFlight);
      const task: Promise<void> = this.#one(reader, i)
        .catch((error: unknown) => {
          failures.push(error);
        })
        .finally(() => inFlight.delete(task));
      inFlight.add(task);
    }
    await Promise.all(inFlight);
    if (failures.length > 0) throw failures[0] as Error;
  }

  /** With half of the backlog used, the time that one write takes matters less than how many are done. */
  get #isFarBehind(): boolean {
    const { backlogRecords = BACKLOG_RECORDS, index } = this.#options;
    return index.watermark.size - this.size > backlogRecords / 2 || this.#waitedMs > BACKLOG_MS / 2;
  }

  #width(): number {
    return this.#isFarBehind ? Window.MAX : this.#window.size;
  }

  #givesWay(): boolean {
    return this.#options.isBusy() && this.#waitedMs <= LATE_MS && !this.#isFarBehind;
  }

  async #one(reader: IndexReader, i: number): Promise<void> {
    const bytes = reader.bytes(i);
    // A detached record was written before its commit.
    if (bytes === undefined) return;
    const { clock, onOver, retention, store } = this.#options;
    const key = recordKey(digestOf(assertDefined(reader.entry(i), `entry ${i} is applied`).record));
    const begun = clock.monotonic();
    const placing = { clock, onOver, signal: this.#stop.signal, store };
    await placeLocked(placing, key, bytes, retention());
    this.#window.note(clock.monotonic() - begun);
  }
}
