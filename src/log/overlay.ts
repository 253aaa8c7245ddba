/**
 * The state as it will be when the open batch is committed: the applied state with the rows and records of the batch on top.
 * What a re-admission reads; thrown away when the batch is closed.
 */
import type { Op } from "../fold/fold.ts";
import type { Rows, View, ViewReader, ViewRow } from "../fold/view.ts";
import type { ValidItem } from "../record/chain.ts";
import type { LedgerRecord } from "../record/record.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";
import { guardOf } from "./admission.ts";

export class Overlay implements ViewReader {
  readonly #base: ViewReader;
  readonly #rows = new Map<string, { readonly value: Op["value"]; readonly changedAt: LogIndex }>();
  readonly #records = new Map<RecordId, { readonly index: LogIndex; readonly record: LedgerRecord }>();
  readonly #dependents = new Map<RecordId, { readonly id: RecordId; readonly rel: string }[]>();
  #size: TreeSize;

  constructor(base: ViewReader) {
    this.#base = base;
    this.#size = base.size;
  }

  get size(): TreeSize {
    return this.#size;
  }

  /** Puts an entry on top; returns the guards that it moves. */
  apply(item: ValidItem, ops: readonly Op[]): string[] {
    const moved: string[] = [];
    for (const op of ops) {
      const key = guardOf.row(op.view, op.key);
      this.#rows.set(key, { changedAt: item.index, value: op.value });
      moved.push(key);
    }
    const id = item.entry.record;
    moved.push(guardOf.record(id));
    if (item.record !== null) {
      this.#records.set(id, { index: item.index, record: item.record });
      for (const link of item.record.links) {
        const list = this.#dependents.get(link.to);
        if (list === undefined) this.#dependents.set(link.to, [{ id, rel: link.rel }]);
        else list.push({ id, rel: link.rel });
        moved.push(guardOf.dependents(link.to));
      }
    }
    this.#size = (item.index + 1) as TreeSize;
    return moved;
  }

  knows(id: RecordId): boolean {
    return this.#records.has(id);
  }

  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    const row = this.#rows.get(guardOf.row(view, key));
    if (row === undefined) return this.#base.get(view, key);
    return row.value === null ? undefined : { changedAt: row.changedAt, value: row.value as unknown as Rows[V] };
  }

  record(id: RecordId): { readonly index: LogIndex; readonly record: LedgerRecord } | undefined {
    return this.#records.get(id) ?? this.#base.record(id);
  }

  *dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }> {
    yield* this.#base.dependents(id);
    yield* this.#dependents.get(id) ?? [];
  }
}
