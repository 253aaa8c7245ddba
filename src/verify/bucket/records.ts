/** Each record of the log is an object of its own with the same bytes, locked long enough; detached ones are read from there alone. */
import type { ValidCommit, ValidItem } from "../../record/chain.ts";
import { digestOf, idOf } from "../../std/brand.ts";
import { equalBytes } from "../../std/bytes.ts";
import { Violation } from "../../std/violation.ts";
import { parseKey, recordKey } from "../../store/keys.ts";
import { readRecord } from "../records.ts";
import { type Audit, checkLock, each } from "./audit.ts";
import type { RecordIndexes } from "./indexes.ts";
import { checkLinks } from "./links.ts";

/** Of records that no entry names, this many are named. */
const STRANGERS_SHOWN = 100;

export class RecordObjects {
  readonly #audit: Audit;
  /** Commits whose objects are being read. */
  readonly #running = new Set<Promise<void>>();
  #waiting = 0;
  #failure: unknown;

  constructor(audit: Audit) {
    this.#audit = audit;
  }

  /** Begins to read the objects of a commit; waits first while as many as are allowed are being read. */
  async take({ items }: ValidCommit, expectedMs: number, indexes: RecordIndexes): Promise<void> {
    const { concurrency } = this.#audit.options;
    if (items.length === 0) return;
    while (this.#waiting >= concurrency) await Promise.race(this.#running);
    if (this.#failure !== undefined) throw this.#failure as Error;
    this.#waiting += items.length;
    const task: Promise<void> = each(items, concurrency, async (item) => {
      await this.#compare(item, expectedMs, indexes);
      this.#waiting--;
    })
      .catch((error: unknown) => {
        this.#failure ??= error;
        this.#waiting = 0;
      })
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  async end(): Promise<void> {
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure as Error;
  }

  async #compare(item: ValidItem, expectedMs: number, indexes: RecordIndexes): Promise<void> {
    const { absent, stages, store } = this.#audit;
    const key = recordKey(digestOf(item.entry.record));
    const found = await store.get("ledger", key);
    if (found === null) {
      absent.records.push(item.index);
      return;
    }
    if (item.recordBytes === null) this.#readDetached(item, found.body, key, indexes);
    else if (!equalBytes(found.body, item.recordBytes))
      stages.records.fail("record.digest", key, "the object's bytes are not the record's");
    // Other stores say nothing of locks, or nothing that binds.
    if (store.lock !== "compliance") return;
    const info = await store.head("ledger", key);
    if (info !== null) checkLock(info, expectedMs, this.#audit, stages.records);
  }

  /** What the commit does not hold is checked here as it would have been there. */
  #readDetached(item: ValidItem, bytes: Uint8Array, key: string, indexes: RecordIndexes): void {
    const { stages } = this.#audit;
    try {
      const record = readRecord(bytes, item.entry, item.index);
      checkLinks(record.links, item.entry.record, item.index, indexes, this.#audit);
      if (record.kind === "ledger" || record.kind === "ledger.seal")
        stages.records.fail("record.schema", key, `a record of kind ${record.kind} is never apart from its commit`);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stages.records.fail(error.code, key, error.message);
    }
  }
}

/** Objects that are no records of this log: other keys fail, other records are noted. */
export async function findStrangers(audit: Audit, indexes: RecordIndexes): Promise<void> {
  const { notes, stages, store } = audit;
  let unreferenced = 0;
  for await (const { key } of store.list("ledger", "")) {
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
