/**
 * One record on its way into the views: reads see what the record itself has already changed, and each row is written at most
 * once. Owns the operations that come out; knows nothing of kinds.
 */
import type { Entry } from "../record/entry.ts";
import type { JsonObject } from "../record/json.ts";
import type { LedgerRecord } from "../record/record.ts";
import { idOf, type LogIndex, type RecordId } from "../std/brand.ts";
import type { EntityRow, Rows, View, ViewReader } from "./view.ts";

/** What the fold reads of an item of a commit. */
export interface FoldedItem {
  readonly index: LogIndex;
  readonly entry: Pick<Entry, "project" | "record">;
  readonly record: LedgerRecord | null;
}

/** A row after a record; null when there is none any more. */
export interface Op {
  readonly view: View;
  readonly key: string;
  readonly value: JsonObject | null;
}

/** Up to here a list is searched faster than a map. */
const LINEAR = 16;

export class Folding {
  readonly reader: ViewReader;
  readonly index: LogIndex;
  readonly id: RecordId;
  readonly record: LedgerRecord;
  /** The project of the entry: itself for a record that creates one. */
  readonly project: RecordId;
  #byKey: Map<string, { value: JsonObject | null }> | undefined;
  readonly #ops: { view: View; key: string; value: JsonObject | null }[] = [];

  constructor(reader: ViewReader, { entry, index }: FoldedItem, record: LedgerRecord) {
    this.reader = reader;
    this.index = index;
    this.id = entry.record;
    // The same text as the record's, whose hash is known to maps.
    this.project = record.project ?? idOf(entry.project);
    this.record = record;
  }

  get<V extends View>(view: V, key: string): Rows[V] | undefined {
    const op = this.#find(view, key);
    if (op === undefined) return this.reader.get(view, key)?.value;
    return op.value === null ? undefined : (op.value as unknown as Rows[V]);
  }

  put<V extends View>(view: V, key: string, value: Rows[V]): void {
    const op = this.#find(view, key);
    if (op === undefined) this.#push({ key, value, view });
    else op.value = value;
  }

  /** Changes the entity's row when there is one. */
  updateEntity(id: RecordId, change: Partial<EntityRow>): void {
    const row = this.get("entity", id);
    if (row !== undefined) this.put("entity", id, { ...row, ...change });
  }

  link(rel: string): RecordId | undefined {
    for (const link of this.record.links) if (link.rel === rel) return link.to;
    return undefined;
  }

  links(rel: string): RecordId[] {
    return this.record.links.filter((link) => link.rel === rel).map((link) => link.to);
  }

  /** A text of the body; empty when absent, as the body omits it then. */
  text(name: string): string {
    const value = this.record.body[name];
    return typeof value === "string" ? value : "";
  }

  ops(): Op[] {
    return this.#ops;
  }

  #find(view: View, key: string): { value: JsonObject | null } | undefined {
    const byKey = this.#byKey;
    if (byKey !== undefined) return byKey.get(`${view}\0${key}`);
    for (const op of this.#ops) if (op.view === view && op.key === key) return op;
    return undefined;
  }

  #push(op: { view: View; key: string; value: JsonObject | null }): void {
    this.#ops.push(op);
    // Most records change a handful of rows; a revocation may change any number.
    if (this.#ops.length === LINEAR) this.#byKey = new Map(this.#ops.map((o) => [`${o.view}\0${o.key}`, o]));
    else this.#byKey?.set(`${op.view}\0${op.key}`, op);
  }
}
