/**
 * Lineage in process: 440,000 nodes and 10⁶ links that reach back at most 200 entries, loaded by the index's own write path. Beside
 * it a bare breadth-first walk over the same links in two flat arrays.
 */
import { join } from "node:path";
import { traverse } from "../../src/index/lineage.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { createRandom } from "../fold/synthetic-log.ts";
import { type GraphNode, graphCommits } from "../index/graph.ts";
import { atMost, type Bench, beside, median, quantile } from "./row.ts";

const NODES = 440_000;
const LINKS = 1_000_000;
const REACH = 200;
const DEPTH = 5;

interface FlatGraph {
  readonly offsets: Uint32Array;
  readonly targets: Uint32Array;
}

function makeGraph(): { readonly nodes: readonly GraphNode[]; readonly flat: FlatGraph } {
  const random = createRandom(1);
  const offsets = new Uint32Array(NODES + 1);
  const flat: number[] = [];
  const nodes: GraphNode[] = [];
  for (let i = 0; i < NODES; i++) {
    const targets = new Set<number>();
    // The neighbour, so that everything is reached; the rest at random within reach.
    if (i > 0) targets.add(i - 1);
    const wanted = Math.min(i, Math.round(((i + 1) * LINKS) / NODES) - flat.length, REACH);
    while (targets.size < wanted) targets.add(i - 1 - Math.floor(random() * Math.min(i, REACH)));
    const sorted = [...targets].toSorted((a, b) => a - b);
    flat.push(...sorted);
    offsets[i + 1] = flat.length;
    nodes.push({ project: i % 8, targets: sorted });
  }
  return { flat: { offsets, targets: Uint32Array.from(flat) }, nodes };
}

/** Walks with buffers of its own, which it leaves clean. */
function createBareWalk({ offsets, targets }: FlatGraph): (root: number, depth: number) => number {
  const seen = new Uint8Array(offsets.length);
  const queue = new Uint32Array(offsets.length);
  return (root, depth) => {
    seen[root] = 1;
    queue[0] = root;
    let length = 1;
    for (let from = 0, d = 0; from < length && d < depth; d++) {
      const to = length;
      for (; from < to; from++) {
        const node = queue[from] ?? 0;
        for (let at = offsets[node] ?? 0; at < (offsets[node + 1] ?? 0); at++) {
          const target = targets[at] ?? 0;
          if (seen[target] === 1) continue;
          seen[target] = 1;
          queue[length++] = target;
        }
      }
    }
    for (let i = 0; i < length; i++) seen[queue[i] ?? 0] = 0;
    return length;
  };
}

export const walks: Bench = async ({ folder, progress, quick }) => {
  progress("loading the graph");
  const { flat, nodes } = makeGraph();
  await using index = await openLmdbIndex({ path: join(folder, "walks") });
  for (const commit of graphCommits(nodes, 2_000)) index.apply([commit]);
  using reader = index.reader();
  const ms = (work: () => unknown): number => {
    const from = performance.now();
    work();
    return performance.now() - from;
  };
  const closure = (): void => {
    const { nodes: found } = traverse(reader, {
      direction: "up",
      limit: NODES,
      roots: [NODES - 1],
      visible: () => true,
    });
    if (found.length !== NODES) throw new Error("assertion failed: everything is upstream of the last node");
  };
  const bareWalk = createBareWalk(flat);
  progress("walking");
  const first = ms(closure);
  const rounds = quick ? 5 : 15;
  const whole = median(Array.from({ length: rounds }, () => ms(closure)));
  const bare = median(Array.from({ length: rounds }, () => ms(() => bareWalk(NODES - 1, Number.POSITIVE_INFINITY))));
  const random = createRandom(2);
  const roots = Array.from({ length: quick ? 500 : 4_000 }, () => Math.floor(random() * NODES));
  const shallow = roots.map((root) =>
    ms(() => traverse(reader, { depth: DEPTH, direction: "up", limit: NODES, roots: [root], visible: () => true })),
  );
  const bareShallow = median(roots.map((root) => ms(() => bareWalk(root, DEPTH))));
  return [
    {
      baselines: [atMost("goal", whole, 60, "≤ 60 ms"), beside("a bare walk over flat arrays", bare)],
      note: `the first time ${first.toFixed(1)} ms; an indexed recursive query in PostgreSQL takes 0.8–1.0 s`,
      unit: "ms",
      value: whole,
      what: `whole upstream closure, ${NODES.toLocaleString("en")} nodes, ${flat.targets.length.toLocaleString("en")} links`,
    },
    {
      baselines: [
        atMost("goal", median(shallow), 0.2, "< 0.2 ms"),
        beside("a bare walk over flat arrays", bareShallow),
      ],
      note: `p99 ${quantile(shallow, 0.99).toFixed(3)} ms; an indexed recursive query in PostgreSQL takes 0.3–0.5 s`,
      unit: "ms",
      value: median(shallow),
      what: "upstream to depth 5 in the same graph, p50",
    },
  ];
};
