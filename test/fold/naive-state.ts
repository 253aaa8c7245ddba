import { foldRecord, type Op } from "../../src/fold/fold.ts";
import { INITIAL_STATE, nextState } from "../../src/fold/state-digest.ts";
import type { View, ViewReader, ViewRow } from "../../src/fold/view.ts";
import type { ValidItem } from "../../src/record/chain.ts";
import type { RecordId, TreeSize } from "../../src/std/brand.ts";

/** The fold with nothing but maps: what every index must equal. */
export class NaiveState implements ViewReader {
  readonly rows = new Map<string, { readonly value: Op["value"]; readonly changedAt: number }>();
  readonly items: ValidItem[] = [];
  state = INITIAL_STATE;

  get size(): TreeSize {
    return this.items.length as TreeSize;
  }

  add(item: ValidItem): void {
    const ops = foldRecord(this, item);
    for (const op of ops) this.rows.set(`${op.view}\0${op.key}`, { changedAt: item.index, value: op.value });
    this.state = nextState(this.state, item.index, ops);
    this.items.push(item);
  }

  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    const row = this.rows.get(`${view}\0${key}`);
    return row === undefined || row.value === null ? undefined : (row as unknown as ViewRow<V>);
  }

  record(id: RecordId): ReturnType<ViewReader["record"]> {
    const item = this.items.find((i) => i.entry.record === id);
    return item === undefined || item.record === null ? undefined : { index: item.index, record: item.record };
  }

  *dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }> {
    for (const item of this.items)
      for (const link of item.record?.links ?? []) if (link.to === id) yield { id: item.entry.record, rel: link.rel };
  }
}
