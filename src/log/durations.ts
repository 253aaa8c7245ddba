/**
 * How long commits took lately, for deadlines and for advice on when to try again. What is older than a minute is forgotten:
 * requests that are refused because the store was slow would otherwise be refused for ever, since none of them tries it again.
 */
import type { Clock } from "../std/ports.ts";

const KEPT = 128;
const KEPT_MS = 60_000;
/** Fewer say nothing of the ninety-ninth in a hundred. */
const ENOUGH = 8;

export class Durations {
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #last: { readonly ms: number; readonly at: number }[] = [];
  #p99 = 0;
  /** When the oldest of them is forgotten. */
  #until = Number.POSITIVE_INFINITY;

  constructor(clock: Pick<Clock, "monotonic">) {
    this.#clock = clock;
  }

  note(ms: number): void {
    this.#last.push({ at: this.#clock.monotonic(), ms });
    if (this.#last.length > KEPT) this.#last.shift();
    this.#forget();
  }

  /** Milliseconds; 0 while too little is known. */
  p99(): number {
    if (this.#clock.monotonic() >= this.#until) this.#forget();
    return this.#p99;
  }

  #forget(): void {
    const from = this.#clock.monotonic() - KEPT_MS;
    while (this.#last[0] !== undefined && this.#last[0].at <= from) this.#last.shift();
    this.#until = (this.#last[0]?.at ?? Number.POSITIVE_INFINITY) + KEPT_MS;
    let [longest, second] = [0, 0];
    for (const { ms } of this.#last)
      if (ms > longest) [longest, second] = [ms, longest];
      else if (ms > second) second = ms;
    // Of a hundred and more, one may be longer.
    const { length } = this.#last;
    this.#p99 = length < ENOUGH ? 0 : length > 100 ? second : longest;
  }
}
