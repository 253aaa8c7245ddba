/**
 * `make bench`: every figure beside its baseline, measured in the same run. `node test/bench/main.ts [--only NAME] [--json] [--quick]
 * [--document]`; progress goes to standard error. `--document` also writes the table into `docs/benchmarks.md`.
 */
import { readFile, writeFile } from "node:fs/promises";
import { cpus, loadavg, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { useNativeSha256 } from "../../src/main/home.ts";
import { temporaryFolder } from "../e2e/server.ts";
import { append } from "./append.ts";
import { offline } from "./offline.ts";
import { type Bench, markdownOf, type Row, tableOf } from "./row.ts";
import { size } from "./size.ts";
import { walks } from "./walks.ts";

const BENCHES: Readonly<Record<string, Bench>> = { append, offline, size, walks };

const DOCUMENT = new URL("../../docs/benchmarks.md", import.meta.url);
const BEGIN = "<!-- written by make bench -->";
const END = "<!-- end -->";

const { values } = parseArgs({
  options: {
    document: { type: "boolean" },
    json: { type: "boolean" },
    only: { type: "string" },
    quick: { type: "boolean" },
  },
});
const wanted = Object.entries(BENCHES).filter(([name]) => values.only === undefined || name === values.only);
if (wanted.length === 0) {
  process.stderr.write(`--only takes one of ${Object.keys(BENCHES).join(", ")}\n`);
  process.exit(64);
}

useNativeSha256();
const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown"}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}, Node ${process.versions.node}`;
const run = `${new Date().toISOString().slice(0, 16)}Z, ${machine}, load ${loadavg()[0]?.toFixed(1)} before the run`;
const rows: Row[] = [];
await using folder = await temporaryFolder();
for (const [name, bench] of wanted) {
  const progress = (text: string): void =>
    void process.stderr.write(`${(performance.now() / 1_000).toFixed(0).padStart(5)} s  ${name}: ${text}\n`);
  progress("begins");
  try {
    rows.push(...(await bench({ folder: folder.path, progress, quick: values.quick === true })));
  } catch (error) {
    // What the other groups measured is worth having all the same.
    process.stderr.write(`${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = 1;
  }
}
if (values.document === true) {
  const text = await readFile(DOCUMENT, "utf8");
  const [before = "", rest = ""] = text.split(BEGIN);
  const after = rest.split(END)[1] ?? "";
  const notes = rows.flatMap((r) => (r.note === undefined ? [] : [`- ${r.what}: ${r.note}`])).join("\n");
  await writeFile(DOCUMENT, `${before}${BEGIN}\n${run}\n\n${markdownOf(rows)}\n\n${notes}\n${END}${after}`);
}
if (values.json === true) process.stdout.write(`${JSON.stringify({ machine, rows, run }, null, 2)}\n`);
else process.stdout.write(`${run}\n\n${tableOf(rows)}`);
