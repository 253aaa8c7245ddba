/**
 * Appends batches to a running run, all or none. Batches are numbered without gaps; a batch that is there already is answered, and
 * is refused when it says something else. A parameter keeps its first value. What a run says after it was called LOST is late.
 */
import type { BatchAppendRunEventsRequest } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { batchKey } from "../fold/runs.ts";
import type { Draft } from "../log/submission.ts";
import { canonicalize } from "../record/canonical.ts";
import type { JsonObject } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Admission, checkOwnRun, draft, link, type Plan, resolve } from "./admission.ts";
import { artifactOf } from "./artifacts.ts";
import { bodyOf, checkDigest, checkPath, invalid } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { perform, specOf, type Written } from "./write.ts";

const MAX_BATCHES = 10_000;
const MAX_PER_REQUEST = 500;
const MAX_METRICS = 1_000;

export interface Appended {
  readonly throughSeq: number;
  readonly written: Written<undefined>;
}

/** Links of a batch to the artifacts that its files are, as far as the project has them. */
function outputsOf(a: Admission, body: JsonObject): RecordId[] {
  const files = (body["files"] ?? []) as readonly { readonly digest: string }[];
  return files.flatMap((f) => artifactOf(a, f.digest) ?? []);
}

function params(body: JsonObject): readonly { readonly key: string; readonly value?: string }[] {
  return (body["params"] ?? []) as readonly { readonly key: string; readonly value?: string }[];
}

/** What a batch says, whenever it was delivered. */
const content = (body: JsonObject): string => canonicalize({ ...body, late: true });

/** Parameters that the run has so far, from its plan and its batches. */
function knownParams(a: Admission, run: RecordId, batches: number): Map<string, string> {
  const known = new Map<string, string>();
  const take = (body: JsonObject | undefined): void => {
    for (const p of params(body ?? {})) known.set(p.key, p.value ?? "");
  };
  take(a.reader.record(run)?.record.body);
  for (let seq = 0; seq < batches; seq++) {
    const id = a.reader.get("nth", batchKey(run, seq))?.value.id;
    take(id === undefined ? undefined : a.reader.record(id)?.record.body);
  }
  return known;
}

function plan(a: Admission, run: RecordId, bodies: readonly JsonObject[], seqs: readonly number[]): Plan {
  checkOwnRun(a, run);
  const row = a.reader.get("run", run)?.value;
  if (row?.status !== "running" && row?.status !== "lost")
    throw new Fault("RUN_NOT_RUNNING", `the run is ${row?.status ?? "unknown"}: only a running run takes reports`, {
      metadata: { run, status: row?.status ?? "" },
    });
  const drafts: Draft[] = [];
  let existing: RecordId | undefined;
  let known: Map<string, string> | undefined;
  for (const [i, body] of bodies.entries()) {
    const seq = seqs[i] ?? 0;
    if (seq < row.batches) {
      existing = a.reader.get("nth", batchKey(run, seq))?.value.id;
      const before = existing === undefined ? undefined : a.reader.record(existing)?.record.body;
      if (before === undefined || content(before) !== content(body))
        throw new Fault(
          "REQUEST_ID_REUSED",
          `batch ${seq} was recorded and says something else: continue with ${row.batches}`,
          { metadata: { run, seq: String(seq) } },
        );
      continue;
    }
    const expected = row.batches + drafts.length;
    if (seq !== expected)
      throw new Fault("BATCH_GAP", `batch ${seq} would leave a gap: continue with ${expected}`, {
        metadata: { expected: String(expected), run },
      });
    if (seq >= MAX_BATCHES)
      throw new Fault("LIMIT_EXCEEDED", `a run has at most ${MAX_BATCHES} batches: put more into each`, {
        metadata: { run },
      });
    for (const p of params(body)) {
      known ??= knownParams(a, run, row.batches);
      const value = known.get(p.key);
      if (value !== undefined && value !== (p.value ?? ""))
        throw new Fault(
          "PARAM_CONFLICT",
          `parameter ${p.key} was reported with another value: a parameter keeps its first`,
          { metadata: { param: p.key, run } },
        );
      known.set(p.key, p.value ?? "");
    }
    const previous = drafts.length > 0 ? (`$${drafts.length - 1}` as const) : row.last;
    drafts.push(
      draft(a, "run.batch", row.status === "lost" ? { ...body, late: true } : body, [
        ...link("run", run),
        ...link("previous", previous),
        ...link("output", ...outputsOf(a, body)),
      ]),
    );
  }
  return drafts.length > 0
    ? { drafts, primary: drafts.length - 1 }
    : { drafts, ...(existing === undefined ? {} : { existing: { id: existing } }) };
}

export async function batchAppendRunEvents(
  deps: Deps,
  caller: Caller,
  request: BatchAppendRunEventsRequest,
  signal?: AbortSignal,
): Promise<Appended> {
  const { batches } = request;
  if (batches.length === 0 || batches.length > MAX_PER_REQUEST)
    throw invalid("batches", `has ${batches.length} members: give 1 to ${MAX_PER_REQUEST}`);
  for (const batch of batches) {
    if (batch.metrics.length > MAX_METRICS)
      throw invalid("batches.metrics", `has more than ${MAX_METRICS} members: give them in more batches`);
    for (const file of batch.files) {
      checkDigest("batches.files.digest", file.digest);
      checkPath("batches.files.path", file.path);
    }
  }
  const bodies = batches.map((b) => bodyOf("run.batch", b));
  const written = await perform(
    deps,
    caller,
    specOf(request, "run.report"),
    (a) =>
      plan(
        a,
        resolve(a, request.run, ["run"], "run"),
        bodies,
        batches.map((b) => b.seq),
      ),
    signal,
  );
  return { throughSeq: batches.at(-1)?.seq ?? 0, written };
}
