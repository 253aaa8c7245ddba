/**
 * Verifies a copy of the buckets without any server: commits in order, each record object, tiles, checkpoints and seals, and
 * that all of it extends what was kept.
 *
 * Two sizes come out: what the copy claims (its largest valid checkpoint) and what was verified (the largest checkpoint below
 * which everything is there and right). Absence alone accuses nobody of a copy; bytes that contradict do.
 */
import { HashStore } from "../merkle/proofs.ts";
import { assert } from "../std/assert.ts";
import { parseKey } from "../store/keys.ts";
import { ArtifactObjects, type ArtifactStates } from "./bucket/artifacts.ts";
import { type Audit, type BucketOptions, type BucketReader, listed } from "./bucket/audit.ts";
import { Bundles } from "./bucket/bundles.ts";
import { Checkpoints, readNotes } from "./bucket/checkpoints.ts";
import { type Walk, walkCommits } from "./bucket/commits.ts";
import { findStrangers, RecordObjects, resumedOf } from "./bucket/records.ts";
import type { RecordStates } from "./bucket/resume.ts";
import { Sweep } from "./bucket/sweep.ts";
import { checkTiles } from "./bucket/tiles.ts";
import type { Trust } from "./checkpoint.ts";
import { type Check, Stage } from "./report.ts";
import { type CheckpointReport, describeCheckpoint, splitViewNote } from "./verdict.ts";

export type { BucketOptions, BucketReader, RecordCheck } from "./bucket/audit.ts";

export type BucketVerdict = "COMPLETE" | "BEHIND" | "HOLED" | "CONTRADICTED";

export interface BucketReport {
  /** Null when they were not asked for. */
  readonly artifacts: ArtifactStates | null;
  readonly checkpoint: CheckpointReport | null;
  readonly checks: readonly Check[];
  /** Size of the largest valid checkpoint. */
  readonly claimed: number;
  readonly commits: number;
  readonly entries: number;
  readonly lock: "compliance" | "advisory";
  readonly notes: readonly string[];
  /** Null when record objects were not read. */
  readonly records: RecordStates | null;
  readonly verdict: BucketVerdict;
  /** Size of the largest checkpoint below which all is there and right. */
  readonly verified: number;
}

/** Codes that say that something is absent, not that something is wrong. */
const ABSENCE = new Set(["artifact.missing", "commit.gap", "record.missing", "tile.missing"]);
/** Codes that say that what is here is right, and not the newest, or not proven to be. */
const BEHIND = new Set(["checkpoint.ahead", "checkpoint.quorum", "checkpoint.stale", "tile.ahead"]);

/** Codes that say how objects lie in the bucket, and nothing against what the ledger is. */
const STORAGE = new Set(["object.hidden", "object.retention", "object.shadowed"]);

const largest = (sizes: readonly number[]): number => sizes.reduce((a, b) => Math.max(a, b), 0);

/** Keys below `commits/` that are none, and commits after a hole. */
function checkSlots(slots: readonly string[], walk: Walk, stage: Stage): void {
  const beyond: number[] = [];
  for (const key of slots) {
    const parsed = parseKey("ledger", key);
    if (parsed?.type !== "commit") stage.fail("commit.n", key, "is not the key of a commit");
    else if (!walk.failed && parsed.n >= walk.slots) beyond.push(parsed.n);
  }
  if (beyond.length > 0)
    stage.fail(
      "commit.gap",
      `commit ${walk.slots}`,
      `is absent; ${beyond.length} follow it, from commit ${beyond[0]} on`,
    );
}

/** Throws the Violation `kept.signature` when a kept note is signed by no key of the policy or of the ledger: a wrong question. */
export async function verifyBucket(store: BucketReader, trust: Trust, asked: BucketOptions): Promise<BucketReport> {
  assert(asked.state !== true || asked.records !== "digests", "records that are folded are read");
  const options = { ...asked, concurrency: Math.max(1, Math.floor(asked.concurrency)) };
  const stages = {
    artifacts: new Stage("artifacts"),
    checkpoints: new Stage("checkpoints"),
    commits: new Stage("commits"),
    kept: new Stage("kept"),
    records: new Stage("records"),
    seals: new Stage("seals"),
    tiles: new Stage("tiles"),
  };
  const hashes = new HashStore();
  const notes: string[] = [];
  const absent = { records: [], tiles: [] };
  const sweep = new Sweep();
  const audit: Audit = { absent, bundles: new Bundles(), hashes, notes, options, stages, store, sweep, trust };

  // What the log publishes is read before the log, which may grow meanwhile.
  const found = await readNotes(audit, await listed(audit, "checkpoints/"));
  const tiles = await listed(audit, "tile/");
  const slots = await listed(audit, "commits/");
  const objects = options.records === "objects" ? new RecordObjects(audit, await resumedOf(audit)) : undefined;
  const artifacts = options.artifacts === true ? new ArtifactObjects(audit) : undefined;
  let walk: Walk;
  try {
    walk = await walkCommits(audit, slots.length, { artifacts, objects });
  } catch (error) {
    await objects?.keep();
    throw error;
  }
  checkSlots(slots, walk, stages.commits);

  const checkpoints = new Checkpoints(audit, walk.chain);
  checkpoints.take(found);
  const newest = checkpoints.newest();
  checkpoints.checkKept();
  checkpoints.noteUnarchived(walk.sealed);
  const sizeOf = (c: (typeof checkpoints.claims)[number]): number => c.tree.checkpoint.size;
  const sound = checkpoints.claims.filter((c) => c.isSound);
  const claimed = largest(checkpoints.claims.map(sizeOf));
  const published = largest(sound.map(sizeOf));

  // Above the published size an absent record object is still on its way.
  for (const index of audit.absent.records.toSorted((a, b) => a - b))
    if (index < published)
      stages.records.fail(
        "record.missing",
        `entry ${index}`,
        "its record object is below the published size, and absent",
      );
  if (objects !== undefined) await findStrangers(audit, walk.indexes);
  await checkTiles(audit, tiles, published);
  await artifacts?.check();
  sweep.note(notes);
  if (checkpoints.claims.length === 0)
    stages.checkpoints.fail("checkpoint.missing", "checkpoints/", "there is no checkpoint, so nothing is signed");
  if (store.lock === "advisory")
    notes.push("lock: advisory. The file system does not enforce retention; compare with notes that were kept.");

  const looked = Object.values(stages).filter((s) => s !== stages.artifacts || artifacts !== undefined || s.failed);
  const checks = looked.map((s) => s.check());
  const codes = new Set(Object.values(stages).flatMap((s) => [...s.codes]));
  const isContradicted =
    codes
      .difference(ABSENCE)
      .difference(BEHIND)
      .difference(STORAGE)
      .difference(new Set(["checkpoint.missing"])).size > 0;
  const holes = [...audit.absent.records, ...audit.absent.tiles].filter((i) => i < published);
  const whole = holes.reduce((a, b) => Math.min(a, b), hashes.size);
  const seen = sound.filter((c) => c.tree.quorum !== false).map(sizeOf);
  const verified = isContradicted ? 0 : largest(seen.filter((size) => size <= whole));
  const isBehind = verified < claimed || !codes.isDisjointFrom(BEHIND) || checks.some((c) => c.skipped.length > 0);
  return {
    artifacts: artifacts?.states ?? null,
    checkpoint: newest === undefined ? null : describeCheckpoint(newest),
    checks,
    claimed,
    commits: walk.slots,
    entries: hashes.size,
    lock: store.lock,
    notes: [...notes, ...splitViewNote(newest)],
    records: objects?.states ?? null,
    verdict: isContradicted
      ? "CONTRADICTED"
      : !codes.isDisjointFrom(ABSENCE) || checkpoints.claims.length === 0
        ? "HOLED"
        : isBehind
          ? "BEHIND"
          : "COMPLETE",
    verified,
  };
}
