/** Work in flight, so much and no more. After a failure nothing new is begun. */
export class Flights {
  readonly #limit: number;
  readonly #running = new Set<Promise<void>>();
  readonly #failures: unknown[] = [];

  constructor(limit: number) {
    this.#limit = Math.max(1, Math.floor(limit));
  }

  /** Begins when there is room. Throws what failed before. */
  async add(work: () => Promise<void>): Promise<void> {
    while (this.#running.size >= this.#limit) await Promise.race(this.#running);
    this.#refuse();
    const task: Promise<void> = work()
      .catch((error: unknown) => void this.#failures.push(error))
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  /** Waits for all that was begun. Throws what failed. */
  async drain(): Promise<void> {
    await this.settled();
    this.#refuse();
  }

  /** Waits for all that was begun, however it ends. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  #refuse(): void {
    if (this.#failures.length > 0) throw this.#failures[0];
  }
}
