/**
 * Prolongs locks before they end: of everything that the log says must be in the ledger bucket, for as long as the ledger lives.
 *
 * - Due is what has less than a quarter of its term left. Locks were set in the order of the log, so what is due is runs of commits
 *   that begin at the first, or where an earlier renewal ended (`begins`): nothing else is looked at.
 * - What tells whether a commit is due is its own object, so in a range these come last, from the last commit to the first. A range
 *   that was broken off still begins with what is due, and is done again; behind it, what it had done already is passed over.
 * - The version is prolonged whose bytes are right, by its id: without one a shadow would be. What cannot be prolonged is a finding,
 *   and keeps nothing else waiting.
 */
import type { Index, IndexedCommit } from "../index/index.ts";
import { sha256Hex } from "../merkle/hash.ts";
import { idOf } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import type { Clock } from "../std/ports.ts";
import { commitKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { type Placing, persist } from "../store/place.ts";
import { isDue } from "../store/retention-report.ts";
import { describeOver } from "../store/right-version.ts";
import { askAbout, Expectations, type ExpectedObject, type Look, lookAt } from "./expected.ts";
import type { Finding } from "./findings.ts";
import { erasedDigests } from "./operations.ts";
import { createRetention, DAY_MS, floorDays } from "./retention.ts";

export interface RenewalOptions {
  readonly index: Index;
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly report: (finding: Finding) => void;
  /** Objects of a range, about. */
  readonly rangeObjects?: number;
  readonly concurrency?: number;
  /** How long a store that does not answer is asked again. */
  readonly patienceMs?: number;
  readonly progress?: (done: number) => void;
}

/** What became of a range of commits. */
export interface Renewed {
  /** Entries. */
  readonly range: { readonly from: number; readonly to: number };
  /** Number of the commit after the last. */
  readonly next: number;
  readonly counts: {
    /** Objects that were looked at. */
    readonly objects: number;
    readonly prolonged: number;
    /** Locked for long enough already. */
    readonly held: number;
    /** Missing, changed, or not to be prolonged. */
    readonly wrong: number;
  };
  /** Milliseconds since the epoch until which the ledger's floor now holds them. */
  readonly until: number;
  /** Why the range was broken off; absent when it was done. */
  readonly reason?: string;
}

const RANGE_OBJECTS = 10_000;
const CONCURRENCY = 4;
const PATIENCE_MS = 60_000;

/** Finds and prolongs what is due, range by range; the caller records each before it asks for the next. Ends after one that was broken off. */
export async function* renew(
  options: RenewalOptions,
  begins: Iterable<number>,
): AsyncGenerator<Renewed, void, undefined> {
  const renewal = new Renewal(options);
  for (const begin of new Set([0, ...begins].toSorted((a, b) => a - b))) {
    for (let n: number | undefined = begin, isFirst = true; n !== undefined; isFirst = false) {
      const due = await renewal.dueFrom(n);
      if (due.length === 0) {
        n = isFirst ? undefined : await renewal.dueBehindFresh(n);
        continue;
      }
      const renewed = await renewal.range(due);
      yield renewed;
      if (renewed.reason !== undefined) return;
      n = renewed.next;
    }
  }
}

class Renewal {
  readonly #options: RenewalOptions;
  readonly #expectations: Expectations;

  constructor(options: RenewalOptions) {
    this.#options = options;
    this.#expectations = new Expectations(options.index, options.store);
  }

  get #asking(): Placing {
    const { clock, patienceMs = PATIENCE_MS, signal, store } = this.#options;
    return { clock, patienceMs, signal, store };
  }

  /** Commits from `n` on whose own locks are due: as many as make a range, or up to the first that is not. */
  async dueFrom(n: number): Promise<IndexedCommit[]> {
    const { clock, index, rangeObjects = RANGE_OBJECTS } = this.#options;
    const commits: IndexedCommit[] = [];
    let objects = 0;
    for (let k = n; k < index.watermark.n && objects < rangeObjects; k++) {
      const commit = this.#expectations.commit(k);
      // Junk that a later commit voids: no object of the ledger.
      if (commit === undefined) continue;
      if (!isDue(await this.#lockEnd(commit), clock.now(), this.#termDays())) break;
      commits.push(commit);
      objects += 1 + commit.size - commit.first;
    }
    return commits;
  }

  /** The first due commit behind those from `n` on that are locked as if they had just been prolonged. */
  async dueBehindFresh(n: number): Promise<number | undefined> {
    const { clock, index, rangeObjects = RANGE_OBJECTS } = this.#options;
    const termDays = this.#termDays();
    for (let k = n; k < Math.min(index.watermark.n, n + rangeObjects); k++) {
      const commit = this.#expectations.commit(k);
      if (commit === undefined) continue;
      const end = await this.#lockEnd(commit);
      if (isDue(end, clock.now(), termDays)) return k;
      if (end < createRetention(clock, termDays)() - 2 * DAY_MS) return undefined;
    }
    return undefined;
  }

  /** End of the lock of the version that is the commit; 0 when there is none, or it cannot be read. */
  async #lockEnd({ hash, n }: IndexedCommit): Promise<number> {
    const { signal, store } = this.#options;
    const key = commitKey(n);
    const isRight = (body: Uint8Array): boolean => sha256Hex(body) === hash;
    const asked = await askAbout(this.#asking, key, async () => {
      const newest = await store.head("ledger", key, { signal });
      if (newest?.sha256 === hash) return newest.retainUntil;
      const look = await lookAt(store, { content: { isRight }, key }, { signal });
      return look.is === "right" ? look.lock.retainUntil : undefined;
    });
    return ("answer" in asked ? asked.answer : undefined) ?? 0;
  }

  #termDays(): number {
    using reader = this.#options.index.reader();
    return floorDays(reader);
  }

  async range(commits: readonly IndexedCommit[]): Promise<Renewed> {
    const { clock, concurrency = CONCURRENCY, signal } = this.#options;
    const counts = { held: 0, objects: 0, prolonged: 0, wrong: 0 };
    const [first] = commits;
    const last = commits.at(-1);
    if (first === undefined || last === undefined) throw new Error("assertion failed: a range has a commit");
    const done = (reason?: string): Renewed => ({
      counts,
      next: last.n + 1,
      range: { from: first.first, to: last.size },
      until: createRetention(clock, this.#termDays())(),
      ...(reason === undefined ? {} : { reason }),
    });
    const take = async (object: ExpectedObject): Promise<void> => {
      counts[await this.prolong(object)]++;
      counts.objects++;
      this.#options.progress?.(counts.objects);
    };
    try {
      const own: ExpectedObject[] = [];
      for (const commit of commits) {
        const [object, ...objects] = await persist(this.#asking, () => this.#expectations.ofCommit(commit, signal));
        if (object !== undefined) own.push(object);
        const waiting = objects.values();
        const worker = async (): Promise<void> => {
          for (const object of waiting) await take(object);
        };
        await allEnded(Array.from({ length: Math.min(concurrency, objects.length) }, worker));
      }
      for (const object of own.toReversed()) await take(object);
      return done();
    } catch (error) {
      if (signal.aborted) return done("stopped");
      if (!(error instanceof Fault)) throw error;
      return done(`${error.reason}: ${error.message}`);
    }
  }

  /** Prolongs one object, if it is locked for less than it would be today. */
  async prolong(object: ExpectedObject): Promise<"held" | "prolonged" | "wrong"> {
    const { clock, index, report, signal, store } = this.#options;
    const asked = await askAbout(this.#asking, object.key, () => lookAt(store, object, { signal }));
    if ("refused" in asked) {
      report(unreadable(object, asked.refused));
      return "wrong";
    }
    const look = asked.answer;
    const found = findingOf(object, look, index);
    if (found !== undefined) report(found);
    if (look.is !== "right") return found === undefined ? "held" : "wrong";
    const until = createRetention(clock, object.termDays)();
    if (isHeld(store, look.lock, until)) return "held";
    const done = await askAbout(this.#asking, object.key, () =>
      prolongTo(store, object.key, look.versionId, until, signal),
    );
    if ("answer" in done && done.answer) return "prolonged";
    const why = "refused" in done ? `: ${done.refused}` : ": check the rights of the writer";
    report({ code: "object.retention", detail: `its lock cannot be prolonged${why}`, object: object.key });
    return "wrong";
  }
}

/** A store that answers for others and not for this one lost it, or parts of it. */
export const unreadable = ({ key }: Pick<ExpectedObject, "key">, refused: string): Finding => ({
  code: "object.unreadable",
  detail: refused,
  object: key,
});

/** What is wrong with an object, if anything is; an artifact that was erased as the log says is not. */
export function findingOf({ content, key, type }: ExpectedObject, look: Look, index: Index): Finding | undefined {
  if (look.is === "right")
    return look.over === undefined ? undefined : { code: look.over, detail: describeOver(look.over), object: key };
  if (look.is === "changed")
    return { code: "object.changed", detail: `no version has the bytes of this ${type}`, object: key };
  if ("sha256" in content) {
    using reader = index.reader();
    if (erasedDigests(reader).has(idOf(content.sha256))) return undefined;
  }
  return { code: "object.missing", detail: `this ${type} is not there`, object: key };
}

/** Whether a lock holds until `until`, rounded up to a day. */
const isHeld = (
  store: ObjectStore,
  { lockMode, retainUntil = 0 }: Extract<Look, { is: "right" }>["lock"],
  until: number,
): boolean => retainUntil >= until - DAY_MS && (store.lock !== "compliance" || lockMode === "COMPLIANCE");

/** Prolongs the lock of one version, and looks whether it is. */
export async function prolongTo(
  store: ObjectStore,
  key: string,
  versionId: string | undefined,
  until: number,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await store.extend("ledger", key, until, { signal, versionId });
  } catch (error) {
    // Gone meanwhile, or refused: what lies there now says.
    if (!(error instanceof Fault) || error.reason !== "NOT_FOUND") throw error;
  }
  const info = await store.head("ledger", key, { signal, versionId });
  return info !== null && isHeld(store, info, until);
}

/** Waits for all, and then throws the first failure. */
async function allEnded(works: readonly Promise<void>[]): Promise<void> {
  const ended = await Promise.allSettled(works);
  for (const work of ended) if (work.status === "rejected") throw work.reason as Error;
}
