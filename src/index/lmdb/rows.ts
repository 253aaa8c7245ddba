/**
 * Tables `view` and `history`: the newest version of each row under its key, the older ones under key and the index that made
 * them. A row that never changes is stored once, and a reader of the newest state reads once.
 *
 * A stored row is the index that made it (big-endian) and its canonical JSON, empty when the row is gone.
 */
import type { TextOp } from "../../fold/state-digest.ts";
import type { Rows as RowsOf, View, ViewRow } from "../../fold/view.ts";
import type { LogIndex } from "../../std/brand.ts";
import { Generations } from "./cache.ts";
import { afterPrefix, historyKey, textOfViewKey, viewKey } from "./keys.ts";
import type { Tables, WriteSet } from "./tables.ts";

const CACHED_ROWS = 65_536;

/** `value` is null when the row is gone. */
interface Version {
  readonly changedAt: LogIndex;
  readonly value: object | null;
}

interface Pending extends Version {
  readonly view: View;
  readonly key: string;
  readonly text: string;
}

/** Where there never was a row. */
const NOTHING: Version = { changedAt: -1 as LogIndex, value: null };

const nameOf = (view: View, key: string): string => `${view}\0${key}`;

export class RowStore {
  readonly #tables: Tables;
  readonly #cache = new Generations<string, Version>(CACHED_ROWS);
  /** Rows that changed since the last transaction. */
  readonly #pending = new Map<string, Pending>();
  /** Older versions since the last transaction. */
  readonly #older: { readonly key: Buffer; readonly text: string | Buffer }[] = [];

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  #newest(view: View, key: string, name: string): Version {
    const held = this.#pending.get(name) ?? this.#cache.get(name);
    if (held !== undefined) return held;
    const stored = this.#tables.get("view", viewKey(view, key));
    const version = stored === undefined ? NOTHING : decode(stored);
    this.#cache.set(name, version);
    return version;
  }

  /** The row as of the first `size` entries. */
  get<V extends View>(view: V, key: string, size: number): ViewRow<V> | undefined {
    let version = this.#newest(view, key, nameOf(view, key));
    if (version.changedAt >= size) version = this.#before(view, key, size);
    return version.value === null ? undefined : { changedAt: version.changedAt, value: version.value as RowsOf[V] };
  }

  #before(view: View, key: string, size: number): Version {
    if (size === 0) return NOTHING;
    const range = { end: historyKey(view, key, 0), limit: 1, reverse: true, start: historyKey(view, key, size - 1) };
    for (const { key: found, value } of this.#tables.range("history", range)) return decodeOlder(found, value);
    // The end of a range is exclusive: what entry 0 made is asked for by itself.
    const first = this.#tables.get("history", range.end);
    return first === undefined ? NOTHING : decodeOlder(range.end, first);
  }

  /** Takes what entry `index` changes. */
  change(index: LogIndex, op: TextOp): void {
    const name = nameOf(op.view, op.key);
    const pending = this.#pending.get(name);
    if (pending !== undefined)
      this.#older.push({ key: historyKey(op.view, op.key, pending.changedAt), text: pending.text });
    else {
      const stored = this.#cache.get(name) === NOTHING ? undefined : this.#tables.get("view", viewKey(op.view, op.key));
      if (stored !== undefined)
        this.#older.push({ key: historyKey(op.view, op.key, stored.readUInt32BE()), text: stored.subarray(4) });
    }
    this.#pending.set(name, { changedAt: index, key: op.key, text: op.text, value: op.value, view: op.view });
  }

  collect(set: WriteSet): void {
    for (const row of this.#pending.values()) {
      const value = Buffer.allocUnsafe(4 + Buffer.byteLength(row.text));
      value.writeUInt32BE(row.changedAt);
      value.write(row.text, 4);
      set.put("view", viewKey(row.view, row.key), value);
    }
    for (const { key, text } of this.#older)
      set.put("history", key, typeof text === "string" ? Buffer.from(text) : text);
  }

  settle(): void {
    for (const [name, { changedAt, value }] of this.#pending) this.#cache.set(name, { changedAt, value });
    this.#pending.clear();
    this.#older.length = 0;
  }

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

function parse(bytes: Buffer, from: number): object | null {
  return bytes.length === from ? null : (JSON.parse(bytes.toString("utf8", from)) as object);
}

const decode = (stored: Buffer): Version => ({ changedAt: stored.readUInt32BE() as LogIndex, value: parse(stored, 4) });
const decodeOlder = (key: Buffer, stored: Buffer): Version => ({
  changedAt: key.readUInt32BE(key.length - 4) as LogIndex,
  value: parse(stored, 0),
});
