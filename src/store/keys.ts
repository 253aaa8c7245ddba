/**
 * Every key of the three buckets (`docs/architecture.md`), formatted and parsed in one place. Keys are never joined elsewhere, and
 * adapters take a key only if it parses: what these parsers accept holds lower-case letters, digits and `/ . -` only.
 */
import { assert } from "../std/assert.ts";
import { type Digest, parseDigest } from "../std/brand.ts";
import type { Bucket } from "./object-store.ts";

/** Commits of one folder. */
const COMMITS_PER_FOLDER = 10_000;
/** Longer than any key here; S3 allows 1,024. */
const MAX_KEY_CHARACTERS = 256;
const MAX_PROBE = 9_999;

/** Key in head of the newest published checkpoint. */
export const HEAD_CHECKPOINT = "checkpoint";
/** Key in head of the writer's lease. */
export const LEADER = "leader";
/** Key in head of how far a copy is whole, written by whoever makes the copy. */
export const REPLICA = "replica";

export interface TileKey {
  readonly level: number | "entries";
  readonly n: number;
  /** 256 for a full tile. */
  readonly width: number;
}

export type LedgerKey =
  | { readonly type: "commit"; readonly n: number }
  | { readonly type: "record"; readonly digest: Digest }
  | { readonly type: "artifact"; readonly project: Digest; readonly digest: Digest }
  | ({ readonly type: "tile" } & TileKey)
  | { readonly type: "checkpoint"; readonly size: number; readonly noteHash: string };

export type HeadKey =
  | { readonly type: "newest-checkpoint" }
  | { readonly type: "leader" }
  | { readonly type: "replica" }
  | ({ readonly type: "partial-tile" } & TileKey)
  | { readonly type: "probe"; readonly run: string; readonly n: number };

export interface PersonalKey {
  readonly type: "personal";
  readonly digest: Digest;
}

export interface KeyOf {
  ledger: LedgerKey;
  head: HeadKey;
  personal: PersonalKey;
}

const isCount = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;

export function commitKey(n: number): string {
  assert(isCount(n), `${n} is the number of a commit`);
  const folder = Math.floor(n / COMMITS_PER_FOLDER);
  return `commits/${String(folder).padStart(16, "0")}/${String(n % COMMITS_PER_FOLDER).padStart(4, "0")}`;
}

const COMMIT = /^commits\/([0-9]{16})\/([0-9]{4})$/;

/** Number of the commit; undefined when `key` is not the key of a commit. */
export function parseCommitKey(key: string): number | undefined {
  if (key.length > MAX_KEY_CHARACTERS) return undefined;
  const match = COMMIT.exec(key);
  if (match === null) return undefined;
  const n = Number(match[1]) * COMMITS_PER_FOLDER + Number(match[2]);
  return Number.isSafeInteger(n) ? n : undefined;
}

export const recordKey = (digest: Digest): string =>
  `records/sha256/${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest}`;

export const artifactKey = (project: Digest, digest: Digest): string =>
  `artifacts/${project}/sha256/${digest.slice(0, 2)}/${digest}`;

export const personalKey = (digest: Digest): string => `sha256/${digest}`;

/** Key in ledger of the checkpoint of a sealed size; `noteHash` is the first 16 hex of the note's SHA-256. */
export function checkpointKey(size: number, noteHash: string): string {
  assert(isCount(size) && NOTE_HASH.test(noteHash), `${size}-${noteHash} names a checkpoint`);
  return `checkpoints/${String(size).padStart(20, "0")}-${noteHash}`;
}

/** Key in ledger of a full tile or bundle: its path in the log, as it is. */
export function tileKey(path: string): string {
  assert(parseTile(path)?.width === TILE_WIDTH, `${path} is the path of a full tile`);
  return path;
}

/** Key in head of a partial tile or bundle: its path in the log, as it is. */
export function partialTileKey(path: string): string {
  assert((parseTile(path)?.width ?? TILE_WIDTH) < TILE_WIDTH, `${path} is the path of a partial tile`);
  return path;
}

/** Key in head of a start-up probe; `run` is 32 hex. */
export function probeKey(run: string, n: number): string {
  assert(PROBE_RUN.test(run) && isCount(n) && n <= MAX_PROBE, `${run}/${n} names a probe`);
  return `probe/${run}/${String(n).padStart(4, "0")}`;
}

const TILE_WIDTH = 256;
const NOTE_HASH = /^[0-9a-f]{16}$/;
const PROBE_RUN = /^[0-9a-f]{32}$/;
const RECORD = /^records\/sha256\/[0-9a-f]{2}\/[0-9a-f]{2}\/([0-9a-f]{64})$/;
const ARTIFACT = /^artifacts\/([0-9a-f]{64})\/sha256\/[0-9a-f]{2}\/([0-9a-f]{64})$/;
const CHECKPOINT = /^checkpoints\/([0-9]{20})-([0-9a-f]{16})$/;
const TILE =
  /^tile\/(entries|0|[1-9]|[1-5][0-9]|6[0-3])\/((?:x(?!000\/)[0-9]{3}\/(?:x[0-9]{3}\/){0,4})?[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/;
const PERSONAL = /^sha256\/([0-9a-f]{64})$/;
const PROBE = /^probe\/([0-9a-f]{32})\/([0-9]{4})$/;

function parseTile(key: string): TileKey | undefined {
  if (key.length > MAX_KEY_CHARACTERS) return undefined;
  const match = TILE.exec(key);
  if (match === null) return undefined;
  const level = match[1] === "entries" ? "entries" : Number(match[1]);
  const n = Number(match[2]?.replaceAll(/[x/]/g, ""));
  const width = match[3] === undefined ? TILE_WIDTH : Number(match[3]);
  if (!Number.isSafeInteger(n) || (match[3] !== undefined && width >= TILE_WIDTH)) return undefined;
  return { level, n, width };
}

function parseLedgerKey(key: string): LedgerKey | undefined {
  const n = parseCommitKey(key);
  if (n !== undefined) return { type: "commit", n };
  const record = parseDigest(RECORD.exec(key)?.[1] ?? "");
  if (record !== undefined) return recordKey(record) === key ? { type: "record", digest: record } : undefined;
  const artifact = ARTIFACT.exec(key);
  if (artifact !== null) {
    const project = parseDigest(artifact[1] ?? "");
    const digest = parseDigest(artifact[2] ?? "");
    if (project === undefined || digest === undefined || artifactKey(project, digest) !== key) return undefined;
    return { type: "artifact", project, digest };
  }
  const checkpoint = CHECKPOINT.exec(key);
  if (checkpoint !== null) {
    const size = Number(checkpoint[1]);
    return Number.isSafeInteger(size) ? { type: "checkpoint", size, noteHash: checkpoint[2] ?? "" } : undefined;
  }
  const tile = parseTile(key);
  return tile?.width === TILE_WIDTH ? { type: "tile", ...tile } : undefined;
}

function parseHeadKey(key: string): HeadKey | undefined {
  if (key === HEAD_CHECKPOINT) return { type: "newest-checkpoint" };
  if (key === LEADER) return { type: "leader" };
  if (key === REPLICA) return { type: "replica" };
  const probe = PROBE.exec(key);
  if (probe !== null) return { type: "probe", run: probe[1] ?? "", n: Number(probe[2]) };
  const tile = parseTile(key);
  return tile !== undefined && tile.width < TILE_WIDTH ? { type: "partial-tile", ...tile } : undefined;
}

function parsePersonalKey(key: string): PersonalKey | undefined {
  const digest = parseDigest(PERSONAL.exec(key)?.[1] ?? "");
  return digest === undefined ? undefined : { type: "personal", digest };
}

const PARSERS: { readonly [B in Bucket]: (key: string) => KeyOf[B] | undefined } = {
  ledger: parseLedgerKey,
  head: parseHeadKey,
  personal: parsePersonalKey,
};

/** What a key of a bucket names; undefined for anything that the formatters here do not give. An attacker may choose `key`. */
export function parseKey<B extends Bucket>(bucket: B, key: string): KeyOf[B] | undefined {
  return key.length > MAX_KEY_CHARACTERS ? undefined : PARSERS[bucket](key);
}

/** What an attacker may have chosen, fit to be shown and recorded: what is not printable ASCII is percent-encoded, and the end cut off. */
export function printableText(text: string, maxCharacters = MAX_KEY_CHARACTERS): string {
  const shown = text
    .slice(0, maxCharacters)
    .replaceAll(/[^ -~]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`);
  return shown.length > maxCharacters || text.length > maxCharacters ? `${shown.slice(0, maxCharacters - 1)}~` : shown;
}
