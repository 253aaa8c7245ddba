/**
 * Decides what a pack about some roots must hold: everything that they rest on, everything that was decided about that, the
 * whole `_ledger` chain, and the creation record of each project that appears.
 *
 * A record that may not or need not be shown leaves its entry, so that links stay whole; why it is left out is stated.
 */
import type { IndexReader } from "../index/index.ts";
import { assertDefined } from "../std/assert.ts";
import { type Digest, digestOf, type RecordId } from "../std/brand.ts";

/** Why a record is left out (`docs/formats/packs.md` §3). */
export type Why = "other-project" | "depth" | "not-granted";

export interface Selection {
  /** Indexes of all entries, ascending; the seal is last. */
  readonly entries: readonly number[];
  /** Why the record of an entry is left out. */
  readonly withheld: ReadonlyMap<number, Why>;
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

class Selecting {
  readonly #reader: IndexReader;
  readonly #options: SelectOptions;
  readonly #ledger: RecordId;
  readonly #rootProjects: ReadonlySet<RecordId>;
  readonly #projects = new Set<RecordId>();
  /** Records that are here for what they certify alone: what was decided about them is no matter of the roots. */
  readonly #certificates = new Set<number>();
  readonly complete: ReadonlySet<RecordId>;
  readonly shown = new Set<number>();
  readonly withheld = new Map<number, Why>();
  /** Shown at the distance that is being walked, and not followed yet. */
  #here: number[] = [];
  /** One link further. */
  #next: number[] = [];
  #distance = 0;

  constructor(reader: IndexReader, options: SelectOptions) {
    this.#reader = reader;
    this.#options = options;
    this.#ledger = this.#projectOf(0);
    this.#rootProjects = new Set(options.roots.map((i) => this.#projectOf(i)));
    this.complete = new Set([this.#ledger, ...options.complete]);
  }

  /** Distances grow, so that each record is met at its smallest first, and followed once. */
  walk(): void {
    const { depth, roots, seal } = this.#options;
    for (const project of this.complete)
      for (const i of this.#reader.list({ limit: seal + 1, project })) if (i <= seal) this.#take(i);
    for (const i of roots) this.#take(i);
    // Whoever may not read _system gets its seal all the same: nothing is provable without it, and it names nobody.
    this.#show(seal);
    while (this.#here.length > 0) {
      for (let i = this.#here.pop(); i !== undefined; i = this.#here.pop()) this.#follow(i);
      const further = this.#next;
      this.#next = [];
      this.#distance++;
      const isTooFar = depth !== undefined && this.#distance > depth;
      for (const i of further) this.#take(i, isTooFar);
    }
  }

  #projectOf(i: number): RecordId {
    return assertDefined(this.#reader.entry(i), `entry ${i} is indexed`).project;
  }

  #follow(i: number): void {
    const { governance, seal } = this.#options;
    for (const { target } of this.#reader.out(i)) this.#next.push(target);
    if (!governance || this.#certificates.has(i) || this.#projectOf(i) === this.#ledger) return;
    // Decisions about a record are as near as the record itself.
    for (const { rel, source } of this.#reader.in(i))
      if (source < seal && ABOUT[this.#reader.entry(source)?.kind ?? ""]?.includes(rel) === true) this.#take(source);
  }

  #take(i: number, isTooFar = false): void {
    // A certificate that is met in its own right is followed like anything else.
    if (!isTooFar && this.#certificates.delete(i)) this.#here.push(i);
    if (this.shown.has(i)) return;
    const project = this.#projectOf(i);
    this.#takeProject(project);
    this.#certificates.delete(i);
    const why = this.#whyNot(project) ?? (isTooFar && !this.complete.has(project) ? "depth" : undefined);
    if (why === undefined) this.#show(i);
    else this.withheld.set(i, why);
  }

  /** The record that created a project certifies the start of its chain: its entry is here when any of the project is. */
  #takeProject(project: RecordId): void {
    if (this.#projects.has(project)) return;
    this.#projects.add(project);
    const creation = assertDefined(this.#reader.indexOf(project), "a project has its first entry");
    if (this.shown.has(creation)) return;
    this.#take(creation);
    if (this.shown.has(creation)) this.#certificates.add(creation);
  }

  #show(i: number): void {
    if (this.shown.has(i)) return;
    this.#takeProject(this.#projectOf(i));
    this.withheld.delete(i);
    this.shown.add(i);
    this.#here.push(i);
  }

  /** Why no record of a project may be shown; undefined when they may. */
  #whyNot(project: RecordId): Why | undefined {
    if (this.complete.has(project) || this.#options.visible(project)) return undefined;
    return this.#rootProjects.has(project) ? "not-granted" : "other-project";
  }
}

export function select(reader: IndexReader, options: SelectOptions): Selection {
  const selecting = new Selecting(reader, options);
  selecting.walk();
  return {
    complete: [...selecting.complete].map(digestOf).toSorted(),
    entries: [...selecting.shown, ...selecting.withheld.keys()].toSorted((a, b) => a - b),
    withheld: selecting.withheld,
  };
}
