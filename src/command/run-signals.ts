/**
 * What is said to and by running runs and not recorded: when each was heard last, and whether somebody asked it to end. In memory:
 * a restart forgets both, so a request to end is made again then.
 */
import type { Log } from "../log/log.ts";
import type { RecordId } from "../std/brand.ts";

interface Signal {
  heardMs: number | undefined;
  isCanceled: boolean;
}

/** Runs that are remembered; of more, the oldest are forgotten. */
const MAX_RUNS = 100_000;

export class RunSignals {
  readonly #signals = new Map<RecordId, Signal>();

  #signal(run: RecordId): Signal {
    const found = this.#signals.get(run) ?? { heardMs: undefined, isCanceled: false };
    this.#signals.delete(run);
    this.#signals.set(run, found);
    const oldest = this.#signals.size > MAX_RUNS ? this.#signals.keys().next() : undefined;
    if (oldest?.done === false) this.#signals.delete(oldest.value);
    return found;
  }

  /** Notes that the run lives; whether it is asked to end. */
  hear(run: RecordId, nowMs: number): boolean {
    const signal = this.#signal(run);
    signal.heardMs = nowMs;
    return signal.isCanceled;
  }

  cancel(run: RecordId): void {
    this.#signal(run).isCanceled = true;
  }

  /** When the run's last heartbeat came; undefined for none since the server started. */
  heardMs(run: RecordId): number | undefined {
    return this.#signals.get(run)?.heardMs;
  }

  forget(run: RecordId): void {
    this.#signals.delete(run);
  }
}

const all = new WeakMap<Log, RunSignals>();

/** The signals of the runs of a ledger. */
export function signalsOf(log: Log): RunSignals {
  let signals = all.get(log);
  if (signals === undefined) {
    signals = new RunSignals();
    all.set(log, signals);
  }
  return signals;
}
