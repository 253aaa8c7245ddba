/** What the port says of a signal that was aborted before an operation took effect: nothing happened. */
import { Fault } from "../std/faults.ts";

export function refuseAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted === true)
    throw new Fault("STORE_UNAVAILABLE", `${doing} was cancelled before it took effect`, { cause: signal.reason });
}
