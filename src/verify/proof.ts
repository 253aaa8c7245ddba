/** Verifies a `.tlog-proof` file: one record in the log, with the entry in `extra` (`docs/formats/log.md`). */
import { leafHash, sha256Hex } from "../merkle/hash.ts";
import { verifyInclusion } from "../merkle/proofs.ts";
import { parseProofFile } from "../note/proof-file.ts";
import { parseEntry } from "../record/entry.ts";
import { parseRecord } from "../record/record.ts";
import { digestOf } from "../std/brand.ts";
import { utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { checkCheckpoint, checkHistory, type Trust, type Witnessed } from "./checkpoint.ts";
import type { Limits } from "./limits.ts";
import { type CheckpointReport, describeCheckpoint, splitViewNote } from "./pack.ts";
import { type Check, Stage, type Verdict, verdictOf } from "./report.ts";

export interface ProofReport {
  readonly checkpoint: CheckpointReport | null;
  readonly checks: readonly Check[];
  readonly index: number | null;
  readonly notes: readonly string[];
  readonly record: string | null;
  readonly verdict: Verdict;
}

/** Checks the proof and, when its bytes are given, the record that the entry names. */
export function verifyProof(
  proof: Uint8Array,
  record: Uint8Array | undefined,
  trust: Trust,
  limits: Limits,
): ProofReport {
  const container = new Stage("container");
  const checkpoint = new Stage("checkpoint");
  const history = new Stage("history");
  const entries = new Stage("entries");
  const records = new Stage("records");
  let tree: Witnessed | undefined;
  let id: string | null = null;
  let index: number | null = null;
  try {
    const file = parseProofFile(proof);
    index = file.index;
    tree = checkCheckpoint(utf8(file.checkpoint), trust, limits, checkpoint);
    if (tree !== undefined) {
      checkHistory(undefined, tree, trust, limits, [], history);
      if (file.extra === undefined) entries.skip("the proof file does not carry the entry; the record cannot be named");
      else {
        const entry = parseEntry(file.extra);
        id = entry.record;
        if (
          !verifyInclusion(
            file.index,
            tree.checkpoint.size,
            leafHash(file.extra),
            [...file.hashes],
            tree.checkpoint.root,
          )
        )
          entries.fail("inclusion.root", `entry ${file.index}`, "is not in the checkpoint's tree");
        if (record === undefined) records.skip("the record's bytes were not given; only its digest is proven");
        else if (sha256Hex(record) !== digestOf(entry.record))
          records.fail("record.digest", entry.record, "the bytes have another SHA-256 than the entry names");
        else parseRecord(record);
      }
    }
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    (error.code.startsWith("record.") ? records : error.code.startsWith("entry.") ? entries : container).fail(
      error.code,
      "proof",
      error.message,
    );
  }
  const checks = [container, checkpoint, history, entries, records].map((s) => s.check());
  // Without the record's bytes the digest is still proven: that is what a receipt says.
  const verdict = verdictOf(record === undefined ? checks.filter((c) => c.id !== "records") : checks);
  return {
    checkpoint: tree === undefined ? null : describeCheckpoint(tree),
    checks,
    index,
    notes: splitViewNote(tree),
    record: id,
    verdict,
  };
}
