/** Runs: a plan, its start, what it reports, its end; how many of its children run, and how many runs of its project. */
import type { RecordId } from "../std/brand.ts";
import type { Folding } from "./folding.ts";
import { keys, type RunRow, type RunState } from "./view.ts";

export const RUN_START = "run.start";

export function setRun(folding: Folding, run: RecordId, change: Partial<RunRow>): void {
  const row = folding.get("run", run);
  if (row === undefined) return;
  putRun(folding, run, { ...row, ...change });
  if (change.status !== undefined && change.status !== row.status) folding.updateEntity(run, { status: change.status });
}

/** Members in canonical order, which is written faster. */
function putRun(folding: Folding, run: RecordId, row: RunRow): void {
  const { batches, decision, finish, last, start, status } = row;
  folding.put("run", run, {
    batches,
    ...(decision === undefined ? {} : { decision }),
    ...(finish === undefined ? {} : { finish }),
    ...(last === undefined ? {} : { last }),
    ...(start === undefined ? {} : { start }),
    status,
  });
}

export function foldRun(folding: Folding): void {
  folding.put("run", folding.id, { batches: 0, status: "planned" });
}

export function foldRunStart(folding: Folding): void {
  const run = folding.link("run");
  if (run === undefined) return;
  const row = folding.get("run", run);
  if (row?.status !== "running") countActive(folding, run, 1);
  setRun(folding, run, { start: folding.id, status: "running" });
  const token = folding.record.body["token"] as { readonly sha256?: string; readonly expires_at?: string } | undefined;
  const { principal } = folding.record.actor;
  if (token?.sha256 === undefined || principal === undefined) return;
  folding.put("token", token.sha256, {
    expires_at: token.expires_at ?? "",
    id: folding.id,
    permissions: [],
    principal,
    project: folding.project,
    run,
  });
}

/** A run's row counts its batches, so they have numbers but no row in `count`. */
export function foldRunBatch(folding: Folding): void {
  const run = folding.link("run");
  const row = run === undefined ? undefined : folding.get("run", run);
  if (run === undefined || row === undefined) return;
  putRun(folding, run, { ...row, batches: row.batches + 1, last: folding.id });
  folding.put("nth", batchKey(run, row.batches), { id: folding.id });
}

const ENDS: Readonly<Record<string, RunState>> = {
  RUN_STATUS_CANCELED: "canceled",
  RUN_STATUS_FAILED: "failed",
  RUN_STATUS_LOST: "lost",
  RUN_STATUS_SUCCEEDED: "succeeded",
};

export function foldRunFinish(folding: Folding): void {
  const run = folding.link("run");
  const status = ENDS[folding.text("status")];
  if (run === undefined || status === undefined) return;
  if (folding.get("run", run)?.status === "running") countActive(folding, run, -1);
  setRun(folding, run, { finish: folding.id, status });
}

function countActive(folding: Folding, run: RecordId, by: 1 | -1): void {
  const entity = folding.get("entity", run);
  for (const owner of [entity?.parent, entity?.project]) {
    if (owner === undefined) continue;
    const n = (folding.get("children-active", owner)?.n ?? 0) + by;
    folding.put("children-active", owner, { n });
  }
}

/** Key of a run's batch by its sequence number, which counts from 0. */
export const batchKey = (run: RecordId, seq: number): string => keys.nth(run, "run.batch", seq + 1);
