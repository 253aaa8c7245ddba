/**
 * Tables `view` and `history`: the newest version of each row under its key; the older ones, some in a list, under key and the
 * index that made the first of them. A row that never changes is stored once, and a reader of the newest state reads once.
 *
 * A stored row is the index that made it (big-endian) and its packed canonical JSON, empty when the row is gone; a list is one of
 * `packed.ts`.
 */
import type { TextOp } from "../../fold/state-digest.ts";
import { type Rows as RowsOf, VIEWS, type View, type ViewRow } from "../../fold/view.ts";
import { canonicalize } from "../../record/canonical.ts";
import type { JsonObject } from "../../record/json.ts";
import type { LogIndex, RecordId } from "../../std/brand.ts";
import { textHash } from "../../std/text-hash.ts";
import { Absence } from "./absence.ts";
import { Generations } from "./cache.ts";
import { afterPrefix, historyKey, textOfViewKey, viewKey } from "./keys.ts";
import { findInList, type Numbered, pack, packList, unpack } from "./packed.ts";
import type { Tables, WriteSet } from "./tables.ts";

/** Rows of a view in one generation. */
const CACHED_ROWS = 4_096;

/** `value` is null when the row is gone. */
interface Version {
  readonly changedAt: LogIndex;
  readonly value: object | null;
}

interface Pending {
  changedAt: LogIndex;
  value: object | null;
  /** As stored: empty when the row is gone. */
  text: string;
}

/** By the index that made it; the text is empty when the row was gone. */
type Older = Numbered;

const byView = <T>(create: () => T): Readonly<Record<View, T>> =>
  Object.fromEntries(VIEWS.map((view) => [view, create()])) as Record<View, T>;

const EMPTY_KEY = Buffer.alloc(1);
const VIEW_SEED = Object.fromEntries(VIEWS.map((view, i) => [view, i])) as Record<View, number>;

/** Where there never was a row. */
const NOTHING: Version = { changedAt: -1 as LogIndex, value: null };

export class RowStore {
  readonly #tables: Tables;
  readonly #caches = byView(() => new Generations<string, Version>(CACHED_ROWS));
  /** Rows that changed since the last transaction. */
  readonly #pending = byView(() => new Map<string, Pending>());
  /** Older versions of those. */
  readonly #older = byView(() => new Map<string, Older[]>());

  readonly #absence: Absence | undefined;

  constructor(tables: Tables) {
    this.#tables = tables;
    const [first] = tables.range("view", { limit: 1, start: EMPTY_KEY });
    if (first === undefined) this.#absence = new Absence();
  }

  #newest(view: View, key: string): Version {
    const pending = this.#pending[view].get(key);
    if (pending !== undefined) return pending;
    if (this.#absence?.lacks(textHash(key, VIEW_SEED[view]))) return NOTHING;
    const cached = this.#caches[view].get(key);
    if (cached !== undefined) return cached;
    const stored = this.#tables.get("view", viewKey(view, key));
    const version = stored === undefined ? NOTHING : decode(stored);
    this.#caches[view].set(key, version);
    return version;
  }

  /** The row as of the first `size` entries. */
  get<V extends View>(view: V, key: string, size: number): ViewRow<V> | undefined {
    let version = this.#newest(view, key);
    if (version.changedAt >= size) version = this.#before(view, key, size);
    return version.value === null ? undefined : { changedAt: version.changedAt, value: version.value as RowsOf[V] };
  }

  #before(view: View, key: string, size: number): Version {
    if (size === 0) return NOTHING;
    const held = this.#older[view].get(key)?.findLast(({ number }) => number < size);
    if (held !== undefined) return versionOf(held);
    const range = { end: historyKey(view, key, 0), limit: 1, reverse: true, start: historyKey(view, key, size - 1) };
    for (const { value } of this.#tables.range("history", range)) return versionOf(findInList(value, size));
    // The end of a range is exclusive: what begins with entry 0 is asked for by itself.
    const first = this.#tables.get("history", range.end);
    return versionOf(first === undefined ? undefined : findInList(first, size));
  }

  get hasPending(): boolean {
    return VIEWS.some((view) => this.#pending[view].size > 0);
  }

  /** Takes what the entry `index`, of record `id`, changes. */
  change(index: LogIndex, op: TextOp, id: RecordId): void {
    const { view, key, text, value } = op;
    const pending = this.#pending[view].get(key);
    if (pending !== undefined) {
      this.#retire(view, key, pending.changedAt, pending.text);
      pending.changedAt = index;
      pending.text = text;
      pending.value = value;
      return;
    }
    // What a record says of itself is new.
    if (!this.#isFirst(view, key) && key !== id) {
      const before = this.#newest(view, key);
      if (before !== NOTHING)
        this.#retire(
          view,
          key,
          before.changedAt,
          before.value === null ? "" : canonicalize(before.value as JsonObject),
        );
    }
    this.#pending[view].set(key, { changedAt: index, text, value });
  }

  /** Whether there certainly never was a row, before this one. */
  #isFirst(view: View, key: string): boolean {
    if (this.#absence === undefined) return false;
    const hash = textHash(key, VIEW_SEED[view]);
    const isFirst = this.#absence.lacks(hash);
    if (isFirst) this.#absence.add(hash);
    return isFirst;
  }

  #retire(view: View, key: string, changedAt: LogIndex, text: string): void {
    const older = this.#older[view].get(key);
    if (older === undefined) this.#older[view].set(key, [{ number: changedAt, text }]);
    else older.push({ number: changedAt, text });
  }

  collect(set: WriteSet): void {
    for (const view of VIEWS) {
      const pending = this.#pending[view];
      for (const key of inOrder(pending)) {
        const { changedAt, text } = pending.get(key) as Pending;
        const value = pack(text, 4);
        value.writeUInt32BE(changedAt);
        set.put("view", viewKey(view, key), value);
      }
      for (const key of inOrder(this.#older[view])) {
        const older = this.#older[view].get(key) as Older[];
        for (let from = 0; from < older.length; ) {
          const { bytes, to } = packList(older, from);
          set.put("history", historyKey(view, key, (older[from] as Older).number), bytes);
          from = to;
        }
      }
    }
  }

  settle(): void {
    for (const view of VIEWS) {
      for (const [key, { changedAt, value }] of this.#pending[view]) this.#caches[view].set(key, { changedAt, value });
      this.#pending[view].clear();
      this.#older[view].clear();
    }
  }

  /** Of what is written: write what is pending first. */
  *scan<V extends View>(view: V, prefix: string, size: number): Iterable<readonly [string, RowsOf[V]]> {
    const start = viewKey(view, prefix);
    const end = afterPrefix(start);
    for (const { key } of this.#tables.range("view", end === undefined ? { start } : { end, start })) {
      const text = textOfViewKey(key);
      const row = text === undefined ? undefined : this.get(view, text, size);
      if (text !== undefined && row !== undefined) yield [text, row.value];
    }
  }
}

/** Nearly the order of the stored keys, so that neighbours meet in a page. */
const inOrder = (rows: ReadonlyMap<string, unknown>): string[] => [...rows.keys()].sort();

const parse = (text: string): object | null => (text === "" ? null : (JSON.parse(text) as object));
const decode = (stored: Buffer): Version => ({
  changedAt: stored.readUInt32BE() as LogIndex,
  value: parse(unpack(stored, 4)),
});
const versionOf = (older: Older | undefined): Version =>
  older === undefined ? NOTHING : { changedAt: older.number as LogIndex, value: parse(older.text) };
