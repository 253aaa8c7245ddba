/**
 * Decides what a pack about some roots must hold: everything that they rest on, everything that was decided about that, the
 * whole `_ledger` chain, and the creation record of each project that appears.
 *
 * A record that may not or need not be shown leaves its entry, so that links stay whole; why it is left out is stated.
 */
import type { IndexReader } from "../index/index.ts";
import type { Digest, RecordId } from "../std/brand.ts";
import { digestOf } from "../std/brand.ts";

export interface Selection {
  /** Indexes of all entries, ascending; the seal is last. */
  readonly entries: readonly number[];
  /** Why the record of an entry is left out. */
  readonly withheld: ReadonlyMap<number, "other-project" | "depth" | "not-granted">;
  readonly complete: readonly Digest[];
}

export interface SelectOptions {
  readonly roots: readonly number[];
  readonly complete: readonly RecordId[];
  /** Links upstream at most; undefined for no limit. */
  readonly depth: number | undefined;
  readonly governance: boolean;
  readonly seal: number;
  /** Whether the recipient may see records of a project. */
  readonly visible: (project: RecordId) => boolean;
}

/** Kinds that say what happened to, or was decided about, the record that they link to by one of these. */
const ABOUT: Readonly<Record<string, readonly string[]>> = {
  alias: ["target"],
  approval: ["request"],
  "approval.request": ["subject"],
  decision: ["subject"],
  "quality.report": ["dataset_version"],
  "run.batch": ["run"],
  "run.finish": ["run"],
  "run.start": ["run"],
  transition: ["subject"],
};

export function select(reader: IndexReader, options: SelectOptions): Selection {
  const { depth, seal } = options;
  const project = (i: number): RecordId => reader.entry(i)?.project ?? ("" as RecordId);
  const ledger = project(0);
  const rootProjects = new Set(options.roots.map(project));
  const complete = new Set<RecordId>([ledger, ...options.complete]);
  const shown = new Map<number, number>(); // index → links from the nearest root
  const bare = new Map<number, "other-project" | "depth" | "not-granted">();
  const queue: number[] = [];
  const take = (i: number, distance: number): void => {
    const before = shown.get(i);
    if (before !== undefined && before <= distance) return;
    const owner = project(i);
    if (!complete.has(owner) && !options.visible(owner)) {
      bare.set(i, rootProjects.has(owner) ? "not-granted" : "other-project");
      return;
    }
    if (depth !== undefined && distance > depth && !complete.has(owner)) {
      if (before === undefined) bare.set(i, "depth");
      return;
    }
    bare.delete(i);
    shown.set(i, distance);
    queue.push(i);
  };
  for (const owner of complete)
    for (const i of reader.list({ limit: seal + 1, project: owner })) if (i <= seal) take(i, 0);
  for (const root of options.roots) take(root, 0);
  take(seal, 0);
  take(1, 0);
  for (let i = queue.pop(); i !== undefined; i = queue.pop()) {
    const distance = shown.get(i) ?? 0;
    for (const link of reader.out(i)) take(link.target, distance + 1);
    if (!options.governance || project(i) === ledger) continue;
    // Decisions about a record are as near as the record itself.
    for (const link of reader.in(i))
      if (link.source < seal && ABOUT[reader.entry(link.source)?.kind ?? ""]?.includes(link.rel) === true)
        take(link.source, distance);
  }
  const all = new Set([...shown.keys(), ...bare.keys()]);
  for (const owner of new Set([...all].map(project))) {
    const creation = reader.indexOf(owner);
    if (creation === undefined || all.has(creation)) continue;
    all.add(creation);
    if (!options.visible(owner) && !complete.has(owner))
      bare.set(creation, rootProjects.has(owner) ? "not-granted" : "other-project");
  }
  return {
    complete: [...complete].map(digestOf).toSorted(),
    entries: [...all].toSorted((a, b) => a - b),
    withheld: bare,
  };
}
