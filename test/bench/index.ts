/** What an index costs: apply in small batches, and a rebuild. `node test/bench/index.ts [records] [--json]` */
import { hash } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { rebuild } from "../../src/index/rebuild.ts";
import { setSha256 } from "../../src/merkle/hash.ts";
import { writeLog } from "../fold/synthetic-log.ts";

setSha256((data) => hash("sha256", data, "buffer"));
const json = process.argv.includes("--json");
const records = Number(process.argv[2] ?? 100_000) || 100_000;
const small = writeLog(Math.min(records, 50_000), () => 40);
const large = writeLog(records, () => 800, 2);
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
    const from = performance.now();
    async function* commits(): AsyncIterable<Uint8Array> {
      for (const commit of large.commits) yield commit.bytes;
    }
    await rebuild(index, commits(), undefined, () => undefined);
    const ms = performance.now() - from;
    const size = index.watermark.size;
    rows["rebuild"] = {
      records: size,
      "us/record": (1000 * ms) / size,
      "records/s": (1000 * size) / ms,
      "bytes/record": statSync(join(folder, "b", "index.mdb")).size / size,
    };
  }
  {
    await using index = await openLmdbIndex({ path: join(folder, "c") });
    const from = performance.now();
    for (let i = 0; i < large.commits.length; i += 40)
      index.apply(large.commits.slice(i, i + 40).map(({ hash, header, items, n }) => ({ hash, header, items, n })));
    const ms = performance.now() - from;
    const size = index.watermark.size;
    rows["apply, 32,000 a batch"] = { records: size, "us/record": (1000 * ms) / size };
  }
} finally {
  rmSync(folder, { force: true, recursive: true });
}
if (json) console.log(JSON.stringify(rows));
else console.table(rows);
process.exit(0);
