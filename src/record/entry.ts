/**
 * An entry, the leaf of the log: one byte form, matched whole, so that no JSON parser decides what it says. It holds no kind, which
 * would disclose other projects' affairs, and chains each project's entries by `seq` and `prev`.
 */
import { type Digest, type RecordId, ZERO_DIGEST } from "../std/brand.ts";
import { parseUtf8, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";

export interface Entry {
  /** Leaf hash of the project's previous entry; zeros for its first. */
  readonly prev: Digest;
  /** Bare digest of the project's creation record. */
  readonly project: Digest;
  readonly record: RecordId;
  /** Counts the project's entries from 0. */
  readonly seq: number;
}

const FORM =
  /^\{"prev":"([0-9a-f]{64})","project":"([0-9a-f]{64})","record":"(sha256:[0-9a-f]{64})","seq":(0|[1-9][0-9]{0,15}),"v":1\}$/;
export const MAX_ENTRY_BYTES = 320;

export const formatEntry = (e: Entry): string =>
  `{"prev":"${e.prev}","project":"${e.project}","record":"${e.record}","seq":${e.seq},"v":1}`;
export const entryBytes = (e: Entry): Uint8Array => utf8(formatEntry(e));

export function parseEntry(bytes: Uint8Array): Entry {
  const match = bytes.length > MAX_ENTRY_BYTES ? null : FORM.exec(parseUtf8(bytes) ?? "");
  const seq = Number(match?.[4]);
  if (match === null || !Number.isSafeInteger(seq))
    throw new Violation("entry.malformed", "the entry does not have the one form that entries have");
  return { prev: match[1] as Digest, project: match[2] as Digest, record: match[3] as RecordId, seq };
}

/** What stands before the digests and the number of an entry, and after them; where the three digests begin. */
const [BEFORE_PREV, BEFORE_PROJECT, BEFORE_RECORD, BEFORE_SEQ, END] = [
  '{"prev":"',
  '","project":"',
  '","record":"sha256:',
  '","seq":',
  ',"v":1}',
] as const;
const DIGEST = ZERO_DIGEST.length;
const PREV_AT = BEFORE_PREV.length;
const PROJECT_AT = PREV_AT + DIGEST + BEFORE_PROJECT.length;
const RECORD_AT = PROJECT_AT + DIGEST + BEFORE_RECORD.length;
const SEQ_AT = RECORD_AT + DIGEST + BEFORE_SEQ.length;

function isAt(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** Whether bytes are exactly the entry of a record's digest at a place in a project's chain: no more is then to be parsed. */
export function isEntry(bytes: Uint8Array, prev: Digest, project: Digest, record: Digest, seq: number): boolean {
  const number = String(seq);
  return (
    bytes.length === SEQ_AT + number.length + END.length &&
    isAt(bytes, PROJECT_AT, project) &&
    isAt(bytes, RECORD_AT, record) &&
    isAt(bytes, PREV_AT, prev) &&
    isAt(bytes, SEQ_AT, number) &&
    isAt(bytes, 0, BEFORE_PREV) &&
    isAt(bytes, PREV_AT + DIGEST, BEFORE_PROJECT) &&
    isAt(bytes, PROJECT_AT + DIGEST, BEFORE_RECORD) &&
    isAt(bytes, RECORD_AT + DIGEST, BEFORE_SEQ) &&
    isAt(bytes, SEQ_AT + number.length, END)
  );
}

/** What an entry says whose text was checked. */
export const entryOf = (text: string): Entry => ({
  prev: text.slice(PREV_AT, PREV_AT + DIGEST) as Digest,
  project: text.slice(PROJECT_AT, PROJECT_AT + DIGEST) as Digest,
  record: text.slice(RECORD_AT - "sha256:".length, RECORD_AT + DIGEST) as RecordId,
  seq: Number(text.slice(SEQ_AT, -END.length)),
});

/** The project that an entry names, when it is the given one; else the text that stands there, of which nothing is known. */
export const projectIn = (bytes: Uint8Array, likely: Digest): string | undefined =>
  isAt(bytes, PROJECT_AT, likely) ? likely : parseUtf8(bytes.subarray(PROJECT_AT, PROJECT_AT + DIGEST));

/** The chain rule that an entry keeps by itself: only a project's creation record has seq 0, and only it has nothing before. */
export function startsProject(e: Entry): boolean {
  const creates = e.record === `sha256:${e.project}`;
  if ((e.seq === 0) !== creates || (e.seq === 0) !== (e.prev === ZERO_DIGEST))
    throw new Violation("chain.prev", "seq 0, an empty prev and the project's creation record go together");
  return creates;
}
