/**
 * Walks over 440,000 nodes and 10⁶ links, loaded by the index's own write path. `node test/bench/lineage.ts [--json]`
 *
 * Prints the whole upstream closure (cold and warm), the whole downstream closure, and walks to depth 5 from random nodes.
 */
import { hash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TraverseQuery, traverse } from "../../src/index/lineage.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { setSha256Text } from "../../src/merkle/hash.ts";
import { createRandom } from "../fold/synthetic-log.ts";
import { type GraphNode, graphCommits } from "../index/graph.ts";

setSha256Text((data, form) => hash("sha256", data, form));
const NODES = 440_000;
const random = createRandom(1);
let links = 0;

/** Each node rests on its neighbour and on one or two others, mostly near. */
function* nodes(): Iterable<GraphNode> {
  for (let i = 0; i < NODES; i++) {
    const targets = new Set<number>();
    if (i > 0) targets.add(i - 1);
    if (i > 1) targets.add(i - 1 - Math.floor(random() ** 4 * (i - 1)));
    if (i > 1 && random() < 0.3) targets.add(Math.floor(random() * i));
    links += targets.size;
    yield { project: i % 8, targets: [...targets] };
  }
}

const folder = mkdtempSync(join(tmpdir(), "datapilot-bench-"));
const rows: Record<string, { readonly nodes: number; readonly ms: number }> = {};
const quantile = (values: readonly number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(q * (values.length - 1))] ?? 0;

try {
  const path = join(folder, "index");
  const from = performance.now();
  {
    await using index = await openLmdbIndex({ path });
    for (const commit of graphCommits(nodes(), 2_000)) index.apply([commit]);
  }
  rows["load"] = { ms: performance.now() - from, nodes: NODES };
  await using index = await openLmdbIndex({ path });
  const reader = index.reader();
  const time = (
    query: Partial<TraverseQuery> & { readonly roots: readonly number[] },
  ): { nodes: number; ms: number } => {
    const start = performance.now();
    const walk = traverse(reader, { direction: "up", limit: NODES, visible: () => true, ...query });
    return { ms: performance.now() - start, nodes: walk.nodes.length };
  };
  const repeat = (query: Parameters<typeof time>[0]): { nodes: number; ms: number } => {
    const runs = Array.from({ length: 9 }, () => time(query));
    return {
      ms: quantile(
        runs.map((r) => r.ms),
        0.5,
      ),
      nodes: runs[0]?.nodes ?? 0,
    };
  };
  rows["up, all, first time"] = time({ roots: [NODES - 1] });
  rows["up, all, p50"] = repeat({ roots: [NODES - 1] });
  rows["down, all, first time"] = time({ direction: "down", roots: [0] });
  rows["down, all, p50"] = repeat({ direction: "down", roots: [0] });
  for (const direction of ["up", "down", "both"] as const) {
    const walks = Array.from({ length: 2_000 }, () =>
      time({ depth: 5, direction, limit: 10_000, roots: [Math.floor(random() * NODES)] }),
    );
    for (const [name, q] of [
      ["p50", 0.5],
      ["p99", 0.99],
    ] as const)
      rows[`${direction}, depth 5, ${name}`] = {
        ms: quantile(
          walks.map((w) => w.ms),
          q,
        ),
        nodes: quantile(
          walks.map((w) => w.nodes),
          q,
        ),
      };
  }
} finally {
  rmSync(folder, { force: true, recursive: true });
}
if (process.argv.includes("--json")) console.log(JSON.stringify({ links, rows }));
else {
  console.log(`${NODES} nodes, ${links} links`);
  console.table(rows);
}
process.exit(0);
