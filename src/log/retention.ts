/** Until when ledger objects are locked: the ledger's floor from now, rounded up to a day, so that equal times stay equal. */
import { type Clock, formatTime } from "../std/ports.ts";

export const DAY_MS = 86_400_000;

const TAIL_MS = 600_000;

/** From when on commits stay in the index's tail although they are published: a store may forget what it took just before a power loss. */
export const tailFrom = (clock: Clock): string => formatTime(clock.now() - TAIL_MS);

/** Milliseconds since the epoch. */
export type Retention = () => number;

export const createRetention =
  (clock: Clock, days: number): Retention =>
  () =>
    Math.ceil((clock.now() + days * DAY_MS) / DAY_MS) * DAY_MS;
