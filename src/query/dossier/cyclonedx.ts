/**
 * A model version as an ML-BOM of CycloneDX 1.7 (ECMA-424): the model with its card, the data that it was made from, the images of
 * its environment. Without a serial number and with the version's own time: the same state gives the same document.
 */
import type { Json, JsonObject } from "../../record/json.ts";
import { objects, textOf } from "../json-parts.ts";
import type { Data, DossierFacts } from "./facts.ts";

const hashes = (digest: Json | undefined): JsonObject[] => {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(textOf(digest))?.[1];
  return hex === undefined ? [] : [{ alg: "SHA-256", content: hex }];
};

const property = (name: string, value: string): JsonObject => ({ name: `animus:datapilot:${name}`, value });

const record = ({ index, record: id }: { readonly index: number; readonly record: string }): JsonObject[] => [
  property("record", id),
  property("log-index", String(index)),
];

export function formatCyclonedx(facts: DossierFacts): string {
  const { data, model, origin, runs, treeSize, version } = facts;
  const inputs = [...new Map(data.map((d) => [d.record, d])).values()];
  const bom: JsonObject = {
    bomFormat: "CycloneDX",
    components: [...inputs.map(dataComponent), ...images(facts)],
    dependencies: [{ dependsOn: inputs.map((d) => d.record), ref: version.record }],
    metadata: {
      component: {
        "bom-ref": version.record,
        ...(model.body["description"] === undefined ? {} : { description: model.body["description"] }),
        hashes: hashes(version.body["content_digest"]),
        modelCard: card(facts),
        name: model.name,
        properties: [
          ...record(version),
          property("status", version.status),
          property("tainted", String(version.tainted)),
          ...version.aliases.map((a) => property("alias", a)),
          ...runs.map((r) => property("run", r.record)),
          ...objects(version.body["files"]).map((f) => property(`file:${textOf(f["path"])}`, textOf(f["digest"]))),
        ],
        type: "machine-learning-model",
        version: String(version.ordinal),
      },
      properties: [property("origin", origin), property("tree-size", String(treeSize))],
      timestamp: version.time,
    },
    specVersion: "1.7",
    version: 1,
  };
  return `${JSON.stringify(bom, null, 2)}\n`;
}

function card({ data, model, runs, version }: DossierFacts): JsonObject {
  const { signature } = version.body;
  const side = (name: string): JsonObject[] =>
    objects((signature as JsonObject | undefined)?.[name]).map((f) => ({
      format: `${textOf(f["name"])}: ${textOf(f["type"])}`,
    }));
  return {
    considerations: {
      ...(model.body["limitations"] === undefined ? {} : { technicalLimitations: [model.body["limitations"]] }),
      useCases: [textOf(model.body["intended_use"])],
    },
    modelParameters: {
      datasets: [...new Set(data.map((d) => d.record))].map((ref) => ({ ref })),
      inputs: side("inputs"),
      outputs: side("outputs"),
    },
    quantitativeAnalysis: {
      performanceMetrics: runs.flatMap((r) =>
        r.metrics.map((m) => ({
          ...(m.slice === "" ? {} : { slice: m.slice }),
          type: m.key,
          value: String(m.value),
        })),
      ),
    },
  };
}

function dataComponent(d: Data): JsonObject {
  const license = textOf(d.dataset["license"]);
  const classification = textOf(d.dataset["classification"]).replace("CLASSIFICATION_", "").toLowerCase();
  return {
    "bom-ref": d.record,
    data: [
      {
        name: d.name,
        type: "dataset",
        ...(classification === "" ? {} : { classification }),
        ...(d.classes.length === 0 ? {} : { sensitiveData: [...d.classes] }),
      },
    ],
    hashes: hashes(d.body["content_digest"]),
    ...(license === "" ? {} : { licenses: [{ license: { name: license } }] }),
    name: d.name,
    properties: [...record(d), property("role", d.role), property("gate", d.gate), property("status", d.status)],
    type: "data",
  };
}

/** Images of the locks that the runs were planned with, each once. */
function images({ runs }: DossierFacts): JsonObject[] {
  const found = new Map<string, JsonObject>();
  for (const { facts } of runs)
    for (const [path, value] of facts) {
      const name = /^environment\.images\.(.+)$/s.exec(path)?.[1];
      if (name === undefined) continue;
      const digest = JSON.parse(value) as string;
      found.set(`${name}@${digest}`, { hashes: hashes(digest), name, type: "container" });
    }
  return [...found.values()];
}
