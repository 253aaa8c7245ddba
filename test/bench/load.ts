/**
 * A process of clients, started by the benchmark: each client makes one unary call after the other through grpc-js. Takes orders as
 * messages and answers with what it measured.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { type ChannelCredentials, Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { BatchAppendRunEventsRequestSchema } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { faultOf } from "../../src/api/faults.ts";

/** A run that one client reports to. */
export interface ReportedRun {
  readonly run: string;
  readonly token: string;
}

export interface Order {
  /** Host and port. */
  readonly grpc: string;
  /** The path of a call without content, or reports of `batch` records a call. */
  readonly call:
    | { readonly path: string; readonly token: string }
    | { readonly batch: number; readonly project: string };
  /** Runs of each client, one after the other; their length is the number of clients. */
  readonly runs: readonly (readonly ReportedRun[])[];
  readonly seconds: number;
  /** Ends when so many calls were begun, if the time is not over before. */
  readonly calls?: number;
  /** How many calls are due in a second, one after the other; each is timed from then. Absent: each client calls as fast as it can. */
  readonly perSecond?: number;
  /** Batches that each run has already. */
  readonly from: Readonly<Record<string, number>>;
}

export interface Measured {
  readonly calls: number;
  readonly seconds: number;
  readonly timesMs: readonly number[];
  /** Answers that asked for patience, and how many of them said for how long. */
  readonly refused: number;
  readonly refusedWithDelay: number;
  /** Batches that each run has afterwards. */
  readonly until: Readonly<Record<string, number>>;
}

/** A run takes this many batches. */
export const RUN_BATCHES = 10_000;
const APPEND = "/animus.datapilot.v1.RunService/BatchAppendRunEvents";
/** One connection carries what a few clients ask. */
const CLIENTS_A_CONNECTION = 8;
const METRICS = ["loss", "accuracy", "learning-rate"] as const;

const insecure: ChannelCredentials = credentials.createInsecure();
const same = (bytes: Buffer): Buffer => bytes;
let sent = 0;

/** When the server asks for patience and does not say for how long. */
const PATIENCE_MS = 200;
const refusals = { all: 0, withDelay: 0 };

async function patiently(ask: () => Promise<Buffer>): Promise<void> {
  for (;;) {
    try {
      await ask();
      return;
    } catch (error) {
      if ((error as ServiceError).code !== status.RESOURCE_EXHAUSTED) throw error;
      const delayMs = faultOf(error)?.retryAfterMs;
      refusals.all++;
      if (delayMs !== undefined) refusals.withDelay++;
      await sleep(delayMs ?? PATIENCE_MS);
    }
  }
}

const call = (client: Client, path: string, body: Buffer, token: string): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const metadata = new Metadata();
    if (token !== "") metadata.set("authorization", `Bearer ${token}`);
    client.makeUnaryRequest(path, same, same, body, metadata, (error, answer) => {
      if (error !== null) reject(error);
      else resolve(answer ?? Buffer.alloc(0));
    });
  });

function report(project: string, run: string, seq: number, count: number): Buffer {
  const message = create(BatchAppendRunEventsRequestSchema, {
    batches: Array.from({ length: count }, (_, k) => ({
      metrics: METRICS.map((key, m) => ({ key, step: seq + k, value: (seq + k + 1) / (m + 7) })),
      seq: seq + k,
    })),
    project,
    requestId: `bench-${process.pid}-${sent++}`,
    run,
  });
  return Buffer.from(toBinary(BatchAppendRunEventsRequestSchema, message));
}

async function carryOut(order: Order): Promise<Measured> {
  const connections = Array.from(
    { length: Math.ceil(order.runs.length / CLIENTS_A_CONNECTION) },
    () => new Client(order.grpc, insecure, { "grpc.use_local_subchannel_pool": 1 }),
  );
  const timesMs: number[] = [];
  const next: Record<string, number> = { ...order.from };
  const { call: what, calls = Number.POSITIVE_INFINITY, perSecond } = order;
  Object.assign(refusals, { all: 0, withDelay: 0 });
  let due = 0;
  const begun = performance.now();
  const until = begun + order.seconds * 1_000;
  await Promise.all(
    order.runs.map(async (runs, c) => {
      const connection = connections[Math.floor(c / CLIENTS_A_CONNECTION)];
      if (connection === undefined) throw new Error("assertion failed: every client has a connection");
      let turn = 0;
      while (performance.now() < until && due < calls) {
        const turnAt = begun + (due++ / (perSecond ?? Number.POSITIVE_INFINITY)) * 1_000;
        const from = perSecond === undefined ? performance.now() : turnAt;
        if (from >= until) break;
        if (from > performance.now()) await sleep(from - performance.now());
        if ("path" in what) await call(connection, what.path, Buffer.alloc(0), what.token);
        else {
          while ((next[runs[turn]?.run ?? ""] ?? 0) + what.batch > RUN_BATCHES) turn++;
          const at = runs[turn];
          if (at === undefined) throw new Error("assertion failed: there are runs enough");
          const seq = next[at.run] ?? 0;
          const body = report(what.project, at.run, seq, what.batch);
          await patiently(() => call(connection, APPEND, body, at.token));
          next[at.run] = seq + what.batch;
        }
        timesMs.push(performance.now() - from);
      }
    }),
  );
  const seconds = (performance.now() - begun) / 1_000;
  for (const connection of connections) connection.close();
  return {
    calls: timesMs.length,
    refused: refusals.all,
    refusedWithDelay: refusals.withDelay,
    seconds,
    timesMs,
    until: next,
  };
}

if (process.send !== undefined)
  process.on("message", (order: Order) => {
    carryOut(order).then(
      (measured) => process.send?.(measured),
      (error: unknown) => {
        process.stderr.write(`${String(error)}\n`);
        process.exit(1);
      },
    );
  });
