/** A run in the input: the plan, what was reported of it, and where it runs. */
import { keys } from "../fold/view.ts";
import type { Json, JsonObject } from "../record/json.ts";
import { parseRecordId, type RecordId } from "../std/brand.ts";
import { objects, text, word } from "./compile.ts";
import { environmentMatch } from "./environment.ts";
import { labelsOf, mapOf, NO_ATTESTATIONS, number, type Reading, string } from "./reading.ts";

/** `observed` is what the requester saw before the start is recorded; afterwards the record of the start says. */
export function runInput(reading: Reading, id: RecordId, observed: JsonObject | null): JsonObject {
  const record = reading.record(id);
  const body = record?.body ?? {};
  const row = reading.reader.get("run", id)?.value;
  for (const maker of [row?.decision, row?.start, row?.finish]) if (maker !== undefined) reading.record(maker);
  if (row?.status === "awaiting_approval" || row?.status === "refused") noteRequest(reading, id);
  const start = row?.start === undefined ? undefined : reading.body(row.start);
  const inputs = objects(body["inputs"]).map((input) => usedInput(reading, input));
  const code = reading.link(id, "code");
  const lock = reading.link(id, "environment");
  const ci = objectOf(body["ci"]);
  const ref = objectOf(body["ref"]);
  return {
    attestations: NO_ATTESTATIONS,
    ci:
      ci === undefined
        ? null
        : { initiator_known: false, provider: text(ci["provider"]), verified: record?.actor.method === "oidc" },
    code: code === undefined ? null : codeInput(reading.body(code)),
    environment:
      lock === undefined ? null : { ...lockInput(reading, lock), match: matchOf(reading.body(lock), start, observed) },
    inputs,
    late: body["late"] === true,
    purpose: word(body["purpose"], "PURPOSE_"),
    record: reading.shown(id),
    ref:
      ref === undefined
        ? null
        : { kind: string(ref["kind"]), name: text(ref["name"]), protected: ref["protected"] === true },
    retry_of: reading.link(id, "retry_of") ?? null,
    status: row?.status ?? null,
    train_test_overlap_files: overlap(reading, inputs),
    ...reported(reading, id, body, inputs),
  };
}

interface UsedInput extends JsonObject {
  readonly kind: string | null;
  readonly record: string | null;
  readonly role: string | null;
  readonly status: string | null;
  readonly tainted: boolean | null;
}

function usedInput(reading: Reading, input: JsonObject): UsedInput {
  const role = word(input["role"], "INPUT_ROLE_");
  const id = parseRecordId(text(input["record"]));
  if (id === undefined) return { kind: null, record: null, role, status: null, tainted: null };
  return {
    kind: reading.record(id)?.kind ?? null,
    record: id,
    role,
    status: reading.status(id),
    tainted: reading.tainted(id),
  };
}

/** The newest request for approval of the run's start, and the votes on it, which made the status. */
function noteRequest(reading: Reading, run: RecordId): void {
  let request: RecordId | undefined;
  for (const { id, rel } of reading.reader.dependents(run)) {
    if (rel === "subject" && reading.reader.record(id)?.record.kind === "approval.request") request = id;
  }
  if (request === undefined) return;
  reading.record(request);
  for (const vote of reading.reader.get("approval", request)?.value.votes ?? []) reading.record(vote.id);
}

const objectOf = (value: Json | undefined): JsonObject | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;

const codeInput = (body: JsonObject): JsonObject => ({
  commit: text(body["commit"]),
  dirty: body["dirty"] === true,
  repository: text(body["repository"]),
});

/** An environment's lock. */
export function lockInput(reading: Reading, id: RecordId): JsonObject {
  const body = reading.body(id);
  const environment = reading.link(id, "environment");
  return {
    has_sbom: reading.link(id, "sbom") !== undefined,
    images: objects(body["images"]).map((i) => ({ digest: text(i["digest"]), name: text(i["name"]) })),
    labels: environment === undefined ? {} : labelsOf(reading.newest(environment)),
    lockfiles: objects(body["lockfiles"]).map((f) => ({ digest: text(f["digest"]), path: text(f["path"]) })),
    name: environment === undefined ? null : text(reading.body(environment)["name"]),
    record: reading.shown(id),
    status: reading.status(id),
  };
}

function matchOf(lock: JsonObject, start: JsonObject | undefined, observed: JsonObject | null): string {
  if (start === undefined) return environmentMatch(lock, observed).match;
  return word(start["environment_match"], "ENVIRONMENT_MATCH_") ?? "unknown";
}

/**
 * Files that occur both in what the run trains on and in what it is tested on; null when a version's files are listed in a
 * manifest that no record holds, and nothing else shows an overlap.
 */
function overlap(reading: Reading, inputs: readonly UsedInput[]): number | null {
  const train = new Set<string>();
  const test = new Set<string>();
  let listed = true;
  let same = 0;
  const contents = { test: new Set<string>(), train: new Set<string>() };
  for (const { record, role } of inputs) {
    const id = parseRecordId(record ?? "");
    if (id === undefined || (role !== "train" && role !== "test")) continue;
    const body = reading.body(id);
    const files = objects(body["files"]).map((file) => text(file["digest"]));
    if (files.length === 0) listed = false;
    for (const digest of files) (role === "train" ? train : test).add(digest);
    contents[role].add(text(body["content_digest"]));
  }
  for (const digest of train) if (test.has(digest)) same++;
  for (const digest of contents.train) if (same === 0 && contents.test.has(digest)) same = 1;
  return same > 0 || listed || contents.test.size === 0 || contents.train.size === 0 ? same : null;
}

interface Point {
  readonly value: Json;
  readonly step: number;
  readonly batch: RecordId;
}

/** What the run's batches say: parameters, the last of each metric by step and order, and the files that it made. */
function reported(reading: Reading, id: RecordId, body: JsonObject, inputs: readonly UsedInput[]): JsonObject {
  const params: Record<string, Json> = { ...mapOf(body["params"]) };
  const points = new Map<string, Point>();
  const outputs = new Map<string, { value: JsonObject; batch: RecordId }>();
  for (let k = 1; ; k++) {
    const batch = reading.reader.get("nth", keys.nth(id, "run.batch", k))?.value.id;
    if (batch === undefined) break;
    const found = reading.reader.record(batch)?.record.body ?? {};
    const added = objects(found["params"]);
    if (added.length > 0) reading.record(batch);
    for (const param of added) params[text(param["key"])] = text(param["value"]);
    for (const metric of objects(found["metrics"])) {
      const key = JSON.stringify([text(metric["key"]), string(metric["dataset_version"]), string(metric["slice"])]);
      const step = number(metric["step"]) ?? 0;
      if (step >= (points.get(key)?.step ?? Number.NEGATIVE_INFINITY))
        points.set(key, { batch, step, value: number(metric["value"]) ?? 0 });
    }
    for (const file of objects(found["files"])) {
      if (file["role"] !== "FILE_ROLE_OUTPUT") continue;
      const value = {
        assurance: word(file["assurance"], "ASSURANCE_"),
        digest: text(file["digest"]),
        path: text(file["path"]),
      };
      outputs.set(value.path, { batch, value });
    }
  }
  const metrics: Record<string, Json> = {};
  const evaluations: JsonObject[] = [];
  for (const [key, { batch, value }] of [...points].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const [name, version, slice] = JSON.parse(key) as [string, string | null, string | null];
    reading.record(batch);
    // A value that was measured on a version or a slice is not one of the whole.
    if (version === null && slice === null) metrics[name] = value;
    else
      evaluations.push({
        dataset_version: version,
        key: name,
        role: inputs.find((i) => i.record === version)?.role ?? null,
        slice,
        value,
      });
  }
  for (const { batch } of outputs.values()) reading.record(batch);
  return {
    evaluations,
    metrics,
    outputs: [...outputs].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, o]) => o.value),
    params,
  };
}
