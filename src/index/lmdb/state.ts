/**
 * Everything of an LMDB index that a transaction changes, read back from the tables when it is opened. Owns how an entry is taken
 * in; the transaction itself is `lmdb-index.ts`.
 */
import { createHash } from "node:crypto";
import { itemOf } from "../../fold/facts.ts";
import { foldRecord, type Op } from "../../fold/fold.ts";
import type { FoldedItem } from "../../fold/folding.ts";
import { INITIAL_STATE, nextStateOf, textOps } from "../../fold/state-digest.ts";
import type { View, ViewReader, ViewRow } from "../../fold/view.ts";
import { Frontier } from "../../merkle/frontier.ts";
import { type CommitItem, formatPayload } from "../../record/commit.ts";
import { entryBytes } from "../../record/entry.ts";
import type { LedgerRecord, Link } from "../../record/record.ts";
import { assert, assertDefined } from "../../std/assert.ts";
import { type Digest, digestOf, type LogIndex, type RecordId, type TreeSize } from "../../std/brand.ts";
import { concat, formatHex, parseHex } from "../../std/bytes.ts";
import { Violation } from "../../std/violation.ts";
import { ENTRY_ROW, entryRows, KIND_AT, PROJECT_AT, SEQ_AT } from "../entry-row.ts";
import type { AppliedCommit, IndexedCommit, PackedItems, Watermark } from "../index.ts";
import { Generations } from "./cache.ts";
import { Entries } from "./entries.ts";
import { Ids } from "./ids.ts";
import { u32Key } from "./keys.ts";
import { Links } from "./links.ts";
import { ANY_KIND, ANY_PROJECT, Lists } from "./lists.ts";
import { Names } from "./names.ts";
import { Nodes } from "./nodes.ts";
import { Records } from "./records.ts";
import { RowStore } from "./rows.ts";
import type { Tables, WriteSet } from "./tables.ts";

const WATERMARK = Buffer.from("watermark");
const CACHED_RECORDS = 1_024;
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

type StoredCommit = Omit<IndexedCommit, "n">;

export const countOf = (commit: AppliedCommit): number => commit.packed?.count ?? commit.items.length;

function setU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value & 0xff;
  bytes[at + 1] = (value >>> 8) & 0xff;
  bytes[at + 2] = (value >>> 16) & 0xff;
  bytes[at + 3] = value >>> 24;
}

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
  readonly #ids: Ids;
  readonly #records = new Generations<number, LedgerRecord>(CACHED_RECORDS);
  readonly #newCommits = new Map<number, StoredCommit>();
  readonly #newTail = new Map<number, { readonly bytes: Uint8Array; readonly payload: number }>();
  /** Commits to drop from the tail. */
  readonly #oldTail: number[] = [];
  readonly #projectIds = new Map<number, RecordId>();
  readonly #newProjects: { readonly index: number; readonly digest: Digest }[] = [];
  readonly #foldReader = new FoldReader(this);

  constructor(tables: Tables) {
    this.tables = tables;
    const stored = tables.get("meta", WATERMARK);
    this.#watermark = stored === undefined ? START : (JSON.parse(stored.toString()) as Watermark);
    const { size, state } = this.#watermark;
    this.kinds = new Names(tables, "kinds");
    this.rels = new Names(tables, "rels");
    this.entries = new Entries(tables, size);
    this.#ids = new Ids(tables, this.entries);
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
    return this.#ids.find(id);
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
    const size = (before.size + countOf(commit)) as TreeSize;
    if (commit.packed === undefined) this.#addItems(commit);
    else this.#addPacked(commit.packed);
    assert(this.nodes.size === size, "entries follow each other");
    const state = formatHex(this.#state) as Digest;
    this.#watermark = { ...before, commitHash: commit.hash, n: commit.n + 1, root: commit.header.root, size, state };
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

  #addItems({ items, n, ops, subtrees }: AppliedCommit): void {
    const rows = entryRows(items, n);
    for (const [i, item] of items.entries()) {
      this.#addItem(item, rows.subarray(ENTRY_ROW * i, ENTRY_ROW * (i + 1)), item.entry.seq, ops?.[i]);
      this.#bytes.append(item.recordBytes);
    }
    if (subtrees === undefined) for (const { leaf } of items) this.nodes.append(leaf);
    else this.nodes.appendAll(concat(...subtrees));
  }

  #addPacked({ bytes, count, facts, nodes, rows, spans }: PackedItems): void {
    const first = this.#watermark.size as number;
    const view = new DataView(rows.buffer, rows.byteOffset);
    for (let i = 0; i < count; i++) {
      const at = ENTRY_ROW * i;
      const item = itemOf(facts, i, (first + i) as LogIndex);
      this.#addItem(item, rows.subarray(at, at + ENTRY_ROW), view.getUint32(at + SEQ_AT, true), undefined);
      this.#bytes.appendSpan(bytes, spans[2 * i] ?? 0, spans[2 * i + 1] ?? 0);
    }
    this.nodes.appendAll(nodes);
  }

  /** Takes in an item's row, its place in lists, its links, and what the fold says of it. */
  #addItem(item: FoldedItem, row: Uint8Array, seq: number, folded: readonly Op[] | undefined): void {
    const { entry, index, record } = item;
    assert(this.entries.size === index, "entries follow each other");
    const id = entry.record;

    this.#foldReader.size = index as number as TreeSize;
    const ops = textOps(folded ?? foldRecord(this.#foldReader, item));
    for (const op of ops) this.rows.change(index, op, id);
    this.#state = nextStateOf(this.#state, index, ops);

    const project = this.#projectIndex(entry.project, index, seq);
    const kind = this.kinds.intern(record?.kind ?? ABSENT);
    setU32(row, PROJECT_AT, project);
    row[KIND_AT] = kind & 0xff;
    row[KIND_AT + 1] = kind >>> 8;
    this.#link(project, index, id, record?.links ?? []);
    this.lists.append(project, ANY_KIND, index);
    this.lists.append(project, kind, index);
    this.lists.append(ANY_PROJECT, kind, index);
    this.entries.append(row);
    this.#ids.append();
  }

  #link(project: number, index: number, id: RecordId, links: readonly Link[]): void {
    const targets: number[] = [];
    const rels: number[] = [];
    for (const { rel, to } of links) {
      const target = to === id ? undefined : this.indexOf(to);
      // A link to what is not in the log is a finding of whoever checks the log, not of its index.
      if (target === undefined || target >= index) continue;
      targets.push(target);
      rels.push(this.rels.intern(rel));
    }
    this.links.append(project, targets, rels);
  }

  /** Checks what must hold before anything changes: that the commits follow, and that no record is an entry twice. */
  check(commits: readonly AppliedCommit[]): void {
    // Of one commit that was taken apart that is known.
    const seen = commits.length === 1 && commits[0]?.packed !== undefined ? undefined : new Set<RecordId>();
    let { n, size } = this.#watermark as { n: number; size: number };
    for (const commit of commits) {
      assert(commit.header.first === size && commit.n >= n, `commit ${commit.n} does not follow the watermark (${n})`);
      n = commit.n + 1;
      const count = countOf(commit);
      size += count;
      for (let i = 0; i < count; i++) {
        const id = (commit.packed?.facts.texts[i] ?? commit.items[i]?.entry.record) as RecordId;
        if (seen?.has(id) === true || !this.#ids.isNew(id))
          throw new Violation("entry.duplicate", `${id} is an entry already`);
        seen?.add(id);
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

  /** Also sees that the tree is the one of the last commit's header. */
  collect(set: WriteSet): void {
    const { root, size } = this.#watermark;
    const found = formatHex(Frontier.from(size, this.frontier()).root());
    assert(found === root, `the first ${size} entries lead to the root that the header says`);
    this.#bytes.collect(set);
    this.#ids.collect(set);
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

  collectWatermark(set: WriteSet): void {
    set.put("meta", WATERMARK, Buffer.from(JSON.stringify(this.#watermark)));
  }

  /** After the transaction. */
  settle(): void {
    this.#newProjects.length = 0;
    this.#newCommits.clear();
    this.#newTail.clear();
    this.#oldTail.length = 0;
    this.entries.settle();
    this.#ids.settle();
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
    const { project, seq } = this.entries.row(i);
    return entryBytes({
      prev: this.entries.prevHex(i),
      project: digestOf(this.projectId(project)),
      record: this.entries.id(i),
      seq,
    });
  }

  /** The id of a project that was created at an index. */
  projectId(index: number): RecordId {
    let id = this.#projectIds.get(index);
    if (id === undefined) {
      id = this.entries.id(index);
      this.#projectIds.set(index, id);
    }
    return id;
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
