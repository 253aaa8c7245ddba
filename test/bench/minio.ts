/** The ledger on a real MinIO of one node and one pool, beside what that MinIO gives to clients without a ledger. */
import { enrol } from "../e2e/server.ts";
import { startMinio } from "../minio/minio.ts";
import { Clients, runsFor, settle } from "./clients.ts";
import { RawS3 } from "./raw-s3.ts";
import type { Bench, Row, Settings } from "./row.ts";
import { assertKept, createS3Ledger } from "./s3-ledger.ts";
import { replicaRows } from "./s3-replicas.ts";
import { verifyRow } from "./s3-verify.ts";
import { burstRow, latencyRows, sustainedRows, type Writes } from "./s3-writes.ts";

const PROJECT = "bench";
const CLIENTS = 64;

async function writeRows(
  minio: Awaited<ReturnType<typeof startMinio>>,
  raw: RawS3,
  settings: Settings,
): Promise<Row[]> {
  const { folder, progress, quick } = settings;
  const ledger = await createS3Ledger(minio, PROJECT, folder);
  await using server = await ledger.start();
  const { token } = await enrol(server, ledger.adminToken, PROJECT);
  await using clients = new Clients();
  progress("warming up");
  const runs = await runsFor(server, token, PROJECT, CLIENTS, 2, "many");
  await clients.measure({ call: { batch: 1, project: PROJECT }, grpc: server.grpc, runs, seconds: quick ? 2 : 4 });
  await settle(server, token);
  await using store = await ledger.read();
  const sizes: number[] = [];
  for await (const { sizeBytes } of store.list("ledger", "records/", { limit: 500 })) sizes.push(sizeBytes);
  const sizeBytes = Math.round(sizes.reduce((a, b) => a + b, 0) / sizes.length);
  const writes: Writes = { clients, progress, project: PROJECT, quick, raw, runs, server, sizeBytes, token };
  const latency = await latencyRows(writes);
  const burst = await burstRow(writes);
  const [published, memory] = await sustainedRows(writes);
  progress("whether all that was acknowledged is in the log");
  const kept = await assertKept(store, clients.acknowledged);
  const lost = `${kept.acknowledged.toLocaleString("en")} records acknowledged in all rows, 0 lost, none twice, after a SIGKILL at the end`;
  return [burst, published, ...latency, { ...memory, note: `${memory.note}; ${lost}` }];
}

export const minio: Bench = async (settings) => {
  await using store = await startMinio();
  await using raw = await RawS3.open(store, settings.folder);
  const rows = await writeRows(store, raw, settings);
  return [...rows, ...(await replicaRows(store, settings)), await verifyRow(store, raw, settings)];
};
