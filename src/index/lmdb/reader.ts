/**
 * A reader of an LMDB index: answers for the first `size` entries. It holds no transaction: what lies above its size is skipped,
 * and what was there is never changed, so it answers the same whatever is appended meanwhile.
 */
import type { Rows, View, ViewRow } from "../../fold/view.ts";
import type { LedgerRecord } from "../../record/record.ts";
import { type Digest, digestOf, type LogIndex, type RecordId, type TreeSize } from "../../std/brand.ts";
import { formatHex } from "../../std/bytes.ts";
import type { Adjacency, IndexedCommit, IndexedEntry, IndexReader, InLink, ListQuery, OutLink } from "../index.ts";
import { LINK_BLOCK } from "./links.ts";
import { ANY_KIND, ANY_PROJECT } from "./lists.ts";
import { type IndexState, linksTo } from "./state.ts";

/** The index as it is now. */
export interface CurrentState {
  state(): IndexState;
  /** Writes what is pending. */
  write(): void;
}

export class LmdbReader implements IndexReader {
  readonly size: TreeSize;
  readonly #current: CurrentState;

  constructor(current: CurrentState, size: TreeSize) {
    this.#current = current;
    this.size = size;
  }

  #state(): IndexState {
    return this.#current.state();
  }

  #holds(i: number): boolean {
    return Number.isInteger(i) && i >= 0 && i < this.size;
  }

  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    return this.#state().rows.get(view, key, this.size);
  }

  indexOf(id: RecordId): LogIndex | undefined {
    const index = this.#state().indexOf(id);
    return index === undefined || index >= this.size ? undefined : (index as LogIndex);
  }

  record(id: RecordId): { readonly index: LogIndex; readonly record: LedgerRecord } | undefined {
    const index = this.indexOf(id);
    const record = index === undefined ? undefined : this.#state().record(index);
    return index === undefined || record === undefined ? undefined : { index, record };
  }

  *dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }> {
    const index = this.indexOf(id);
    if (index === undefined) return;
    const state = this.#state();
    for (const { source, rel } of linksTo(state.links, index, this.size))
      yield { id: state.entries.id(source), rel: state.rels.name(rel) };
  }

  entry(i: number): IndexedEntry | undefined {
    if (!this.#holds(i)) return undefined;
    const state = this.#state();
    const { commit, kind, project, seq } = state.entries.row(i);
    return {
      commit,
      get entryBytes() {
        return state.entryBytes(i);
      },
      index: i as LogIndex,
      kind: state.kinds.name(kind),
      project: state.projectId(project),
      get record() {
        return state.entries.id(i);
      },
      seq,
    };
  }

  bytes(i: number): Uint8Array | undefined {
    return this.#holds(i) ? this.#state().bytes(i) : undefined;
  }

  out(i: number): OutLink[] {
    if (!this.#holds(i)) return [];
    const { links, rels } = this.#state();
    const block = links.outBlock(Math.floor(i / LINK_BLOCK));
    const k = i % LINK_BLOCK;
    const found: OutLink[] = [];
    for (let at = block.offsets[k] ?? 0; at < (block.offsets[k + 1] ?? 0); at++)
      found.push({ rel: rels.name(block.rels[at] ?? 0), target: (block.others[at] ?? 0) as LogIndex });
    return found;
  }

  in(i: number): InLink[] {
    if (!this.#holds(i)) return [];
    const { links, rels } = this.#state();
    return linksTo(links, i, this.size).map(({ source, rel }) => ({ rel: rels.name(rel), source: source as LogIndex }));
  }

  list({ project, kinds, from, limit, reverse = false }: ListQuery): LogIndex[] {
    const state = this.#state();
    const owner = project === undefined ? ANY_PROJECT : state.projects.get(digestOf(project));
    if (owner === undefined || limit <= 0) return [];
    if (kinds === undefined)
      return project === undefined
        ? this.#all(from, limit, reverse)
        : this.#page(owner, ANY_KIND, from, limit, reverse);
    const pages = [...new Set(kinds)].flatMap((name) => {
      const kind = state.kinds.number(name);
      return kind === undefined ? [] : this.#page(owner, kind, from, limit, reverse);
    });
    return pages.toSorted((a, b) => (reverse ? b - a : a - b)).slice(0, limit);
  }

  #all(from: number | undefined, limit: number, reverse: boolean): LogIndex[] {
    const first = reverse ? Math.min(from ?? this.size - 1, this.size - 1) : Math.max(from ?? 0, 0);
    const count = Math.min(limit, reverse ? first + 1 : this.size - first);
    return Array.from({ length: Math.max(0, count) }, (_, k) => (reverse ? first - k : first + k) as LogIndex);
  }

  #page(owner: number, kind: number, from: number | undefined, limit: number, reverse: boolean): LogIndex[] {
    const { lists } = this.#state();
    const end = lists.countBelow(owner, kind, this.size);
    const page: LogIndex[] = [];
    if (reverse) {
      const start = from === undefined ? end : Math.min(end, lists.countBelow(owner, kind, from + 1));
      for (let k = start - 1; k >= 0 && page.length < limit; k--) page.push(lists.at(owner, kind, k) as LogIndex);
    } else
      for (let k = from === undefined ? 0 : lists.countBelow(owner, kind, from); k < end && page.length < limit; k++)
        page.push(lists.at(owner, kind, k) as LogIndex);
    return page;
  }

  scan<V extends View>(view: V, prefix: string): Iterable<readonly [key: string, row: Rows[V]]> {
    if (this.#state().rows.hasPending) this.#current.write();
    return this.#state().rows.scan(view, prefix, this.size);
  }

  heads(): Map<Digest, { readonly count: number; readonly last: Digest }> {
    const { projects, lists, nodes } = this.#state();
    const heads = new Map<Digest, { readonly count: number; readonly last: Digest }>();
    for (const [digest, owner] of projects) {
      const count = owner < this.size ? lists.countBelow(owner, ANY_KIND, this.size) : 0;
      if (count > 0)
        heads.set(digest, { count, last: formatHex(nodes.read(0, lists.at(owner, ANY_KIND, count - 1))) as Digest });
    }
    return heads;
  }

  commit(n: number): IndexedCommit | undefined {
    const commit = this.#state().commit(n);
    return commit === undefined || commit.size > this.size ? undefined : commit;
  }

  adjacency(): Adjacency {
    const { links, entries } = this.#state();
    return {
      inBlock: (block) => links.inBlock(block),
      outBlock: (block) => links.outBlock(block),
      projectId: (project) => entries.id(project),
      recent: (target) => links.recent(target),
      size: this.size,
    };
  }

  [Symbol.dispose](): void {
    // Nothing is held.
  }
}
