/** Walks, against the plainest breadth-first search. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, expect, it } from "vitest";
import type { Index } from "../../src/index/index.ts";
import { type Direction, diffClosures, edgesAmong, findPaths, traverse } from "../../src/index/lineage.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import type { TreeSize } from "../../src/std/brand.ts";
import { createRandom } from "../fold/synthetic-log.ts";
import { type GraphNode, graphCommits, nodeId } from "./graph.ts";

const root = mkdtempSync(join(tmpdir(), "datapilot-lineage-"));
afterAll(() => rmSync(root, { force: true, recursive: true }));
let folders = 0;

async function load(nodes: readonly GraphNode[], perCommit: number): Promise<Index> {
  const index = await openLmdbIndex({ path: join(root, String(folders++)) });
  for (const commit of graphCommits(nodes, perCommit)) index.apply([commit]);
  return index;
}

const PROJECTS = 3;
const graph = fc
  .array(fc.record({ project: fc.nat(PROJECTS - 1), targets: fc.array(fc.nat(), { maxLength: 4 }) }), {
    maxLength: 60,
    minLength: 1,
  })
  .map((raw) => {
    const seen: number[] = [];
    return raw.map(({ project, targets }, i): GraphNode => {
      if (!seen.includes(project)) seen.push(project);
      return { project: seen.indexOf(project), targets: i === 0 ? [] : [...new Set(targets.map((t) => t % i))] };
    });
  });

interface Naive {
  readonly found: Map<number, number>;
  readonly withheld: Set<number>;
}

function naiveWalk(
  nodes: readonly GraphNode[],
  size: number,
  roots: readonly number[],
  direction: Direction,
  depth: number,
  hidden: ReadonlySet<number>,
): Naive {
  const found = new Map<number, number>();
  const withheld = new Set<number>();
  let level = roots.filter((r) => r < size);
  for (let distance = 0; level.length > 0 && distance <= depth; distance++) {
    const next: number[] = [];
    for (const node of level) {
      if (found.has(node) || withheld.has(node)) continue;
      if (hidden.has(nodes[node]?.project ?? -1)) {
        withheld.add(node);
        continue;
      }
      found.set(node, distance);
      if (direction !== "down") next.push(...(nodes[node]?.targets ?? []));
      if (direction !== "up") for (let s = 0; s < size; s++) if (nodes[s]?.targets.includes(node)) next.push(s);
    }
    level = next;
  }
  return { found, withheld };
}

it("finds what a plain search finds, as of any size", async () => {
  const walks = fc.record({
    asOf: fc.nat(),
    depth: fc.option(fc.nat(5), { nil: undefined }),
    direction: fc.constantFrom<Direction>("up", "down", "both"),
    hidden: fc.uniqueArray(fc.nat(PROJECTS - 1), { maxLength: 2 }),
    roots: fc.array(fc.nat(), { maxLength: 3, minLength: 1 }),
  });
  await fc.assert(
    fc.asyncProperty(graph, fc.array(walks, { maxLength: 12, minLength: 4 }), async (nodes, queries) => {
      await using index = await load(nodes, 7);
      const projectIds = nodes.map(({ project }) => nodeId(nodes.findIndex((node) => node.project === project)));
      for (const { asOf, depth, direction, hidden, roots } of queries) {
        const size = (asOf % nodes.length) + 1;
        const from = roots.map((r) => r % size);
        const hides = new Set(hidden);
        const hiddenIds = new Set(nodes.flatMap(({ project }, i) => (hides.has(project) ? [projectIds[i]] : [])));
        const query = {
          direction,
          limit: 1_000,
          roots: from,
          visible: (id: string) => !hiddenIds.has(id as never),
          ...(depth === undefined ? {} : { depth }),
        };
        const walk = traverse(index.reader(size as TreeSize), query);
        const expected = naiveWalk(nodes, size, from, direction, depth ?? 1_000, hides);
        expect([...walk.nodes].toSorted((a, b) => a - b)).toEqual([...expected.found.keys()].toSorted((a, b) => a - b));
        for (const [d, start] of walk.levels.entries())
          for (const node of walk.nodes.subarray(start, walk.levels[d + 1] ?? start))
            expect(expected.found.get(node)).toBe(d);
        expect(walk.truncated).toBe(false);
        const beyond =
          depth === undefined ? expected.withheld : naiveWalk(nodes, size, from, direction, depth, hides).withheld;
        expect([...walk.withheld].toSorted((a, b) => a - b)).toEqual([...beyond].toSorted((a, b) => a - b));
      }
    }),
    { numRuns: 40 },
  );
}, 120_000);

/** All paths up from `from` to `to`. */
function naivePaths(nodes: readonly GraphNode[], from: number, to: number): number[][] {
  if (from === to) return [[to]];
  return (nodes[from]?.targets ?? [])
    .filter((t) => t >= to)
    .flatMap((t) => naivePaths(nodes, t, to).map((path) => [from, ...path]));
}

it("finds all paths, shortest first, in both directions", async () => {
  const small = graph.map((nodes) => nodes.slice(0, 14));
  await fc.assert(
    fc.asyncProperty(small, fc.nat(), fc.nat(), async (nodes, a, b) => {
      await using index = await load(nodes, 5);
      const [from, to] = [Math.max(a % nodes.length, b % nodes.length), Math.min(a % nodes.length, b % nodes.length)];
      const expected = naivePaths(nodes, from, to);
      const reader = index.reader();
      const { paths } = findPaths(reader, { from, limit: 10_000, nodeLimit: 1_000, to });
      const sorted = (list: readonly (readonly number[])[]): string[] => list.map((p) => p.join(" ")).toSorted();
      expect(sorted(paths)).toEqual(sorted(expected));
      expect(paths.map((p) => p.length)).toEqual(paths.map((p) => p.length).toSorted((x, y) => x - y));
      const few = findPaths(reader, { from: to, limit: 2, nodeLimit: 1_000, to: from });
      expect(few.paths.map((p) => p.length)).toEqual(paths.slice(0, 2).map((p) => p.length));
      for (const path of few.paths) expect(sorted(expected)).toContain(path.toReversed().join(" "));
    }),
    { numRuns: 40 },
  );
}, 120_000);

it("compares closures, and lists the links among nodes", async () => {
  const nodes: GraphNode[] = [[], [], [0], [1], [2, 3], [2], [4, 5]].map((targets) => ({ project: 0, targets }));
  await using index = await load(nodes, 3);
  const reader = index.reader();
  const diff = diffClosures(reader, { a: 4, b: 5, limit: 100 });
  expect({ both: [...diff.both], onlyA: [...diff.onlyA], onlyB: [...diff.onlyB] }).toEqual({
    both: [0, 2],
    onlyA: [1, 3, 4],
    onlyB: [5],
  });
  expect(edgesAmong(reader, Uint32Array.of(6, 4, 2))).toEqual([
    { rel: "even", source: 4, target: 2 },
    { rel: "even", source: 6, target: 4 },
  ]);
});

it("stops at the limit and says so", async () => {
  const nodes: GraphNode[] = Array.from({ length: 50 }, (_, i) => ({ project: 0, targets: i === 0 ? [] : [0] }));
  await using index = await load(nodes, 50);
  const walk = traverse(index.reader(), { direction: "down", limit: 10, roots: [0] });
  expect({ count: walk.nodes.length, truncated: walk.truncated }).toEqual({ count: 10, truncated: true });
  expect(walk.levels).toEqual([0, 1, 10]);
});

it("walks over several segments, before and after the index is opened again", async () => {
  const random = createRandom(2);
  // Dense at the beginning, so that some targets have many sources in every segment.
  const nodes: GraphNode[] = Array.from({ length: 40_000 }, (_, i) => ({
    project: 0,
    targets: i === 0 ? [] : [...new Set([Math.floor(random() ** 3 * i), Math.floor(random() * i)])],
  }));
  const path = join(root, "segments");
  let index = await openLmdbIndex({ path });
  for (const commit of graphCommits(nodes, 1_000)) index.apply([commit]);
  const sources: number[][] = nodes.map(() => []);
  for (const [s, { targets }] of nodes.entries()) for (const t of targets) sources[t]?.push(s);
  for (const when of ["applied", "opened again"]) {
    for (const size of [40_000, 33_000, 16_385, 16_384, 100]) {
      const reader = index.reader(size as TreeSize);
      for (const i of [0, 1, 5, 99, 16_383, 16_384, 30_000, 39_999])
        expect(
          reader.in(i).map((l) => l.source),
          `${when}, ${i} as of ${size}`,
        ).toEqual(i < size ? (sources[i] ?? []).filter((s) => s < size) : []);
    }
    const down = traverse(index.reader(), { direction: "down", limit: 100_000, roots: [20] });
    const reached = new Set([20]);
    for (let s = 21; s < nodes.length; s++) if (nodes[s]?.targets.some((t) => reached.has(t))) reached.add(s);
    expect(new Set(down.nodes)).toEqual(reached);
    await index[Symbol.asyncDispose]();
    index = await openLmdbIndex({ path });
  }
  await index[Symbol.asyncDispose]();
}, 60_000);
