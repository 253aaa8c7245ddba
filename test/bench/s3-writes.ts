/** What a server on MinIO acknowledges and publishes, beside raw creates: a burst, a minute at the limit of the backlog, one client, half load. */
import { setTimeout as sleep } from "node:timers/promises";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { clientOf, grpcTransport, type ServerProcess } from "../e2e/server.ts";
import { type Clients, settle } from "./clients.ts";
import type { ReportedRun } from "./load.ts";
import { memoryOf } from "./memory.ts";
import type { Raw, RawS3 } from "./raw-s3.ts";
import { atLeast, atMost, beside, median, quantile, type Row } from "./row.ts";

const CLIENTS = 64;
const BATCH = 20;
/** What the ledger lets run up before it pushes back. */
const BACKLOG = 20_000;
const SAMPLE_MS = 200;
/** Publications to measure between at least; a store that is very slow is given several times the time for them. */
const STEPS = 4;
const LONGEST = 8;
const OURS = "raw locked PUTs of one record, our client";
const OTHER = "raw locked PUTs of one record, minio-go";

export interface Writes {
  readonly server: ServerProcess;
  readonly token: string;
  readonly project: string;
  readonly clients: Clients;
  readonly runs: readonly (readonly ReportedRun[])[];
  readonly raw: RawS3;
  /** Of a record's object. */
  readonly sizeBytes: number;
  readonly quick: boolean;
  readonly progress: (text: string) => void;
}

/** Raw rates of both clients, round by round. */
interface Beside {
  readonly ours: Raw[];
  readonly other: Raw[];
}

const newBeside = (): Beside => ({ other: [], ours: [] });

async function measureBeside(w: Writes, found: Beside, how: { inFlight: number; perSecond?: number }): Promise<void> {
  const creates = { ...how, seconds: w.quick ? 4 : 8, sizeBytes: w.sizeBytes };
  found.ours.push(await w.raw.creates(creates));
  found.other.push(await w.raw.otherCreates(creates));
}

const rateOf = (raws: readonly Raw[]): number => median(raws.map((r) => r.perSecond));
const timeOf = (raws: readonly Raw[], q: number): number => median(raws.map((r) => quantile(r.timesMs, q)));

async function append(
  w: Writes,
  order: Partial<Parameters<Clients["measure"]>[0]> & { batch: number; clients: number },
) {
  const { batch, clients, ...more } = order;
  await settle(w.server, w.token);
  return w.clients.measure({
    call: { batch, project: w.project },
    grpc: w.server.grpc,
    runs: w.runs.slice(0, clients),
    seconds: 300,
    ...more,
  });
}

/** As many records at once as the backlog takes without pushing back. */
export async function burstRow(w: Writes): Promise<Row> {
  const found = newBeside();
  const rates: number[] = [];
  const settled: number[] = [];
  const refused: number[] = [];
  const burstOf = w.quick ? BACKLOG / 4 : BACKLOG;
  const rounds = w.quick ? 1 : 3;
  for (let r = 0; r < rounds; r++) {
    w.progress(`burst, round ${r + 1} of ${rounds}`);
    await settle(w.server, w.token);
    await measureBeside(w, found, { inFlight: CLIENTS });
    const burst = await append(w, { batch: BATCH, calls: burstOf / BATCH, clients: CLIENTS });
    const from = performance.now();
    await settle(w.server, w.token);
    rates.push((BATCH * burst.calls) / burst.seconds);
    settled.push((BATCH * burst.calls) / (burst.seconds + (performance.now() - from) / 1_000));
    refused.push(burst.refused);
  }
  const value = median(rates);
  return {
    baselines: [
      atLeast(`${OURS}, ${CLIENTS} in flight`, value, rateOf(found.ours), 5),
      atLeast(`${OTHER}, ${CLIENTS} in flight`, value, rateOf(found.other), 5),
    ],
    note: `${Math.round(median(settled))} records/s until each was an object of its own and published; ${median(refused)} calls were asked for patience; records of ${w.sizeBytes} bytes`,
    unit: "records/s",
    value,
    what: `acknowledged records on MinIO, gRPC, ${CLIENTS} clients, batches of ${BATCH}, burst of ${burstOf.toLocaleString("en")}`,
  };
}

interface Sample {
  readonly atMs: number;
  readonly published: number;
  readonly behind: number;
  readonly memoryMb: number;
  readonly ownMb: number;
}

/** What is published comes in steps: a rate is from one to another. */
const stepsOf = (samples: readonly Sample[]): Sample[] =>
  samples.filter((s, i) => i > 0 && s.published !== samples[i - 1]?.published);

/**
 * As much as 64 clients ask for when the backlog is full, for the time that is measured. Ends with a SIGKILL of the server: what it
 * acknowledged must be in the log all the same.
 */
export async function sustainedRows(w: Writes): Promise<[published: Row, memory: Row]> {
  const seconds = w.quick ? 15 : 60;
  const found = newBeside();
  const ledger = clientOf(LedgerService, grpcTransport(w.server, w.token));
  const samples: Sample[] = [];
  const watch = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      const { publishedSize, treeSize } = await ledger.getHealth({});
      const { all, own } = await memoryOf(w.server);
      const atMs = performance.now();
      samples.push({ atMs, behind: treeSize - publishedSize, memoryMb: all, ownMb: own, published: publishedSize });
      await sleep(SAMPLE_MS);
    }
  };
  await settle(w.server, w.token);
  await measureBeside(w, found, { inFlight: CLIENTS });
  w.progress(`at the limit of the backlog for ${seconds} s`);
  const watching = new AbortController();
  const watched = watch(watching.signal);
  const calls = { call: { batch: BATCH, project: w.project }, grpc: w.server.grpc, runs: w.runs };
  await w.clients.measure({ ...calls, calls: BACKLOG / BATCH, seconds: 600 });
  const fullAtMs = performance.now();
  const refused = { all: 0, withDelay: 0 };
  let steps: Sample[] = [];
  for (let turn = 0; turn < LONGEST && steps.length < STEPS; turn++) {
    const load = await w.clients.measure({ ...calls, seconds });
    refused.all += load.refused;
    refused.withDelay += load.refusedWithDelay;
    steps = stepsOf(samples.filter((s) => s.atMs > fullAtMs));
  }
  const lastedS = Math.round((performance.now() - fullAtMs) / 1_000);
  watching.abort();
  await watched;
  await w.server.kill();
  await measureBeside(w, found, { inFlight: CLIENTS });

  const full = samples.filter((s) => s.atMs > fullAtMs);
  const [first] = steps;
  const end = steps.at(-1);
  if (first === undefined || end === undefined || end === first)
    throw new Error(`assertion failed: something is published within ${lastedS} s`);
  if (refused.all === 0 || refused.all !== refused.withDelay)
    throw new Error(
      `assertion failed: at its limit the server refuses with RESOURCE_EXHAUSTED and RetryInfo, but of ${refused.all} refusals ${refused.withDelay} said for how long`,
    );
  const value = ((end.published - first.published) / (end.atMs - first.atMs)) * 1_000;
  const behind = full.map((s) => s.behind);
  const memory = Math.max(...samples.map((s) => s.memoryMb));
  return [
    {
      baselines: [
        atLeast(`${OURS}, ${CLIENTS} in flight`, value, rateOf(found.ours), 0.9),
        atLeast(`${OTHER}, ${CLIENTS} in flight`, value, rateOf(found.other), 0.9),
      ],
      note: `${steps.length} publications; ${Math.round(median(behind)).toLocaleString("en")} records behind the log, at most ${Math.max(...behind).toLocaleString("en")}`,
      unit: "records/s",
      value,
      what: `published records on MinIO, sustained ${lastedS} s at the limit of the backlog`,
    },
    {
      baselines: [
        atMost("goal", memory, 512, "< 512 MB"),
        beside("without mapped files", Math.max(...samples.map((s) => s.ownMb))),
      ],
      note: `${refused.all.toLocaleString("en")} calls were refused with RESOURCE_EXHAUSTED, each with RetryInfo, and repeated after that delay`,
      unit: "MB",
      value: memory,
      what: "resident memory on MinIO under full load, backlog at its limit",
    },
  ];
}

/** One client after the other, and many at half of what the store takes. */
export async function latencyRows(w: Writes): Promise<Row[]> {
  const rounds = w.quick ? 2 : 5;
  const seconds = w.quick ? 4 : 8;
  const alone = newBeside();
  const ack: number[] = [];
  for (let r = 0; r < rounds; r++) {
    w.progress(`one client, round ${r + 1} of ${rounds}`);
    await settle(w.server, w.token);
    await measureBeside(w, alone, { inFlight: 1 });
    ack.push(median((await append(w, { batch: 1, clients: 1, seconds })).timesMs));
  }
  const full = newBeside();
  await settle(w.server, w.token);
  await measureBeside(w, full, { inFlight: CLIENTS });
  const perSecond = Math.round(Math.min(rateOf(full.ours), rateOf(full.other)) / 2);
  const half = newBeside();
  const p99: number[] = [];
  const p50: number[] = [];
  for (let r = 0; r < rounds; r++) {
    w.progress(`${perSecond} records/s, round ${r + 1} of ${rounds}`);
    await settle(w.server, w.token);
    await measureBeside(w, half, { inFlight: CLIENTS, perSecond });
    const { timesMs } = await append(w, { batch: 1, clients: CLIENTS, perSecond, seconds });
    p99.push(quantile(timesMs, 0.99));
    p50.push(median(timesMs));
  }
  const p50Alone = median(ack);
  const p99Half = median(p99);
  return [
    {
      baselines: [
        { ...beside(`${OURS}, p50`, timeOf(alone.ours, 0.5)), reach: within(p50Alone, timeOf(alone.ours, 0.5)) },
        { ...beside(`${OTHER}, p50`, timeOf(alone.other, 0.5)), reach: within(p50Alone, timeOf(alone.other, 0.5)) },
      ],
      unit: "ms",
      value: p50Alone,
      what: "acknowledgement p50 on MinIO, one client",
    },
    {
      baselines: [
        { ...beside(`${OURS}, p99`, timeOf(half.ours, 0.99)), reach: within(p99Half, timeOf(half.ours, 0.99)) },
        { ...beside(`${OTHER}, p99`, timeOf(half.other, 0.99)), reach: within(p99Half, timeOf(half.other, 0.99)) },
      ],
      note: `p50 ${median(p50).toFixed(1)} ms, raw ${timeOf(half.ours, 0.5).toFixed(1)} and ${timeOf(half.other, 0.5).toFixed(1)} ms`,
      unit: "ms",
      value: p99Half,
      what: `acknowledgement p99 on MinIO at half load, ${perSecond} records/s one by one`,
    },
  ];
}

const within = (value: number, base: number) => ({ met: value <= 2 * base, words: "≤ 2 ×" });
