/**
 * The branded primitives of the ledger. Only the parsers here make them, so a value of such a type was checked once.
 *
 * A digest is written bare in entries, head leaves, object keys and tiles (`Digest`), and with its algorithm in records and
 * roots (`RecordId`); `docs/formats/records.md`.
 */
import { endsInHex } from "./bytes.ts";

declare const brand: unique symbol;
type Brand<T, B extends string> = T & { readonly [brand]: B };

/** 64 lower-case hex characters of a SHA-256. */
export type Digest = Brand<string, "Digest">;
/** `sha256:` and a digest: the name of a record, or of an artifact's content where a field says so. */
export type RecordId = Brand<string, "RecordId">;
/** Position of an entry in the log, from 0. */
export type LogIndex = Brand<number, "LogIndex">;
/** Number of entries that a tree covers. */
export type TreeSize = Brand<number, "TreeSize">;

const ID = "sha256:";
const DECIMAL = /^(?:0|[1-9][0-9]{0,15})$/;

export const ZERO_DIGEST = "0".repeat(64) as Digest;

export const parseDigest = (text: string): Digest | undefined =>
  text.length === 64 && endsInHex(text, 0) ? (text as Digest) : undefined;
export const parseRecordId = (text: string): RecordId | undefined =>
  text.length === 71 && text.startsWith(ID) && endsInHex(text, ID.length) ? (text as RecordId) : undefined;

/** Takes both forms, as command-line options do. */
export const parseEitherId = (text: string): RecordId | undefined =>
  parseRecordId(text) ?? parseRecordId(`sha256:${text}`);

export const idOf = (digest: Digest): RecordId => `sha256:${digest}` as RecordId;
export const digestOf = (id: RecordId): Digest => id.slice(7) as Digest;

/** Parses `0|[1-9][0-9]*` up to 2^53−1; undefined for anything else. */
export function parseDecimal(text: string): number | undefined {
  if (!DECIMAL.test(text)) return undefined;
  const n = Number(text);
  return Number.isSafeInteger(n) ? n : undefined;
}
