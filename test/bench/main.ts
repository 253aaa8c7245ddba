/**
 * `make bench`: every figure beside its baseline, measured in the same run. `node test/bench/main.ts [--only NAME] [--json] [--quick]
 * [--markdown]`; progress goes to standard error.
 */
import { cpus, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { useNativeSha256 } from "../../src/main/home.ts";
import { temporaryFolder } from "../e2e/server.ts";
import { append } from "./append.ts";
import { offline } from "./offline.ts";
import { type Bench, markdownOf, type Row, tableOf } from "./row.ts";
import { size } from "./size.ts";
import { walks } from "./walks.ts";

const BENCHES: Readonly<Record<string, Bench>> = { append, offline, size, walks };

const { values } = parseArgs({
  options: {
    json: { type: "boolean" },
    markdown: { type: "boolean" },
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
const rows: Row[] = [];
await using folder = await temporaryFolder();
for (const [name, bench] of wanted) {
  const progress = (text: string): void => void process.stderr.write(`${name}: ${text}\n`);
  progress("begins");
  rows.push(...(await bench({ folder: folder.path, progress, quick: values.quick === true })));
}
if (values.json === true)
  process.stdout.write(`${JSON.stringify({ machine, rows, time: new Date().toISOString() }, null, 2)}\n`);
else if (values.markdown === true) process.stdout.write(`${machine}\n\n${markdownOf(rows)}\n`);
else process.stdout.write(`${machine}\n\n${tableOf(rows)}`);
process.exitCode = 0;
