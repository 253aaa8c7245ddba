/** What the leader does beside answering, round after round: it sleeps first, and a round that fails is told and followed by the next. */
import type { Logger } from "../log/ports.ts";
import type { Clock } from "../std/ports.ts";

export class Rounds implements AsyncDisposable {
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;

  /** Aborted when no further round begins. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** `failure` is logged with the error of a round. */
  start(
    { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
    pauseMs: number,
    round: () => Promise<unknown>,
    failure: string,
  ): void {
    this.#loop ??= this.#run(
      () => clock.sleep(pauseMs, this.signal),
      round,
      (error) => logger.error({ error }, failure),
    );
  }

  async #run(pause: () => Promise<void>, round: () => Promise<unknown>, tell: (error: unknown) => void): Promise<void> {
    while (!this.signal.aborted) {
      try {
        await pause();
        await round();
      } catch (error) {
        if (!this.signal.aborted) tell(error);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }
}
