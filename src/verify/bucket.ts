/**
 * Verifies a copy of the buckets without any server: commits in order, each record object, tiles, checkpoints and seals, and
 * that all of it extends what was kept.
 *
 * Two sizes come out: what the copy claims (its largest valid checkpoint) and what was verified (the largest checkpoint below
 * which everything is there and right). Absence alone accuses nobody of a copy; bytes that contradict do.
 */

import { leafHash, sha256Hex } from "../merkle/hash.ts";
import { HashStore } from "../merkle/proofs.ts";
import { entriesPath, parseBundle, parseTilePath, TILE_WIDTH, tilePath } from "../merkle/tiles.ts";
import type { VerifierKey } from "../note/keys.ts";
import { CommitChain, type ValidCommit } from "../record/chain.ts";
import { headsRoot } from "../record/heads.ts";
import { digestOf } from "../std/brand.ts";
import { concat, equalBytes, formatHex } from "../std/bytes.ts";
import { parseTime } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { checkpointKey, commitKey, HEAD_CHECKPOINT, parseKey, recordKey } from "../store/keys.ts";
import type { ObjectInfo, ObjectStore } from "../store/object-store.ts";

/** What verification asks of a store. */
export type BucketReader = Pick<ObjectStore, "get" | "head" | "list" | "lock">;

import { openWitnessed, type Trust, type Witnessed } from "./checkpoint.ts";
import { type CheckpointReport, describeCheckpoint, splitViewNote } from "./pack.ts";
import { type Check, Stage } from "./report.ts";

export type BucketVerdict = "COMPLETE" | "BEHIND" | "HOLED" | "CONTRADICTED";

export interface BucketReport {
  readonly checkpoint: CheckpointReport | null;
  readonly checks: readonly Check[];
  /** Size of the largest valid checkpoint. */
  readonly claimed: number;
  readonly commits: number;
  readonly entries: number;
  readonly lock: "compliance" | "advisory";
  readonly notes: readonly string[];
  readonly verdict: BucketVerdict;
  /** Size of the largest checkpoint below which all is there and right. */
  readonly verified: number;
}

export interface BucketOptions {
  /** Whether each record's own object is read and compared; without it the commits alone are. */
  readonly records: boolean;
  readonly genesis?: string;
  /** How many objects are read at once. */
  readonly concurrency: number;
  readonly nowMs: number;
  readonly progress?: (done: number, of: number, what: string) => void;
  readonly signal?: AbortSignal;
}

const DAY_MS = 86_400_000;
const HEAD_AT = `head/${HEAD_CHECKPOINT}`;
/** Of what is absent, this many sizes are named. */
const SIZES_SHOWN = 10;
/** Codes that say that something is absent, not that something is wrong. */
const ABSENCE = new Set(["commit.gap", "record.missing", "tile.missing"]);
const BEHIND = new Set(["checkpoint.ahead", "tile.ahead"]);

interface State {
  readonly store: BucketReader;
  readonly trust: Trust;
  readonly options: BucketOptions;
  readonly stages: Readonly<Record<"commits" | "records" | "tiles" | "checkpoints" | "seals" | "kept", Stage>>;
  readonly notes: string[];
  readonly hashes: HashStore;
  readonly absentRecords: number[];
  readonly absentTiles: number[];
}

/** Runs `work` on items with bounded concurrency, in order of arrival. */
async function each<T>(
  items: AsyncIterable<T> | Iterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  for await (const item of items) {
    const task = work(item).finally(() => running.delete(task));
    running.add(task);
    if (running.size >= limit) await Promise.race(running);
  }
  await Promise.all(running);
}

async function listed(store: BucketReader, prefix: string): Promise<ObjectInfo[]> {
  const all: ObjectInfo[] = [];
  for await (const info of store.list("ledger", prefix)) all.push(info);
  return all;
}

/** Reads commits ahead of the checks, in order, until one is absent. */
async function* commitsOf(state: State): AsyncGenerator<{ n: number; bytes: Uint8Array }> {
  const { concurrency } = state.options;
  const ahead: Promise<{ body: Uint8Array } | null>[] = [];
  for (let n = 0; ; n++) {
    while (ahead.length < concurrency) ahead.push(state.store.get("ledger", commitKey(n + ahead.length)));
    const found = await ahead.shift();
    if (found === null || found === undefined) {
      await Promise.all(ahead);
      return;
    }
    yield { bytes: found.body, n };
  }
}

/** One seal that the commits hold, with what it should say. */
interface SealClaim {
  readonly index: number;
  readonly record: string;
  readonly stated: {
    readonly heads: unknown;
    readonly ledger: unknown;
    readonly projects: unknown;
    readonly size: unknown;
  };
  readonly heads: string;
  readonly ledger: string;
  readonly projects: number;
}

interface Walk {
  readonly commits: number;
  readonly commitFailed: boolean;
  readonly known: ReadonlySet<string>;
  /** Sizes that a seal closes, ascending. */
  readonly sealed: readonly number[];
}

async function walkCommits(state: State, total: number): Promise<Walk> {
  const { commits, records, seals } = state.stages;
  const known = new Map<string, number>();
  let chain = CommitChain.genesis();
  let newestLedger = "";
  let retentionDays = 0;
  let failed = false;
  let count = 0;
  const sealed: number[] = [];
  const pending = new Set<Promise<void>>();
  for await (const { bytes, n } of commitsOf(state)) {
    const at = commitKey(n);
    let valid: ValidCommit;
    try {
      valid = chain.check(bytes, state.trust.verifier);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      commits.fail(error.code, at, error.message);
      failed = true;
      break;
    }
    const claims: SealClaim[] = [];
    for (const item of valid.items) {
      state.hashes.append(item.leaf);
      const id = item.entry.record;
      if (known.has(id)) commits.fail("entry.duplicate", at, `${id} is an entry twice`);
      known.set(id, item.index);
      if (item.record === null) continue;
      for (const link of item.record.links) {
        const target = known.get(link.to);
        if (target === undefined || target >= item.index)
          records.fail(
            target === undefined ? "link.dangling" : "link.order",
            id,
            `its link ${link.rel} to ${link.to} names no record before it`,
          );
      }
      if (item.record.kind === "ledger") {
        newestLedger = id;
        const days = item.record.body["default_retention_days"];
        if (typeof days === "number") retentionDays = days;
      }
      if (item.record.kind === "ledger.seal") {
        const { heads, ledger, projects, size } = item.record.body;
        // A seal is a commit of its own, so the chain before this commit is the state that it seals.
        claims.push({
          heads: formatHex(headsRoot(chain.heads)),
          index: item.index,
          ledger: newestLedger,
          projects: chain.heads.size,
          record: id,
          stated: { heads, ledger, projects, size },
        });
      }
    }
    for (const claim of claims) {
      const { stated } = claim;
      sealed.push(claim.index + 1);
      if (
        valid.items.length !== 1 ||
        stated.size !== claim.index ||
        stated.heads !== claim.heads ||
        stated.ledger !== claim.ledger ||
        stated.projects !== claim.projects
      )
        seals.fail(
          "seal.mismatch",
          claim.record,
          `at index ${claim.index} the seal does not state what the entries give`,
        );
    }
    if (n === 0 && state.options.genesis !== undefined && valid.items[0]?.entry.record !== state.options.genesis)
      commits.fail("ledger.genesis", at, `the genesis is ${valid.items[0]?.entry.record}: another ledger`);
    chain = chain.advance(valid);
    count = n + 1;
    if (state.options.records) {
      const task = compareRecords(state, valid, retentionDays).finally(() => pending.delete(task));
      pending.add(task);
      if (pending.size >= 4) await Promise.race(pending);
    }
    state.options.progress?.(count, total, "commits");
  }
  await Promise.all(pending);
  return { commitFailed: failed, commits: count, known: new Set(known.keys()), sealed };
}

/** Each record of a commit is an object of its own with the same bytes, locked long enough. */
async function compareRecords(state: State, commit: ValidCommit, retentionDays: number): Promise<void> {
  const { records } = state.stages;
  const expected = (parseTime(commit.header.time) ?? 0) + (retentionDays - 1) * DAY_MS;
  await each(commit.items, state.options.concurrency, async (item) => {
    const digest = digestOf(item.entry.record);
    const key = recordKey(digest);
    const [found, info] = await Promise.all([state.store.get("ledger", key), state.store.head("ledger", key)]);
    if (found === null) {
      state.absentRecords.push(item.index);
      return;
    }
    const equal =
      item.recordBytes === null ? sha256Hex(found.body) === digest : equalBytes(found.body, item.recordBytes);
    if (!equal) records.fail("record.digest", key, "the object's bytes are not the record's");
    else if (info?.retainUntil !== undefined && info.retainUntil < expected && expected > state.options.nowMs)
      records.fail(
        "object.retention",
        key,
        `is locked until ${new Date(info.retainUntil).toISOString()}, expected ${new Date(expected).toISOString()}`,
      );
  });
}

interface Claimed {
  readonly at: string;
  readonly tree: Witnessed;
}

/** Every checkpoint in the copy, checked against the tree that the commits give. */
async function walkCheckpoints(state: State, extra: readonly VerifierKey[]): Promise<Claimed[]> {
  const stage = state.stages.checkpoints;
  const claimed: Claimed[] = [];
  const open = (bytes: Uint8Array, at: string, archived: boolean): void => {
    try {
      const tree = openWitnessed(bytes, { ...state.trust, requirePq: false }, extra);
      const { root, size } = tree.checkpoint;
      if (archived && at !== checkpointKey(size, sha256Hex(bytes).slice(0, 16)))
        stage.fail("checkpoint.key", at, "the key is not the one of its size and bytes");
      if (size > state.hashes.size)
        stage.fail("checkpoint.ahead", at, `is of size ${size}; the commits here end at ${state.hashes.size}`);
      else if (!equalBytes(state.hashes.root(size), root))
        stage.fail(
          "checkpoint.root",
          at,
          `signs root ${formatHex(root)} at size ${size}, the commits give ${formatHex(state.hashes.root(size))}`,
        );
      if (tree.quorum === false) state.notes.push(`${at}: the quorum of the policy did not cosign it`);
      claimed.push({ at, tree });
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code, at, error.message);
    }
  };
  for (const info of await listed(state.store, "checkpoints/")) {
    const found = await state.store.get("ledger", info.key);
    if (found !== null) open(found.body, info.key, true);
  }
  const head = await state.store.get("head", HEAD_CHECKPOINT);
  if (head === null) state.notes.push("head has no checkpoint: the newest archived one stands for it");
  else open(head.body, HEAD_AT, false);
  const roots = new Map<number, Claimed>();
  for (const c of claimed) {
    const other = roots.get(c.tree.checkpoint.size);
    if (other !== undefined && !equalBytes(other.tree.checkpoint.root, c.tree.checkpoint.root))
      stage.fail("checkpoint.fork", c.at, `and ${other.at} are two signed trees of one size`);
    roots.set(c.tree.checkpoint.size, c);
  }
  return claimed;
}

/** Full tiles and bundles, each byte for byte what the entries give. */
async function walkTiles(state: State, published: number): Promise<void> {
  const stage = state.stages.tiles;
  const present = new Set((await listed(state.store, "tile/")).map((i) => i.key));
  const size = state.hashes.size;
  for (const key of present) {
    const tile = parseTilePath(key);
    if (tile === undefined || tile.width !== TILE_WIDTH)
      stage.fail("tile.mismatch", key, "is not the key of a full tile");
    else {
      const level = tile.level === "entries" ? 0 : tile.level;
      if ((tile.n + 1) * TILE_WIDTH ** (level + 1) > size)
        stage.fail("tile.ahead", key, `goes beyond the ${size} entries that the commits give`);
    }
  }
  const jobs: { key: string; level: number | "entries"; n: number }[] = [];
  for (let n = 0; (n + 1) * TILE_WIDTH <= published; n++) jobs.push({ key: entriesPath(n), level: "entries", n });
  for (let level = 0, width = TILE_WIDTH; width <= published; level++, width *= TILE_WIDTH)
    for (let n = 0; (n + 1) * width <= published; n++) jobs.push({ key: tilePath(level, n), level, n });
  let done = 0;
  await each(jobs, state.options.concurrency, async ({ key, level, n }) => {
    const found = await state.store.get("ledger", key);
    state.options.progress?.(++done, jobs.length, "tiles");
    if (found === null) {
      const span = TILE_WIDTH ** (level === "entries" ? 1 : level + 1);
      state.absentTiles.push(n * span);
      stage.fail("tile.missing", key, "is below the published size, and absent");
      return;
    }
    const right =
      level === "entries"
        ? holdsEntries(state, n, found.body)
        : equalBytes(
            found.body,
            concat(...Array.from({ length: TILE_WIDTH }, (_, i) => state.hashes.read(8 * level, n * TILE_WIDTH + i))),
          );
    if (!right) stage.fail("tile.mismatch", key, "has other bytes than the entries give");
  });
}

export async function verifyBucket(store: BucketReader, trust: Trust, options: BucketOptions): Promise<BucketReport> {
  const stages = {
    checkpoints: new Stage("checkpoints"),
    commits: new Stage("commits"),
    kept: new Stage("kept"),
    records: new Stage("records"),
    seals: new Stage("seals"),
    tiles: new Stage("tiles"),
  };
  const state: State = {
    absentRecords: [],
    absentTiles: [],
    hashes: new HashStore(),
    notes: [],
    options,
    stages,
    store,
    trust,
  };
  const slots = (await listed(store, "commits/")).map((i) => i.key);
  const walk = await walkCommits(state, slots.length);
  for (const key of slots) {
    const parsed = parseKey("ledger", key);
    if (parsed?.type !== "commit") stages.commits.fail("commit.n", key, "is not the key of a commit");
    else if (!walk.commitFailed && parsed.n >= walk.commits)
      stages.commits.fail("commit.gap", key, `follows a hole: commit ${walk.commits} is absent`);
  }
  const claims = await walkCheckpoints(state, []);
  const size = state.hashes.size;
  const sound = claims.filter(
    (c) =>
      c.tree.checkpoint.size <= size && equalBytes(state.hashes.root(c.tree.checkpoint.size), c.tree.checkpoint.root),
  );
  const claimed = Math.max(0, ...claims.map((c) => c.tree.checkpoint.size));
  const published = Math.max(0, ...sound.map((c) => c.tree.checkpoint.size));

  // Above the published size an absent record object is still on its way.
  for (const index of state.absentRecords.toSorted((a, b) => a - b))
    if (index < published)
      stages.records.fail(
        "record.missing",
        `entry ${index}`,
        "its record object is below the published size, and absent",
      );
  if (options.records) await reportStrangers(state, walk.known);
  noteUnarchived(state, walk.sealed, claims);
  await walkTiles(state, published);
  for (const [i, bytes] of trust.kept.entries()) checkKept(state, bytes, `kept note ${i + 1}`);

  const failures = Object.values(stages).flatMap((s) => s.check().failures);
  const contradicted = failures.some((f) => !ABSENCE.has(f.code) && !BEHIND.has(f.code));
  const holes = [...state.absentRecords, ...state.absentTiles].filter((i) => i < published);
  const hole = Math.min(size, ...holes);
  const verified = contradicted ? 0 : Math.max(0, ...sound.map((c) => c.tree.checkpoint.size).filter((s) => s <= hole));
  const verdict: BucketVerdict = contradicted
    ? "CONTRADICTED"
    : failures.some((f) => ABSENCE.has(f.code))
      ? "HOLED"
      : verified < claimed || failures.some((f) => BEHIND.has(f.code))
        ? "BEHIND"
        : "COMPLETE";
  const newest = sound.toSorted((a, b) => b.tree.checkpoint.size - a.tree.checkpoint.size)[0]?.tree;
  if (newest === undefined && claims.length === 0)
    stages.checkpoints.fail("checkpoint.malformed", "checkpoints/", "there is no checkpoint, so nothing is signed");
  if (store.lock === "advisory")
    state.notes.push("lock: advisory. The file system does not enforce retention; compare with notes that were kept.");
  return {
    checkpoint: newest === undefined ? null : describeCheckpoint(newest),
    checks: Object.values(stages).map((s) => s.check()),
    claimed,
    commits: walk.commits,
    entries: size,
    lock: store.lock,
    notes: [...state.notes, ...splitViewNote(newest)],
    verdict: newest === undefined ? (contradicted ? "CONTRADICTED" : "HOLED") : verdict,
    verified,
  };
}

/** Whether a bundle holds exactly the entries of the tree: equal leaf hashes mean equal entries. */
function holdsEntries(state: State, n: number, bundle: Uint8Array): boolean {
  try {
    const entries = parseBundle(bundle);
    return (
      entries.length === TILE_WIDTH &&
      entries.every((e, i) => equalBytes(leafHash(e), state.hashes.read(0, n * TILE_WIDTH + i)))
    );
  } catch (error) {
    if (error instanceof Violation) return false;
    throw error;
  }
}

/** Accuses nobody: a writer that died between a seal and its archive leaves the same. */
function noteUnarchived(state: State, sealed: readonly number[], claims: readonly Claimed[]): void {
  const archived = new Set(claims.filter((c) => c.at !== HEAD_AT).map((c) => c.tree.checkpoint.size));
  const missing = sealed.filter((size) => !archived.has(size));
  if (missing.length === 0) return;
  const shown = missing.slice(0, SIZES_SHOWN).join(", ");
  const more = missing.length > SIZES_SHOWN ? ` and ${missing.length - SIZES_SHOWN} more` : "";
  state.notes.push(`checkpoint.missing: no archived checkpoint of the sealed sizes ${shown}${more}`);
}

async function reportStrangers(state: State, known: ReadonlySet<string>): Promise<void> {
  for await (const info of state.store.list("ledger", "records/")) {
    const parsed = parseKey("ledger", info.key);
    if (parsed?.type !== "record") state.stages.records.fail("record.key", info.key, "is not the key of a record");
    else if (!known.has(`sha256:${parsed.digest}`))
      state.notes.push(`record.unreferenced: ${info.key} is named by no entry`);
  }
}

/** A kept note is part of the tree, or history was rewritten. */
function checkKept(state: State, bytes: Uint8Array, at: string): void {
  const stage = state.stages.kept;
  try {
    const kept = openWitnessed(bytes, { ...state.trust, requirePq: false });
    const { root, size } = kept.checkpoint;
    if (size > state.hashes.size)
      stage.fail(
        "checkpoint.ahead",
        at,
        `is of size ${size}; the commits here end at ${state.hashes.size}: the newest entries are missing`,
      );
    else if (!equalBytes(state.hashes.root(size), root))
      stage.fail(
        "consistency.mismatch",
        at,
        `the tree of size ${size} has another root than the one that was kept: history was rewritten`,
      );
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    stage.fail(error.code, at, error.message);
  }
}
