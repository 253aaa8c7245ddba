/** Each record of the log is an object of its own with the same bytes, locked long enough; detached ones are read from there alone. */
import { sha256Hex } from "../../merkle/hash.ts";
import type { ValidCommit, ValidItem } from "../../record/chain.ts";
import { digestOf, idOf } from "../../std/brand.ts";
import { equalBytes } from "../../std/bytes.ts";
import { each } from "../../std/each.ts";
import { Violation } from "../../std/violation.ts";
import { commitKey, parseKey, recordKey } from "../../store/keys.ts";
import { readRight } from "../../store/right-version.ts";
import { readRecord } from "../records.ts";
import type { Failure } from "../report.ts";
import { type Audit, checkLock, lockOf } from "./audit.ts";
import type { RecordIndexes } from "./indexes.ts";
import { checkLinks } from "./links.ts";
import type { RecordStates, Resumed } from "./resume.ts";

/** Of records that no entry names, this many are named. */
const STRANGERS_SHOWN = 100;

/** Records between two times at which it is kept how far they were read. */
const KEPT_EVERY = 50_000;

/** A commit whose objects are being read, or were. */
interface Taken {
  readonly n: number;
  readonly hash: string;
  isDone: boolean;
}

export class RecordObjects {
  readonly #audit: Audit;
  /** Commits whose objects are being read. */
  readonly #running = new Set<Promise<void>>();
  /** Commits from the first whose objects are still being read, in order. */
  readonly #taken: Taken[] = [];
  /** The last commit up to which all objects were read. */
  #done: Pick<Taken, "hash" | "n"> | undefined;
  #unkept = 0;
  readonly #resumed: Resumed | undefined;
  readonly #failures: Failure[] = [];
  readonly states: RecordStates = { lock_short: 0, missing: 0, shadowed: 0, verified: 0 };
  #waiting = 0;
  #failure: unknown;

  /** `resumed` is what an earlier verification of this bucket found. */
  constructor(audit: Audit, resumed: Resumed | undefined) {
    this.#audit = audit;
    this.#resumed = resumed;
    if (resumed === undefined) return;
    this.#done = { hash: resumed.hash, n: resumed.commits - 1 };
    for (const { at, code, detail } of resumed.failures) this.#fail(code, at, detail);
    audit.absent.records.push(...resumed.absent);
    Object.assign(this.states, resumed.states);
  }

  /** Begins to read the objects of a commit; waits first while as many as are allowed are being read. */
  async take({ hash, items, n }: ValidCommit, expectedMs: number, indexes: RecordIndexes): Promise<void> {
    const { concurrency } = this.#audit.options;
    if (n < (this.#resumed?.commits ?? 0)) return;
    const taken: Taken = { hash, isDone: items.length === 0, n };
    this.#taken.push(taken);
    if (taken.isDone) return this.#advance();
    while (this.#waiting >= concurrency) await Promise.race(this.#running);
    if (this.#failure !== undefined) throw this.#failure as Error;
    this.#waiting += items.length;
    const task: Promise<void> = this.#read(taken, items, expectedMs, indexes)
      .catch((error: unknown) => {
        this.#failure ??= error;
        this.#waiting = 0;
      })
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
    if (this.#unkept >= KEPT_EVERY) await this.keep();
  }

  async #read(taken: Taken, items: readonly ValidItem[], expectedMs: number, indexes: RecordIndexes): Promise<void> {
    await each(items, this.#audit.options.concurrency, async (item) => {
      this.states[await this.#compare(item, expectedMs, indexes)]++;
      this.#waiting--;
    });
    taken.isDone = true;
    this.#unkept += items.length;
    this.#advance();
  }

  #advance(): void {
    while (this.#taken[0]?.isDone === true) this.#done = this.#taken.shift();
  }

  async end(): Promise<void> {
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure as Error;
  }

  /** Keeps how far the objects were read, when all that was begun has ended. */
  async keep(): Promise<void> {
    await Promise.all(this.#running);
    this.#unkept = 0;
    if (this.#done === undefined) return;
    const { hash, n } = this.#done;
    await this.#audit.options.resume?.save({
      absent: this.#audit.absent.records,
      commits: n + 1,
      failures: this.#failures,
      hash,
      states: this.states,
    });
  }

  #fail(code: string, at: string, detail: string): void {
    this.#audit.stages.records.fail(code, at, detail);
    this.#failures.push({ at, code, detail });
  }

  async #compare(item: ValidItem, expectedMs: number, indexes: RecordIndexes): Promise<keyof RecordStates> {
    const { absent, options, store } = this.#audit;
    const digest = digestOf(item.entry.record);
    const key = recordKey(digest);
    const isRight = (body: Uint8Array): boolean =>
      item.recordBytes === null ? sha256Hex(body) === digest : equalBytes(body, item.recordBytes);
    const found = await readRight(store, key, isRight, { signal: options.signal });
    if (found === null) {
      absent.records.push(item.index);
      return "missing";
    }
    if (item.recordBytes === null) this.#readDetached(item, found.body, key, indexes);
    else if (!found.isRight) this.#fail("record.digest", key, "the object's bytes are not the record's");
    if (!found.isRight) return "missing";
    const isLocked = checkLock(key, await lockOf(this.#audit, key, found), expectedMs, this.#audit, {
      fail: (code, at, detail) => this.#fail(code, at, detail),
    });
    return found.over !== undefined ? "shadowed" : isLocked ? "verified" : "lock_short";
  }

  /** What the commit does not hold is checked here as it would have been there. */
  #readDetached(item: ValidItem, bytes: Uint8Array, key: string, indexes: RecordIndexes): void {
    try {
      const record = readRecord(bytes, item.entry, item.index);
      checkLinks(record.links, item.entry.record, item.index, indexes, this.#audit);
      if (record.kind === "ledger" || record.kind === "ledger.seal")
        this.#fail("record.schema", key, `a record of kind ${record.kind} is never apart from its commit`);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#fail(error.code, key, error.message);
    }
  }
}

/** What was kept, when it is of this bucket. */
export async function resumedOf({ notes, options, store }: Audit): Promise<Resumed | undefined> {
  const resumed = options.resume?.from;
  if (resumed === undefined) return undefined;
  const last = await store.get("ledger", commitKey(resumed.commits - 1), { signal: options.signal });
  if (last !== null && sha256Hex(last.body) === resumed.hash) {
    notes.push(`resumed: the record objects of the first ${resumed.commits} commits were read before`);
    return resumed;
  }
  notes.push("resumed: what was kept is of another bucket, or of another state of it; everything is read");
  return undefined;
}

/** Objects that are no records of this log: other keys fail, other records are noted. */
export async function findStrangers(audit: Audit, indexes: RecordIndexes): Promise<void> {
  const { notes, stages, sweep } = audit;
  let unreferenced = 0;
  for await (const key of sweep.keys(audit, "")) {
    const parsed = parseKey("ledger", key);
    if (parsed?.type === "record") {
      if (indexes.has(idOf(parsed.digest))) continue;
      if (++unreferenced <= STRANGERS_SHOWN) notes.push(`record.unreferenced: ${key} is named by no entry`);
    } else if (key.startsWith("records/")) stages.records.fail("record.key", key, "is not the key of a record");
    else if (parsed === undefined && !/^(?:checkpoints|commits|tile)\//.test(key))
      notes.push(`object.unknown: ${JSON.stringify(key)} is no key of a ledger`);
  }
  if (unreferenced > STRANGERS_SHOWN)
    notes.push(`record.unreferenced: ${unreferenced - STRANGERS_SHOWN} more are named by no entry`);
}
