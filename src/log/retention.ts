/**
 * Until when objects are locked: the ledger's floor from now, rounded up to a day, so that equal times stay equal. Artifacts of a
 * project may be held longer.
 */
import type { IndexReader } from "../index/index.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
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

/** Days of the ledger's floor, by its newest `ledger` record at or below an entry; by the newest of all when none is named. */
export function floorDays(reader: IndexReader, entry: number = reader.size - 1): number {
  const [at] = reader.list({ from: entry, kinds: ["ledger"], limit: 1, reverse: true });
  const id = assertDefined(reader.entry(at ?? 0), "entry 0 is the genesis").record;
  return Number(reader.record(id)?.record.body["default_retention_days"]);
}

/** Retentions of a project that are looked at. */
const MAX_RETENTIONS = 1_000;

/** Days for which artifacts of a project are held: the longest of the floor and what retentions of the project and of all say. */
export function artifactDays(reader: IndexReader, project: RecordId, floor: number): number {
  let days = floor;
  for (const owner of [project, assertDefined(reader.entry(0), "entry 0 is the genesis").record])
    for (const index of reader.list({ kinds: ["retention"], limit: MAX_RETENTIONS, project: owner, reverse: true })) {
      const id = assertDefined(reader.entry(index), "a listed entry is there").record;
      const said = reader.record(id)?.record.body["days"];
      if (typeof said === "number") days = Math.max(days, said);
    }
  return days;
}
