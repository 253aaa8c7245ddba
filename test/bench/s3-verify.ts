/** Verification of a bucket on MinIO beside bare loops that read the same objects. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { verifyBucket } from "../../src/verify/bucket.ts";
import { readPolicy } from "../e2e/log-copy.ts";
import { enrol } from "../e2e/server.ts";
import type { Minio } from "../minio/minio.ts";
import { Clients, runsFor, settle } from "./clients.ts";
import type { RawS3 } from "./raw-s3.ts";
import { atLeast, beside, median, type Row, type Settings } from "./row.ts";
import { createS3Ledger } from "./s3-ledger.ts";

const NAME = "verified";
const BATCH = 20;
const CLIENTS = 16;
/** The default of `verify bucket`. */
const AT_ONCE = 32;

export async function verifyRow(minio: Minio, raw: RawS3, { folder, progress, quick }: Settings): Promise<Row> {
  const records = quick ? 4_000 : 16_000;
  progress(`a ledger of ${records.toLocaleString("en")} records`);
  const ledger = await createS3Ledger(minio, NAME, folder);
  {
    await using server = await ledger.start();
    const { token } = await enrol(server, ledger.adminToken, NAME);
    await using clients = new Clients();
    const runs = await runsFor(server, token, NAME, CLIENTS, 1, "verified");
    await clients.measure({
      call: { batch: BATCH, project: NAME },
      calls: records / BATCH,
      grpc: server.grpc,
      runs,
      seconds: 300,
    });
    await settle(server, token);
    await server.stop();
  }
  await using store = await ledger.read();
  const keys: string[] = [];
  for await (const { key } of store.list("ledger", "")) keys.push(key);
  const trust = {
    kept: [new Uint8Array(await readFile(join(ledger.dir, "trust/kept-checkpoint")))],
    mirrors: new Set<string>(),
    policy: await readPolicy(ledger.dir),
    requirePq: false,
    verifier: nativeVerifier,
  };
  const found = { other: [] as number[], ours: [] as number[], verified: [] as number[] };
  const rounds = quick ? 2 : 3;
  let entries = 0;
  for (let r = 0; r < rounds; r++) {
    progress(`verification and bare loops, round ${r + 1} of ${rounds}`);
    found.ours.push((await raw.reads(store, keys, AT_ONCE)).perSecond);
    const from = performance.now();
    const report = await verifyBucket(store, trust, { concurrency: AT_ONCE, nowMs: Date.now(), records: "objects" });
    found.verified.push(keys.length / ((performance.now() - from) / 1_000));
    const failed = report.checks.flatMap((c) => c.failures);
    if (report.verdict !== "COMPLETE" || failed.length > 0)
      throw new Error(`assertion failed: the bucket is whole, but ${report.verdict} ${JSON.stringify(failed[0])}`);
    entries = report.entries;
    found.other.push((await raw.otherReads(NAME, keys, AT_ONCE)).perSecond);
  }
  const value = median(found.verified);
  return {
    baselines: [
      atLeast(`a bare GET loop, our client, ${AT_ONCE} at once`, value, median(found.ours), 0.8),
      beside(`a bare GET loop, minio-go, ${AT_ONCE} at once`, median(found.other)),
    ],
    note: `${entries.toLocaleString("en")} entries, ${keys.length.toLocaleString("en")} objects with commits, tiles and checkpoints; locks are read with the bytes`,
    unit: "objects/s",
    value,
    what: "verify bucket on MinIO, with all records",
  };
}
