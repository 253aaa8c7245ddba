/**
 * The only source of order and time in a simulation. Every port call waits here until it is chosen; which of those that wait goes
 * next, and how far time moves, a seed decides. Nothing else runs meanwhile, so a run is a function of its seed.
 *
 * Whoever waits for a dead process waits for ever: a crash is a process that nothing is chosen for any more.
 */
import { seededNumbers } from "../fakes/fault-store.ts";

/** Something that can die or stand still; what it waits for is then not chosen. */
export interface Living {
  readonly name: string;
  alive: boolean;
  pausedUntilMs: number;
}

interface Task {
  readonly owner: Living | undefined;
  readonly what: string;
  readonly dueMs: number;
  dueStep: number;
  wake(): void;
}

/** Sleeps that are longer never end: intervals that a run does not mean. */
export const NEVER_MS = 1e11;
const LONGEST_LATENCY_MS = 8;

export class Scheduler {
  /** Numbers in [0, 1). */
  readonly random: () => number;
  #tasks: Task[] = [];
  #ms = 0;
  #steps = 0;
  #trace = 0x811c9dc5;
  #failure: { readonly error: unknown } | undefined;
  /** Called before each choice: where a simulation strikes. */
  onStep: (() => void) | undefined;

  constructor(seed: number) {
    this.random = seededNumbers(seed);
  }

  /** Virtual milliseconds since the start. */
  get ms(): number {
    return this.#ms;
  }

  get steps(): number {
    return this.#steps;
  }

  /** What was chosen so far, in short: equal for equal runs. */
  get trace(): string {
    return `${this.#steps}-${this.#ms}-${(this.#trace >>> 0).toString(16)}`;
  }

  chance(probability: number): boolean {
    return probability > 0 && this.random() < probability;
  }

  /** An integer in [0, n). */
  below(n: number): number {
    return Math.floor(this.random() * n);
  }

  /** An integer in [from, to]. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  /** Waits to be chosen. */
  turn(owner: Living | undefined, what: string): Promise<void> {
    return this.sleep(owner, this.below(LONGEST_LATENCY_MS), undefined, what);
  }

  sleep(owner: Living | undefined, ms: number, signal?: AbortSignal, what = "sleep"): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const abandon = (): void => {
        this.#tasks = this.#tasks.filter((t) => t !== task);
        reject(signal?.reason as Error);
      };
      const task: Task = {
        dueMs: this.#ms + Math.max(0, ms),
        dueStep: 0,
        owner,
        wake() {
          signal?.removeEventListener("abort", abandon);
          resolve();
        },
        what,
      };
      signal?.addEventListener("abort", abandon, { once: true });
      this.#tasks.push(task);
    });
  }

  /** Does something within so many steps, whoever dies meanwhile. */
  later(steps: number, what: string, work: () => void): void {
    this.#tasks.push({ dueMs: 0, dueStep: this.#steps + steps, owner: undefined, wake: work, what });
  }

  /** What waits for a number of steps waits no more. */
  hurry(): void {
    for (const task of this.#tasks) task.dueStep = 0;
  }

  /** Ends the run with an error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  /** Chooses until `main` is settled. */
  async run<T>(main: Promise<T>): Promise<T> {
    let settled = false;
    main.then(
      () => (settled = true),
      () => (settled = true),
    );
    for (;;) {
      // Everything that follows from the last choice happens before the next turn of the event loop.
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#failure !== undefined) throw this.#failure.error;
      if (settled) return main;
      this.onStep?.();
      this.#choose();
    }
  }

  #choose(): void {
    this.#tasks = this.#tasks.filter((t) => t.owner?.alive !== false);
    let ready = this.#ready();
    if (ready.length === 0) {
      this.#ms = Math.max(this.#ms, Math.min(...this.#tasks.filter((t) => t.dueStep <= this.#steps).map(dueOf)));
      ready = this.#ready();
    }
    if (ready.length === 0) {
      // Only what waits for steps is left.
      this.hurry();
      ready = this.#ready();
    }
    const task = ready[this.below(ready.length)];
    if (task === undefined) throw new Error("the simulation stands still: nobody waits for anything that comes");
    this.#tasks.splice(this.#tasks.indexOf(task), 1);
    this.#steps++;
    this.#note(`${task.owner?.name ?? ""} ${task.what}`);
    task.wake();
  }

  #ready(): Task[] {
    return this.#tasks.filter((t) => t.dueStep <= this.#steps && dueOf(t) <= this.#ms);
  }

  #note(what: string): void {
    for (let i = 0; i < what.length; i++) this.#trace = Math.imul(this.#trace ^ what.charCodeAt(i), 0x01000193);
  }
}

const dueOf = ({ dueMs, owner }: Task): number => {
  const due = Math.max(dueMs, owner?.pausedUntilMs ?? 0);
  return due >= NEVER_MS ? Number.POSITIVE_INFINITY : due;
};
