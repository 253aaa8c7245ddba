/** What every adapter of the index port keeps. Give it a function that opens an index on a folder. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { INITIAL_STATE } from "../../src/fold/state-digest.ts";
import { VIEWS, type View } from "../../src/fold/view.ts";
import type { Index, IndexReader } from "../../src/index/index.ts";
import { HashStore } from "../../src/merkle/proofs.ts";
import type { ValidItem } from "../../src/record/chain.ts";
import type { RecordId, TreeSize } from "../../src/std/brand.ts";
import { formatHex } from "../../src/std/bytes.ts";
import { NaiveState } from "../fold/naive-state.ts";
import { createRandom, type LogWriter, type WrittenCommit, writeLog } from "../fold/synthetic-log.ts";

const itemsOf = (log: LogWriter): ValidItem[] => log.commits.flatMap((commit) => commit.items);

function naive(items: readonly ValidItem[]): NaiveState {
  const state = new NaiveState();
  for (const item of items) state.add(item);
  return state;
}

/** Everything that a reader says of a prefix, compared with the prefix itself. */
function expectEqual(reader: IndexReader, expected: NaiveState, everRows: Iterable<string>): void {
  expect(reader.size).toBe(expected.size);
  for (const name of everRows) {
    const [view, key] = name.split("\0") as [View, string];
    expect(reader.get(view, key), name).toEqual(expected.get(view, key));
  }
  for (const view of VIEWS) {
    const keys = [...expected.rows]
      .filter(([name, row]) => name.startsWith(`${view}\0`) && row.value !== null)
      .map(([name]) => name.slice(view.length + 1));
    expect([...reader.scan(view, "")].map(([key]) => key).toSorted()).toEqual(keys.toSorted());
  }
  const indexOf = new Map(expected.items.map((item) => [item.entry.record, item.index]));
  const heads = new Map<string, { count: number; last: string }>();
  for (const item of expected.items) {
    const entry = reader.entry(item.index);
    expect(entry).toMatchObject({
      index: item.index,
      kind: item.record?.kind,
      project: `sha256:${item.entry.project}`,
      record: item.entry.record,
      seq: item.entry.seq,
    });
    expect(Buffer.from(entry?.entryBytes ?? [])).toEqual(Buffer.from(item.entryBytes));
    expect(Buffer.from(reader.bytes(item.index) ?? [])).toEqual(Buffer.from(item.recordBytes ?? []));
    expect(reader.indexOf(item.entry.record)).toBe(item.index);
    expect(reader.record(item.entry.record)?.record).toEqual(item.record);
    expect(reader.out(item.index)).toEqual(
      (item.record?.links ?? []).map((link) => ({ rel: link.rel, target: indexOf.get(link.to) })),
    );
    expect([...reader.dependents(item.entry.record)]).toEqual([...expected.dependents(item.entry.record)]);
    heads.set(item.entry.project, { count: item.entry.seq + 1, last: formatHex(item.leaf) });
  }
  expect(new Map(reader.heads())).toEqual(heads);
  expect(reader.entry(expected.size)).toBeUndefined();
  expect(reader.bytes(expected.size)).toBeUndefined();
}

function expectLists(reader: IndexReader, items: readonly ValidItem[]): void {
  const kinds = [...new Set(items.map((i) => i.record?.kind ?? ""))];
  const projects = [...new Set(items.map((i) => `sha256:${i.entry.project}` as RecordId))];
  for (const project of [undefined, ...projects])
    for (const some of [undefined, kinds.slice(0, 1), kinds.slice(0, 4)])
      for (const reverse of [false, true])
        for (const from of [undefined, 0, Math.floor(items.length / 2)])
          for (const limit of [1, 7, 1_000]) {
            const all = items
              .filter(
                (i) =>
                  (project === undefined || `sha256:${i.entry.project}` === project) &&
                  (some === undefined || some.includes(i.record?.kind ?? "")),
              )
              .map((i) => i.index as number);
            const ordered = reverse
              ? all.toReversed().filter((i) => from === undefined || i <= from)
              : all.filter((i) => from === undefined || i >= from);
            const query = {
              limit,
              reverse,
              ...(project === undefined ? {} : { project }),
              ...(some === undefined ? {} : { kinds: some }),
              ...(from === undefined ? {} : { from }),
            };
            expect(reader.list(query), JSON.stringify(query)).toEqual(ordered.slice(0, limit));
          }
}

export function indexContract(name: string, open: (path: string) => Promise<Index>): void {
  describe(name, () => {
    const root = mkdtempSync(join(tmpdir(), "datapilot-index-"));
    let folders = 0;
    const folder = (): string => join(root, String(folders++));
    afterAll(() => rmSync(root, { force: true, recursive: true }));

    it("equals the fold of every prefix, whatever was appended since", async () => {
      const random = createRandom(5);
      const log = writeLog(400, () => Math.floor(random() * 30), 5);
      const items = itemsOf(log);
      await using index = await open(folder());
      const early: IndexReader[] = [];
      for (const commit of log.commits) {
        index.apply([commit]);
        early.push(index.reader());
      }
      const full = naive(items);
      const rows = [...full.rows.keys()];
      expect(index.watermark.state).toBe(formatHex(full.state));
      expectEqual(index.reader(), full, rows);
      expectLists(index.reader(), items);
      await index.flush();
      expectEqual(index.reader(), full, rows);
      for (const size of [0, 1, 2, 3, 50, 101, 257, 399]) {
        const prefix = items.slice(0, size);
        expectEqual(index.reader(size as TreeSize), naive(prefix), rows);
        expectLists(index.reader(size as TreeSize), prefix);
      }
      for (const reader of early.filter((_, i) => i % 9 === 0))
        expectEqual(reader, naive(items.slice(0, reader.size)), rows);
    }, 120_000);

    it("gives one state however the commits are batched, written and reopened", async () => {
      const log = writeLog(300, () => 7, 9);
      const expected = naive(itemsOf(log));
      await fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.record({
              commits: fc.integer({ max: 12, min: 1 }),
              next: fc.constantFrom("nothing", "flush", "reopen"),
            }),
            { minLength: 1 },
          ),
          async (steps) => {
            const path = folder();
            let index = await open(path);
            let at = 0;
            for (let k = 0; at < log.commits.length; k++) {
              const step = steps[k % steps.length] ?? { commits: 1, next: "nothing" };
              index.apply(log.commits.slice(at, at + step.commits));
              at += step.commits;
              if (step.next === "flush") await index.flush();
              if (step.next === "reopen") {
                await index[Symbol.asyncDispose]();
                index = await open(path);
              }
            }
            const { state, size, root, n } = index.watermark;
            const { hash, header } = log.commits.at(-1) as WrittenCommit;
            expect({ hash: index.watermark.commitHash, n, root, size, state }).toEqual({
              hash,
              n: log.commits.length,
              root: header.root,
              size: expected.size,
              state: formatHex(expected.state),
            });
            expect(index.reader().get("ledger", "")?.value).toEqual(expected.rows.get("ledger\0")?.value);
            await index[Symbol.asyncDispose]();
            rmSync(path, { recursive: true });
          },
        ),
        { numRuns: 12 },
      );
    }, 120_000);

    it("knows the hash of each complete subtree", async () => {
      const log = writeLog(700, () => 64, 3);
      await using index = await open(folder());
      index.apply(log.commits);
      await index.flush();
      const tree = new HashStore();
      for (const item of itemsOf(log)) tree.append(item.leaf);
      const read = index.nodes();
      for (let level = 0; 1 << level <= tree.size; level++)
        for (let i = 0; i < tree.size >>> level; i++)
          expect(Buffer.from(read(level, i))).toEqual(Buffer.from(tree.read(level, i)));
      expect(index.frontier().map(formatHex)).toEqual(log.chain.frontier.hashes().map(formatHex));
    });

    it("keeps the bytes of commits until they are published", async () => {
      const log = writeLog(60, () => 10, 4);
      const path = folder();
      let index = await open(path);
      index.apply(log.commits.slice(0, 3));
      await index.flush();
      index.apply(log.commits.slice(3));
      index.setMaterialised(32 as TreeSize);
      index.setPublished(32 as TreeSize);
      const expectTail = (): void => {
        for (const commit of log.commits)
          expect(index.commitBytes(commit.n) ?? null, String(commit.n)).toEqual(
            commit.header.first + commit.items.length <= 32 ? null : Uint8Array.from(commit.bytes),
          );
      };
      expectTail();
      await index[Symbol.asyncDispose]();
      index = await open(path);
      expectTail();
      expect(index.watermark).toMatchObject({ materialised: 32, published: 32 });
      expect(index.reader().commit(2)).toMatchObject({
        first: 12,
        hash: log.commits[2]?.hash,
        n: 2,
        size: 22,
        time: log.commits[2]?.header.time,
      });
      await index[Symbol.asyncDispose]();
    });

    it("keeps the bytes of young commits longer", async () => {
      const log = writeLog(60, () => 10, 4);
      const index = await open(folder());
      index.apply(log.commits);
      const size = index.watermark.size;
      const keepFrom = log.commits[3]?.header.time ?? "";
      index.setPublished(size, keepFrom);
      for (const commit of log.commits)
        expect(index.commitBytes(commit.n) ?? null, String(commit.n)).toEqual(
          commit.header.time < keepFrom ? null : Uint8Array.from(commit.bytes),
        );
      expect(index.commitBytes(0)).toBeUndefined();
      index.setPublished(size);
      for (const commit of log.commits) expect(index.commitBytes(commit.n)).toBeUndefined();
      await index[Symbol.asyncDispose]();
    });

    it("refuses a gap and a repeated record, and stays as it is", async () => {
      const log = writeLog(60, () => 10, 6);
      await using index = await open(folder());
      const [first, second, third] = log.commits as [WrittenCommit, WrittenCommit, WrittenCommit];
      index.apply([first]);
      expect(() => index.apply([third])).toThrow(/does not follow/);
      index.apply([second]);
      const before = index.watermark;
      const repeated = {
        ...third,
        items: third.items.map((item, i) =>
          i === 3 ? { ...item, entry: { ...item.entry, record: (second.items[0] as ValidItem).entry.record } } : item,
        ),
      };
      expect(() => index.apply([repeated])).toThrow(expect.objectContaining({ code: "entry.duplicate" }) as Error);
      expect(index.watermark).toEqual(before);
      index.apply(log.commits.slice(2));
      expect(index.watermark.state).toBe(formatHex(naive(itemsOf(log)).state));
    });

    it("forgets everything when cleared", async () => {
      const log = writeLog(40, () => 10, 7);
      const path = folder();
      await using index = await open(path);
      index.apply(log.commits);
      index.clear();
      expect(index.watermark).toMatchObject({ n: 0, size: 0, state: formatHex(INITIAL_STATE) });
      expect(index.reader().get("ledger", "")).toBeUndefined();
      index.apply(log.commits);
      expect(index.watermark.state).toBe(formatHex(naive(itemsOf(log)).state));
    });
  });
}
