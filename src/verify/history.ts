/** Stage 3: the tree extends every tree that was noted, be it in the pack or by whoever reads it. */
import { verifyConsistency } from "../merkle/proofs.ts";
import { parseCheckpoint } from "../note/checkpoint.ts";
import type { VerifierKey } from "../note/keys.ts";
import { parseNote } from "../note/note.ts";
import { equalBytes, formatHex, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { openWitnessed, type Trust, type Witnessed } from "./checkpoint.ts";
import type { Stage } from "./report.ts";
import type { HistoryRow } from "./rows.ts";

/** The code of a note that was given as kept, and that no key signs: a mistake of who asks, not a finding. */
export const KEPT_UNSIGNED = "kept.signature";

export interface Kept {
  /** How the note is named in findings. */
  readonly at: string;
  readonly tree: Witnessed;
}

/** Opens the kept notes of the log `origin`; those of other logs are skipped. Throws the Violation `kept.signature`. */
export function openKept(trust: Trust, extra: readonly VerifierKey[], origin: string, stage: Stage): Kept[] {
  const kept: Kept[] = [];
  for (const [i, bytes] of trust.kept.entries()) {
    const at = `kept note ${i + 1}`;
    try {
      const of = parseCheckpoint(parseNote(bytes).text).origin;
      // What was kept long ago may well lack the post-quantum line.
      const tree = openWitnessed(bytes, { ...trust, requirePq: false }, extra);
      if (of === origin) kept.push({ at, tree });
      else stage.skip(`${at} is of the log ${of}, not of ${origin}`);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      throw new Violation(KEPT_UNSIGNED, `${at} is signed by no key of the policy or of the ledger: ${error.message}`);
    }
  }
  return kept;
}

/** Notes in the pack with their proofs. Gives those that the checkpoint extends. */
function checkAnchors(
  rows: readonly HistoryRow[],
  { checkpoint }: Witnessed,
  trust: Trust,
  extra: readonly VerifierKey[],
  stage: Stage,
): Witnessed[] {
  const anchors: Witnessed[] = [];
  for (const { hashes, note, size } of rows) {
    const at = `history.jsonl size ${size}`;
    if (size >= checkpoint.size) {
      stage.fail("consistency.mismatch", at, `is not below the checkpoint's size ${checkpoint.size}`);
      continue;
    }
    if (note === undefined) continue; // a proof for a note that the reader keeps
    try {
      const anchor = openWitnessed(utf8(note), { ...trust, requirePq: false }, extra);
      const { origin, root, size: own } = anchor.checkpoint;
      if (
        origin !== checkpoint.origin ||
        own !== size ||
        !verifyConsistency(size, checkpoint.size, root, checkpoint.root, hashes)
      )
        stage.fail("consistency.mismatch", at, "the checkpoint does not extend this tree");
      else anchors.push(anchor);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail("checkpoint.signature", at, error.message);
    }
  }
  return anchors;
}

/** Whether the checkpoint extends a kept tree; what cannot be told is skipped, with the command that fetches what is lacking. */
function checkKept({ at, tree }: Kept, { checkpoint }: Witnessed, rows: readonly HistoryRow[], stage: Stage): boolean {
  const { root, size } = checkpoint;
  const { root: keptRoot, size: from } = tree.checkpoint;
  if (from === size) {
    if (equalBytes(keptRoot, root)) return true;
    stage.fail(
      "checkpoint.fork",
      at,
      `two signed trees of size ${size}: ${formatHex(keptRoot)} was kept, ${formatHex(root)} is here; both notes together prove it to anybody`,
    );
    return false;
  }
  // Every tree extends the empty one.
  const hashes = from === 0 ? [] : rows.find((l) => l.size === from)?.hashes;
  if (from > size)
    stage.skip(
      `${at} is of size ${from}, larger than ${size}: export again, or: datapilot log consistency --from ${size} --to ${from}`,
    );
  else if (hashes === undefined)
    stage.skip(
      `${at} is of size ${from}, and there is no proof from it: datapilot log consistency --from ${from} --to ${size}`,
    );
  else if (verifyConsistency(from, size, keptRoot, root, hashes)) return true;
  else
    stage.fail(
      "consistency.mismatch",
      at,
      `the tree of size ${size} does not extend the one of size ${from} that was kept: history was rewritten`,
    );
  return false;
}

/** Stage 3. Gives the notes that the checkpoint extends; they bound the times of entries. */
export function checkHistory(
  rows: readonly HistoryRow[],
  tree: Witnessed,
  trust: Trust,
  extra: readonly VerifierKey[],
  stage: Stage,
): Witnessed[] {
  const kept = openKept(trust, extra, tree.checkpoint.origin, stage);
  const anchors = checkAnchors(rows, tree, trust, extra, stage);
  return [...anchors, ...kept.filter((k) => checkKept(k, tree, rows, stage)).map((k) => k.tree)];
}
