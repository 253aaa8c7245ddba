/**
 * Puts an object whose bytes are determined by the log where it belongs, as often as it takes. What is there already must be the
 * same, in some version, and locked as long. What somebody laid over it is told, and hides nothing; where nothing under the key
 * is right, nothing can be put there any more.
 */

import { equalBytes } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import type { Clock } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import type { ObjectStore } from "./object-store.ts";
import { type Over, readRight } from "./right-version.ts";

export interface Placing {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** How long a store that does not answer is asked again; for ever when absent. */
  readonly patienceMs?: number;
  /** The right version of an object is there under something that was laid over it. */
  readonly onOver?: ((key: string, over: Over) => void) | undefined;
}

const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 5_000;

const silent = (): Fault =>
  new Fault("STORE_UNAVAILABLE", "the store does not say whether it wrote: look at its health, try again");

/** Repeats while the store does not answer. Throws its last `Fault("STORE_UNAVAILABLE")` when patience ends. */
export async function persist<T>(
  { clock, patienceMs = Number.POSITIVE_INFINITY, signal }: Omit<Placing, "onOver" | "store">,
  work: () => Promise<T | "unknown">,
): Promise<T> {
  const startMs = clock.monotonic();
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted();
    let fault: Fault | undefined;
    try {
      const result = await work();
      if (result !== "unknown") return result;
    } catch (error) {
      if (signal.aborted || !(error instanceof Fault) || error.reason !== "STORE_UNAVAILABLE") throw error;
      fault = error;
    }
    if (clock.monotonic() - startMs > patienceMs) throw fault ?? silent();
    await clock.sleep(Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10)), signal);
  }
}

export type Placed = "created" | "exists";

/** Creates a locked object of the ledger bucket, or finds it. */
export async function placeLocked(
  placing: Placing,
  key: string,
  body: Uint8Array,
  retainUntil: number,
): Promise<Placed> {
  const { onOver, signal, store } = placing;
  return persist<Placed>(placing, async () => {
    const { outcome } = await store.create("ledger", key, body, { retainUntil, signal });
    if (outcome !== "exists") return outcome;
    const found = await readRight(store, key, (there) => equalBytes(there, body), { signal });
    if (found === null) throw new Violation("object.hidden", `${key} is occupied and reads as absent`, key);
    if (!found.isRight)
      throw new Violation("object.shadowed", `${key} holds other bytes than the log says, in every version`, key);
    if (found.over !== undefined) onOver?.(key, found.over);
    // The version that is right, not what lies over it.
    const version = { signal, versionId: found.versionId };
    const info = await store.head("ledger", key, version);
    if ((info?.retainUntil ?? 0) < retainUntil) await store.extend("ledger", key, retainUntil, version);
    return outcome;
  });
}

/** Creates an object of the head bucket, or makes it right: nothing there is trusted. */
export async function placeHead(placing: Placing, key: string, body: Uint8Array): Promise<void> {
  const { signal, store } = placing;
  await persist(placing, async () => {
    const { outcome } = await store.create("head", key, body, { signal });
    if (outcome !== "exists") return outcome;
    const found = await store.get("head", key, { signal });
    if (found === null || !equalBytes(found.body, body)) await store.replace("head", key, body, { signal });
    return outcome;
  });
}
