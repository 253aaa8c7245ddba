/** The index port over maps: a fold of the commits for tests that start a log hundreds of times. */
import { foldRecord } from "../../src/fold/fold.ts";
import { INITIAL_STATE, nextState } from "../../src/fold/state-digest.ts";
import type { Rows, View, ViewRow } from "../../src/fold/view.ts";
import type {
  AppliedCommit,
  Index,
  IndexedCommit,
  IndexedEntry,
  IndexReader,
  Watermark,
} from "../../src/index/index.ts";
import { sha256Hex } from "../../src/merkle/hash.ts";
import { HashStore } from "../../src/merkle/proofs.ts";
import type { ValidItem } from "../../src/record/chain.ts";
import { assert, assertDefined } from "../../src/std/assert.ts";
import { type Digest, idOf, type LogIndex, type RecordId, type TreeSize } from "../../src/std/brand.ts";
import { formatHex, parseHex } from "../../src/std/bytes.ts";

interface Version {
  readonly value: unknown;
  readonly changedAt: LogIndex;
}

const later = (): never => {
  throw new Error("not in the memory index");
};

export interface MemoryIndex extends Index {
  /** Falls back to an earlier state, as a crash leaves an index that is written behind. */
  rewind(to: Watermark): void;
}

export function createMemoryIndex(): MemoryIndex {
  let items: { item: ValidItem; commit: number }[] = [];
  let rows = new Map<string, Version[]>();
  let ids = new Map<RecordId, LogIndex>();
  let tree = new HashStore();
  let tail = new Map<number, Uint8Array>();
  const times = new Map<number, { readonly time: string; readonly until: number }>();
  let heads = new Map<number, IndexedCommit>();
  let state = INITIAL_STATE;
  const empty: Watermark = {
    commitHash: sha256Hex(new Uint8Array()),
    materialised: 0 as TreeSize,
    n: 0,
    published: 0 as TreeSize,
    root: formatHex(new HashStore().root()) as Digest,
    size: 0 as TreeSize,
    state: formatHex(INITIAL_STATE) as Digest,
  };
  let watermark = empty;

  const entryOf = (i: number): IndexedEntry | undefined => {
    const found = items[i];
    if (found === undefined) return undefined;
    const { entry, entryBytes, index, record } = found.item;
    return {
      commit: found.commit,
      entryBytes,
      index,
      kind: record?.kind ?? "",
      project: idOf(entry.project),
      record: entry.record,
      seq: entry.seq,
    };
  };

  function readerAt(size: number): IndexReader {
    const at = (i: number): ValidItem | undefined => (i < size ? items[i]?.item : undefined);
    return {
      adjacency: later,
      bytes: (i) => at(i)?.recordBytes ?? undefined,
      commit(n) {
        const commit = heads.get(n);
        return commit === undefined || commit.size > size ? undefined : commit;
      },
      *dependents(id) {
        for (let i = 0; i < size; i++) {
          const item = at(i);
          for (const link of item?.record?.links ?? [])
            if (link.to === id && item !== undefined) yield { id: item.entry.record, rel: link.rel };
        }
      },
      entry: (i) => (i < size ? entryOf(i) : undefined),
      get<V extends View>(view: V, key: string) {
        const found = rows.get(`${view}\0${key}`)?.findLast((v) => v.changedAt < size);
        return found === undefined || found.value === null
          ? undefined
          : ({ changedAt: found.changedAt, value: found.value as Rows[V] } as ViewRow<V>);
      },
      heads: later,
      in: later,
      indexOf(id) {
        const i = ids.get(id);
        return i !== undefined && i < size ? i : undefined;
      },
      list({ from, kinds, limit, project, reverse = false }) {
        const found: LogIndex[] = [];
        const step = reverse ? -1 : 1;
        for (let i = from ?? (reverse ? size - 1 : 0); i >= 0 && i < size && found.length < limit; i += step) {
          const entry = entryOf(i);
          if (entry === undefined || (project !== undefined && entry.project !== project)) continue;
          if (kinds === undefined || kinds.includes(entry.kind)) found.push(entry.index);
        }
        return found;
      },
      out: later,
      record(id) {
        const i = ids.get(id);
        const record = i === undefined ? undefined : at(i)?.record;
        return record === undefined || record === null || i === undefined ? undefined : { index: i, record };
      },
      *scan<V extends View>(view: V, prefix: string) {
        for (const [name, versions] of rows) {
          const key = name.startsWith(`${view}\0${prefix}`) ? name.slice(view.length + 1) : undefined;
          const found = key === undefined ? undefined : versions.findLast((v) => v.changedAt < size);
          if (key !== undefined && found !== undefined && found.value !== null)
            yield [key, found.value as Rows[V]] as const;
        }
      },
      size: size as TreeSize,
      [Symbol.dispose]() {},
    };
  }

  return {
    apply(commits: readonly AppliedCommit[]) {
      for (const commit of commits) {
        assert(
          commit.n === watermark.n + commit.header.voids.length || commit.n === watermark.n,
          "commits follow the watermark",
        );
        for (const item of commit.items) {
          const ops = foldRecord(readerAt(item.index), item);
          items.push({ commit: commit.n, item });
          ids.set(item.entry.record, item.index);
          tree.append(item.leaf);
          for (const op of ops) {
            const key = `${op.view}\0${op.key}`;
            const list = rows.get(key);
            const version = { changedAt: item.index, value: op.value };
            if (list === undefined) rows.set(key, [version]);
            else list.push(version);
          }
          state = nextState(state, item.index, ops);
        }
        if (commit.bytes !== undefined) tail.set(commit.n, commit.bytes);
        heads.set(commit.n, {
          first: commit.header.first as LogIndex,
          hash: commit.hash,
          n: commit.n,
          size: items.length as TreeSize,
          state: formatHex(state) as Digest,
          time: commit.header.time,
        });
        times.set(commit.n, { time: commit.header.time, until: items.length });
        watermark = {
          ...watermark,
          commitHash: commit.hash,
          n: commit.n + 1,
          root: commit.header.root,
          size: items.length as TreeSize,
          state: formatHex(state) as Digest,
        };
      }
    },
    release: () => Promise.resolve(),
    clear() {
      items = [];
      rows = new Map();
      ids = new Map();
      tree = new HashStore();
      tail = new Map();
      heads = new Map();
      state = INITIAL_STATE;
      watermark = empty;
    },
    commitBytes: (n) => tail.get(n),
    flush: () => Promise.resolve(),
    frontier: later,
    nodes: () => (level, index) => tree.read(level, index),
    reader: (asOf) => readerAt(asOf ?? watermark.size),
    rewind(to) {
      for (const { item } of items.splice(to.size)) ids.delete(item.entry.record);
      for (const [key, versions] of rows) {
        const kept = versions.filter((v) => v.changedAt < to.size);
        if (kept.length > 0) rows.set(key, kept);
        else rows.delete(key);
      }
      for (const n of tail.keys()) if (n >= to.n) tail.delete(n);
      tree = new HashStore();
      for (const { item } of items) tree.append(item.leaf);
      state = assertDefined(parseHex(to.state), "a state digest");
      watermark = to;
    },
    setMaterialised(size) {
      watermark = { ...watermark, materialised: size };
    },
    setPublished(size, keepFrom) {
      for (const [n, { time, until }] of times)
        if (until <= size && (keepFrom === undefined || time < keepFrom)) tail.delete(n);
      watermark = { ...watermark, published: size };
    },
    get watermark() {
      return watermark;
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
