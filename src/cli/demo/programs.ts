/**
 * The job of the demonstration, as a person would have written it: cleaning, and training a random forest on the Palmer penguins.
 * Written into a repository of its own and run there; the modules come from where this program is installed.
 */

/** Keeps rows whose measures and sex are known; splits a quarter of them off for tests, by the hash of the row. */
export const CLEAN = `import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const rows = JSON.parse(readFileSync("raw/penguins.json", "utf8"));
const measures = Object.keys(rows[0]).filter((k) => typeof rows[0][k] === "number");
const clean = rows.filter((r) => measures.every((m) => r[m] !== null) && ["MALE", "FEMALE"].includes(r.Sex));
const isTest = (r) => parseInt(createHash("sha256").update(JSON.stringify(r)).digest("hex").slice(0, 8), 16) % 4 === 0;
const lines = (list) => list.map((r) => JSON.stringify(r) + "\\n").join("");

mkdirSync("clean", { recursive: true });
mkdirSync("test", { recursive: true });
writeFileSync("clean/penguins.jsonl", lines(clean));
writeFileSync("test/penguins-test.jsonl", lines(clean.filter(isTest)));
console.log(\`\${clean.length} of \${rows.length} rows kept, \${clean.filter(isTest).length} of them for tests\`);
`;

/** Trains 25 trees with a fixed seed, so that a rerun gives the same bytes, and measures them on the test rows. */
export const TRAIN = `import { createRequire } from "node:module";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const require = createRequire(process.env.DATAPILOT_DEMO_MODULES);
const { RandomForestClassifier } = require("ml-random-forest");
const read = (file) => readFileSync(file, "utf8").trimEnd().split("\\n").map((l) => JSON.parse(l));

const test = read("test/penguins-test.jsonl");
const held = new Set(test.map((r) => JSON.stringify(r)));
const train = read("clean/penguins.jsonl").filter((r) => !held.has(JSON.stringify(r)));
const measures = Object.keys(train[0]).filter((k) => typeof train[0][k] === "number");
const species = ["Adelie", "Chinstrap", "Gentoo"];
const features = (list) => list.map((r) => measures.map((m) => r[m]));

const forest = new RandomForestClassifier({ maxFeatures: 3, nEstimators: 25, replacement: true, seed: 3 });
forest.train(features(train), train.map((r) => species.indexOf(r.Species)));
const guesses = forest.predict(features(test));
const right = (list) => list.filter((r) => species[guesses[test.indexOf(r)]] === r.Species).length / list.length;

mkdirSync("model", { recursive: true });
writeFileSync("model/forest.json", JSON.stringify(forest));
const metrics = [{ key: "accuracy", value: right(test), on: "test" }, ...species.map((s) => ({ key: \`recall_\${s.toLowerCase()}\`, value: right(test.filter((r) => r.Species === s)), on: "test" }))];
writeFileSync("metrics.json", JSON.stringify(metrics, null, 2));
console.log(metrics.map((m) => \`\${m.key} \${m.value.toFixed(3)}\`).join(", "));
`;

export const SCHEMA = {
  fields: [
    { name: "Species", type: "utf8" },
    { name: "Island", type: "utf8" },
    { name: "Beak Length (mm)", nullable: true, type: "float64" },
    { name: "Beak Depth (mm)", nullable: true, type: "float64" },
    { name: "Flipper Length (mm)", nullable: true, type: "float64" },
    { name: "Body Mass (g)", nullable: true, type: "float64" },
    { name: "Sex", nullable: true, type: "utf8" },
  ],
  name: "penguins",
};

const MEASURES = ["Beak Length (mm)", "Beak Depth (mm)", "Flipper Length (mm)", "Body Mass (g)"];

/** Rules of the gate: no value is missing, and the sex is one of two words. */
export const QUALITY_POLICY = {
  name: "penguins-quality",
  rules: [
    {
      id: "measures-complete",
      message: "A measure is missing in some rows.",
      require: MEASURES.map((m) => `input.report.measurements["${m}.null_count"] == 0.0`).join(" && "),
    },
    {
      id: "sex-known",
      message: "Sex is missing or is neither MALE nor FEMALE in some rows.",
      require:
        'input.report.measurements["Sex.null_count"] == 0.0 && input.report.measurements["Sex.invalid_count"] == 0.0',
    },
  ],
  target: "quality.gate",
};

/** Each run of the model measured `metric` on test data, and reached `least`. */
const reached = (metric: string, least: number): string =>
  `input.model.runs.all(r, size(r.evaluations.filter(e, e.key == "${metric}" && e.role == "test" && e.value >= ${least.toFixed(2)})) > 0)`;

/** What a model must reach before it is validated. */
export const fitPolicy = (recall: number) => ({
  name: "fit",
  rules: [
    {
      id: "accuracy",
      message: "Accuracy on the test rows is below 0.95.",
      require: `size(input.model.runs) > 0 && ${reached("accuracy", 0.95)}`,
      when: 'input.request.to == "validated"',
    },
    ...["adelie", "chinstrap", "gentoo"].map((species) => ({
      id: `recall-${species}`,
      message: `Recall of ${species} on the test rows is below ${recall.toFixed(2)}.`,
      require: `size(input.model.runs) > 0 && ${reached(`recall_${species}`, recall)}`,
      when: 'input.request.to == "validated"',
    })),
  ],
  target: "model.version.transition",
});

/** Measures a file of rows as a quality tool does. */
export function measure(rows: readonly Readonly<Record<string, unknown>>[]) {
  const count = (test: (r: Readonly<Record<string, unknown>>) => boolean): number => rows.filter(test).length;
  return {
    complete: true,
    measurements: [
      ...MEASURES.map((column) => ({ column, name: "null_count", value: count((r) => r[column] === null) })),
      { column: "Sex", name: "null_count", value: count((r) => r["Sex"] === null) },
      {
        column: "Sex",
        name: "invalid_count",
        value: count((r) => r["Sex"] !== null && r["Sex"] !== "MALE" && r["Sex"] !== "FEMALE"),
      },
      { name: "row_count", value: rows.length },
    ].toSorted((a, b) =>
      `${"column" in a ? a.column : ""}\n${a.name}` < `${"column" in b ? b.column : ""}\n${b.name}` ? -1 : 1,
    ),
    tool: { name: "datapilot-demo", version: "1" },
  };
}
