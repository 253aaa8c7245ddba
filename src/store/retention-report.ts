/**
 * How long the objects of a ledger are still locked, by their class and by the month in which the lock ends: what an operator looks at
 * before it is too late to prolong. Says nothing of content; `verify bucket` does.
 */
import { parseKey } from "./keys.ts";
import type { ObjectInfo } from "./object-store.ts";

const CLASSES = ["artifacts", "checkpoints", "commits", "records", "tiles", "others"] as const;
type Class = (typeof CLASSES)[number];

/** Locks are to be prolonged when less than this share of their term is left. */
const DUE_SHARE = 0.25;
const DAY_MS = 86_400_000;

/** Whether so little is left of a lock that it is to be prolonged. */
export const isDue = (retainUntil: number, nowMs: number, termDays: number): boolean =>
  retainUntil - nowMs < DUE_SHARE * termDays * DAY_MS;

export interface ClassRetention {
  readonly class: Class;
  readonly objects: number;
  /** Not locked, or not any more. */
  readonly unlocked: number;
  /** Locked for less than a quarter of the term. */
  readonly due: number;
  /** Locked for longer than the term: artifacts of projects that hold them for longer. */
  readonly longer: number;
  /** Months in which locks end, ascending. */
  readonly months: readonly { readonly month: string; readonly objects: number }[];
}

export interface RetentionReport {
  readonly classes: readonly ClassRetention[];
  readonly due: number;
  readonly term_days: number;
  readonly unlocked: number;
}

interface Counted {
  objects: number;
  unlocked: number;
  due: number;
  longer: number;
  readonly months: Map<string, number>;
}

function classOf(key: string): Class {
  const type = parseKey("ledger", key)?.type;
  return type === undefined ? "others" : `${type}s`;
}

/** `termDays` is what the ledger's objects are locked for at first. */
export async function reportRetention(
  objects: AsyncIterable<Pick<ObjectInfo, "key" | "retainUntil">>,
  nowMs: number,
  termDays: number,
): Promise<RetentionReport> {
  const counted = new Map<Class, Counted>(
    CLASSES.map((name) => [name, { due: 0, longer: 0, months: new Map(), objects: 0, unlocked: 0 }]),
  );
  for await (const { key, retainUntil = 0 } of objects) {
    const own = counted.get(classOf(key));
    if (own === undefined) continue;
    own.objects++;
    if (retainUntil <= nowMs) own.unlocked++;
    else {
      const month = new Date(retainUntil).toISOString().slice(0, 7);
      own.months.set(month, (own.months.get(month) ?? 0) + 1);
      if (isDue(retainUntil, nowMs, termDays)) own.due++;
      // Rounded up to a day, and the clock of the store may be a little ahead.
      if (retainUntil - nowMs > (termDays + 2) * DAY_MS) own.longer++;
    }
  }
  const classes = [...counted]
    .filter(([, { objects: count }]) => count > 0)
    .map(([name, { months, ...counts }]) => ({
      class: name,
      ...counts,
      months: [...months]
        .map(([month, count]) => ({ month, objects: count }))
        .toSorted((a, b) => (a.month < b.month ? -1 : 1)),
    }));
  const sum = (of: "due" | "unlocked"): number => classes.reduce((total, c) => total + c[of], 0);
  return { classes, due: sum("due"), term_days: termDays, unlocked: sum("unlocked") };
}
