/**
 * Acknowledged records through the gRPC port of a real server: BatchAppendRunEvents, the call that training jobs make all the time,
 * each client on a run of its own. An answer means: durable, in the log, under a signed checkpoint, with its proof.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { initHome, startServer } from "../e2e/server.ts";
import { Clients, enrol, runsFor, settle } from "./clients.ts";
import type { Measured } from "./load.ts";
import { createFile, createObject, type RawCreate, rawCreates } from "./raw.ts";
import { atLeast, atMost, type Bench, beside, median, type Row } from "./row.ts";

const PROJECT = "bench";
/** Touches neither token nor ledger: the least that a call through this port costs. */
const EMPTY = "/grpc.health.v1.Health/Check";
/** Authenticates, and reads a few numbers. */
const HEALTH = "/animus.datapilot.v1.LedgerService/GetHealth";
const BATCH = 20;
const RAW = "raw create-if-absent + fsync (file and folder)";
const RAW_FILE = "raw create + fsync of the file alone";
const rate = ({ calls, seconds }: Measured): number => calls / seconds;

async function meanSize(folder: string): Promise<number> {
  const names = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((e) => e.isFile()).slice(-500);
  const sizes = await Promise.all(names.map(async (e) => (await stat(join(e.parentPath, e.name))).size));
  return Math.round(sizes.reduce((a, b) => a + b, 0) / sizes.length);
}

/** Median size of the newest files of a folder whose names ascend. */
async function newestSize(folder: string): Promise<number> {
  const files = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((e) => e.isFile())
    .map((e) => join(e.parentPath, e.name))
    .toSorted();
  return median(await Promise.all(files.slice(-100).map(async (file) => (await stat(file)).size)));
}

export const append: Bench = async ({ folder, progress, quick }) => {
  const seconds = quick ? 2 : 5;
  const rounds = quick ? 1 : 3;
  const dir = join(folder, "append");
  const home = await initHome(dir);
  await using server = await startServer(dir);
  const { token } = await enrol(server, home.token, PROJECT);
  await using clients = new Clients();
  const runs64 = await runsFor(server, token, PROJECT, 64, 3, "many");
  const runs16 = runs64.slice(0, 16);
  const { grpc } = server;
  const measure = async (order: Parameters<Clients["measure"]>[0]): Promise<Measured> => {
    await settle(server, token);
    return clients.measure(order);
  };
  const raw = async (create: RawCreate, body: Uint8Array, inFlight: number) => {
    await settle(server, token);
    return rawCreates(create, folder, body, inFlight, seconds);
  };
  const empty = (n: number) => measure({ call: { path: EMPTY, token: "" }, grpc, runs: runs64.slice(0, n), seconds });
  const known = (n: number) => measure({ call: { path: HEALTH, token }, grpc, runs: runs64.slice(0, n), seconds });
  const write = (n: number, batch = 1) =>
    measure({ call: { batch, project: PROJECT }, grpc, runs: runs64.slice(0, n), seconds });
  const cpuMs = async (): Promise<number> => {
    const fields = (await readFile(`/proc/${server.pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
    // In hundredths of a second, of the process in user mode and in the kernel.
    return 10 * (Number(fields[11]) + Number(fields[12]));
  };
  progress("warming up");
  await clients.measure({ call: { batch: 1, project: PROJECT }, grpc, runs: runs16, seconds: quick ? 2 : 4 });
  const body = new Uint8Array(await meanSize(join(dir, "ledger/records"))).fill(0x61);
  const rows: Row[] = [];

  for (const n of [16, 64]) {
    const found = {
      cpu: [] as number[],
      empty: [] as number[],
      known: [] as number[],
      p50: [] as number[],
      raw: [] as number[],
      rawFile: [] as number[],
      settled: [] as number[],
      write: [] as number[],
    };
    for (let r = 0; r < rounds; r++) {
      progress(`${n} clients, round ${r + 1} of ${rounds}`);
      found.empty.push(rate(await empty(n)));
      found.known.push(rate(await known(n)));
      const cpu = await cpuMs();
      const written = await write(n);
      found.cpu.push((1_000 * ((await cpuMs()) - cpu)) / written.calls);
      found.write.push(rate(written));
      found.p50.push(median(written.timesMs));
      const from = performance.now();
      await settle(server, token);
      found.settled.push(written.calls / (written.seconds + (performance.now() - from) / 1_000));
      found.raw.push((await raw(createObject, body, n)).perSecond);
      found.rawFile.push((await raw(createFile, body, n)).perSecond);
    }
    const value = median(found.write);
    rows.push({
      baselines: [
        atLeast(`empty unary calls (${EMPTY.slice(1)})`, value, median(found.empty), 0.4),
        beside(`authenticated reads (${HEALTH.slice(1)})`, median(found.known)),
        atLeast(`${RAW}, ${n} in flight`, value, median(found.raw), 1),
        beside(`${RAW_FILE}, ${n} in flight`, median(found.rawFile)),
      ],
      note: `acknowledgement p50 ${median(found.p50).toFixed(1)} ms; ${Math.round(median(found.settled))} records/s until each was an object of its own and published; ${Math.round(median(found.cpu))} µs of the server's processors a record; records of ${body.length} bytes`,
      unit: "records/s",
      value,
      what: `acknowledged records, unary, ${n} clients`,
    });
  }
  for (const n of [16, 64]) {
    const found = { raw: [] as number[], rawFile: [] as number[], write: [] as number[] };
    for (let r = 0; r < rounds; r++) {
      progress(`batches of ${BATCH}, ${n} clients, round ${r + 1} of ${rounds}`);
      found.write.push(BATCH * rate(await write(n, BATCH)));
      found.raw.push((await raw(createObject, body, n)).perSecond);
      found.rawFile.push((await raw(createFile, body, n)).perSecond);
    }
    const value = median(found.write);
    rows.push({
      baselines: [
        atLeast(`${RAW}, ${n} in flight`, value, median(found.raw), 4),
        beside(`${RAW_FILE}, ${n} in flight`, median(found.rawFile)),
      ],
      unit: "records/s",
      value,
      what: `acknowledged records, batches of ${BATCH}, ${n} clients`,
    });
  }
  {
    const ack: number[] = [];
    const found = { raw: [] as number[], rawFile: [] as number[] };
    progress("one client");
    await write(1);
    const size = await newestSize(join(dir, "ledger/commits"));
    for (let r = 0; r < rounds; r++) {
      progress(`one client, round ${r + 1} of ${rounds}`);
      ack.push(median((await write(1)).timesMs));
      found.raw.push((await raw(createObject, new Uint8Array(size), 1)).p50Ms);
      found.rawFile.push((await raw(createFile, new Uint8Array(size), 1)).p50Ms);
    }
    const value = median(ack);
    const base = median(found.raw);
    rows.push({
      baselines: [
        beside(`${RAW}, ${size} bytes`, base),
        beside(`${RAW_FILE}, ${size} bytes`, median(found.rawFile)),
        atMost("twice that and 2 ms", value, 2 * base + 2, "≤"),
      ],
      unit: "ms",
      value,
      what: "acknowledgement p50, one client",
    });
  }
  await server.stop();
  return rows;
};
