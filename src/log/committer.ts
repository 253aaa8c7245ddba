/**
 * Brings one commit into its slot, or learns who else did (`docs/formats/commits.md`, rules W1–W3, W6, W8).
 *
 * - One PUT at a time; its bytes are frozen, and an unknown outcome is answered only by the same bytes again.
 * - Never says "failed" of what may be committed: the results are ours, another writer's, a stop that leaves the outcome open, or a
 *   refusal, when the store refused every attempt before anything was written, as a full disk does.
 * - Never overwrites, and never reads absence as failure: the first PUT may still land.
 * - Ours only when the slot never held another commit: a store takes a second create over a delete marker.
 */

import type { ValidCommit } from "../record/chain.ts";
import { equalBytes } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import type { Clock } from "../std/ports.ts";
import { type CommitBase, readTaken, type SlotReading } from "./next-slot.ts";

export type CommitResult =
  | { readonly kind: "ours" }
  | { readonly kind: "lost"; readonly bytes: Uint8Array; readonly commit: ValidCommit }
  | { readonly kind: "refused"; readonly fault: Fault };

export interface CommitterOptions {
  readonly reading: SlotReading;
  readonly clock: Clock;
  /** Called before each repetition with what the store said, if it did: whoever waits past a deadline can be told so. */
  readonly onRetry?: (attempt: number, cause: unknown) => void;
}

const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 2_000;
/** A store that refuses this often in a row, within about a second, is left alone until the next request. */
const REFUSALS = 6;

export class Committer {
  readonly #options: CommitterOptions;
  #busy = false;

  constructor(options: CommitterOptions) {
    this.#options = options;
  }

  /** Rejects with the signal's reason (outcome open), or with a Violation that stops the writer. */
  async commit(base: CommitBase, bytes: Uint8Array, signal: AbortSignal): Promise<CommitResult> {
    if (this.#busy) throw new Error("assertion failed: one commit in flight");
    this.#busy = true;
    try {
      // Once the fate of one attempt is unknown, only the slot can tell.
      let open = false;
      for (let attempt = 0; ; attempt++) {
        let cause: unknown;
        const outcome = await this.#attempt(base, bytes, signal, (why) => (cause = why));
        if (outcome === undefined) open = true;
        else if (outcome.kind !== "refused" || (!open && attempt + 1 >= REFUSALS)) return outcome;
        this.#options.onRetry?.(attempt, outcome?.kind === "refused" ? outcome.fault : cause);
        await this.#options.clock.sleep(Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10)), signal);
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Undefined when nothing is known yet. */
  async #attempt(
    base: CommitBase,
    bytes: Uint8Array,
    signal: AbortSignal,
    onUnknown: (cause: unknown) => void,
  ): Promise<CommitResult | undefined> {
    signal.throwIfAborted();
    const { chain } = base;
    let put: "created" | "exists" | "unknown";
    try {
      put = await this.#options.reading.slots.create(chain.n, bytes, signal, onUnknown);
    } catch (error) {
      if (signal.aborted || !(error instanceof Fault) || error.reason !== "STORE_UNAVAILABLE") throw error;
      return { fault: error, kind: "refused" };
    }
    if (put === "created") return { kind: "ours" };
    if (put === "unknown") return undefined;
    const there = await readTaken(base, this.#options.reading, bytes, signal);
    if (there === "unknown") return undefined;
    return equalBytes(there.bytes, bytes)
      ? { kind: "ours" }
      : { bytes: there.bytes, commit: there.commit, kind: "lost" };
  }
}
