/** A small log in memory: records with true ids, folded as they come, and what judges them. */

import type { ViewReader } from "../../src/fold/view.ts";
import { type Fact, factReader } from "../../src/policy/fact-reader.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { formatRecord, type LedgerRecord, recordId, sortLinks } from "../../src/record/record.ts";
import type { LogIndex, RecordId } from "../../src/std/brand.ts";
import { formatTime } from "../../src/std/ports.ts";

export const START_MS = Date.UTC(2026, 0, 1);

export type Links = Readonly<Record<string, RecordId | readonly RecordId[] | undefined>>;

export class TestLog {
  readonly facts: Fact[] = [];

  add(kind: string, body: JsonObject, links: Links = {}, more: { by?: RecordId; project?: RecordId } = {}): RecordId {
    const index = this.facts.length;
    const project = more.project ?? this.project;
    const record: LedgerRecord = {
      actor: more.by === undefined ? { method: "system" } : { method: "token", principal: more.by },
      body,
      kind,
      links: sortLinks(
        Object.entries(links).flatMap(([rel, to]) =>
          to === undefined ? [] : [to].flat().map((id) => ({ rel, to: id })),
        ),
      ),
      ...(project === undefined ? {} : { project }),
      request_id: `r${index}`,
      salt: index.toString().padStart(22, "A"),
      time: formatTime(START_MS + index * 1_000),
      v: 1,
    };
    const id = recordId(formatRecord(record));
    this.facts.push({ id, index: index as LogIndex, record });
    return id;
  }

  project: RecordId | undefined;

  get reader(): ViewReader {
    return factReader(this.facts);
  }

  /** A reader made of some of the records. */
  only(ids: readonly RecordId[]): ViewReader {
    return factReader(this.facts.filter((fact) => ids.includes(fact.id)));
  }

  fact(id: RecordId): Fact {
    const found = this.facts.find((f) => f.id === id);
    if (found === undefined) throw new Error(`no record ${id}`);
    return found;
  }
}

export interface Scene {
  readonly log: TestLog;
  readonly genesis: RecordId;
  readonly author: RecordId;
  readonly steward: RecordId;
  readonly dataset: RecordId;
  readonly first: RecordId;
  readonly version: RecordId;
  readonly holdout: RecordId;
  readonly lock: RecordId;
  readonly run: RecordId;
  readonly start: RecordId;
  readonly model: RecordId;
  readonly modelVersion: RecordId;
}

const file = (name: string): JsonObject => ({ digest: `sha256:${name.repeat(64)}`, path: name, size_bytes: 1 });

/** From genesis to a model version: data with gates and statuses, a lock, a run with batches, a model with an alias. */
export function scene(): Scene {
  const log = new TestLog();
  const genesis = log.add("ledger", { default_retention_days: 1, keys: [], origin: "o" });
  log.project = genesis;
  const person = (name: string): RecordId =>
    log.add("principal", { display_name: `personal:sha256:${"0".repeat(64)}`, name, type: "PRINCIPAL_TYPE_HUMAN" });
  const author = person("ann");
  const steward = person("sue");
  log.add("role.binding", { group: { members: [steward], name: "data-stewards" }, role: "steward" });
  log.add("role.binding", {
    expires_at: formatTime(START_MS + 1),
    group: { members: [steward], name: "expired" },
    role: "steward",
  });
  log.project = undefined;
  const project = log.add("project", { labels: [{ key: "team", value: "risk" }], name: "fraud" }, {}, { by: author });
  log.project = project;
  const by = { by: author };
  const dataset = log.add("dataset", { classification: "CLASSIFICATION_INTERNAL", name: "transactions" }, {}, by);
  log.add(
    "dataset",
    { classification: "CLASSIFICATION_CONFIDENTIAL", name: "transactions", restrictions: ["eu"] },
    { revises: dataset },
    by,
  );
  const schema = log.add(
    "schema",
    { fields: [{ children: [{ classes: ["pii"], name: "b", type: "utf8" }], name: "a", type: "struct" }], name: "s" },
    {},
    by,
  );
  const data = (files: readonly string[], parent?: RecordId): RecordId =>
    log.add(
      "dataset.version",
      {
        content_digest: `sha256:${files.join("").padEnd(64, "0")}`,
        custody: "CUSTODY_LEDGER",
        files: files.map(file),
        rows: 333,
      },
      { dataset, derived_from: parent, schema },
      by,
    );
  const first = data(["a"]);
  const version = data(["b", "c"], first);
  const holdout = data(["c"]);
  const report = log.add(
    "quality.report",
    {
      complete: true,
      measurements: [
        { column: "Sex", name: "nulls" },
        { name: "rows", value: 333 },
      ],
      tool: { name: "demo" },
    },
    { dataset_version: version },
    by,
  );
  log.add(
    "decision",
    {
      evaluated_at: formatTime(START_MS),
      input: {},
      outcome: "OUTCOME_ALLOW",
      policies: [{ mode: "POLICY_MODE_ACTIVE", record: first, rules: [] }],
      target: "quality.gate",
    },
    { fact: report, subject: version },
  );
  log.add("transition", { from: "registered", reason: "r", to: "approved" }, { subject: version }, { by: steward });
  log.add("transition", { from: "approved", reason: "r", to: "deprecated" }, { subject: version }, { by: steward });
  log.add("transition", { from: "deprecated", reason: "r", to: "approved" }, { subject: version }, { by: steward });
  const environment = log.add("environment", { name: "fit" }, {}, by);
  const lock = log.add(
    "environment.lock",
    { images: [{ digest: `sha256:${"e".repeat(64)}`, name: "node" }] },
    { environment },
    by,
  );
  log.add("transition", { from: "registered", reason: "r", to: "approved" }, { subject: lock }, { by: steward });
  const code = log.add("code", { commit: "c".repeat(40), repository: "r" }, {}, by);
  const inputs = [
    { record: version, role: "INPUT_ROLE_TRAIN" },
    { record: holdout, role: "INPUT_ROLE_TEST" },
  ];
  const run = log.add(
    "run",
    { inputs, params: [{ key: "trees", value: "25" }], purpose: "PURPOSE_PRODUCTION" },
    { code, environment: lock, input: [version, holdout] },
    by,
  );
  const decision = log.add(
    "decision",
    { evaluated_at: formatTime(START_MS), input: {}, outcome: "OUTCOME_ALLOW", target: "run.start" },
    { subject: run },
  );
  const start = log.add(
    "run.start",
    {
      environment_match: "ENVIRONMENT_MATCH_MATCH",
      token: { expires_at: formatTime(START_MS), sha256: "0".repeat(64) },
    },
    { decision, run },
    by,
  );
  const batch = (seq: number, body: JsonObject): RecordId => log.add("run.batch", { seq, ...body }, { run }, by);
  batch(0, {
    metrics: [
      { key: "loss", step: 1, value: 3 },
      { key: "loss", step: 2, value: 2 },
    ],
  });
  batch(1, { metrics: [{ key: "loss", step: 1, value: 9 }] });
  batch(2, { events: [{ level: "info", time: formatTime(START_MS), type: "nothing" }] });
  batch(3, {
    files: [{ ...file("d"), assurance: "ASSURANCE_VERIFIED", role: "FILE_ROLE_OUTPUT" }],
    metrics: [{ dataset_version: holdout, key: "accuracy", value: 0.977 }],
    params: [{ key: "seed", value: "3" }],
  });
  log.add("run.finish", { batches: 4, status: "RUN_STATUS_SUCCEEDED" }, { run }, by);
  const model = log.add("model", { intended_use: "u", name: "scorer", tier: "TIER_HIGH" }, {}, by);
  const modelVersion = log.add(
    "model.version",
    { content_digest: `sha256:${"d".repeat(64)}`, files: [file("d")] },
    { model, produced_by: run },
    by,
  );
  log.add("alias", { entity: model, name: "candidate" }, { target: modelVersion }, by);
  return { author, dataset, first, genesis, holdout, lock, log, model, modelVersion, run, start, steward, version };
}
