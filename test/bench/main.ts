/**
 * `make bench`: every figure beside its baseline, measured in the same run. `node test/bench/main.ts [--only NAME] [--json] [--quick]
 * [--document]`; progress goes to standard error. `--document` also writes the tables into `docs/benchmarks.md`: MinIO has one of its
 * own, and a table of which nothing was measured stays as it is.
 */
import { readFile, writeFile } from "node:fs/promises";
import { cpus, loadavg, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { useNativeSha256 } from "../../src/main/home.ts";
import { temporaryFolder } from "../e2e/server.ts";
import { append } from "./append.ts";
import { minio } from "./minio.ts";
import { offline } from "./offline.ts";
import { type Bench, markdownOf, type Row, tableOf } from "./row.ts";
import { size } from "./size.ts";
import { walks } from "./walks.ts";

const BENCHES: Readonly<Record<string, Bench>> = { append, minio, offline, size, walks };

const DOCUMENT = new URL("../../docs/benchmarks.md", import.meta.url);
const END = "<!-- end -->";
const beginOf = (table: string): string => `<!-- written by make bench${table} -->`;
/** The table of a group; most share one. */
const tableNameOf = (group: string): string => (group === "minio" ? ", minio" : "");

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
const tables = new Map<string, Row[]>();
await using folder = await temporaryFolder();
for (const [name, bench] of wanted) {
  const progress = (text: string): void =>
    void process.stderr.write(`${(performance.now() / 1_000).toFixed(0).padStart(5)} s  ${name}: ${text}\n`);
  progress("begins");
  try {
    const found = await bench({ folder: folder.path, progress, quick: values.quick === true });
    tables.set(tableNameOf(name), [...(tables.get(tableNameOf(name)) ?? []), ...found]);
  } catch (error) {
    // What the other groups measured is worth having all the same.
    process.stderr.write(`${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = 1;
  }
}
if (values.document === true) {
  let text = await readFile(DOCUMENT, "utf8");
  for (const [table, rows] of tables) {
    const [before = "", rest = ""] = text.split(beginOf(table));
    const after = rest.slice(rest.indexOf(END) + END.length);
    const notes = rows.flatMap((r) => (r.note === undefined ? [] : [`- ${r.what}: ${r.note}`])).join("\n");
    text = `${before}${beginOf(table)}\n${run}\n\n${markdownOf(rows)}\n\n${notes}\n${END}${after}`;
  }
  await writeFile(DOCUMENT, text);
}
const rows = [...tables.values()].flat();
if (values.json === true) process.stdout.write(`${JSON.stringify({ machine, rows, run }, null, 2)}\n`);
else process.stdout.write(`${run}\n\n${tableOf(rows)}`);
