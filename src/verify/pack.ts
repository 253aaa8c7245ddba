/**
 * Verifies an evidence pack: ten stages in the order in which they depend on each other. A failure in the first four makes all
 * later ones unsaid, since nothing they read could be trusted.
 *
 * What is trusted comes from outside (`Trust`); nothing in the pack is. Shares no code with the builder but the pure rooms.
 */
import type { Digest, RecordId } from "../std/brand.ts";
import { checkBlobs, manifestBlobs } from "./blobs.ts";
import { checkChains } from "./chains.ts";
import { checkCheckpoint, checkRoles, type Trust, type Witnessed } from "./checkpoint.ts";
import { readContainer } from "./container.ts";
import { readContents } from "./contents.ts";
import { checkDecisions } from "./decisions.ts";
import { checkEntries } from "./entries.ts";
import { checkHistory } from "./history.ts";
import { checkKeys, logKeys, statedKeys } from "./ledger-keys.ts";
import type { Limits } from "./limits.ts";
import { checkPersonal } from "./personal.ts";
import { checkRecords, type PackRecord } from "./records.ts";
import { type Check, Stage, type Verdict, verdictOf } from "./report.ts";
import { readSeal } from "./seal.ts";
import { checkTimes } from "./time.ts";
import { type CheckpointReport, describeCheckpoint, splitViewNote } from "./verdict.ts";

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

/** Their order is that of dependency. */
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
type StageId = (typeof STAGES)[number];
/** Stages that all later ones rest on. */
const FOUNDATIONS = 4;

/** The stages of one verification, and what is known for the report. */
class Verification {
  readonly #stages = new Map(STAGES.map((id) => [id, new Stage(id)] as const));
  pack = "";
  tree: Witnessed | undefined;

  stage(id: StageId): Stage {
    return this.#stages.get(id) ?? new Stage(id);
  }

  /** Whether a stage that the others rest on has failed. */
  get isDoomed(): boolean {
    return STAGES.slice(0, FOUNDATIONS).some((id) => this.stage(id).failed);
  }

  report(): PackReport {
    const broken = STAGES.slice(0, FOUNDATIONS).findIndex((id) => this.stage(id).failed);
    const checks = STAGES.map((id, i) => {
      if (broken < 0 || i <= broken) return this.stage(id).check();
      // Whatever a later stage has found rests on what was found to be false.
      const unsaid = new Stage(id);
      unsaid.skip(`not tried: stage ${STAGES[broken]} failed`);
      return unsaid.check();
    });
    return {
      checkpoint: this.tree === undefined ? null : describeCheckpoint(this.tree),
      checks,
      notes: splitViewNote(this.tree),
      pack: this.pack,
      verdict: verdictOf(checks),
    };
  }

  /** The end before records could be read. */
  nothing(): VerifiedPack {
    return { personal: new Map(), records: [], report: this.report(), roots: [] };
  }
}

/** Throws the Violation `kept.signature` when a kept note is signed by no key of the policy or of the ledger: a wrong question. */
export async function verifyPack(
  source: AsyncIterable<Uint8Array>,
  trust: Trust,
  options: PackOptions,
): Promise<VerifiedPack> {
  const { allowOutside, limits } = options;
  const { verifier } = trust;
  const run = new Verification();

  const members = await readContainer(
    source,
    limits,
    run.stage("container"),
    (bytes) => options.progress?.("container", bytes),
    manifestBlobs,
  );
  run.pack = members?.[0]?.sha256 ?? "";
  const contents = members === undefined ? undefined : readContents(members, limits, run.stage("container"));
  if (contents === undefined) return run.nothing();
  const { manifest } = contents;

  const tree = checkCheckpoint(contents.checkpoint, trust, run.stage("checkpoint"));
  run.tree = tree;
  if (tree === undefined || run.isDoomed) return run.nothing();
  const entries = checkEntries(contents.entries, contents.proof, tree, options.genesis, run.stage("entries"));
  const stated =
    entries === undefined ? undefined : statedKeys(entries, contents.records, tree.checkpoint.origin, verifier);
  if (stated !== undefined) checkRoles(trust.policy, stated, run.stage("checkpoint"));
  const anchors = checkHistory(contents.history, tree, trust, logKeys(stated), run.stage("history"));
  if (entries === undefined || run.isDoomed) return run.nothing();

  const records = checkRecords(contents.records, entries, manifest, allowOutside, run.stage("records"));
  const personal = checkPersonal(contents.personal, records, manifest, run.stage("records"));
  const seal = readSeal(records, tree, run.stage("keys"));
  const demands = { notAfterSize: options.notAfterSize, requirePq: trust.requirePq, verifier };
  checkKeys(records, seal, tree, demands, run.stage("keys"));
  checkChains(contents.heads, records, seal, manifest, options.complete, run.stage("chains"));
  checkTimes(records, [tree, ...anchors], run.stage("time"));
  checkBlobs(contents.blobs, records, manifest, allowOutside, run.stage("blobs"));
  checkDecisions(records, manifest, run.stage("decisions"));
  return { personal, records, report: run.report(), roots: [...manifest.roots] };
}
