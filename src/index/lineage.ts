/**
 * Lineage: walks over links. A node is an entry; `up` follows links to what a record rests on, `down` to what rests on it. Every
 * link leads to a lower index, so the graph has no cycle and an order by index is a topological one.
 *
 * A node of a project that the caller may not see is withheld: it is counted by number, and the walk does not go through it. The
 * walks are synchronous and bounded by `limit`; each takes its bitset from a pool and gives it back clean.
 */
import type { RecordId } from "../std/brand.ts";
import type { Adjacency, IndexReader } from "./index.ts";

export type Direction = "up" | "down" | "both";

export interface TraverseQuery {
  readonly roots: readonly number[];
  readonly direction: Direction;
  /** Longest distance from a root; absent for no bound. */
  readonly depth?: number;
  /** Most nodes to find, roots included. */
  readonly limit: number;
  /** Whether the caller may see a project; absent for all. Asked once for each project. */
  readonly visible?: (project: RecordId) => boolean;
}

export interface Traversal {
  /** Nodes by distance from the roots. */
  readonly nodes: Uint32Array;
  /** Nodes at distance d are nodes[levels[d] … levels[d + 1]). */
  readonly levels: readonly number[];
  /** Nodes that were met and may not be seen. */
  readonly withheld: Uint32Array;
  /** Whether the limit cut it short. */
  readonly truncated: boolean;
}

const BLOCK_BITS = 8;
const BLOCK_MASK = 0xff;

/** Numbers that grow on demand. */
class NumberList {
  numbers: Uint32Array;
  length = 0;

  constructor(capacity = 1_024) {
    this.numbers = new Uint32Array(capacity);
  }

  push(n: number): void {
    if (this.length === this.numbers.length) {
      const larger = new Uint32Array(2 * this.length);
      larger.set(this.numbers);
      this.numbers = larger;
    }
    this.numbers[this.length++] = n;
  }

  take(): Uint32Array {
    return this.numbers.slice(0, this.length);
  }
}

const pool: Uint32Array[] = [];

function takeBits(size: number): Uint32Array {
  const words = (size >>> 5) + 1;
  const bits = pool.pop();
  return bits !== undefined && bits.length >= words ? bits : new Uint32Array(words + (words >>> 2));
}

/** Gives back a bitset in which only these numbers are set. */
function giveBits(bits: Uint32Array, ...used: readonly NumberList[]): void {
  for (const { numbers, length } of used) for (let i = 0; i < length; i++) bits[(numbers[i] as number) >>> 5] = 0;
  if (pool.length < 4) pool.push(bits);
}

const has = (bits: Uint32Array, n: number): boolean => ((bits[n >>> 5] as number) & (1 << (n & 31))) !== 0;
const add = (bits: Uint32Array, n: number): void => {
  bits[n >>> 5] = (bits[n >>> 5] as number) | (1 << (n & 31));
};

class Walk {
  readonly nodes = new NumberList();
  readonly withheld = new NumberList();
  truncated = false;
  readonly #bits: Uint32Array;
  readonly #graph: Adjacency;
  readonly #limit: number;
  readonly #visible: ((project: RecordId) => boolean) | undefined;
  /** Projects that may be seen, as a bitset; all others are asked for. */
  readonly #visibleBits: Uint32Array;
  readonly #visibleProjects = new NumberList(16);
  readonly #hiddenProjects = new Set<number>();
  /** The block whose projects were read last. */
  #block = -1;
  #projects: Uint32Array = new Uint32Array();

  constructor(graph: Adjacency, limit: number, visible: ((project: RecordId) => boolean) | undefined) {
    this.#graph = graph;
    this.#limit = limit;
    this.#visible = visible;
    this.#bits = takeBits(graph.size);
    this.#visibleBits = takeBits(graph.size);
  }

  meet(n: number): void {
    const bits = this.#bits;
    const word = n >>> 5;
    const held = bits[word] as number;
    const bit = 1 << (n & 31);
    if ((held & bit) !== 0) return;
    if (this.#visible !== undefined) {
      // Neighbours in the graph are often neighbours in the log.
      const block = n >>> BLOCK_BITS;
      if (block !== this.#block) {
        this.#block = block;
        this.#projects = this.#graph.outBlock(block).projects;
      }
      const project = this.#projects[n & BLOCK_MASK] as number;
      if (!has(this.#visibleBits, project) && !this.#ask(project, this.#visible)) {
        bits[word] = held | bit;
        this.withheld.push(n);
        return;
      }
    }
    if (this.nodes.length >= this.#limit) {
      this.truncated = true;
      return;
    }
    bits[word] = held | bit;
    this.nodes.push(n);
  }

  #ask(project: number, visible: (project: RecordId) => boolean): boolean {
    if (this.#hiddenProjects.has(project)) return false;
    const answer = visible(this.#graph.projectId(project));
    if (answer) {
      add(this.#visibleBits, project);
      this.#visibleProjects.push(project);
    } else this.#hiddenProjects.add(project);
    return answer;
  }

  up(n: number): void {
    const { offsets, others } = this.#graph.outBlock(n >>> BLOCK_BITS);
    const end = offsets[(n & BLOCK_MASK) + 1] as number;
    for (let at = offsets[n & BLOCK_MASK] as number; at < end; at++) this.meet(others[at] as number);
  }

  down(n: number): void {
    const { size } = this.#graph;
    const { offsets, others } = this.#graph.inBlock(n >>> BLOCK_BITS);
    const end = offsets[(n & BLOCK_MASK) + 1] as number;
    for (let at = offsets[n & BLOCK_MASK] as number; at < end; at++) {
      const source = others[at] as number;
      if (source >= size) return;
      this.meet(source);
    }
    const recent = this.#graph.recent(n);
    for (let i = 0; i < recent.length; i += 2) {
      const source = recent[i] as number;
      if (source >= size) return;
      this.meet(source);
    }
  }

  /** Gives back what it took. */
  end(): void {
    giveBits(this.#bits, this.nodes, this.withheld);
    giveBits(this.#visibleBits, this.#visibleProjects);
  }
}

/** Breadth first from the roots; roots beyond the reader's size are passed over. */
export function traverse(reader: IndexReader, query: TraverseQuery): Traversal {
  const walk = new Walk(reader.adjacency(), query.limit, query.visible);
  for (const root of query.roots) if (root >= 0 && root < reader.size) walk.meet(root);
  const depth = query.depth ?? Number.POSITIVE_INFINITY;
  const up = query.direction !== "down";
  const down = query.direction !== "up";
  const levels = [0];
  let from = 0;
  for (let distance = 0; from < walk.nodes.length; distance++) {
    const to = walk.nodes.length;
    levels.push(to);
    if (distance >= depth || walk.truncated) break;
    for (let i = from; i < to && !walk.truncated; i++) {
      const node = walk.nodes.numbers[i] as number;
      if (up) walk.up(node);
      if (down) walk.down(node);
    }
    from = to;
    if (walk.truncated && walk.nodes.length > to) levels.push(walk.nodes.length);
    if (walk.truncated) break;
  }
  const found: Traversal = {
    levels,
    nodes: walk.nodes.take(),
    truncated: walk.truncated,
    withheld: walk.withheld.take(),
  };
  walk.end();
  return found;
}

export interface Edge {
  readonly source: number;
  readonly target: number;
  readonly rel: string;
}

/** All links among nodes, by source and then as the record has them. */
export function edgesAmong(reader: IndexReader, nodes: Uint32Array): Edge[] {
  const set = new Set(nodes);
  const edges: Edge[] = [];
  for (const source of nodes.toSorted())
    for (const { target, rel } of reader.out(source)) if (set.has(target)) edges.push({ rel, source, target });
  return edges;
}

export interface PathsQuery {
  readonly from: number;
  readonly to: number;
  /** Most paths to find. */
  readonly limit: number;
  /** Most nodes to look at. */
  readonly nodeLimit: number;
  readonly visible?: (project: RecordId) => boolean;
}

export interface Paths {
  /** Each begins with `from` and ends with `to`; shortest first. */
  readonly paths: readonly (readonly number[])[];
  readonly truncated: boolean;
}

interface Step {
  readonly node: number;
  readonly before: Step | null;
}

/**
 * Paths between two entries, shortest first. Links lead to lower indexes, so at most one direction has any. The distance of each
 * node to the end is found first; then only beginnings of real paths are ever held.
 */
export function findPaths(reader: IndexReader, query: PathsQuery): Paths {
  const { from, to, limit, nodeLimit, visible } = query;
  if (from < to) {
    const found = findPaths(reader, { ...query, from: to, to: from });
    return { ...found, paths: found.paths.map((path) => path.toReversed()) };
  }
  const closure = traverse(reader, {
    direction: "up",
    limit: nodeLimit,
    roots: [from],
    ...(visible === undefined ? {} : { visible }),
  });
  const distances = distancesTo(reader.adjacency(), closure.nodes, to);
  const start = distances.get(from);
  if (start === undefined || limit <= 0) return { paths: [], truncated: closure.truncated };
  const graph = reader.adjacency();
  const paths: number[][] = [];
  // Beginnings by the length of the shortest path that they lead to.
  const waiting: Step[][] = [];
  waiting[start] = [{ before: null, node: from }];
  for (let length = start; length < waiting.length; length++) {
    const same = waiting[length] ?? [];
    for (let step = same.pop(); step !== undefined; step = same.pop()) {
      if (step.node === to) {
        paths.push(unwind(step));
        if (paths.length === limit)
          return { paths, truncated: closure.truncated || waiting.some((steps) => steps.length > 0) };
        continue;
      }
      const taken = length - (distances.get(step.node) ?? 0);
      for (const target of targetsOf(graph, step.node)) {
        const rest = distances.get(target);
        if (rest !== undefined) (waiting[taken + 1 + rest] ??= []).push({ before: step, node: target });
      }
    }
  }
  return { paths, truncated: closure.truncated };
}

function unwind(last: Step): number[] {
  const path: number[] = [];
  for (let step: Step | null = last; step !== null; step = step.before) path.push(step.node);
  return path.toReversed();
}

/** Each target once, however many relations lead to it. */
function targetsOf(graph: Adjacency, n: number): Set<number> {
  const { offsets, others } = graph.outBlock(n >>> BLOCK_BITS);
  return new Set(others.subarray(offsets[n & BLOCK_MASK], offsets[(n & BLOCK_MASK) + 1]));
}

/** Length of the shortest path to `to` for each of the nodes that has one: ascending, a node's targets come before it. */
function distancesTo(graph: Adjacency, nodes: Uint32Array, to: number): Map<number, number> {
  const distances = new Map<number, number>();
  for (const node of nodes.toSorted()) {
    if (node === to) distances.set(node, 0);
    if (node <= to) continue;
    const { offsets, others } = graph.outBlock(node >>> BLOCK_BITS);
    const end = offsets[(node & BLOCK_MASK) + 1] as number;
    let least = Number.POSITIVE_INFINITY;
    for (let at = offsets[node & BLOCK_MASK] as number; at < end; at++)
      least = Math.min(least, distances.get(others[at] as number) ?? least);
    if (least !== Number.POSITIVE_INFINITY) distances.set(node, least + 1);
  }
  return distances;
}

export interface ClosureDifference {
  /** Ascending. */
  readonly onlyA: Uint32Array;
  readonly onlyB: Uint32Array;
  readonly both: Uint32Array;
  readonly truncated: boolean;
}

/** What two entries rest on, compared. */
export function diffClosures(
  reader: IndexReader,
  query: {
    readonly a: number;
    readonly b: number;
    readonly limit: number;
    readonly visible?: (project: RecordId) => boolean;
  },
): ClosureDifference {
  const { a, b, ...rest } = query;
  const closures = [a, b].map((root) => traverse(reader, { direction: "up", roots: [root], ...rest }));
  const [left, right] = closures.map(({ nodes }) => nodes.toSorted()) as [Uint32Array, Uint32Array];
  const onlyA = new NumberList();
  const onlyB = new NumberList();
  const both = new NumberList();
  let i = 0;
  let j = 0;
  while (i < left.length || j < right.length) {
    const l = left[i] ?? Number.POSITIVE_INFINITY;
    const r = right[j] ?? Number.POSITIVE_INFINITY;
    (l === r ? both : l < r ? onlyA : onlyB).push(Math.min(l, r));
    if (l <= r) i++;
    if (r <= l) j++;
  }
  return { both: both.take(), onlyA: onlyA.take(), onlyB: onlyB.take(), truncated: closures.some((c) => c.truncated) };
}
