/** What is known of a run at the reader's size: what it was planned to be, what it reported, how it ended. */
import { create } from "@bufbuild/protobuf";
import {
  type Metric,
  type Param,
  type RunBatch,
  RunBatchSchema,
  type RunFile,
  type RunFinish,
  RunFinishSchema,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { type RunSummary, RunSummarySchema } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { batchKey } from "../fold/runs.ts";
import type { ViewReader } from "../fold/view.ts";
import { messageFromBody } from "../record/body.ts";
import { canonicalize } from "../record/canonical.ts";
import type { Json } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import { objects, textOf } from "./json-parts.ts";

/** The batches of a run, in order, each with its record. */
export function* batchesOf(
  reader: ViewReader,
  run: RecordId,
): Iterable<{ readonly id: RecordId; readonly batch: RunBatch }> {
  const batches = reader.get("run", run)?.value.batches ?? 0;
  for (let seq = 0; seq < batches; seq++) {
    const id = reader.get("nth", batchKey(run, seq))?.value.id;
    if (id === undefined) continue;
    const body = reader.record(id)?.record.body;
    const message = body === undefined ? undefined : messageFromBody("run.batch", body);
    if (message?.$typeName === RunBatchSchema.typeName) yield { batch: message as RunBatch, id };
  }
}

const seriesOf = (m: Metric): string => `${m.key}\u0000${m.datasetVersion ?? ""}\u0000${m.slice ?? ""}`;

const byKey = (a: { readonly key: string }, b: { readonly key: string }): number =>
  a.key < b.key ? -1 : a.key > b.key ? 1 : 0;

interface Reported {
  /** Ascending by series; each with the record of the batch that reported it. */
  readonly metrics: readonly { readonly metric: Metric; readonly batch: RecordId }[];
  readonly params: readonly Param[];
  readonly files: readonly RunFile[];
}

/**
 * The last value of each metric by step, and by order among equal steps; one for each dataset version and slice. A parameter keeps
 * its first value, a file its newest report.
 */
export function reportedBy(reader: ViewReader, run: RecordId): Reported {
  const metrics = new Map<string, Reported["metrics"][number]>();
  const params = new Map<string, Param>();
  const files = new Map<string, RunFile>();
  const take = (param: Param): void => {
    if (!params.has(param.key)) params.set(param.key, param);
  };
  planParams(reader, run).forEach(take);
  for (const { batch, id } of batchesOf(reader, run)) {
    batch.params.forEach(take);
    for (const file of batch.files) files.set(file.path, file);
    for (const metric of batch.metrics) {
      const before = metrics.get(seriesOf(metric))?.metric;
      if (before === undefined || metric.step >= before.step) metrics.set(seriesOf(metric), { batch: id, metric });
    }
  }
  return {
    files: [...files.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    metrics: [...metrics.values()].toSorted((a, b) => (seriesOf(a.metric) < seriesOf(b.metric) ? -1 : 1)),
    params: [...params.values()].toSorted(byKey),
  };
}

export function summaryOf(reader: ViewReader, run: RecordId): RunSummary {
  const { files, metrics, params } = reportedBy(reader, run);
  const row = reader.get("run", run)?.value;
  const finish = row?.finish === undefined ? undefined : finishOf(reader, row.finish);
  return create(RunSummarySchema, {
    metrics: metrics.map((m) => m.metric),
    params: [...params],
    files: [...files],
    batches: row?.batches ?? 0,
    ...(finish === undefined ? {} : { finish }),
  });
}

function planParams(reader: ViewReader, run: RecordId): Param[] {
  const body = reader.record(run)?.record.body;
  const plan = body === undefined ? undefined : messageFromBody("run", body);
  return (plan as { readonly params?: Param[] } | undefined)?.params ?? [];
}

function finishOf(reader: ViewReader, id: RecordId): RunFinish | undefined {
  const body = reader.record(id)?.record.body;
  const message = body === undefined ? undefined : messageFromBody("run.finish", body);
  return message?.$typeName === RunFinishSchema.typeName ? (message as RunFinish) : undefined;
}

/** Values by what they are, each as JSON text: what comparisons compare. */
export type Facts = ReadonlyMap<string, string>;

const word = (text: Json | undefined, prefix: string): string =>
  typeof text === "string" ? text.replace(prefix, "").toLowerCase() : "";

/** What may differ between runs. `nameOf` shows a linked record. */
export function runFacts(reader: ViewReader, run: RecordId, nameOf: (id: RecordId) => string): Facts {
  const facts = new Map<string, string>();
  const put = (path: string, value: Json | undefined): void => {
    if (value !== undefined) facts.set(path, canonicalize(value));
  };
  const row = reader.get("run", run)?.value;
  const record = reader.record(run)?.record;
  const body = record?.body ?? {};
  put("status", row?.status);
  put("purpose", word(body["purpose"], "PURPOSE_"));
  for (const name of ["command", "step", "ref"]) put(name, body[name]);
  const inputs = new Map<string, string[]>();
  for (const { record: id, role } of objects(body["inputs"])) {
    const path = `inputs.${word(role, "INPUT_ROLE_")}`;
    inputs.set(path, [...(inputs.get(path) ?? []), nameOf(id as RecordId)]);
  }
  for (const [path, names] of inputs) put(path, names.toSorted());
  const target = (rel: string): RecordId | undefined => record?.links.find((l) => l.rel === rel)?.to;
  putCode(reader, target("code"), put);
  putEnvironment(reader, target("environment"), row?.start, nameOf, put);
  const summary = summaryOf(reader, run);
  for (const p of summary.params) put(`params.${p.key}`, p.value);
  for (const m of summary.metrics) {
    const on = m.datasetVersion === undefined ? "" : ` on ${nameOf(m.datasetVersion as RecordId)}`;
    put(`metrics.${m.key}${on}${m.slice === undefined ? "" : ` of ${m.slice}`}`, m.value);
  }
  for (const f of summary.files) put(`files.${f.path}`, f.digest);
  if (summary.finish?.exitCode !== undefined) put("exit_code", summary.finish.exitCode);
  return facts;
}

type Put = (path: string, value: Json | undefined) => void;

function putCode(reader: ViewReader, code: RecordId | undefined, put: Put): void {
  const body = code === undefined ? undefined : reader.record(code)?.record.body;
  if (body === undefined) return;
  for (const name of ["repository", "commit", "diff_digest"]) put(`code.${name}`, body[name]);
  put("code.dirty", body["dirty"] === true);
}

function putEnvironment(
  reader: ViewReader,
  lock: RecordId | undefined,
  start: RecordId | undefined,
  nameOf: (id: RecordId) => string,
  put: Put,
): void {
  const started = start === undefined ? undefined : reader.record(start)?.record.body;
  put(
    "environment.match",
    started === undefined ? undefined : word(started["environment_match"], "ENVIRONMENT_MATCH_"),
  );
  const body = lock === undefined ? undefined : reader.record(lock)?.record.body;
  if (lock === undefined || body === undefined) return;
  put("environment.lock", nameOf(lock));
  for (const { name, digest } of objects(body["images"])) put(`environment.images.${textOf(name)}`, digest);
  for (const { path, digest } of objects(body["lockfiles"])) put(`environment.lockfiles.${textOf(path)}`, digest);
  for (const { name, version } of objects(body["runtimes"])) put(`environment.runtimes.${textOf(name)}`, version);
  put("environment.packages_digest", body["packages_digest"]);
}
