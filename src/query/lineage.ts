/**
 * Lineage as callers see it: walks from named records, paths, differences, impact. A record of a project that the caller may not
 * read is withheld: the answer says that something is there and nothing of what it is, and no walk goes through it.
 */
import { setImmediate as turn } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import {
  type DiffClosuresRequest,
  type DiffClosuresResponse,
  DiffClosuresResponseSchema,
  Direction,
  type FindPathsRequest,
  type FindPathsResponse,
  FindPathsResponseSchema,
  type LineageEdge,
  LineageEdgeSchema,
  type LineageNode,
  LineageNodeSchema,
  LineagePathSchema,
  type TraverseRequest,
  type TraverseResponse,
  TraverseResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/lineage_pb.ts";
import { authorise, callerPermissions, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { IndexReader } from "../index/index.ts";
import * as walk from "../index/lineage.ts";
import type { Json } from "../record/json.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findVisible } from "./get.ts";
import { objects, textOf } from "./json-parts.ts";
import { visibleTo } from "./names.ts";
import { toResource } from "./resource.ts";
import { permissionToList } from "./visible.ts";

const MAX_NODES = 100_000;
/** Nodes that a walk meets at most when it answers some kinds only. */
const MAX_WALKED = 250_000;
const MAX_ROOTS = 1_000;
const MAX_PATHS = 100;
const PAGE_NODES = 250;
const PAGE_EDGES = 2_000;

const DIRECTIONS: Readonly<Record<number, walk.Direction>> = {
  [Direction.UNSPECIFIED]: "up",
  [Direction.UP]: "up",
  [Direction.DOWN]: "down",
  [Direction.BOTH]: "both",
};

/** A walk that was done: what it answers, in order. */
interface Walked {
  readonly nodes: readonly number[];
  readonly depths: ReadonlyMap<number, number>;
  readonly withheld: readonly number[];
  readonly truncated: boolean;
}

/** Everything up, down or around, nearest first: nodes page by page, then the links among them. */
export async function* traverse(
  reads: Reads,
  caller: Caller,
  request: TraverseRequest,
): AsyncGenerator<TraverseResponse> {
  using reader = readerAsOf(reads, request.asOf, request.minTreeSize);
  const direction = directionOf(request);
  const kinds = new Set(request.kinds);
  const audits = auditor(reads, caller);
  const found = walkFrom(
    reads,
    reader,
    caller,
    request,
    { direction, selects: kinds.size > 0 },
    (i) => ofKinds(reader, i, kinds) && audits(reader, i),
  );
  yield* pages(reader, found, direction);
}

/**
 * Versions downstream of the roots that something rests on now: validated, approved, or named by an alias. Tainted or not, so that
 * it also says what a revocation would affect.
 */
export async function* getImpact(
  reads: Reads,
  caller: Caller,
  request: TraverseRequest,
): AsyncGenerator<TraverseResponse> {
  using reader = readerAsOf(reads, request.asOf, request.minTreeSize);
  const kinds = new Set(request.kinds);
  const aliased = aliasTargets(reader);
  const found = walkFrom(
    reads,
    reader,
    caller,
    request,
    { direction: "down", selects: true },
    (i, depth) => depth > 0 && ofKinds(reader, i, kinds) && isRelied(reader, i, aliased),
  );
  yield* pages(reader, found, "down");
}

export function findPaths(reads: Reads, caller: Caller, request: FindPathsRequest): FindPathsResponse {
  const limit = request.limit === 0 ? 10 : request.limit;
  if (limit > MAX_PATHS) throw new Fault("LIMIT_EXCEEDED", `limit is above ${MAX_PATHS}: ask for fewer paths`);
  using reader = readerAsOf(reads, request.asOf);
  const at = (name: string): number => indexOf(reads, reader, caller, name, request.project);
  const visible = visibleTo(reads, caller);
  const { paths, truncated } = walk.findPaths(reader, {
    from: at(request.from),
    to: at(request.to),
    limit,
    nodeLimit: MAX_WALKED,
    visible,
  });
  return create(FindPathsResponseSchema, {
    paths: paths.map((path) =>
      create(LineagePathSchema, {
        nodes: path.map((i, depth) => nodeOf(reader, i, depth)),
        edges: path
          .slice(1)
          .flatMap((next, k) => edgesBetween(reader, assertDefined(path[k], "a path is whole"), next)),
      }),
    ),
    truncated,
    treeSize: reader.size,
  });
}

export function diffClosures(reads: Reads, caller: Caller, request: DiffClosuresRequest): DiffClosuresResponse {
  using reader = readerAsOf(reads, request.asOf);
  const [a, b] = [request.left, request.right].map((name) => indexOf(reads, reader, caller, name, request.project)) as [
    number,
    number,
  ];
  const visible = visibleTo(reads, caller);
  const difference = walk.diffClosures(reader, { a, b, limit: MAX_WALKED, visible });
  const sides = [difference.onlyA.length, difference.onlyB.length];
  if (difference.truncated || sides.some((n) => n > MAX_NODES))
    throw new Fault(
      "LIMIT_EXCEEDED",
      "too much is upstream to be compared at once: compare what lies nearer to the roots",
    );
  const kinds = new Set(request.kinds);
  const side = (indexes: Uint32Array, root: number): LineageNode[] => {
    const depths = depthsOf(walk.traverse(reader, { direction: "up", limit: MAX_WALKED, roots: [root], visible }));
    return [...indexes]
      .filter((i) => i !== root && ofKinds(reader, i, kinds))
      .map((i) => nodeOf(reader, i, depths.get(i) ?? 0));
  };
  return create(DiffClosuresResponseSchema, {
    onlyLeft: side(difference.onlyA, a),
    onlyRight: side(difference.onlyB, b),
    common: difference.both.length,
    treeSize: reader.size,
  });
}

function directionOf({ direction }: TraverseRequest): walk.Direction {
  const known = DIRECTIONS[direction];
  if (known !== undefined) return known;
  throw new Fault("REQUEST_INVALID", "direction is none of UP, DOWN and BOTH", {
    fields: [{ field: "direction", description: "is not known" }],
  });
}

function indexOf(reads: Reads, reader: IndexReader, caller: Caller, name: string, project: string): number {
  const id = findVisible(reads, reader, caller, { name, project }, { kinds: [] });
  return assertDefined(reader.indexOf(id), "a resolved record is there");
}

function walkFrom(
  reads: Reads,
  reader: IndexReader,
  caller: Caller,
  request: TraverseRequest,
  { direction, selects }: { readonly direction: walk.Direction; readonly selects: boolean },
  isAnswered: (index: number, depth: number) => boolean,
): Walked {
  const { roots, project, depth, classes } = request;
  const classified = classes.length === 0 ? [] : classifiedVersions(reads, reader, caller, project, new Set(classes));
  if ((roots.length === 0 && classes.length === 0) || roots.length > MAX_ROOTS)
    throw new Fault("REQUEST_INVALID", `roots has ${roots.length} members: give 1 to ${MAX_ROOTS}`, {
      fields: [{ field: "roots", description: `has ${roots.length} members` }],
    });
  const limit = request.limit === 0 ? MAX_NODES : request.limit;
  if (limit > MAX_NODES) throw new Fault("LIMIT_EXCEEDED", `limit is above ${MAX_NODES}: ask for fewer nodes`);
  const found = walk.traverse(reader, {
    roots: [...new Set([...roots.map((name) => indexOf(reads, reader, caller, name, project)), ...classified])],
    direction,
    ...(depth === 0 ? {} : { depth }),
    limit: selects ? MAX_WALKED : limit,
    visible: visibleTo(reads, caller),
  });
  const depths = depthsOf(found);
  const answered = [...found.nodes].filter((i) => isAnswered(i, depths.get(i) ?? 0));
  return {
    nodes: answered.slice(0, limit),
    depths,
    withheld: [...found.withheld].slice(0, limit),
    truncated: found.truncated || answered.length > limit || found.withheld.length > limit,
  };
}

/** Dataset versions of a project whose schema has a field of one of the classes. */
function classifiedVersions(
  reads: Reads,
  reader: IndexReader,
  caller: Caller,
  projectText: string,
  classes: ReadonlySet<string>,
): number[] {
  using now = reads.log.index.reader();
  const project = findProject(now, projectText);
  if (project === undefined) throw notFound("project");
  authorise(now, caller, project, "read", reads.clock.now());
  const known = new Map<number, boolean>();
  const isClassified = (schema: number): boolean => {
    let is = known.get(schema);
    if (is === undefined) {
      const { record } = assertDefined(reader.entry(schema), "what is linked is there");
      is = hasClass(reader.record(record)?.record.body["fields"], classes);
      known.set(schema, is);
    }
    return is;
  };
  const found: number[] = [];
  for (let from = 0; ; ) {
    const page = reader.list({ from, kinds: ["dataset.version"], limit: PAGE_EDGES, project });
    found.push(
      ...page.filter((i) => reader.out(i).some(({ rel, target }) => rel === "schema" && isClassified(target))),
    );
    if (page.length < PAGE_EDGES) return found;
    from = (page.at(-1) ?? 0) + 1;
  }
}

const hasClass = (fields: Json | undefined, classes: ReadonlySet<string>): boolean =>
  objects(fields).some(
    (field) =>
      (Array.isArray(field["classes"]) && field["classes"].some((c) => classes.has(textOf(c)))) ||
      hasClass(field["children"], classes),
  );

function depthsOf({ nodes, levels }: walk.Traversal): Map<number, number> {
  const depths = new Map<number, number>();
  let depth = 0;
  for (const [k, node] of nodes.entries()) {
    while (k >= (levels[depth + 1] ?? Number.POSITIVE_INFINITY)) depth++;
    depths.set(node, depth);
  }
  return depths;
}

/** Turns between pages keep a long answer from holding up everybody else. */
async function* pages(
  reader: IndexReader,
  { nodes, depths, withheld, truncated }: Walked,
  direction: walk.Direction,
): AsyncGenerator<TraverseResponse> {
  const hidden = new Set(withheld);
  const shown = [...nodes, ...withheld];
  // How what is withheld is linked to what else is withheld is not shown.
  const edges = walk
    .edgesAmong(reader, Uint32Array.from(shown))
    .filter(({ source, target }) => !hidden.has(source) || !hidden.has(target));
  for (let at = 0; at < shown.length; at += PAGE_NODES) {
    yield create(TraverseResponseSchema, {
      nodes: shown
        .slice(at, at + PAGE_NODES)
        .map((i) => (hidden.has(i) ? hiddenNode(reader, i, depths, direction) : nodeOf(reader, i, depths.get(i) ?? 0))),
      treeSize: reader.size,
      truncated: truncated && edges.length === 0 && at + PAGE_NODES >= shown.length,
    });
    await turn();
  }
  for (let at = 0; at < edges.length; at += PAGE_EDGES) {
    yield create(TraverseResponseSchema, {
      edges: edges.slice(at, at + PAGE_EDGES).map((e) => create(LineageEdgeSchema, e)),
      treeSize: reader.size,
      truncated: truncated && at + PAGE_EDGES >= edges.length,
    });
    await turn();
  }
  if (shown.length === 0) yield create(TraverseResponseSchema, { treeSize: reader.size, truncated });
}

/** Whether the caller may see an entry of its kind: what tells about persons' behaviour, only who audits the project. */
function auditor(reads: Reads, caller: Caller): (reader: IndexReader, i: number) => boolean {
  const known = new Map<RecordId, boolean>();
  return (reader, i) => {
    const entry = reader.entry(i);
    if (entry === undefined || permissionToList([entry.kind]) !== "audit") return true;
    let may = known.get(entry.project);
    if (may === undefined) {
      using now = reads.log.index.reader();
      may = callerPermissions(now, caller, entry.project, reads.clock.now()).has("audit");
      known.set(entry.project, may);
    }
    return may;
  };
}

const ofKinds = (reader: IndexReader, i: number, kinds: ReadonlySet<string>): boolean =>
  kinds.size === 0 || kinds.has(reader.entry(i)?.kind ?? "");

function nodeOf(reader: IndexReader, i: number, depth: number): LineageNode {
  const { record, logIndex, kind, project, name, status, tainted } = toResource(reader, i);
  return create(LineageNodeSchema, { record, logIndex, kind, project, name, status, tainted, depth });
}

/** One link further than the nearest node that leads to it. */
function hiddenNode(
  reader: IndexReader,
  i: number,
  depths: ReadonlyMap<number, number>,
  direction: walk.Direction,
): LineageNode {
  const neighbours = [
    ...(direction === "down" ? [] : reader.in(i).map((l) => l.source)),
    ...(direction === "up" ? [] : reader.out(i).map((l) => l.target)),
  ];
  const nearest = Math.min(...neighbours.map((n) => depths.get(n) ?? Number.POSITIVE_INFINITY));
  const { record } = assertDefined(reader.entry(i), "a walk meets entries");
  return create(LineageNodeSchema, {
    record,
    logIndex: i,
    depth: Number.isFinite(nearest) ? nearest + 1 : 0,
    withheld: true,
  });
}

/** The links between two nodes of a path, whichever of them is the younger. */
function edgesBetween(reader: IndexReader, a: number, b: number): LineageEdge[] {
  const [source, target] = a > b ? [a, b] : [b, a];
  return reader
    .out(source)
    .filter((l) => l.target === target)
    .map(({ rel }) => create(LineageEdgeSchema, { source, target, rel }));
}

const VERSIONS: ReadonlySet<string> = new Set(["dataset.version", "environment.lock", "model.version"]);
const RELIED: ReadonlySet<string> = new Set(["approved", "validated"]);

function isRelied(reader: IndexReader, i: number, aliased: (parent: RecordId) => ReadonlySet<RecordId>): boolean {
  const entry = reader.entry(i);
  if (entry === undefined || !VERSIONS.has(entry.kind)) return false;
  const row = reader.get("entity", entry.record)?.value;
  if (RELIED.has(row?.status ?? "")) return true;
  return row?.parent !== undefined && aliased(row.parent).has(entry.record);
}

/** What the aliases of an entity point at. */
function aliasTargets(reader: IndexReader): (parent: RecordId) => ReadonlySet<RecordId> {
  const known = new Map<RecordId, ReadonlySet<RecordId>>();
  return (parent) => {
    let targets = known.get(parent);
    if (targets === undefined) {
      targets = new Set([...reader.scan("alias", `${parent}/`)].map(([, row]) => row.target));
      known.set(parent, targets);
    }
    return targets;
  };
}
