/** Stage 7: each project's entries are a chain from its first one, and all are here of the projects that the pack offers whole. */
import { leafHash } from "../merkle/hash.ts";
import { verifyInclusion } from "../merkle/proofs.ts";
import { startsProject } from "../record/entry.ts";
import { headLeaf } from "../record/heads.ts";
import { formatHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import type { Manifest } from "./manifest.ts";
import type { PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";
import type { HeadRow } from "./rows.ts";
import type { Seal } from "./seal.ts";

/** Heads that are in the seal, by project. */
function proveHeads(heads: readonly HeadRow[], seal: Seal, stage: Stage): Map<string, HeadRow> {
  const proven = new Map<string, HeadRow>();
  for (const head of heads) {
    const leaf = leafHash(headLeaf(head.project, head.count, head.last));
    if (verifyInclusion(head.index, seal.projects, leaf, head.hashes, seal.heads)) proven.set(head.project, head);
    else stage.fail("seal.mismatch", head.project, "its head is not in the seal");
  }
  return proven;
}

/** What is here of a project follows its first entry, and neighbours are linked. */
function checkRun(project: string, run: readonly PackRecord[], stage: Stage): void {
  if (run[0]?.entry.seq !== 0) stage.fail("chain.gap", project, "the project's first entry is not here");
  for (const [i, { entry }] of run.entries()) {
    try {
      startsProject(entry);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code, entry.record, error.message);
    }
    const before = run[i - 1];
    if (before === undefined) continue;
    if (entry.seq <= before.entry.seq)
      stage.fail("chain.fork", entry.record, `seq ${entry.seq} of the project stands after seq ${before.entry.seq}`);
    else if (entry.seq === before.entry.seq + 1 && entry.prev !== formatHex(before.leaf))
      stage.fail("chain.prev", entry.record, "prev is not the leaf hash of the entry before it");
  }
}

/** The run of a complete project is what the seal counts, to its last entry. `run` ends below the seal. */
function checkWhole(project: string, run: readonly PackRecord[], head: HeadRow, stage: Stage): void {
  const last = run.at(-1);
  const seqs = new Set(run.map((r) => r.entry.seq));
  let missing = 0;
  while (seqs.has(missing)) missing++;
  if (last !== undefined && last.entry.seq >= head.count)
    stage.fail("seal.mismatch", project, `the seal counts ${head.count} entries, here is seq ${last.entry.seq}`);
  else if (missing < head.count && missing === seqs.size)
    stage.fail(
      "tail.truncated",
      project,
      `the seal counts ${head.count} entries, here are ${missing}: the newest ${head.count - missing} are missing`,
    );
  else if (missing < head.count) stage.fail("chain.gap", project, `seq ${missing} is missing`);
  else if (last === undefined || formatHex(last.leaf) !== head.last)
    stage.fail("seal.mismatch", project, "the last entry is not the one that the seal names");
}

export function checkChains(
  heads: readonly HeadRow[],
  records: readonly PackRecord[],
  seal: Seal | undefined,
  { complete }: Manifest,
  wanted: readonly string[],
  stage: Stage,
): void {
  const runs = Map.groupBy(records, (r) => r.entry.project as string);
  for (const [project, run] of runs) checkRun(project, run, stage);
  for (const project of wanted)
    if (!complete.has(project))
      stage.skip(`project ${project} is not offered complete by the pack: export with --complete`);
  if (seal === undefined) return stage.skip("completeness: there is no seal to measure it by");
  const proven = proveHeads(heads, seal, stage);
  const named = new Set<string>(heads.map((h) => h.project));
  for (const project of complete) {
    const head = proven.get(project);
    if (head !== undefined)
      checkWhole(
        project,
        (runs.get(project) ?? []).filter((r) => r.index < seal.index),
        head,
        stage,
      );
    else if (!named.has(project)) stage.fail("seal.mismatch", project, "is listed as complete, and has no head here");
  }
}
