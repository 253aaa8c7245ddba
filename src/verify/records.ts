/** Stage 5: every record is the one that its entry names, is well formed, and names only records that came before it. */
import { sha256Hex } from "../merkle/hash.ts";
import type { Entry } from "../record/entry.ts";
import type { Json } from "../record/json.ts";
import { kindSpec } from "../record/kinds.ts";
import { type LedgerRecord, parseRecord } from "../record/record.ts";
import { digestOf, idOf } from "../std/brand.ts";
import { Violation } from "../std/violation.ts";
import type { PackEntry } from "./entries.ts";
import { linesOf } from "./limits.ts";
import type { Manifest } from "./manifest.ts";
import type { Stage } from "./report.ts";

export interface PackRecord extends PackEntry {
  /** Absent when the record is outside of the pack, or is none. */
  readonly record: LedgerRecord | undefined;
}

/** Digests and personal ids that an erasure among the records names. */
export function erasedIds(records: readonly Pick<PackRecord, "record">[]): Set<string> {
  const erased = new Set<string>();
  const collect = (value: Json): void => {
    if (typeof value === "string") erased.add(value);
    else if (Array.isArray(value)) value.forEach(collect);
    else if (typeof value === "object" && value !== null) Object.values(value).forEach(collect);
  };
  for (const { record } of records)
    if (record?.kind === "operation" && record.body["type"] === "OPERATION_TYPE_ERASURE") collect(record.body);
  return erased;
}

/**
 * A record belongs to its entry's project. Only what creates a project stands without one: the genesis, and records of kind
 * `project`. Throws Violations `record.*`; `bytes` may be anybody's.
 */
export function readRecord(bytes: Uint8Array, entry: Entry, index: number): LedgerRecord {
  if (sha256Hex(bytes) !== digestOf(entry.record))
    throw new Violation("record.digest", "the bytes have another SHA-256 than the entry names");
  const record = parseRecord(bytes);
  const own = idOf(entry.project);
  const creates = index === 0 ? "ledger" : "project";
  if (record.project === undefined ? record.kind !== creates || entry.record !== own : record.project !== own)
    throw new Violation("record.project", "is of another project than its entry");
  return record;
}

/** What of a record cannot be checked here; undefined when all can. */
export function uncheckable({ actor, kind }: LedgerRecord): string | undefined {
  if (kindSpec(kind) === undefined) return `is of kind ${kind}, which this version does not know: use a newer program`;
  // The member is reserved, and not in the type.
  return "client_signature" in actor ? "has a client's signature, which this version does not check" : undefined;
}

class Records {
  readonly #entries: readonly PackEntry[];
  readonly #indexes: ReadonlyMap<string, number>;
  readonly #manifest: Manifest;
  readonly #allowed: ReadonlySet<string>;
  readonly #rootProjects: ReadonlySet<string>;
  /** Entries whose line is not empty. */
  readonly #here = new Set<string>();
  readonly #stage: Stage;

  constructor(entries: readonly PackEntry[], manifest: Manifest, allowed: ReadonlySet<string>, stage: Stage) {
    this.#entries = entries;
    this.#indexes = new Map(entries.map((e) => [e.entry.record, e.index]));
    this.#manifest = manifest;
    this.#allowed = allowed;
    this.#rootProjects = new Set(
      entries.filter((e) => manifest.roots.has(e.entry.record)).map((e) => e.entry.project as string),
    );
    this.#stage = stage;
  }

  read(item: PackEntry, line: Uint8Array): LedgerRecord | undefined {
    const at = item.entry.record;
    if (line.length === 0) {
      this.#checkLeftOut(item);
      return undefined;
    }
    this.#here.add(at);
    if (this.#manifest.outside.record.has(at)) this.#stage.fail("pack.manifest", at, "is listed as outside, yet here");
    try {
      const record = readRecord(line, item.entry, item.index);
      this.#checkLinks(record, item);
      const doubt = uncheckable(record);
      if (doubt !== undefined) this.#stage.skip(`${at} ${doubt}`);
      return record;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#stage.fail(error.code, at, error.message);
      return undefined;
    }
  }

  #checkLeftOut({ entry }: PackEntry): void {
    const why = this.#manifest.outside.record.get(entry.record);
    const isOurs = this.#manifest.complete.has(entry.project) || this.#rootProjects.has(entry.project);
    if (why === undefined) this.#stage.fail("record.missing", entry.record, "is neither here nor listed as outside");
    else if (why === "other-project") {
      if (isOurs)
        this.#stage.fail(
          "record.missing",
          entry.record,
          "is left out as of another project, but its project is complete or that of a root",
        );
    } else if (!this.#allowed.has(why))
      this.#stage.skip(`${entry.record} is not in the pack (${why}); accept that with --allow-outside ${why}`);
  }

  #checkLinks({ links }: LedgerRecord, { entry, index }: PackEntry): void {
    for (const { rel, to } of links) {
      const target = this.#indexes.get(to);
      if (target === undefined)
        this.#stage.fail("link.dangling", entry.record, `its link ${rel} names ${to}, which has no entry here`);
      else if (target >= index)
        this.#stage.fail("link.order", entry.record, `its link ${rel} names a record that came later`);
    }
  }

  /** Roots are here, and what is listed as left out has an entry. */
  checkManifest(): void {
    for (const root of this.#manifest.roots)
      if (!this.#here.has(root))
        this.#stage.fail("pack.manifest", root, "is a root, and its record is not in the pack");
    for (const id of this.#manifest.outside.record.keys())
      if (!this.#indexes.has(id)) this.#stage.fail("pack.manifest", id, "is listed as outside, but has no entry here");
  }

  all(records: Uint8Array): PackRecord[] {
    const out: PackRecord[] = [];
    const lines = linesOf(records);
    for (const item of this.#entries) {
      const line = lines.next();
      if (line.done === true) {
        this.#stage.fail("record.missing", item.entry.record, "records.jsonl has no line for it");
        out.push({ ...item, record: undefined });
      } else out.push({ ...item, record: this.read(item, line.value) });
    }
    if (lines.next().done !== true)
      this.#stage.fail("record.missing", "records.jsonl", "has more lines than there are entries");
    return out;
  }
}

export function checkRecords(
  lines: Uint8Array,
  entries: readonly PackEntry[],
  manifest: Manifest,
  allowed: ReadonlySet<string>,
  stage: Stage,
): PackRecord[] {
  const records = new Records(entries, manifest, allowed, stage);
  const out = records.all(lines);
  records.checkManifest();
  return out;
}
