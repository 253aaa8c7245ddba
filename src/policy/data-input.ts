/** Dataset versions and model versions in the input. */

import { keys } from "../fold/view.ts";
import type { Json, JsonObject } from "../record/json.ts";
import { parseRecordId, type RecordId } from "../std/brand.ts";
import { parseTime } from "../std/ports.ts";
import { objects, text, texts, word } from "./compile.ts";
import { labelsOf, NO_ATTESTATIONS, number, type Reading } from "./reading.ts";
import { runInput } from "./run-input.ts";

const DAY_MS = 86_400_000;

export function datasetInput(reading: Reading, id: RecordId, role: string | null, now: string): JsonObject {
  const record = reading.record(id);
  const body = record?.body ?? {};
  const dataset = reading.link(id, "dataset");
  const about = dataset === undefined ? {} : reading.newest(dataset);
  const schema = reading.link(id, "schema");
  return {
    age_days: age(record?.time, now),
    attestations: NO_ATTESTATIONS,
    classification: word(about["classification"], "CLASSIFICATION_"),
    custody: word(body["custody"], "CUSTODY_"),
    gate: gateInput(reading, id),
    labels: labelsOf(about),
    name: text(about["name"]),
    ordinal: reading.entity(id)?.ordinal ?? null,
    parents: reading.links(id, "derived_from"),
    project: record?.project === undefined ? null : reading.projectName(record.project),
    record: reading.shown(id),
    restrictions: texts(about["restrictions"]),
    role,
    rows: number(body["rows"]),
    schema: schema === undefined ? null : schemaInput(reading.body(schema)),
    status: reading.status(id),
    tainted: reading.tainted(id),
  };
}

/** Whole days between two times of the ledger. */
function age(from: string | undefined, now: string): number | null {
  const [start, end] = [parseTime(from ?? ""), parseTime(now)];
  return start === undefined || end === undefined ? null : Math.max(0, Math.floor((end - start) / DAY_MS));
}

function gateInput(reading: Reading, id: RecordId): JsonObject {
  const gate = reading.reader.get("gate", id)?.value;
  if (gate === undefined) return { at: null, decision: null, outcome: "not_evaluated" };
  reading.record(gate.decision);
  return { at: gate.at, decision: gate.decision, outcome: gate.outcome };
}

/** Names of all fields, those within joined with dots, and all classes. */
function schemaInput(body: JsonObject): JsonObject {
  const fields: string[] = [];
  const classes = new Set<string>();
  const walk = (list: Json | undefined, prefix: string): void => {
    for (const field of objects(list)) {
      fields.push(`${prefix}${text(field["name"])}`);
      for (const one of texts(field["classes"])) classes.add(one);
      walk(field["children"], `${prefix}${text(field["name"])}.`);
    }
  };
  walk(body["fields"], "");
  return { classes: [...classes].toSorted(), fields };
}

/** Inputs of runs that are dataset versions, each once for each role, in the order of runs and inputs. */
export function inputData(reading: Reading, runs: readonly JsonObject[], now: string): JsonObject[] {
  const seen = new Map<string, JsonObject>();
  for (const input of runs.flatMap((run) => objects(run["inputs"]))) {
    const id = parseRecordId(text(input["record"]));
    const role = typeof input["role"] === "string" ? input["role"] : null;
    const key = `${id} ${role}`;
    if (id === undefined || seen.has(key) || reading.record(id)?.kind !== "dataset.version") continue;
    seen.set(key, datasetInput(reading, id, role, now));
  }
  return [...seen.values()];
}

export function modelInput(reading: Reading, id: RecordId): JsonObject {
  const model = reading.link(id, "model");
  const about = model === undefined ? {} : reading.newest(model);
  return {
    aliases: model === undefined ? [] : aliasesOf(reading, id, model),
    attestations: NO_ATTESTATIONS,
    labels: labelsOf(about),
    name: text(about["name"]),
    // Findings come with annotations.
    open_findings: 0,
    ordinal: reading.entity(id)?.ordinal ?? null,
    parents: reading.links(id, "parent"),
    record: reading.shown(id),
    runs: reading.links(id, "produced_by").map((run) => runInput(reading, run, null)),
    status: reading.status(id),
    tainted: reading.tainted(id),
    tier: word(about["tier"], "TIER_"),
  };
}

/** Names that point at a version now. */
function aliasesOf(reading: Reading, id: RecordId, model: RecordId): string[] {
  const names = new Set<string>();
  for (const dependent of reading.reader.dependents(id)) {
    const record = dependent.rel === "target" ? reading.reader.record(dependent.id)?.record : undefined;
    if (record?.kind !== "alias") continue;
    const name = text(record.body["name"]);
    if (reading.reader.get("alias", keys.alias(model, name))?.value.id !== dependent.id) continue;
    reading.record(dependent.id);
    names.add(name);
  }
  return [...names].toSorted();
}
