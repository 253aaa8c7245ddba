/**
 * Records a second through `submit` on the file store, beside what the disk gives in the same run: files created and flushed one
 * after the other, and sixteen at a time. Run it with node; ratios mean something, absolute numbers only on one machine.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Index } from "../../../src/index/index.ts";
import { initLedger } from "../../../src/log/init.ts";
import { openLastSigned } from "../../../src/log/keys/last-signed-file.ts";
import { openLog } from "../../../src/log/log.ts";
import { Materialiser } from "../../../src/log/materialise.ts";
import { setSha256 } from "../../../src/merkle/hash.ts";
import type { Clock, Random } from "../../../src/std/ports.ts";
import { createFileStore } from "../../../src/store/fs/file-store.ts";
import { createDataset, createProject, NEVER_MS, ORIGIN, quietLogger, testKeys } from "../world.ts";

setSha256((data) => createHash("sha256").update(data).digest());
const clock: Clock = {
  monotonic: () => performance.now(),
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    await sleep(Math.min(ms, 2 ** 31 - 1), undefined, { signal, ref: false });
  },
};
const random: Random = { bytes: (n) => randomBytes(n) };
// "ack" measures the acknowledgement path alone.
if (process.argv[5] === "ack") Materialiser.prototype.wake = () => undefined;
const SECONDS = Number(process.argv[2] ?? 4);
const IN_FLIGHT = Number(process.argv[3] ?? 512);

async function rawCreates(folder: string, inFlight: number, count: number): Promise<number> {
  const body = randomBytes(1_500);
  let next = 0;
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (next < count) {
        const file = await open(join(folder, `raw-${inFlight}-${next++}`), "wx");
        await file.writeFile(body);
        await file.sync();
        await file.close();
      }
    }),
  );
  return (count / (performance.now() - begun)) * 1_000;
}

async function openIndex(folder: string): Promise<Index> {
  if (process.argv[4] === "memory") return (await import("../memory-index.ts")).createMemoryIndex();
  const { openLmdbIndex } = await import("../../../src/index/lmdb/lmdb-index.ts");
  return openLmdbIndex({ path: join(folder, "index") });
}

const folder = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "datapilot-bench-"));
try {
  const raw1 = await rawCreates(folder, 1, 300);
  const raw16 = await rawCreates(folder, 16, 2_000);
  await using store = await createFileStore({
    allowAdvisoryLock: true,
    clock,
    minimumFreeBytes: 1,
    random,
    root: join(folder, "store"),
  });
  await using lastSigned = await openLastSigned(join(folder, "last-signed"));
  const shared = { clock, keys: testKeys, lastSigned, random, store };
  const init = await initLedger({ ...shared, origin: ORIGIN, retentionDays: 30 });
  const index = await openIndex(folder);
  const log = await openLog({
    ...shared,
    backlogRecords: 1e9,
    graceMs: 100,
    index,
    logger: quietLogger,
    queueLimits: { bytes: 1 << 30, records: 1e6 },
    sealIntervalMs: NEVER_MS,
  });
  const made = await log.submit(createProject("fraud", init.system));
  const project = made.committed?.records[0]?.id ?? init.system;
  const times: number[] = [];
  let k = 0;
  const until = performance.now() + SECONDS * 1_000;
  const cpu = process.cpuUsage();
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      while (performance.now() < until) {
        const at = performance.now();
        const { committed } = await log.submit(createDataset(project, `d${k++}`));
        const record = committed?.records[0];
        if (record !== undefined) log.receipt(record.index);
        times.push(performance.now() - at);
      }
    }),
  );
  const seconds = (performance.now() - begun) / 1_000;
  const used = process.cpuUsage(cpu);
  times.sort((a, b) => a - b);
  const { materialised, n, size } = index.watermark;
  console.log(
    JSON.stringify({
      commits: n,
      cpu_us_per_record: Math.round((used.user + used.system) / times.length),
      materialised_per_s: Math.round(materialised / seconds),
      p50_ms: Math.round(times[times.length >> 1] ?? 0),
      p99_ms: Math.round(times[Math.floor(times.length * 0.99)] ?? 0),
      raw_creates_16_per_s: Math.round(raw16),
      raw_creates_1_per_s: Math.round(raw1),
      records_per_commit: Math.round(size / n),
      records_per_s: Math.round(times.length / seconds),
    }),
  );
  if (process.argv[5] !== "ack") await log[Symbol.asyncDispose]();
} finally {
  await rm(folder, { force: true, recursive: true });
}
