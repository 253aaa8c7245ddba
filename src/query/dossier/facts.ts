/**
 * What the ledger knows of a model version, at the reader's size: what it is, what made it, on which data, how it was measured, who
 * decided and who signed. Every fact names the record that says it, so that a document can be checked against the log; what the
 * caller may not read is named by its id alone.
 */
import { ledgerOf } from "../../identity/ledger.ts";
import type { IndexReader } from "../../index/index.ts";
import type { Json, JsonObject } from "../../record/json.ts";
import type { LedgerRecord } from "../../record/record.ts";
import { assertDefined } from "../../std/assert.ts";
import type { RecordId } from "../../std/brand.ts";
import { objects, textOf } from "../json-parts.ts";
import { type Facts, reportedBy, runFacts } from "../run-facts.ts";

/** Decisions, transitions and votes of a version that are shown at most. */
const MAX_EVENTS = 1_000;

/** A record that a statement rests on. */
export interface Source {
  readonly index: number;
  readonly record: RecordId;
  readonly kind: string;
  readonly time: string;
}

/** The last value of a series; its source is the batch that reported it. */
interface Metric extends Source {
  readonly key: string;
  readonly value: number;
  /** Dataset version; empty for none. */
  readonly on: string;
  readonly slice: string;
}

export interface Run extends Source {
  readonly name: string;
  readonly actor: string;
  readonly status: string;
  readonly facts: Facts;
  readonly metrics: readonly Metric[];
  readonly finished: string;
}

export interface Data extends Source {
  readonly name: string;
  /** How the run used it: `train`, `test` and so on. */
  readonly role: string;
  /** Whether the caller may read more than that it is there. */
  readonly visible: boolean;
  readonly body: JsonObject;
  readonly dataset: JsonObject;
  readonly classes: readonly string[];
  readonly derivedFrom: readonly string[];
  readonly gate: string;
  readonly report: JsonObject | undefined;
  readonly status: string;
  readonly tainted: boolean;
}

export interface Verdict extends Source {
  readonly target: string;
  readonly outcome: string;
  readonly rules: readonly {
    readonly id: string;
    readonly result: string;
    readonly message: string;
    readonly seen: string;
  }[];
}

export interface Move extends Source {
  readonly to: string;
  readonly reason: string;
  readonly actor: string;
}

export interface Vote extends Source {
  readonly principal: string;
  readonly meaning: string;
  readonly statement: string;
  readonly verdict: string;
  /** Reference of the printed name, which is kept apart. */
  readonly printedName: string;
}

export interface DossierFacts {
  readonly origin: string;
  readonly treeSize: number;
  readonly model: Source & { readonly name: string; readonly body: JsonObject; readonly owner: string };
  readonly version: Source & {
    readonly name: string;
    readonly ordinal: number;
    readonly actor: string;
    readonly body: JsonObject;
    readonly status: string;
    readonly tainted: boolean;
    readonly aliases: readonly string[];
    readonly manifest: string;
  };
  readonly runs: readonly Run[];
  readonly data: readonly Data[];
  readonly verdicts: readonly Verdict[];
  readonly moves: readonly Move[];
  readonly votes: readonly Vote[];
}

export interface Names {
  /** The resource name, or the id of what the caller may not read. */
  readonly nameOf: (id: RecordId) => string;
  readonly mayRead: (project: RecordId) => boolean;
}

/** `OUTCOME_REQUIRE_APPROVAL` as `require approval`. */
export const word = (value: Json | undefined, prefix: string): string =>
  textOf(value).replace(prefix, "").toLowerCase().replaceAll("_", " ");

export function collectFacts(reader: IndexReader, id: RecordId, names: Names): DossierFacts {
  return new Collector(reader, names).version(id);
}

interface Held {
  readonly id: RecordId;
  readonly record: LedgerRecord;
  /** The newest revision's body. */
  readonly body: JsonObject;
  readonly source: Source;
}

class Collector {
  readonly #reader: IndexReader;
  readonly #names: Names;

  constructor(reader: IndexReader, names: Names) {
    this.#reader = reader;
    this.#names = names;
  }

  version(id: RecordId): DossierFacts {
    const reader = this.#reader;
    const version = this.#held(id);
    const row = reader.get("entity", id)?.value;
    const model = this.#held(assertDefined(row?.parent, "a version is one of a model"));
    const runs = targets(version.record, "produced_by").map((run) => this.#run(run));
    const manifest = targets(version.record, "manifest")[0];
    return {
      data: this.#dataOf(runs),
      model: {
        ...model.source,
        body: model.body,
        name: textOf(model.body["name"]),
        owner: this.#who(model.body["owner"]),
      },
      moves: this.#linking(version, "transition").map((t) => ({
        ...t.source,
        actor: this.#who(t.record.actor.principal),
        reason: textOf(t.body["reason"]),
        to: textOf(t.body["to"]),
      })),
      origin: textOf(this.#held(ledgerOf(reader)).body["origin"]),
      runs,
      treeSize: reader.size,
      verdicts: this.#linking(version, "decision").map((d) => verdictOf(d)),
      version: {
        ...version.source,
        actor: this.#who(version.record.actor.principal),
        aliases: [...reader.scan("alias", `${model.id}/`)].flatMap(([key, alias]) =>
          alias.target === id ? [key.slice(model.id.length + 1)] : [],
        ),
        body: version.body,
        manifest: manifest === undefined ? "" : this.#names.nameOf(manifest),
        name: this.#names.nameOf(id),
        ordinal: row?.ordinal ?? 0,
        status: row?.status ?? "",
        tainted: row?.tainted ?? false,
      },
      votes: this.#linking(version, "approval.request").flatMap((request) => this.#votesOn(request.id)),
    };
  }

  #held(id: RecordId): Held {
    const { index, record } = assertDefined(this.#reader.record(id), "what is linked is there");
    const revision = this.#reader.get("entity", id)?.value.revision ?? id;
    const body = revision === id ? record.body : (this.#reader.record(revision)?.record.body ?? record.body);
    return { body, id, record, source: { index, kind: record.kind, record: id, time: record.time } };
  }

  #who(principal: Json | undefined): string {
    return typeof principal === "string" ? this.#names.nameOf(principal as RecordId) : "";
  }

  /** Records of a kind that name something as their subject, in log order. */
  #linking(subject: Held, kind: string): Held[] {
    return this.#reader
      .in(subject.source.index)
      .filter((l) => l.rel === "subject" && this.#reader.entry(l.source)?.kind === kind)
      .slice(-MAX_EVENTS)
      .map((l) => this.#held(assertDefined(this.#reader.entry(l.source), "a source is there").record));
  }

  #run(id: RecordId): Run {
    const run = this.#held(id);
    const { nameOf } = this.#names;
    const row = this.#reader.get("run", id)?.value;
    const finish = row?.finish === undefined ? undefined : this.#held(row.finish);
    return {
      ...run.source,
      actor: this.#who(run.record.actor.principal),
      facts: runFacts(this.#reader, id, nameOf),
      finished: finish?.source.time ?? "",
      metrics: reportedBy(this.#reader, id).metrics.map(({ batch, metric: { datasetVersion, key, slice, value } }) => ({
        ...this.#held(batch).source,
        key,
        on: this.#who(datasetVersion),
        slice: slice ?? "",
        value,
      })),
      name: nameOf(id),
      status: row?.status ?? "",
    };
  }

  /** Inputs of the runs, each once for each role. */
  #dataOf(runs: readonly Run[]): Data[] {
    const found = new Map<string, Data>();
    for (const run of runs)
      for (const { record: id, role } of objects(this.#held(run.record).body["inputs"])) {
        const shown = word(role, "INPUT_ROLE_");
        const key = `${textOf(id)} ${shown}`;
        if (!found.has(key)) found.set(key, this.#input(textOf(id) as RecordId, shown));
      }
    return [...found.values()];
  }

  #input(id: RecordId, role: string): Data {
    const input = this.#held(id);
    const { nameOf, mayRead } = this.#names;
    const row = this.#reader.get("entity", id)?.value;
    const visible = mayRead(assertDefined(input.record.project, "an input lies in a project"));
    const common = { ...input.source, name: nameOf(id), role, visible };
    if (!visible || input.record.kind !== "dataset.version")
      return {
        ...common,
        body: visible ? input.body : {},
        classes: [],
        dataset: {},
        derivedFrom: [],
        gate: "",
        report: undefined,
        status: visible ? (row?.status ?? "") : "",
        tainted: row?.tainted ?? false,
      };
    const gate = this.#reader.get("gate", id)?.value;
    const schema = targets(input.record, "schema")[0];
    return {
      ...common,
      body: input.body,
      classes: schema === undefined ? [] : [...new Set(classesOf(this.#held(schema).body["fields"]))].toSorted(),
      dataset: row?.parent === undefined ? {} : this.#held(row.parent).body,
      derivedFrom: targets(input.record, "derived_from").map(nameOf),
      gate: gate?.outcome ?? "not_evaluated",
      report: gate?.report === undefined ? undefined : this.#held(gate.report).body,
      status: row?.status ?? "",
      tainted: row?.tainted ?? false,
    };
  }

  #votesOn(request: RecordId): Vote[] {
    const votes = this.#reader.get("approval", request)?.value.votes ?? [];
    return votes.map(({ id }) => {
      const { body, record, source } = this.#held(id);
      const { signer } = body;
      return {
        ...source,
        meaning: word(body["meaning"], "MEANING_"),
        principal: this.#who(record.actor.principal),
        printedName: textOf((signer as JsonObject | undefined)?.["printed_name"]),
        statement: textOf(body["statement"]),
        verdict: word(body["verdict"], "VERDICT_"),
      };
    });
  }
}

const targets = (record: LedgerRecord, rel: string): RecordId[] =>
  record.links.flatMap((l) => (l.rel === rel ? [l.to] : []));

const classesOf = (fields: Json | undefined): string[] =>
  objects(fields).flatMap((f) => [
    ...(Array.isArray(f["classes"]) ? f["classes"].map(textOf) : []),
    ...classesOf(f["children"]),
  ]);

const verdictOf = ({ body, source }: Held): Verdict => ({
  ...source,
  outcome: `${word(body["outcome"], "OUTCOME_")}${body["preview"] === true ? " (preview)" : ""}`,
  rules: objects(body["policies"]).flatMap((policy) =>
    objects(policy["rules"]).map((rule) => ({
      id: textOf(rule["id"]),
      message: textOf(rule["message"]),
      result: word(rule["result"], "RULE_OUTCOME_"),
      seen: objects(rule["seen"])
        .map((s) => `${textOf(s["path"])} = ${textOf(s["value"])}`)
        .join(", "),
    })),
  ),
  target: textOf(body["target"]),
});
