/**
 * Everything of an LMDB index that a transaction changes, read back from the tables when it is opened. Owns how an entry is taken
 * in; the transaction itself is `lmdb-index.ts`.
 */
import { createHash } from "node:crypto";
import { foldRecord, type Op } from "../../fold/fold.ts";
import { INITIAL_STATE, nextStateOf, textOps } from "../../fold/state-digest.ts";
import type { View, ViewReader, ViewRow } from "../../fold/view.ts";
import { Frontier } from "../../merkle/frontier.ts";
import type { ValidItem } from "../../record/chain.ts";
import { type CommitItem, formatPayload } from "../../record/commit.ts";
import { entryBytes } from "../../record/entry.ts";
import type { LedgerRecord } from "../../record/record.ts";
import { assert, assertDefined } from "../../std/assert.ts";
import { type Digest, digestOf, type LogIndex, type RecordId, type TreeSize } from "../../std/brand.ts";
import { concat, formatHex, parseHex } from "../../std/bytes.ts";
import { Violation } from "../../std/violation.ts";
import type { AppliedCommit, IndexedCommit, Watermark } from "../index.ts";
import { Absence } from "./absence.ts";
import { Generations } from "./cache.ts";
import { Entries } from "./entries.ts";
import { hexDigestKey, u32Key } from "./keys.ts";
import { Links } from "./links.ts";
import { ANY_KIND, ANY_PROJECT, Lists } from "./lists.ts";
import { Names } from "./names.ts";
import { Nodes } from "./nodes.ts";
import { Records } from "./records.ts";
import { RowStore } from "./rows.ts";
import type { Tables, WriteSet } from "./tables.ts";

const WATERMARK = Buffer.from("watermark");
const CACHED_IDS = 65_536;
const CACHED_RECORDS = 2_048;
/** Kind of an entry whose record is not here. */
const ABSENT = "";

const EMPTY_HASH = createHash("sha256").digest("hex") as Digest;
const START: Watermark = {
  commitHash: EMPTY_HASH,
  materialised: 0 as TreeSize,
  n: 0,
  published: 0 as TreeSize,
  root: EMPTY_HASH,
  size: 0 as TreeSize,
  state: formatHex(INITIAL_STATE) as Digest,
};

/** Of the first bytes, so that ids whose rows in `digest` are one have one hash. */
const prefixHash = (id: RecordId): number => Number.parseInt(id.slice(7, 15), 16) | 0;

type StoredCommit = Omit<IndexedCommit, "n">;

export class IndexState {
  readonly tables: Tables;
  readonly kinds: Names;
  readonly rels: Names;
  readonly entries: Entries;
  readonly nodes: Nodes;
  readonly links: Links;
  readonly lists: Lists;
  readonly rows: RowStore;
  readonly #bytes: Records;
  #state: Uint8Array;
  #watermark: Watermark;
  /** Index of a project's creation, by its digest. */
  readonly projects = new Map<Digest, number>();
  readonly #ids = new Generations<RecordId, number>(CACHED_IDS);
  readonly #records = new Generations<number, LedgerRecord>(CACHED_RECORDS);
  readonly #newCommits = new Map<number, StoredCommit>();
  readonly #newTail = new Map<number, { readonly bytes: Uint8Array; readonly payload: number }>();
  /** Commits to drop from the tail. */
  readonly #oldTail: number[] = [];
  /** Entries that are not written yet. */
  readonly #newIds = new Map<RecordId, number>();
  /** Those of which `check` found that no written id begins like them. */
  readonly #unwritten = new Set<RecordId>();
  #checking = false;
  readonly #absence: Absence | undefined;
  readonly #newProjects: { readonly index: number; readonly digest: Digest }[] = [];
  readonly #foldReader = new FoldReader(this);

  constructor(tables: Tables) {
    this.tables = tables;
    const stored = tables.get("meta", WATERMARK);
    this.#watermark = stored === undefined ? START : (JSON.parse(stored.toString()) as Watermark);
    const { size, state } = this.#watermark;
    if (size === 0) this.#absence = new Absence();
    this.kinds = new Names(tables, "kinds");
    this.rels = new Names(tables, "rels");
    this.entries = new Entries(tables, size);
    this.nodes = new Nodes(tables, size);
    this.links = new Links(tables, size);
    this.lists = new Lists(tables);
    this.rows = new RowStore(tables);
    this.#bytes = new Records(tables, size);
    this.#state = assertDefined(parseHex(state), "a stored digest is hex");
    for (const { key, value } of tables.range("project", { start: u32Key(0) }))
      this.projects.set(value.toString("hex") as Digest, key.readUInt32BE());
  }

  get watermark(): Watermark {
    return this.#watermark;
  }

  frontier(): readonly Uint8Array[] {
    return this.nodes.frontier();
  }

  /** Index of a record, also of one that is not written yet. */
  indexOf(id: RecordId): number | undefined {
    if (this.#absence?.lacks(prefixHash(id))) {
      if (this.#checking) this.#unwritten.add(id);
      return undefined;
    }
    const known = this.#newIds.get(id) ?? this.#ids.get(id);
    if (known !== undefined) return known;
    const hex = digestOf(id);
    const stored = this.tables.get("digest", hexDigestKey(hex));
    if (stored === undefined) {
      if (this.#checking) this.#unwritten.add(id);
      return undefined;
    }
    for (let at = 0; at < stored.length; at += 4) {
      const index = stored.readUInt32LE(at);
      if (this.entries.hex(index) !== hex) continue;
      this.#ids.set(id, index);
      return index;
    }
    return undefined;
  }

  bytes(index: number): Uint8Array | undefined {
    return this.#bytes.get(index);
  }

  record(index: number): LedgerRecord | undefined {
    const cached = this.#records.get(index);
    if (cached !== undefined) return cached;
    const bytes = this.bytes(index);
    if (bytes === undefined) return undefined;
    const record = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()) as LedgerRecord;
    this.#records.set(index, record);
    return record;
  }

  add(commit: AppliedCommit): void {
    const before = this.#watermark;
    for (const [i, item] of commit.items.entries()) this.#addItem(item, commit.n, commit.ops?.[i]);
    const size = (before.size + commit.items.length) as TreeSize;
    const state = formatHex(this.#state) as Digest;
    const root = formatHex(Frontier.from(size, this.frontier()).root()) as Digest;
    assert(root === commit.header.root, `commit ${commit.n} leads to the root that its header says`);
    this.#watermark = { ...before, commitHash: commit.hash, n: commit.n + 1, root, size, state };
    const stored: StoredCommit = {
      first: before.size as number as LogIndex,
      hash: commit.hash,
      size,
      state,
      time: commit.header.time,
    };
    this.#newCommits.set(commit.n, stored);
    if (commit.bytes !== undefined) this.#newTail.set(commit.n, { bytes: commit.bytes, payload: commit.header.bytes });
  }

  #addItem(item: ValidItem, commit: number, folded: readonly Op[] | undefined): void {
    const { entry, record, recordBytes } = item;
    const index = this.nodes.size;
    assert(item.index === index, "entries follow each other");
    const id = entry.record;
    const hex = digestOf(id);

    this.#foldReader.size = index as TreeSize;
    const ops = textOps(folded ?? foldRecord(this.#foldReader, item));
    for (const op of ops) this.rows.change(index as LogIndex, op, id);
    this.#state = nextStateOf(this.#state, index, ops);

    const project = this.#projectIndex(entry.project, index, entry.seq);
    const kind = this.kinds.intern(record?.kind ?? ABSENT);
    this.entries.append(hex, entry.prev, { commit, kind, project, seq: entry.seq });
    this.nodes.append(item.leaf);
    const targets: number[] = [];
    const rels: number[] = [];
    for (const link of record?.links ?? []) {
      const target = link.to === id ? undefined : this.indexOf(link.to);
      // A link to what is not in the log is a finding of whoever checks the log, not of its index.
      if (target === undefined || target >= index) continue;
      targets.push(target);
      rels.push(this.rels.intern(link.rel));
    }
    this.links.append(project, targets, rels);
    this.lists.append(project, ANY_KIND, index);
    this.lists.append(project, kind, index);
    this.lists.append(ANY_PROJECT, kind, index);
    this.#newIds.set(id, index);
    this.#absence?.add(prefixHash(id));
    this.#bytes.append(recordBytes);
  }

  /** Checks what must hold before anything changes: that the commits follow, and that no record is an entry twice. */
  check(commits: readonly AppliedCommit[]): void {
    this.#checking = true;
    try {
      this.#check(commits);
    } finally {
      this.#checking = false;
    }
  }

  #check(commits: readonly AppliedCommit[]): void {
    const seen = new Set<RecordId>();
    let { n, size } = this.#watermark as { n: number; size: number };
    for (const commit of commits) {
      assert(commit.header.first === size && commit.n >= n, `commit ${commit.n} does not follow the watermark (${n})`);
      n = commit.n + 1;
      size += commit.items.length;
      for (const { entry } of commit.items) {
        if (seen.has(entry.record) || this.indexOf(entry.record) !== undefined)
          throw new Violation("entry.duplicate", `${entry.record} is an entry already`);
        seen.add(entry.record);
      }
    }
  }

  #projectIndex(project: Digest, index: number, seq: number): number {
    if (seq === 0) {
      this.projects.set(project, index);
      this.#newProjects.push({ digest: project, index });
      return index;
    }
    return assertDefined(this.projects.get(project), "a project begins with its creation");
  }

  setWatermark(change: Partial<Watermark>): void {
    this.#watermark = { ...this.#watermark, ...change };
  }

  collect(set: WriteSet): void {
    this.#bytes.collect(set);
    this.#collectDigests(set);
    for (const { index, digest } of this.#newProjects) set.put("project", u32Key(index), Buffer.from(digest, "hex"));
    for (const [n, stored] of this.#newCommits) set.put("commit", u32Key(n), Buffer.from(JSON.stringify(stored)));
    // The payload is made of what the index holds anyway.
    for (const [n, { bytes, payload }] of this.#newTail)
      set.put("tail", u32Key(n), bytes.subarray(0, bytes.length - payload));
    for (const n of this.#oldTail) set.remove("tail", u32Key(n));
    this.entries.collect(set);
    this.nodes.collect(set);
    this.links.collect(set);
    this.lists.collect(set);
    this.rows.collect(set);
    this.kinds.collect(set);
    this.rels.collect(set);
    this.collectWatermark(set);
  }

  /** Prefixes that are equal, by chance or malice, share a row. */
  #collectDigests(set: WriteSet): void {
    const shared = new Map<string, number[]>();
    for (const [id, index] of this.#newIds) {
      const hex = digestOf(id);
      const key = hexDigestKey(hex);
      const prefix = hex.slice(0, 2 * key.length);
      let indexes = shared.get(prefix);
      if (indexes === undefined) {
        const stored = this.#unwritten.has(id) ? undefined : this.tables.get("digest", key);
        indexes =
          stored === undefined ? [] : Array.from({ length: stored.length / 4 }, (_, k) => stored.readUInt32LE(4 * k));
        shared.set(prefix, indexes);
      }
      indexes.push(index);
      const value = Buffer.allocUnsafe(4 * indexes.length);
      for (let k = 0; k < indexes.length; k++) value.writeUInt32LE(indexes[k] ?? 0, 4 * k);
      set.put("digest", key, value);
    }
  }

  collectWatermark(set: WriteSet): void {
    set.put("meta", WATERMARK, Buffer.from(JSON.stringify(this.#watermark)));
  }

  /** After the transaction. */
  settle(): void {
    for (const [id, index] of this.#newIds) this.#ids.set(id, index);
    this.#newIds.clear();
    this.#unwritten.clear();
    this.#newProjects.length = 0;
    this.#newCommits.clear();
    this.#newTail.clear();
    this.#oldTail.length = 0;
    this.entries.settle();
    this.nodes.settle();
    this.links.settle();
    this.lists.settle();
    this.rows.settle();
    this.#bytes.settle();
  }

  commit(n: number): IndexedCommit | undefined {
    const held = this.#newCommits.get(n);
    if (held !== undefined) return { ...held, n };
    const stored = this.tables.get("commit", u32Key(n));
    return stored === undefined ? undefined : { ...(JSON.parse(stored.toString()) as StoredCommit), n };
  }

  commitBytes(n: number): Uint8Array | undefined {
    const held = this.#newTail.get(n);
    if (held !== undefined) return held.bytes;
    const head = this.#oldTail.includes(n) ? undefined : this.tables.get("tail", u32Key(n));
    const commit = head === undefined ? undefined : this.commit(n);
    if (head === undefined || commit === undefined) return undefined;
    const items: CommitItem[] = [];
    for (let i = commit.first as number; i < commit.size; i++)
      items.push({ entry: this.entryBytes(i), record: this.bytes(i) ?? null });
    return concat(head, formatPayload(items));
  }

  entryBytes(i: number): Uint8Array {
    const { prev, project, seq } = this.entries.row(i);
    return entryBytes({
      prev: formatHex(prev) as Digest,
      project: this.entries.hex(project),
      record: this.entries.id(i),
      seq,
    });
  }

  /** Drops the commits that end at or below `size`, and are older than `keepFrom`, from the tail. */
  trimTail(size: TreeSize, keepFrom: string | undefined): void {
    const ends = (n: number): boolean => {
      const commit = this.commit(n);
      return commit !== undefined && commit.size <= size && (keepFrom === undefined || commit.time < keepFrom);
    };
    const dropped = new Set(this.#oldTail);
    for (const { key } of this.tables.range("tail", { start: u32Key(0) })) {
      const n = key.readUInt32BE();
      if (dropped.has(n)) continue;
      if (!ends(n)) break;
      this.#oldTail.push(n);
    }
    for (const n of this.#newTail.keys()) if (ends(n)) this.#newTail.delete(n);
  }
}

/** What the fold reads while an entry is taken in: everything before it, written or not. */
class FoldReader implements ViewReader {
  size = 0 as TreeSize;
  readonly #state: IndexState;

  constructor(state: IndexState) {
    this.#state = state;
  }

  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    return this.#state.rows.get(view, key, this.size);
  }

  record(id: RecordId): { readonly index: LogIndex; readonly record: LedgerRecord } | undefined {
    const index = this.#state.indexOf(id);
    const record = index === undefined ? undefined : this.#state.record(index);
    return index === undefined || record === undefined ? undefined : { index: index as LogIndex, record };
  }

  *dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }> {
    const { entries, links, rels } = this.#state;
    const index = this.#state.indexOf(id);
    if (index === undefined) return;
    for (const { source, rel } of linksTo(links, index, this.size))
      yield { id: entries.id(source), rel: rels.name(rel) };
  }
}

/** Links to an entry from those below `size`, ascending by source. */
export function linksTo(
  links: Links,
  target: number,
  size: number,
): { readonly source: number; readonly rel: number }[] {
  const found: { readonly source: number; readonly rel: number }[] = [];
  const block = links.inBlock(Math.floor(target / 256));
  const k = target % 256;
  for (let at = block.offsets[k] ?? 0; at < (block.offsets[k + 1] ?? 0); at++) {
    const source = block.others[at] ?? 0;
    if (source >= size) return found;
    found.push({ rel: block.rels[at] ?? 0, source });
  }
  const recent = links.recent(target);
  for (let i = 0; i < recent.length; i += 2) {
    const source = recent[i] ?? 0;
    if (source >= size) return found;
    found.push({ rel: recent[i + 1] ?? 0, source });
  }
  return found;
}
