/**
 * Runs a submission's `admit` and makes records of its drafts. Owns which reads become guards, and that nothing leaves here that
 * a reader of the ledger would refuse: what is committed can never be taken back, so every record is checked before.
 *
 * A guard is a row that was read, whether it was there or not; a record that was looked for and absent; the list of what links
 * to a record. A record that is there never changes and needs none.
 */
import type { View, ViewReader, ViewRow } from "../fold/view.ts";
import type { JsonObject } from "../record/json.ts";
import { checkRecord, formatRecord, type LedgerRecord, type Link, recordId, sortLinks } from "../record/record.ts";
import { assert } from "../std/assert.ts";
import { type LogIndex, parseRecordId, type RecordId, type TreeSize } from "../std/brand.ts";
import { formatBase64Url } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { formatTime, type Random } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import type { Draft, DraftRef, Submission } from "./submission.ts";

/** Hard limits of a commit (`docs/formats/commits.md`); a group is never split. */
export const COMMIT_LIMITS = { bytes: 4 << 20, records: 4_096 } as const;
/** An entry, two line feeds, and what the header of the commit takes, rounded up. */
const ENTRY_BYTES = 280;
const HEADER_BYTES = 2_048;
const SALT_BYTES = 16;
const MAX_RECORD_BYTES = 1 << 20;

export const guardOf = {
  dependents: (id: RecordId): string => `dependents ${id}`,
  record: (id: RecordId): string => `record ${id}`,
  row: (view: View, key: string): string => `${view} ${key}`,
} as const;

export interface NewRecord {
  readonly id: RecordId;
  readonly bytes: Uint8Array;
  readonly record: LedgerRecord;
  /** The project of its entry; its own id in a record that creates a project. */
  readonly project: RecordId;
}

export interface Admission {
  readonly value: unknown;
  readonly records: readonly NewRecord[];
  /** What the records take in a commit. */
  readonly bytes: number;
  readonly guards: readonly string[];
  /** Size of the state that it was admitted against. */
  readonly size: TreeSize;
}

export interface AdmissionTools {
  readonly nowMs: number;
  readonly random: Random;
  /** Whether a record is in the state that the reader shows. */
  knows(id: RecordId): boolean;
}

class GuardingReader implements ViewReader {
  readonly guards: string[] = [];
  readonly size: TreeSize;
  readonly #base: ViewReader;

  constructor(base: ViewReader) {
    this.#base = base;
    this.size = base.size;
  }

  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    this.guards.push(guardOf.row(view, key));
    return this.#base.get(view, key);
  }

  record(id: RecordId): { readonly index: LogIndex; readonly record: LedgerRecord } | undefined {
    const found = this.#base.record(id);
    if (found === undefined) this.guards.push(guardOf.record(id));
    return found;
  }

  dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }> {
    this.guards.push(guardOf.dependents(id));
    return this.#base.dependents(id);
  }
}

export function admit(submission: Submission<unknown>, reader: ViewReader, tools: AdmissionTools): Admission {
  const guarding = new GuardingReader(reader);
  const { drafts, value } = submission.admit(guarding, tools.nowMs);
  const records = recordsOf(drafts, tools);
  const bytes = records.reduce((sum, r) => sum + r.bytes.length + ENTRY_BYTES, HEADER_BYTES);
  if (records.length > COMMIT_LIMITS.records || bytes > COMMIT_LIMITS.bytes) {
    throw new Fault(
      "LIMIT_EXCEEDED",
      `This change makes ${records.length} records of ${bytes} bytes; at most 4,096 records and 4 MiB can be admitted at once. Split it.`,
    );
  }
  return { bytes, guards: guarding.guards, records, size: reader.size, value };
}

/** Makes records of the drafts of one group, with time and salt. */
export function recordsOf(drafts: readonly Draft[], tools: AdmissionTools): NewRecord[] {
  const records: NewRecord[] = [];
  for (const draft of drafts) records.push(recordOf(draft, records, tools));
  return records;
}

function recordOf(draft: Draft, earlier: readonly NewRecord[], tools: AdmissionTools): NewRecord {
  const resolve = (ref: DraftRef): RecordId => {
    const id = parseRecordId(ref);
    if (id !== undefined) {
      assert(tools.knows(id) || earlier.some((r) => r.id === id), `a link names a record that is in the log: ${id}`);
      return id;
    }
    const target = earlier[Number(ref.slice(1))];
    assert(target !== undefined, `${ref} names an earlier draft of the same group`);
    return target.id;
  };
  const project = draft.project === undefined ? undefined : resolve(draft.project);
  const links: Link[] = draft.links.map((l) => ({ rel: l.rel, to: resolve(l.to) }));
  const record: LedgerRecord = {
    actor: draft.actor,
    body: draft.body,
    kind: draft.kind,
    links: sortLinks(links),
    ...(project === undefined ? {} : { project }),
    request_id: draft.requestId,
    salt: formatBase64Url(tools.random.bytes(SALT_BYTES)),
    time: formatTime(tools.nowMs),
    v: 1,
  };
  const bytes = checkedBytes(record);
  const id = recordId(bytes);
  return { bytes, id, project: project ?? id, record };
}

/** The record's bytes, which every reader will take. Text comes from callers, so what it may not hold is their fault. */
function checkedBytes(record: LedgerRecord): Uint8Array {
  try {
    checkRecord(record as unknown as JsonObject);
    const bytes = formatRecord(record);
    if (bytes.length <= MAX_RECORD_BYTES) return bytes;
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    throw new Fault("REQUEST_INVALID", `A ${record.kind} cannot be recorded as asked: ${error.message}`, {
      cause: error,
      metadata: { code: error.code },
    });
  }
  throw new Fault(
    "LIMIT_EXCEEDED",
    `A ${record.kind} of more than 1 MiB cannot be recorded; put long content into an artifact.`,
  );
}
