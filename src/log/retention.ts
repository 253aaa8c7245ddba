/** Until when ledger objects are locked: the ledger's floor from now, rounded up to a day, so that equal times stay equal. */
import type { Clock } from "../std/ports.ts";

export const DAY_MS = 86_400_000;

/** Milliseconds since the epoch. */
export type Retention = () => number;

export const createRetention =
  (clock: Clock, days: number): Retention =>
  () =>
    Math.ceil((clock.now() + days * DAY_MS) / DAY_MS) * DAY_MS;
