/** The fold of all records, in memory: for comparing its rolling digest with what seals say. */
import { foldRecord } from "../../fold/fold.ts";
import { INITIAL_STATE, nextState } from "../../fold/state-digest.ts";
import type { Rows, View, ViewReader, ViewRow } from "../../fold/view.ts";
import type { ValidItem } from "../../record/chain.ts";
import type { LedgerRecord } from "../../record/record.ts";
import type { LogIndex, RecordId, TreeSize } from "../../std/brand.ts";
import { formatHex } from "../../std/bytes.ts";

interface Row {
  readonly value: unknown;
  readonly changedAt: LogIndex;
}

export class StateFold implements ViewReader {
  readonly #rows = new Map<string, Row>();
  readonly #records = new Map<RecordId, { readonly index: LogIndex; readonly record: LedgerRecord }>();
  readonly #dependents = new Map<RecordId, { readonly id: RecordId; readonly rel: string }[]>();
  #state = INITIAL_STATE;
  size = 0 as TreeSize;

  digest(): string {
    return formatHex(this.#state);
  }

  /** Takes the next entry. */
  add(item: ValidItem): void {
    const { index, record } = item;
    const id = item.entry.record;
    const ops = foldRecord(this, item);
    this.#state = nextState(this.#state, index, ops);
    for (const { key, value, view } of ops) {
      if (value === null) this.#rows.delete(`${view}\0${key}`);
      else this.#rows.set(`${view}\0${key}`, { changedAt: index, value });
    }
    this.size = (index + 1) as TreeSize;
    if (record === null) return;
    this.#records.set(id, { index, record });
    for (const { rel, to } of record.links) {
      const known = this.#dependents.get(to);
      if (known === undefined) this.#dependents.set(to, [{ id, rel }]);
      else known.push({ id, rel });
    }
  }

  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    const row = this.#rows.get(`${view}\0${key}`);
    return row === undefined ? undefined : { changedAt: row.changedAt, value: row.value as Rows[V] };
  }

  record(id: RecordId): { readonly index: LogIndex; readonly record: LedgerRecord } | undefined {
    return this.#records.get(id);
  }

  dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }> {
    return this.#dependents.get(id) ?? [];
  }
}
