/**
 * Readers made of records: the state that a set of facts alone would give, folded in log order, and a state with drafts on top that
 * are not in the log yet. Both are what the fold makes of the records; nothing here knows a kind.
 */
import { foldRecord } from "../fold/fold.ts";
import type { Rows, View, ViewReader, ViewRow } from "../fold/view.ts";
import type { ValidItem } from "../record/chain.ts";
import type { LedgerRecord } from "../record/record.ts";
import { type Digest, digestOf, type LogIndex, type RecordId, type TreeSize, ZERO_DIGEST } from "../std/brand.ts";

export interface Fact {
  readonly id: RecordId;
  readonly index: LogIndex;
  readonly record: LedgerRecord;
}

const NOTHING = new Uint8Array(0);

class Overlay implements ViewReader {
  readonly #base: ViewReader | undefined;
  readonly #rows = new Map<string, { value: unknown; changedAt: LogIndex }>();
  readonly #records = new Map<RecordId, { index: LogIndex; record: LedgerRecord }>();
  readonly #dependents = new Map<RecordId, { id: RecordId; rel: string }[]>();
  size: TreeSize;

  constructor(base: ViewReader | undefined) {
    this.#base = base;
    this.size = base?.size ?? (0 as TreeSize);
  }

  add({ id, index, record }: Fact): void {
    const project: Digest = digestOf(record.project ?? id);
    const item: ValidItem = {
      entry: { prev: ZERO_DIGEST, project, record: id, seq: 0 },
      entryBytes: NOTHING,
      index,
      leaf: NOTHING,
      record,
      recordBytes: null,
    };
    const ops = foldRecord(this, item);
    this.#records.set(id, { index, record });
    for (const { rel, to } of record.links) {
      const known = this.#dependents.get(to);
      if (known === undefined) this.#dependents.set(to, [{ id, rel }]);
      else known.push({ id, rel });
    }
    for (const op of ops) this.#rows.set(`${op.view}\0${op.key}`, { changedAt: index, value: op.value });
    if (this.#base === undefined) this.size = Math.max(this.size, index + 1) as TreeSize;
  }

  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    const own = this.#rows.get(`${view}\0${key}`);
    if (own === undefined) return this.#base?.get(view, key);
    return own.value === null ? undefined : { changedAt: own.changedAt, value: own.value as Rows[V] };
  }

  record(id: RecordId): { readonly index: LogIndex; readonly record: LedgerRecord } | undefined {
    return this.#records.get(id) ?? this.#base?.record(id);
  }

  *dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }> {
    if (this.#base !== undefined) yield* this.#base.dependents(id);
    yield* this.#dependents.get(id) ?? [];
  }
}

/** The state that these records alone give. */
export function factReader(facts: readonly Fact[]): ViewReader {
  const reader = new Overlay(undefined);
  for (const fact of facts.toSorted((a, b) => a.index - b.index)) reader.add(fact);
  return reader;
}

/** What of a draft is judged; a salt, and the id that it would give, come later. */
export type PendingDraft = Pick<LedgerRecord, "actor" | "body" | "kind" | "links"> & { readonly project: RecordId };

/**
 * A state with the earlier drafts of a group on top; its size stays that of the state. The k-th draft stands under `pendingId(k)`,
 * and links may name earlier ones by it.
 */
export function withDrafts(
  base: ViewReader,
  drafts: readonly PendingDraft[],
  time: string,
): { reader: ViewReader; pending: readonly RecordId[] } {
  const reader = new Overlay(base);
  const pending = drafts.map((draft, k) => {
    const id = pendingId(k);
    const record: LedgerRecord = { ...draft, request_id: "pending", salt: "", time, v: 1 };
    reader.add({ id, index: (base.size + k) as LogIndex, record });
    return id;
  });
  return { pending, reader };
}

/** Stands for the k-th draft of a group, from 0; no record has it. */
export const pendingId = (k: number): RecordId => `sha256:${(k + 1).toString(16).padStart(64, "0")}` as RecordId;
