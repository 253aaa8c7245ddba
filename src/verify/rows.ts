/**
 * Stage 1, the JSON lines of a pack: rows of exactly one form each, in order. What the rows say is for later stages.
 *
 * Throws the Violations `pack.malformed` and `pack.limit`.
 */
import { parseCanonical } from "../record/canonical.ts";
import { isObject, type Json, type JsonObject } from "../record/json.ts";
import { type Digest, parseDigest } from "../std/brand.ts";
import { parseBase64Url, parseHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { endsWithLineFeed, type Limits, linesOf, overLimit } from "./limits.ts";

/** A consistency proof from a smaller tree. */
export interface HistoryRow {
  readonly hashes: readonly Uint8Array[];
  /** The signed note of the smaller tree; absent in a proof for a note that the reader keeps. */
  readonly note: string | undefined;
  readonly size: number;
}

/** A project's head, and the proof that it is in the seal. */
export interface HeadRow {
  readonly count: number;
  readonly hashes: readonly Uint8Array[];
  readonly index: number;
  readonly last: Digest;
  readonly project: Digest;
}

export interface PersonalRow {
  readonly id: string;
  readonly salt: string;
  readonly value: string;
}

const HASH_CHARACTERS = 64;
const SALT_BYTES = 16;
const PERSONAL_ID = /^personal:sha256:[0-9a-f]{64}$/;

export const isPersonalId = (text: string): boolean => PERSONAL_ID.test(text);

/** An object with exactly these members, which are named in order. */
export const isRow = (value: Json, ...names: readonly string[]): value is JsonObject =>
  isObject(value) && Object.keys(value).join() === names.join();

const isCount = (value: Json | undefined): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Whether `value` is after `before`, of a list that ascends. */
const isAfter = <T extends string | number>(value: T, before: T | undefined): boolean =>
  before === undefined || value > before;

function hashesOf(value: Json | undefined): Uint8Array[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const hashes: Uint8Array[] = [];
  for (const text of value as readonly Json[]) {
    const hash = typeof text === "string" && text.length === HASH_CHARACTERS ? parseHex(text) : undefined;
    if (hash === undefined) return undefined;
    hashes.push(hash);
  }
  return hashes;
}

/** Parses each line of a member with `read`, which answers undefined for a row of another form. */
function rowsOf<T>(
  name: string,
  bytes: Uint8Array | undefined,
  limit: number,
  limitName: keyof Limits,
  read: (row: Json, before: T | undefined) => T | undefined,
): T[] {
  const rows: T[] = [];
  if (bytes === undefined) return rows;
  if (!endsWithLineFeed(bytes)) throw new Violation("pack.malformed", `${name} does not end with a line feed`);
  for (const line of linesOf(bytes)) {
    const at = `line ${rows.length + 1} of ${name}`;
    if (line.length > limit) throw overLimit(at, limitName);
    let value: Json;
    try {
      value = parseCanonical(line, { maxBytes: limit });
    } catch (error) {
      throw error instanceof Violation ? new Violation("pack.malformed", `${at}: ${error.message}`) : error;
    }
    const row = read(value, rows.at(-1));
    if (row === undefined) throw new Violation("pack.malformed", `${at} has another form, or does not ascend`);
    rows.push(row);
  }
  return rows;
}

export const parseHistory = (bytes: Uint8Array | undefined, limits: Limits): HistoryRow[] =>
  rowsOf<HistoryRow>("history.jsonl", bytes, limits.history, "history", (value, before) => {
    if (!isRow(value, "hashes", "size") && !isRow(value, "hashes", "note", "size")) return undefined;
    const { note, size } = value;
    const hashes = hashesOf(value["hashes"]);
    if (hashes === undefined || !isCount(size) || size < 1 || !isAfter(size, before?.size)) return undefined;
    return note === undefined || typeof note === "string" ? { hashes, note, size } : undefined;
  });

export const parseHeads = (bytes: Uint8Array, limits: Limits): HeadRow[] =>
  rowsOf<HeadRow>("heads.jsonl", bytes, limits.line, "line", (value, before) => {
    if (!isRow(value, "count", "hashes", "index", "last", "project")) return undefined;
    const { count, index } = value;
    const hashes = hashesOf(value["hashes"]);
    const last = typeof value["last"] === "string" ? parseDigest(value["last"]) : undefined;
    const project = typeof value["project"] === "string" ? parseDigest(value["project"]) : undefined;
    if (hashes === undefined || last === undefined || project === undefined) return undefined;
    if (!isCount(count) || !isCount(index) || !isAfter(project, before?.project)) return undefined;
    return { count, hashes, index, last, project };
  });

export const parsePersonal = (bytes: Uint8Array | undefined, limits: Limits): PersonalRow[] =>
  rowsOf<PersonalRow>("personal.jsonl", bytes, limits.line, "line", (value, before) => {
    if (!isRow(value, "id", "salt", "value")) return undefined;
    const { id, salt, value: text } = value;
    if (typeof id !== "string" || typeof salt !== "string" || typeof text !== "string") return undefined;
    if (!isPersonalId(id) || parseBase64Url(salt)?.length !== SALT_BYTES || !isAfter(id, before?.id)) return undefined;
    return { id, salt, value: text };
  });
