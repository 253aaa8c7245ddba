/** Verifies a `.tlog-proof` file: one record in the log, with the entry in `extra` (`docs/formats/log.md` §6). */
import { leafHash } from "../merkle/hash.ts";
import { verifyInclusion } from "../merkle/proofs.ts";
import { type ProofFile, parseProofFile } from "../note/proof-file.ts";
import { type Entry, parseEntry } from "../record/entry.ts";
import { isObject } from "../record/json.ts";
import type { LedgerRecord } from "../record/record.ts";
import { utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { checkCheckpoint, type Trust, type Witnessed } from "./checkpoint.ts";
import { checkHistory } from "./history.ts";
import { type Limits, overLimit } from "./limits.ts";
import { readRecord, uncheckable } from "./records.ts";
import { type Check, Stage, type Verdict, verdictOf } from "./report.ts";
import { type CheckpointReport, describeCheckpoint, splitViewNote } from "./verdict.ts";

export interface ProofReport {
  readonly checkpoint: CheckpointReport | null;
  readonly checks: readonly Check[];
  readonly index: number | null;
  readonly notes: readonly string[];
  readonly record: string | null;
  readonly verdict: Verdict;
}

/** Runs `work`; what it finds wrong is a failure of the stage, and the answer undefined. */
function within<T>(stage: Stage, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return stage.fail(error.code, stage.id === "container" ? "proof" : stage.id, error.message) as undefined;
  }
}

function readProof(bytes: Uint8Array, limits: Limits): ProofFile {
  const file = parseProofFile(bytes);
  if (utf8(file.checkpoint).length > limits.note) throw overLimit("the note", "note");
  return file;
}

/** The entry, which is in the tree where the file says. */
function checkEntry({ extra, hashes, index }: ProofFile, { checkpoint }: Witnessed, stage: Stage): Entry | undefined {
  if (extra === undefined)
    return stage.skip("the proof file does not carry the entry, so nothing says what it proves") as undefined;
  if (!verifyInclusion(index, checkpoint.size, leafHash(extra), hashes, checkpoint.root))
    return stage.fail("inclusion.root", `entry ${index}`, "is not in the checkpoint's tree") as undefined;
  return within(stage, () => parseEntry(extra));
}

/**
 * Whether a record names a content, `sha256:<hex>`: as an artifact, or as a file of a version or a report. Undefined when its files
 * are listed elsewhere, so that it cannot be said.
 */
export function namesContent(
  { body, links }: Pick<LedgerRecord, "body" | "links">,
  content: string,
): boolean | undefined {
  const files = Array.isArray(body["files"]) ? body["files"].filter(isObject) : [];
  if (body["digest"] === content || files.some((f) => f["digest"] === content)) return true;
  return links.some((l) => l.rel === "manifest") ? undefined : false;
}

function checkContent(record: LedgerRecord, entry: Entry, content: string, stage: Stage): void {
  const named = namesContent(record, content);
  if (named === undefined) stage.skip("the record's files are listed in a manifest, which is not here");
  if (named === false) stage.fail("content.digest", entry.record, `names no file with the digest ${content}`);
}

/**
 * Checks the proof and, when its bytes are given, the record that the entry names. Throws the Violation `kept.signature` when a
 * kept note is signed by no key of the policy. `content`, `sha256:<hex>`, must be of a file that the record names.
 */
export function verifyProof(
  proof: Uint8Array,
  record: Uint8Array | undefined,
  trust: Trust,
  limits: Limits,
  content?: string,
): ProofReport {
  // Without the record's bytes its digest is proven: that is what a receipt says.
  const ids = [
    "container",
    "checkpoint",
    "history",
    "entries",
    ...(record === undefined ? [] : ["records"]),
    ...(content === undefined ? [] : ["content"]),
  ];
  const stages = ids.map((id) => new Stage(id));
  const stage = (id: string): Stage => stages.find((s) => s.id === id) ?? new Stage(id);
  const file = within(stage("container"), () => readProof(proof, limits));
  const tree = file === undefined ? undefined : checkCheckpoint(utf8(file.checkpoint), trust, stage("checkpoint"));
  let entry: Entry | undefined;
  if (file !== undefined && tree !== undefined && !stage("checkpoint").failed) {
    checkHistory([], tree, trust, [], stage("history"));
    if (!stage("history").failed) entry = checkEntry(file, tree, stage("entries"));
    if (entry !== undefined && record !== undefined) {
      const read = checkRecord(record, entry, file.index, stage("records"));
      if (read !== undefined && content !== undefined) checkContent(read, entry, content, stage("content"));
    }
    if (entry === undefined && !stage("entries").failed)
      for (const id of ids.slice(4)) stage(id).skip("there is no entry to compare the record with");
  }
  const broken = stages.findIndex((s) => s.failed);
  for (const later of broken < 0 ? [] : stages.slice(broken + 1))
    later.skip(`not tried: stage ${stages[broken]?.id} failed`);
  const checks = stages.map((s) => s.check());
  return {
    checkpoint: tree === undefined ? null : describeCheckpoint(tree),
    checks,
    index: file?.index ?? null,
    notes: splitViewNote(tree),
    record: entry?.record ?? null,
    verdict: verdictOf(checks),
  };
}

function checkRecord(bytes: Uint8Array, entry: Entry, index: number, stage: Stage): LedgerRecord | undefined {
  const record = within(stage, () => readRecord(bytes, entry, index));
  const doubt = record === undefined ? undefined : uncheckable(record);
  if (doubt !== undefined) stage.skip(`${entry.record} ${doubt}`);
  return record;
}
