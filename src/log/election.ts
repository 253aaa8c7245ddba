/**
 * Decides when this process leads its log and when it follows, by the lease (`docs/protocol.md`).
 *
 * - Who does not wait takes the lease at once, whoever holds it: an operator started it to write. Who waits takes it when it was
 *   given up, or when it was seen unchanged for ten seconds.
 * - The store is probed before the lease is taken: that takes a while, and who cannot lead must not unseat who does.
 * - While leading, the lease is renewed every two seconds, and the next slot looked at. A leader that cannot renew goes on: only another writer's commit, or
 *   another writer's lease, ends its term. Then it follows, and may lead again later.
 * - A clean end gives the lease up, so that a successor need not wait.
 */
import type { NoteSigner } from "../note/signatures.ts";
import { formatHex } from "../std/bytes.ts";
import type { Clock, Random } from "../std/ports.ts";
import type { Leader, Lease } from "./lease.ts";
import type { Log, Term } from "./log.ts";
import type { Logger } from "./ports.ts";

export interface ElectionOptions {
  readonly log: Log;
  readonly lease: Lease;
  /** The commit key; without one this process never leads. */
  readonly key: NoteSigner | undefined;
  /** Where other servers reach this one. */
  readonly url: () => string;
  /** Whether a lease that is alive is left to its holder. */
  readonly waits: boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

type Served = { readonly failed: false } | { readonly failed: true; readonly error: unknown };

export const LEASE_TIMES = {
  /** Between two renewals. */
  beatMs: 2_000,
  /** Between two looks of whoever follows. */
  lookMs: 1_000,
  /** A lease that was seen unchanged for so long is silent. */
  silenceMs: 10_000,
} as const;

export class Election implements AsyncDisposable {
  readonly #options: ElectionOptions;
  readonly #stop = new AbortController();
  #leader: Leader | undefined;
  /** Until then this process leaves the lease to others: it just failed to lead. */
  #modestUntilMs = Number.NEGATIVE_INFINITY;
  #loop: Promise<void> | undefined;

  constructor(options: ElectionOptions) {
    this.#options = options;
  }

  /** Who leads, when it is another process that said where it is. */
  get leader(): Leader | undefined {
    return this.#options.log.role === "leader" ? undefined : this.#leader;
  }

  /** Begins. Who does not wait leads when this resolves; rejects when it may not. */
  async begin(): Promise<void> {
    const { key, waits } = this.#options;
    const inOffice = Promise.withResolvers<void>();
    if (waits || key === undefined) inOffice.resolve();
    this.#loop = this.#run(inOffice);
    await inOffice.promise;
  }

  async #run(inOffice: PromiseWithResolvers<void>): Promise<void> {
    const { clock, key, waits } = this.#options;
    const { signal } = this.#stop;
    let atOnce = !waits;
    while (!signal.aborted) {
      const wanted = await this.#isWanted(atOnce);
      const term = wanted && key !== undefined ? await this.#serve(key, inOffice, atOnce) : undefined;
      if (term?.failed === true && atOnce) {
        inOffice.reject(term.error);
        return;
      }
      if (term !== undefined) atOnce = false;
      // After a term somebody else may lead already.
      if (term?.failed !== false) await clock.sleep(LEASE_TIMES.lookMs, signal).catch(() => undefined);
    }
    inOffice.resolve();
  }

  /** Looks at the lease; whether this process should take it. */
  async #isWanted(atOnce: boolean): Promise<boolean> {
    const { clock, lease, logger } = this.#options;
    try {
      const { leader, silentMs } = await lease.look(this.#stop.signal);
      this.#leader = leader === undefined || leader.writer === "" ? undefined : leader;
      const isFree = leader?.writer === "" || silentMs >= LEASE_TIMES.silenceMs;
      return atOnce || (isFree && clock.monotonic() >= this.#modestUntilMs);
    } catch (error) {
      if (!this.#stop.signal.aborted) logger.warn({ err: error }, "the lease could not be read");
      return atOnce;
    }
  }

  /** Whether to go on to lead: who was started to write does so without a lease too, and hears there why the store takes none. */
  async #take(term: Term, key: NoteSigner, atOnce: boolean): Promise<boolean> {
    const { lease, logger, url } = this.#options;
    try {
      return (await lease.write({ ...term, url: url() }, key, this.#stop.signal)) === "held";
    } catch (error) {
      if (!this.#stop.signal.aborted) logger.warn({ err: error }, "the lease could not be taken");
      return atOnce;
    }
  }

  /** One term from the lease to its end; undefined when another took the lease first. */
  async #serve(key: NoteSigner, inOffice: PromiseWithResolvers<void>, atOnce: boolean): Promise<Served | undefined> {
    const { clock, log, logger, random } = this.#options;
    const { signal } = this.#stop;
    try {
      await log.probe(!atOnce);
    } catch (error) {
      this.#modestUntilMs = clock.monotonic() + LEASE_TIMES.silenceMs;
      if (!signal.aborted) logger.warn({ err: error }, "this process cannot lead now");
      return { error, failed: true };
    }
    // The lease was renewed meanwhile, or somebody else was faster.
    if (!(await this.#isWanted(atOnce))) return undefined;
    let term: Term = { epoch: log.epoch + 1, writer: formatHex(random.bytes(16)) };
    if (!(await this.#take(term, key, atOnce))) return undefined;
    const over = new AbortController();
    const beating = this.#beat(key, () => term, over.signal);
    try {
      term = await log.lead({ isTakeover: !atOnce, signal, writer: term.writer });
    } catch (error) {
      over.abort();
      await beating;
      this.#modestUntilMs = clock.monotonic() + LEASE_TIMES.silenceMs;
      await this.#giveUp(key, term);
      await log.follow();
      if (!signal.aborted) logger.warn({ err: error }, "this process cannot lead now");
      return { error, failed: true };
    }
    inOffice.resolve();
    await this.#untilOutOfOffice();
    if (signal.aborted) {
      // Kept alive until the last seal is published, then handed on.
      await log[Symbol.asyncDispose]();
      over.abort();
      await beating;
      await this.#giveUp(key, term);
      return { failed: false };
    }
    over.abort();
    await beating;
    const { stopped } = log.health();
    logger.warn({ code: stopped, epoch: term.epoch }, "this process does not lead any more; it follows");
    await log.follow();
    if (stopped !== "writer.lost") {
      this.#modestUntilMs = clock.monotonic() + LEASE_TIMES.silenceMs;
      await this.#giveUp(key, term);
    }
    return { failed: false };
  }

  async #beat(key: NoteSigner, term: () => Term, over: AbortSignal): Promise<void> {
    const { clock, lease, log, logger, url } = this.#options;
    let looking: Promise<void> | undefined;
    while (!over.aborted) {
      await clock.sleep(LEASE_TIMES.beatMs, over).catch(() => undefined);
      if (over.aborted) return;
      try {
        const { epoch, writer } = term();
        if ((await lease.write({ epoch, url: url(), writer }, key, over)) === "lost") log.resign();
      } catch (error) {
        // A store that does not answer ends no term.
        if (!over.aborted) logger.warn({ err: error }, "the lease could not be renewed");
      }
      // Who writes without the lease is found in the slots. The log resigns; of a store that does not answer nothing is said twice.
      looking ??= log
        .confirm(over)
        .catch(() => undefined)
        .finally(() => {
          looking = undefined;
        });
    }
  }

  async #untilOutOfOffice(): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#stop;
    const ended = Promise.withResolvers<void>();
    const end = (): void => ended.resolve();
    const forget = log.onRole((role) => {
      if (role === "follower") end();
    });
    signal.addEventListener("abort", end, { once: true });
    if (log.role === "follower" || signal.aborted) end();
    await ended.promise;
    signal.removeEventListener("abort", end);
    forget();
  }

  /** Says that nobody leads; whoever follows then need not wait. */
  async #giveUp(key: NoteSigner, { epoch }: Term): Promise<void> {
    const { clock, lease, logger } = this.#options;
    const late = new AbortController();
    const timer = clock.sleep(LEASE_TIMES.beatMs, late.signal).then(
      () => late.abort(new Error("giving up the lease took too long")),
      () => undefined,
    );
    await lease
      .write({ epoch, url: "", writer: "" }, key, late.signal)
      .catch((error: unknown) => logger.warn({ err: error }, "the lease could not be given up; it will fall silent"));
    late.abort();
    await timer;
  }

  /** Closes the log, then gives the lease up. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("the server ends"));
    await this.#loop;
    await this.#options.log[Symbol.asyncDispose]();
  }
}
