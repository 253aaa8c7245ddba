/**
 * Commit objects: a signed header line, and the entries and records of a batch as its payload (`docs/formats/commits.md`). The first
 * empty line ends the text, the second the one signature line; all after it is payload, so no stock note parser fits.
 */
import { sha256Hex } from "../merkle/hash.ts";
import { type NoteSignature, parseSignatureLine, signatureLine } from "../note/note.ts";
import type { NoteSigner } from "../note/signatures.ts";
import { type Digest, idOf, parseDigest, parseRecordId, type RecordId } from "../std/brand.ts";
import { concat, parseUtf8, utf8 } from "../std/bytes.ts";
import { parseTime } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { canonicalize, parseCanonical } from "./canonical.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";

export const MAX_COMMIT_BYTES = 4 * 1024 * 1024;
export const MAX_COMMIT_ENTRIES = 4096;
/** Of the first line, the header, the signature line each. */
const MAX_LINE_BYTES = 64 * 1024;
const LF = 0x0a;

export interface Void {
  readonly n: number;
  readonly sha256: RecordId;
}

export interface CommitHeader {
  /** Digest of the payload. */
  readonly body: RecordId;
  readonly bytes: number;
  readonly count: number;
  readonly epoch: number;
  readonly first: number;
  readonly n: number;
  /** Digest of the bytes in slot n−1; of the empty string for n = 0. */
  readonly prev: RecordId;
  /** Hex root at size first + count. */
  readonly root: Digest;
  readonly time: string;
  readonly v: 1;
  readonly voids: readonly Void[];
  /** 32 hex characters, random for each start of a writer. */
  readonly writer: string;
}

export interface CommitItem {
  readonly entry: Uint8Array;
  /** Null when the record is an object of its own only. */
  readonly record: Uint8Array | null;
}

export interface ParsedCommit {
  readonly header: CommitHeader;
  readonly origin: string;
  /** What the signature is over. */
  readonly text: Uint8Array;
  readonly signature: NoteSignature;
  readonly payload: Uint8Array;
  readonly items: readonly CommitItem[];
}

const NEWLINE = Uint8Array.of(LF);

export function formatPayload(items: readonly CommitItem[]): Uint8Array {
  let length = 0;
  for (const { entry, record } of items) length += entry.length + (record?.length ?? 0) + 2;
  const payload = new Uint8Array(length);
  let at = 0;
  for (const { entry, record } of items) {
    payload.set(entry, at);
    at += entry.length;
    payload[at++] = LF;
    if (record !== null) {
      payload.set(record, at);
      at += record.length;
    }
    payload[at++] = LF;
  }
  return payload;
}

export function formatCommit(
  origin: string,
  header: Omit<CommitHeader, "body" | "bytes" | "v">,
  items: readonly CommitItem[],
  signer: NoteSigner,
): Uint8Array {
  const payload = formatPayload(items);
  const full: CommitHeader = { ...header, body: idOf(sha256Hex(payload)), bytes: payload.length, v: 1 };
  const text = utf8(`${origin}/commit\n${canonicalize(full as unknown as JsonObject)}\n`);
  return concat(text, NEWLINE, utf8(`${signatureLine(signer.name, signer.id, signer.sign(text))}\n\n`), payload);
}

const isCount = (value: Json | undefined): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

function parseHeader(line: Uint8Array): CommitHeader {
  const bad = (detail: string): Violation => new Violation("commit.header", detail);
  let value: Json;
  try {
    value = parseCanonical(line, { maxBytes: MAX_LINE_BYTES });
  } catch (error) {
    throw error instanceof Violation ? bad(error.message) : error;
  }
  if (!isObject(value)) throw bad("the header is not an object");
  const { body, bytes, count, epoch, first, n, prev, root, time, v, voids, writer } = value;
  if (v !== 1)
    throw isCount(v)
      ? new Violation("commit.version", `version ${v} is not known; use a newer program`)
      : bad("v is not a whole number");
  if (Object.keys(value).length !== 12) throw bad("the header has other members than the format's twelve");
  if (
    typeof body !== "string" ||
    parseRecordId(body) === undefined ||
    typeof prev !== "string" ||
    parseRecordId(prev) === undefined ||
    typeof root !== "string" ||
    parseDigest(root) === undefined
  )
    throw bad("body, prev or root is not a digest");
  if (!isCount(bytes) || !isCount(count) || !isCount(epoch) || !isCount(first) || !isCount(n))
    throw bad("bytes, count, epoch, first or n is not a whole number");
  if (typeof time !== "string" || parseTime(time) === undefined) throw bad("time is not YYYY-MM-DDTHH:MM:SS.mmmZ");
  if (typeof writer !== "string" || !/^[0-9a-f]{32}$/.test(writer)) throw bad("writer is not 32 hex characters");
  if (!Array.isArray(voids)) throw bad("voids is not a list");
  for (const row of voids as readonly Json[])
    if (
      !isObject(row) ||
      Object.keys(row).length !== 2 ||
      !isCount(row["n"]) ||
      typeof row["sha256"] !== "string" ||
      parseRecordId(row["sha256"]) === undefined
    )
      throw bad("a void is not {n, sha256}");
  return value as unknown as CommitHeader;
}

/** A commit object before its header is believed: the parts between the first two empty lines, and the payload. */
export interface CommitParts {
  /** The first line; undefined when it is not `<origin>/commit`. */
  readonly origin: string | undefined;
  readonly headerLine: Uint8Array;
  /** What the signature is over. */
  readonly text: Uint8Array;
  /** Undefined when the line is not one. */
  readonly signature: NoteSignature | undefined;
  readonly payload: Uint8Array;
}

const SUFFIX = "/commit";

/** Splits an object; undefined when it is not two lines, an empty line, a line, an empty line. */
export function splitCommit(bytes: Uint8Array): CommitParts | undefined {
  const first = bytes.subarray(0, MAX_LINE_BYTES).indexOf(LF);
  const second = first < 0 ? -1 : bytes.subarray(0, first + 1 + MAX_LINE_BYTES).indexOf(LF, first + 1);
  const third = second < 0 ? -1 : bytes.subarray(0, second + 2 + MAX_LINE_BYTES).indexOf(LF, second + 2);
  if (third < 0 || bytes[second + 1] !== LF) return undefined;
  const name = parseUtf8(bytes.subarray(0, first));
  const line = bytes[third + 1] === LF ? parseUtf8(bytes.subarray(second + 2, third)) : undefined;
  return {
    headerLine: bytes.subarray(first + 1, second),
    origin: name?.endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : undefined,
    payload: bytes.subarray(third + 2),
    signature: line === undefined ? undefined : parseSignatureLine(line),
    text: bytes.subarray(0, second + 1),
  };
}

/** Whether a header line is one of a format that this version does not know. */
export function hasUnknownVersion(line: Uint8Array): boolean {
  try {
    parseHeader(line);
    return false;
  } catch (error) {
    return error instanceof Violation && error.code === "commit.version";
  }
}

/**
 * Takes a commit object apart and checks what it says of itself: form, limits, payload digest. Not its signature, nor its place.
 * Throws the Violations commit.header, .version, .signature (the line's form), .limit, .bytes, .body, .count.
 */
export function parseCommit(bytes: Uint8Array): ParsedCommit {
  const parts = splitCommit(bytes);
  if (parts?.origin === undefined)
    throw new Violation(
      "commit.header",
      "the object does not begin with `<origin>/commit`, a header line, an empty line and a signature line",
    );
  const header = parseHeader(parts.headerLine);
  const { origin, payload, signature, text } = parts;
  if (signature === undefined)
    throw new Violation("commit.signature", "there is not exactly one signature line between the empty lines");
  if (payload.length > MAX_COMMIT_BYTES || header.count > MAX_COMMIT_ENTRIES)
    throw new Violation("commit.limit", `${payload.length} bytes or ${header.count} entries are over the limit`);
  if (payload.length !== header.bytes)
    throw new Violation("commit.bytes", `the payload has ${payload.length} bytes, the header says ${header.bytes}`);
  if (idOf(sha256Hex(payload)) !== header.body)
    throw new Violation("commit.body", "the payload has another SHA-256 than the header says");
  return { header, items: parsePayload(payload, header.count), origin, payload, signature, text };
}

function parsePayload(payload: Uint8Array, count: number): CommitItem[] {
  const items: CommitItem[] = [];
  let at = 0;
  while (at < payload.length && items.length <= count) {
    const entryEnd = payload.indexOf(LF, at);
    const recordEnd = entryEnd < 0 ? -1 : payload.indexOf(LF, entryEnd + 1);
    if (recordEnd < 0) throw new Violation("commit.count", "the payload does not end with a whole entry and record");
    items.push({
      entry: payload.subarray(at, entryEnd),
      record: recordEnd === entryEnd + 1 ? null : payload.subarray(entryEnd + 1, recordEnd),
    });
    at = recordEnd + 1;
  }
  if (items.length !== count || at !== payload.length)
    throw new Violation("commit.count", `the payload does not hold the ${count} entries that the header says`);
  return items;
}
