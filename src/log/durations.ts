/** How long the last commits took, for deadlines and for advice on when to try again. */
const KEPT = 128;

export class Durations {
  readonly #last: number[] = [];
  #next = 0;
  #p99 = 0;

  note(ms: number): void {
    this.#last[this.#next] = ms;
    this.#next = (this.#next + 1) % KEPT;
    if (this.#last.length < 8) return;
    this.#p99 = this.#last.toSorted((a, b) => a - b)[Math.floor(this.#last.length * 0.99)] ?? 0;
  }

  /** 0 before anything is known. */
  p99(): number {
    return this.#p99;
  }
}
