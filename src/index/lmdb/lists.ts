/**
 * Table `list`: ascending indexes of entries, 256 in a chunk, by project, by project and kind, and by kind. Only the last chunk of
 * a list changes; it is kept in memory once it was asked for.
 */
import { Generations } from "./cache.ts";
import { listKey, MAX_INDEX } from "./keys.ts";
import type { Tables, WriteSet } from "./tables.ts";

const CHUNK = 256;
const CACHED_CHUNKS = 2_048;

/** Any project, any kind: no entry's project begins at the highest index, no kind has the highest number. */
export const ANY_PROJECT = MAX_INDEX;
export const ANY_KIND = 0xffff;

interface List {
  readonly project: number;
  readonly kind: number;
  count: number;
  /** First chunk that is not written yet. */
  written: number;
  /** Chunks from `written` on, the last one always. */
  readonly chunks: Map<number, Uint32Array>;
}

export class Lists {
  readonly #tables: Tables;
  readonly #lists = new Map<number, List>();
  readonly #dirty = new Set<List>();
  readonly #cache = new Generations<string, Uint32Array>(CACHED_CHUNKS);

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  #list(project: number, kind: number): List {
    const name = project * 0x1_0000 + kind;
    let list = this.#lists.get(name);
    if (list === undefined) {
      list = { chunks: new Map(), count: 0, kind, project, written: 0 };
      const start = listKey(project, kind, MAX_INDEX);
      for (const { key, value } of this.#tables.range("list", {
        end: listKey(project, kind, 0),
        limit: 1,
        reverse: true,
        start,
      }))
        this.#load(list, key, value);
      // The end of a range is exclusive, so chunk 0 is asked for by itself.
      const first = list.count === 0 ? this.#tables.get("list", listKey(project, kind, 0)) : undefined;
      if (first !== undefined) this.#load(list, listKey(project, kind, 0), first);
      this.#lists.set(name, list);
    }
    return list;
  }

  #load(list: List, key: Buffer, value: Buffer): void {
    const number = key.readUInt32BE(6);
    const length = value.length / 4;
    list.count = number * CHUNK + length;
    list.written = Math.floor(list.count / CHUNK);
    const chunk = new Uint32Array(CHUNK);
    chunk.set(numbersOf(value));
    list.chunks.set(number, chunk);
  }

  append(project: number, kind: number, index: number): void {
    const list = this.#list(project, kind);
    const number = Math.floor(list.count / CHUNK);
    let chunk = list.chunks.get(number);
    if (chunk === undefined) {
      chunk = new Uint32Array(CHUNK);
      list.chunks.set(number, chunk);
    }
    chunk[list.count % CHUNK] = index;
    list.count++;
    this.#dirty.add(list);
  }

  count(project: number, kind: number): number {
    return this.#list(project, kind).count;
  }

  at(project: number, kind: number, k: number): number {
    const list = this.#list(project, kind);
    const number = Math.floor(k / CHUNK);
    let chunk = list.chunks.get(number);
    if (chunk === undefined) {
      const name = `${project}/${kind}/${number}`;
      chunk = this.#cache.get(name);
      if (chunk === undefined) {
        const stored = this.#tables.get("list", listKey(project, kind, number));
        chunk = stored === undefined ? new Uint32Array(CHUNK) : numbersOf(stored);
        this.#cache.set(name, chunk);
      }
    }
    return chunk[k % CHUNK] ?? 0;
  }

  /** How many of the list are below `index`. */
  countBelow(project: number, kind: number, index: number): number {
    let lo = 0;
    let hi = this.count(project, kind);
    if (hi > 0 && this.at(project, kind, hi - 1) < index) return hi;
    while (lo < hi) {
      const middle = Math.floor((lo + hi) / 2);
      if (this.at(project, kind, middle) < index) lo = middle + 1;
      else hi = middle;
    }
    return lo;
  }

  collect(set: WriteSet): void {
    for (const list of this.#dirty)
      for (const [number, chunk] of list.chunks) {
        if (number < list.written) continue;
        const length = Math.min(CHUNK, list.count - number * CHUNK);
        set.put("list", listKey(list.project, list.kind, number), Buffer.from(chunk.buffer, 0, 4 * length));
      }
  }

  settle(): void {
    for (const list of this.#dirty) {
      list.written = Math.floor(list.count / CHUNK);
      for (const number of list.chunks.keys()) if (number < list.written) list.chunks.delete(number);
    }
    this.#dirty.clear();
  }
}

function numbersOf(value: Buffer): Uint32Array {
  const copy = new Uint8Array(value);
  return new Uint32Array(copy.buffer);
}
