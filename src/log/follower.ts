/**
 * Follows the bucket: brings in the commits that others make, one after the other, as soon as they are there. Owns the reading side
 * of a log while this process does not write, and the catching up before it does.
 *
 * - Nothing is applied that is not a valid successor; nothing is written anywhere.
 * - Looks again after 20 ms while commits come, doubling to 1 s while none do.
 * - A commit that somebody hid leaves a slot that reads as absent for ever, so now and then the look is thorough.
 */
import type { ValidCommit } from "../record/chain.ts";
import type { Clock } from "../std/ports.ts";
import { persist } from "../store/place.ts";
import type { Applied } from "./applied.ts";
import { type Junk, readNext, type SlotReading } from "./next-slot.ts";

export interface FollowerOptions {
  readonly applied: Applied;
  readonly reading: SlotReading;
  readonly clock: Clock;
  readonly onApplied: (commit: ValidCommit) => void;
}

const BUSY_MS = 20;
const IDLE_MS = 1_000;
/** Of looks that found nothing, this one of so many is thorough. */
const THOROUGH_EVERY = 10;

export class Follower {
  readonly #options: FollowerOptions;
  #lookedAtMs: number;
  #junk: readonly Junk[] = [];

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#lookedAtMs = options.clock.monotonic();
  }

  /** How long ago the look began that found nothing more: the state is no older than that. */
  get lagMs(): number {
    return this.#options.clock.monotonic() - this.#lookedAtMs;
  }

  /** What lies in the slots after the last commit, if anything. */
  get junk(): readonly Junk[] {
    return this.#junk;
  }

  /** Applies all that is there now; gives how many commits that were. */
  async catchUp(signal: AbortSignal, thorough: boolean): Promise<number> {
    const { applied, clock, onApplied, reading } = this.#options;
    for (let count = 0; ; count++) {
      const begunMs = clock.monotonic();
      const next = await persist({ clock, signal }, () => readNext(applied, reading, thorough, signal));
      if (next.kind === "end") {
        this.#lookedAtMs = begunMs;
        this.#junk = next.junk;
        return count;
      }
      applied.apply(next.commit, next.bytes);
      onApplied(next.commit);
    }
  }

  /** Until the signal; rejects with its reason, or with what ends following for good. */
  async run(signal: AbortSignal): Promise<never> {
    let pauseMs = BUSY_MS;
    let idle = 0;
    for (;;) {
      const found = await this.catchUp(signal, idle % THOROUGH_EVERY === THOROUGH_EVERY - 1);
      idle = found > 0 ? 0 : idle + 1;
      pauseMs = found > 0 ? BUSY_MS : Math.min(IDLE_MS, 2 * pauseMs);
      await this.#options.clock.sleep(pauseMs, signal);
    }
  }
}
