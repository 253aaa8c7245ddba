/**
 * Every key of every bucket: formatted and parsed here and nowhere else, so that no name is ever joined to a path.
 */
import { type Digest, parseDecimal, parseDigest } from "../std/brand.ts";
import type { Bucket } from "./object-store.ts";

const COMMITS_PER_FOLDER = 10_000;
const digits = (n: number, width: number): string => String(n).padStart(width, "0");

export const commitKey = (n: number): string => `commits/${digits(Math.floor(n / COMMITS_PER_FOLDER), 16)}/${digits(n % COMMITS_PER_FOLDER, 4)}`;
export const recordKey = (digest: Digest): string => `records/sha256/${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest}`;
export const artifactKey = (project: Digest, digest: Digest): string => `artifacts/${project}/sha256/${digest.slice(0, 2)}/${digest}`;
/** `noteHash` is the first 16 hex characters of the note's SHA-256. */
export const checkpointKey = (size: number, noteHash: string): string => `checkpoints/${digits(size, 20)}-${noteHash}`;
export const personalKey = (digest: Digest): string => `sha256/${digest}`;
export const HEAD_CHECKPOINT = "checkpoint";
export const LEADER = "leader";

export type ParsedKey =
  | { readonly type: "commit"; readonly n: number }
  | { readonly type: "record"; readonly digest: Digest }
  | { readonly type: "artifact"; readonly project: Digest; readonly digest: Digest }
  | { readonly type: "tile"; readonly partial: boolean }
  | { readonly type: "checkpoint"; readonly size: number; readonly noteHash: string }
  | { readonly type: "personal"; readonly digest: Digest }
  | { readonly type: "head-checkpoint" | "leader" | "probe" };

const COMMIT = /^commits\/([0-9]{16})\/([0-9]{4})$/;
const RECORD = /^records\/sha256\/([0-9a-f]{2})\/([0-9a-f]{2})\/([0-9a-f]{64})$/;
const ARTIFACT = /^artifacts\/([0-9a-f]{64})\/sha256\/([0-9a-f]{2})\/([0-9a-f]{64})$/;
const TILE = /^tile\/(?:entries|[0-9]|[1-9][0-9])\/(?:x[0-9]{3}\/){0,5}[0-9]{3}(\.p\/[1-9][0-9]{0,2})?$/;
const CHECKPOINT = /^checkpoints\/([0-9]{20})-([0-9a-f]{16})$/;
const PERSONAL = /^sha256\/([0-9a-f]{64})$/;
const PROBE = /^probe\/[0-9a-f]{32}$/;
const MAX_KEY_LENGTH = 256;

function parseLedgerKey(key: string): ParsedKey | undefined {
  const commit = COMMIT.exec(key);
  if (commit !== null) {
    const n = Number(commit[1]) * COMMITS_PER_FOLDER + Number(commit[2]);
    return Number.isSafeInteger(n) ? { n, type: "commit" } : undefined;
  }
  const record = RECORD.exec(key);
  if (record !== null) return record[3]?.startsWith(`${record[1]}${record[2]}`) === true ? { digest: record[3] as Digest, type: "record" } : undefined;
  const artifact = ARTIFACT.exec(key);
  if (artifact !== null) return artifact[3]?.startsWith(artifact[2] ?? "-") === true ? { digest: artifact[3] as Digest, project: artifact[1] as Digest, type: "artifact" } : undefined;
  const checkpoint = CHECKPOINT.exec(key);
  if (checkpoint !== null) {
    const size = parseDecimal(checkpoint[1]?.replace(/^0+(?=[0-9])/, "") ?? "");
    return size === undefined ? undefined : { noteHash: checkpoint[2] ?? "", size, type: "checkpoint" };
  }
  const tile = TILE.exec(key);
  return tile !== null && tile[1] === undefined ? { partial: false, type: "tile" } : undefined;
}

/** What a key names; undefined for every key that no part of the program writes. */
export function parseKey(bucket: Bucket, key: string): ParsedKey | undefined {
  if (key.length > MAX_KEY_LENGTH) return undefined;
  if (bucket === "ledger") return parseLedgerKey(key);
  if (bucket === "personal") {
    const digest = parseDigest(PERSONAL.exec(key)?.[1] ?? "");
    return digest === undefined ? undefined : { digest, type: "personal" };
  }
  if (key === HEAD_CHECKPOINT) return { type: "head-checkpoint" };
  if (key === LEADER) return { type: "leader" };
  if (PROBE.test(key)) return { type: "probe" };
  return TILE.exec(key)?.[1] === undefined ? undefined : { partial: true, type: "tile" };
}
