/**
 * Verifies an evidence pack: ten stages in the order in which they depend on each other. A failure in the first four makes all
 * later ones unsaid, since nothing they read could be trusted.
 *
 * What is trusted comes from outside (`Trust`); nothing in the pack is. Shares no code with the builder but the pure rooms.
 */

import type { Digest, RecordId } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { checkBlobs } from "./blobs.ts";
import { checkCheckpoint, checkHistory, type Trust, type Witnessed } from "./checkpoint.ts";
import { readContainer } from "./container.ts";
import { checkDecisions } from "./decisions.ts";
import { checkEntries } from "./entries.ts";
import type { Limits } from "./limits.ts";
import { checkManifest } from "./manifest.ts";
import { checkPersonal, checkRecords, type PackRecord } from "./records.ts";
import { type Check, Stage, type Verdict, verdictOf } from "./report.ts";
import { checkChains, checkKeys, readSeal } from "./seal.ts";
import { checkTimes } from "./time.ts";

export interface PackOptions {
  readonly genesis?: RecordId;
  /** Projects that must be complete. */
  readonly complete: readonly Digest[];
  /** Reasons for leaving records out that the reader accepts. */
  readonly allowOutside: ReadonlySet<string>;
  readonly notAfterSize?: number;
  readonly limits: Limits;
  readonly progress?: (stage: string, bytes: number) => void;
}

export interface CheckpointReport {
  readonly origin: string;
  readonly quorum: boolean;
  readonly root: string;
  readonly size: number;
  readonly split_view: "excluded" | "not-excluded";
}

export interface PackReport {
  readonly checkpoint: CheckpointReport | null;
  readonly checks: readonly Check[];
  readonly notes: readonly string[];
  readonly pack: string;
  readonly verdict: Verdict;
}

/** What was verified, for readers who print it: only what every stage passed may be shown as proven. */
export interface VerifiedPack {
  readonly report: PackReport;
  readonly records: readonly PackRecord[];
  readonly roots: readonly string[];
  readonly personal: ReadonlyMap<string, string>;
}

const STAGES = [
  "container",
  "checkpoint",
  "history",
  "entries",
  "records",
  "keys",
  "chains",
  "time",
  "blobs",
  "decisions",
] as const;

export function describeCheckpoint(tree: Witnessed): CheckpointReport {
  const { origin, root, size } = tree.checkpoint;
  return {
    origin,
    quorum: tree.quorum === true,
    root: formatHex(root),
    size,
    split_view: tree.quorum === true ? "excluded" : "not-excluded",
  };
}

export function splitViewNote(tree: Witnessed | undefined): string[] {
  return tree !== undefined && tree.quorum === null
    ? [
        "The policy asks for no witnesses: a split view (another history shown to others) is not excluded beyond the notes that were kept.",
      ]
    : [];
}

export async function verifyPack(
  source: AsyncIterable<Uint8Array>,
  trust: Trust,
  options: PackOptions,
): Promise<VerifiedPack> {
  const { limits } = options;
  const stages = new Map(STAGES.map((id) => [id, new Stage(id)] as const));
  const stage = (id: (typeof STAGES)[number]): Stage => stages.get(id) ?? new Stage(id);
  const progress =
    (id: string): ((bytes: number) => void) =>
    (bytes) =>
      options.progress?.(id, bytes);
  let pack = "";
  let tree: Witnessed | undefined;
  const finish = (
    records: readonly PackRecord[] = [],
    roots: readonly string[] = [],
    personal: ReadonlyMap<string, string> = new Map(),
  ): VerifiedPack => {
    const firstFailed = STAGES.slice(0, 4).findIndex((id) => stage(id).failed);
    if (firstFailed >= 0)
      for (const id of STAGES.slice(firstFailed + 1)) stage(id).skip(`not tried: stage ${STAGES[firstFailed]} failed`);
    const checks = STAGES.map((id) => stage(id).check());
    return {
      personal,
      records,
      report: {
        checkpoint: tree === undefined ? null : describeCheckpoint(tree),
        checks,
        notes: splitViewNote(tree),
        pack,
        verdict: verdictOf(checks),
      },
      roots,
    };
  };

  const members = await readContainer(source, limits, stage("container"), progress("container"));
  if (members === undefined) return finish();
  pack = members[0]?.sha256 ?? "";
  const member = (name: string): Uint8Array | undefined => members.find((m) => m.name === name)?.bytes;
  const required = (name: string): Uint8Array => member(name) ?? new Uint8Array();
  const manifest = checkManifest(members, limits, stage("container"));
  if (manifest === undefined || stage("container").failed) return finish();

  tree = checkCheckpoint(required("checkpoint"), trust, limits, stage("checkpoint"));
  if (tree === undefined || stage("checkpoint").failed) return finish();
  const notes = [tree, ...checkHistory(member("history.jsonl"), tree, trust, limits, [], stage("history"))];
  if (stage("history").failed) return finish();
  const entries = checkEntries(
    required("entries.txt"),
    required("proof.bin"),
    tree,
    options.genesis,
    limits,
    stage("entries"),
  );
  if (entries === undefined) return finish();

  const records = checkRecords(
    required("records.jsonl"),
    entries,
    manifest,
    options.allowOutside,
    limits,
    stage("records"),
  );
  const personal = checkPersonal(member("personal.jsonl"), records, manifest, limits, stage("records"));
  const seal = readSeal(records, tree, stage("keys"));
  checkKeys(records, seal, tree, options.notAfterSize, stage("keys"));
  checkChains(required("heads.jsonl"), records, seal, manifest, options.complete, limits, stage("chains"));
  checkTimes(records, notes, stage("time"));
  checkBlobs(members, records, manifest, stage("blobs"));
  checkDecisions(records, manifest, stage("decisions"));
  return finish(records, manifest.roots, personal);
}
