/** What an index costs: apply in small batches, and a rebuild. `node test/bench/index.ts [records] [--json]` */
import { hash } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { rebuild } from "../../src/index/rebuild.ts";
import { setSha256Text } from "../../src/merkle/hash.ts";
import { writeLog } from "../fold/synthetic-log.ts";

setSha256Text((data, form) => hash("sha256", data, form));
const json = process.argv.includes("--json");
const records = Number(process.argv[2] ?? 100_000) || 100_000;
const small = writeLog(Math.min(records, 50_000), () => 40);
/** Bytes alone: what else a log holds would be the collector's work here. */
const large = writeLog(records, () => 800, 2).commits.map((commit) => commit.bytes);
const folder = mkdtempSync(join(tmpdir(), "datapilot-bench-"));
const rows: Record<string, Record<string, number>> = {};
try {
  {
    await using index = await openLmdbIndex({ path: join(folder, "a") });
    const cpu = process.cpuUsage();
    const from = performance.now();
    for (const commit of small.commits) index.apply([commit]);
    const ms = performance.now() - from;
    const used = process.cpuUsage(cpu);
    const size = index.watermark.size;
    rows["apply, 40 a commit"] = {
      records: size,
      "us/record": (1000 * ms) / size,
      "cpu us/record": (used.user + used.system) / size,
      "bytes/record": statSync(join(folder, "a", "index.mdb")).size / size,
    };
  }
  {
    await using index = await openLmdbIndex({ path: join(folder, "b") });
    const main = process.threadCpuUsage();
    const cpu = process.cpuUsage();
    const from = performance.now();
    async function* commits(): AsyncIterable<Uint8Array> {
      yield* large;
    }
    const perRecord = ({ user, system }: { readonly user: number; readonly system: number }): number =>
      (user + system) / index.watermark.size;
    await rebuild(index, commits(), undefined, () => undefined);
    const ms = performance.now() - from;
    const size = index.watermark.size;
    rows["rebuild"] = {
      records: size,
      "us/record": (1000 * ms) / size,
      "records/s": (1000 * size) / ms,
      "cpu us/record": perRecord(process.cpuUsage(cpu)),
      "main cpu us/record": perRecord(process.threadCpuUsage(main)),
      "bytes/record": statSync(join(folder, "b", "index.mdb")).size / size,
    };
  }
} finally {
  rmSync(folder, { force: true, recursive: true });
}
if (json) console.log(JSON.stringify(rows));
else console.table(rows);
process.exit(0);
