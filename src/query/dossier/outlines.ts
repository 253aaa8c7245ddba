/**
 * What each form asks, and what of it the ledger knows: a model card, the technical documentation of Annex IV of Regulation (EU)
 * 2024/1689, and the file that a model inventory under SR 26-2 keeps. What a form asks for and nobody recorded is named as missing:
 * a document never fills a gap.
 */
import { canonicalize } from "../../record/canonical.ts";
import type { Json, JsonObject } from "../../record/json.ts";
import { objects, textOf } from "../json-parts.ts";
import type { Section, Statement, Table } from "./document.ts";
import { type Data, type DossierFacts, type Source, word } from "./facts.ts";

/** A vote with the printed name, where it was not erased. */
export type Signatures = ReadonlyMap<string, string>;

export interface Outline {
  readonly title: string;
  sections(facts: DossierFacts, signatures: Signatures): Section[];
}

const say = (label: string, text: Json | undefined, ...sources: readonly Source[]): Statement => ({
  label,
  sources,
  text: text === undefined || text === null ? "" : typeof text === "string" ? text : canonicalize(text),
});

const numberOf = (value: Json | undefined): string => (typeof value === "number" ? String(value) : "");

const identity = ({ model, version }: DossierFacts): Statement[] => [
  say("Model", model.name, model),
  say("Version", `${version.ordinal}, ${version.name}`, version),
  say("Content digest", version.body["content_digest"], version),
  say(
    "Status",
    `${version.status}${version.tainted ? ", tainted: something that it was built from was revoked as invalid" : ""}`,
    version,
  ),
  say("Known as", version.aliases.join(", "), version),
  say("Registered", `${version.time} by ${version.actor}`, version),
  say("Framework", version.body["framework"], version),
];

const purpose = ({ model }: DossierFacts): Statement[] => [
  say("Intended use", model.body["intended_use"], model),
  say("What it does", model.body["description"], model),
  say("Answers for it", model.owner, model),
  say("Tier", word(model.body["tier"], "TIER_"), model),
];

const limits = ({ model }: DossierFacts): Statement[] => [
  say("Must not be used for", model.body["limitations"], model),
];

const interfaces = ({ version }: DossierFacts): Table[] => {
  const { signature } = version.body;
  const rows = (["inputs", "outputs"] as const).flatMap((side) =>
    objects((signature as JsonObject | undefined)?.[side]).map((f) => ({
      cells: [side.slice(0, -1), textOf(f["name"]), textOf(f["type"])],
      sources: [version],
    })),
  );
  return [{ head: ["Side", "Name", "Type"], rows }];
};

const files = ({ version }: DossierFacts): Table => ({
  head: ["File", "Digest", "Bytes"],
  rows: objects(version.body["files"]).map((f) => ({
    cells: [textOf(f["path"]), textOf(f["digest"]), numberOf(f["size_bytes"] ?? 0)],
    sources: [version],
  })),
});

const data = ({ data: inputs }: DossierFacts): Table => ({
  head: [
    "Data",
    "Used to",
    "Status",
    "Gate",
    "Rows",
    "Classification",
    "Classes of fields",
    "Licence, rights",
    "Made from",
  ],
  rows: inputs.map((d) => ({
    cells: [
      d.name,
      d.role,
      d.visible ? `${d.status}${d.tainted ? ", tainted" : ""}` : "not readable by who asked",
      d.gate,
      numberOf(d.body["rows"]),
      word(d.dataset["classification"], "CLASSIFICATION_"),
      d.classes.join(", "),
      [textOf(d.dataset["license"]), textOf(d.body["rights"])].filter((x) => x !== "").join("; "),
      d.derivedFrom.join(", "),
    ],
    sources: [d],
  })),
});

const quality = ({ data: inputs }: DossierFacts): Table => ({
  head: ["Data", "Measurement", "Column", "Value"],
  rows: inputs.flatMap((d: Data) =>
    objects(d.report?.["measurements"]).map((m) => ({
      cells: [d.name, textOf(m["name"]), textOf(m["column"]), numberOf(m["value"] ?? 0)],
      sources: [d],
    })),
  ),
});

const runs = ({ runs: made }: DossierFacts): Table => ({
  head: ["Run", "Status", "Started by", "Planned", "Finished"],
  rows: made.map((r) => ({ cells: [r.name, r.status, r.actor, r.time, r.finished], sources: [r] })),
});

/** How the runs were made: code, environment, parameters. */
const method = ({ runs: made }: DossierFacts): Table => ({
  head: ["Run", "What", "Value"],
  rows: made.flatMap((r) =>
    [...r.facts]
      .filter(([path]) => !/^(?:files|inputs|metrics)\./.test(path))
      .map(([path, value]) => ({ cells: [r.name, path, value], sources: [r] })),
  ),
});

const metrics = ({ runs: made }: DossierFacts): Table => ({
  head: ["Metric", "Value", "On", "Slice", "Run"],
  rows: made.flatMap((r) =>
    r.metrics.map((m) => ({ cells: [m.key, String(m.value), m.on, m.slice, r.name], sources: [m] })),
  ),
});

const decisions = ({ verdicts }: DossierFacts): Table => ({
  head: ["Decided on", "Outcome", "Rule", "Result", "Saw"],
  rows: verdicts.flatMap((v) =>
    v.rules.length === 0
      ? [{ cells: [v.target, v.outcome, "", "", ""], sources: [v] }]
      : v.rules.map((r) => ({ cells: [v.target, v.outcome, r.id, r.result, r.seen], sources: [v] })),
  ),
});

const signatures = ({ votes }: DossierFacts, names: Signatures): Table => ({
  head: ["Signed by", "Principal", "Verdict", "Meaning", "Statement", "Time"],
  rows: votes.map((v) => ({
    cells: [names.get(v.record) ?? "(erased)", v.principal, v.verdict, v.meaning, v.statement, v.time],
    sources: [v],
  })),
});

const changes = ({ moves }: DossierFacts): Table => ({
  head: ["Became", "Why", "By", "Time"],
  rows: moves.map((m) => ({ cells: [m.to, m.reason, m.actor, m.time], sources: [m] })),
});

/** Whether those who validated are others than those who developed. */
function independence({ runs: made, version, votes }: DossierFacts): Statement[] {
  const developers = new Set([version.actor, ...made.map((r) => r.actor)].filter((x) => x !== ""));
  const validators = votes.filter((v) => v.verdict === "approve");
  const both = validators.filter((v) => developers.has(v.principal));
  if (validators.length === 0) return [];
  return [
    say("Developed by", [...developers].join(", "), version, ...made),
    say("Validated by", [...new Set(validators.map((v) => v.principal))].join(", "), ...validators),
    say(
      "Independence",
      both.length === 0
        ? "no validator is a developer"
        : `also a developer: ${both.map((v) => v.principal).join(", ")}`,
      ...validators,
    ),
  ];
}

const interval = ({ model }: DossierFacts): Statement => {
  const days = model.body["validation_interval_days"];
  return say("Validated again every", typeof days === "number" ? `${days} days` : undefined, model);
};

const CARD: Outline = {
  sections: (f, s) => [
    { statements: identity(f), tables: [files(f), ...interfaces(f)], title: "Model details" },
    { statements: purpose(f), title: "Intended use" },
    { statements: limits(f), title: "Limitations" },
    { tables: [data(f), quality(f)], title: "Data" },
    { tables: [runs(f), method(f)], title: "Training" },
    { tables: [metrics(f)], title: "Evaluation" },
    { tables: [decisions(f)], title: "Rules and decisions" },
    { tables: [signatures(f, s), changes(f)], title: "Approvals" },
  ],
  title: "Model card",
};

const ANNEX_IV: Outline = {
  sections: (f, s) => [
    {
      statements: [...purpose(f), ...identity(f)],
      tables: [files(f), ...interfaces(f)],
      title: "1. General description of the AI system",
      absent: "How it is placed on the market, its hardware and its user interface are not kept in the ledger.",
    },
    {
      tables: [runs(f), method(f)],
      title: "2 (a) to (c). Elements of the system and process of its development",
      absent: "Design choices and their reasons are not kept in the ledger.",
    },
    { tables: [data(f), quality(f)], title: "2 (d). Data requirements, provenance, selection and cleaning" },
    { tables: [decisions(f)], title: "2 (e). Human oversight, and the rules that admitted it" },
    {
      tables: [metrics(f), signatures(f, s)],
      title: "2 (g). Validation and testing, dated and signed",
      absent: "Test plans and cybersecurity measures (2 (h)) are not kept in the ledger.",
    },
    { statements: limits(f), title: "3. Capabilities, limitations, foreseeable unintended outcomes" },
    {
      title: "4. Appropriateness of the performance metrics",
      absent: "The reasons for choosing them are not kept in the ledger.",
    },
    { title: "5. Risk management system (Article 9)", absent: "It is not kept in the ledger." },
    { tables: [changes(f)], title: "6. Changes through the lifecycle" },
    { title: "7. Harmonised standards", absent: "They are not kept in the ledger." },
    { title: "8. EU declaration of conformity", absent: "It is not kept in the ledger." },
    { statements: [interval(f)], title: "9. Post-market monitoring", absent: "The plan is not kept in the ledger." },
  ],
  title: "Technical documentation (Annex IV, Regulation (EU) 2024/1689)",
};

const SR_26_2: Outline = {
  sections: (f, s) => [
    { statements: [...identity(f), ...purpose(f), interval(f)], title: "Inventory" },
    { tables: [data(f), quality(f)], title: "Development: data" },
    { tables: [runs(f), method(f)], title: "Development: method, code and environment" },
    { tables: [metrics(f)], title: "Testing and performance" },
    { statements: independence(f), tables: [signatures(f, s)], title: "Independent validation" },
    { tables: [decisions(f), changes(f)], title: "Approval and change" },
    { statements: limits(f), title: "Limitations and restrictions of use" },
    { title: "Ongoing monitoring", absent: "Results from its use are not kept in the ledger." },
  ],
  title: "Model risk file (SR 26-2)",
};

export const OUTLINES = { ANNEX_IV, CARD, SR_26_2 } as const;
