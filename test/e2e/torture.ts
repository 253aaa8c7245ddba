/**
 * SIGKILL of the server at random under load: what was acknowledged is there afterwards, once, and proven by its receipt; what was
 * not acknowledged happened whole or not at all; the bucket verifies.
 *
 * Clients speak gRPC and HTTP; some repeat a request whose outcome is unknown with the same id until it is answered, some give up
 * and never learn it.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { DatasetService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { seededNumbers } from "../fakes/fault-store.ts";
import { type Acknowledgement, disproof, readLog, readObject, readPolicy } from "./log-copy.ts";
import {
  clientOf,
  datapilot,
  enrol,
  grpcTransport,
  httpTransport,
  initHome,
  launchServer,
  type ServerProcess,
  type StartedRun,
  startRun,
  startServer,
  temporaryFolder,
} from "./server.ts";

const PROJECT = "torture";
const LONGEST_LIFE_MS = 600;
const SHORTEST_LIFE_MS = 15;
/** Of ten starts, this many are killed while they start. */
const KILLED_STARTING = 2;

interface Request {
  readonly id: string;
  /** Records of the kind that it makes. */
  readonly kind: string;
  readonly count: number;
}

interface Acked {
  readonly request: Request;
  readonly records: readonly string[];
  readonly receipt: Acknowledgement;
}

/** A client that lives longer than any server. */
interface Worker {
  /** Whether a request of unknown outcome is sent again. */
  readonly patient: boolean;
  readonly via: "grpc" | "http";
  /** A run reports with a token of its own. */
  readonly token?: string;
  next(): Request;
  send(transport: Transport, request: Request): Promise<Acked>;
  /** Sent, and not answered. */
  open?: Request;
}

interface Tally {
  readonly acked: Acked[];
  /** Requests that were given up. */
  readonly abandoned: Request[];
}

const UNKNOWN: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.Aborted,
  Code.Canceled,
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
]);

function reporter({ run, token }: StartedRun, name: string, random: () => number): Worker {
  const runs = new Map<string, number>();
  let seq = 0;
  let sent = 0;
  return {
    next() {
      const request = { count: 1 + Math.floor(random() * 3), id: `${name}-${sent++}`, kind: "run.batch" };
      runs.set(request.id, seq);
      seq += request.count;
      return request;
    },
    patient: true,
    async send(transport, request) {
      const from = runs.get(request.id) ?? 0;
      const batches = Array.from({ length: request.count }, (_, k) => ({
        metrics: [{ key: "loss", step: from + k, value: 1 / (1 + from + k) }],
        seq: from + k,
      }));
      const answer = await clientOf(RunService, transport).batchAppendRunEvents({
        batches,
        project: PROJECT,
        requestId: request.id,
        run,
      });
      if (answer.receipt === undefined) throw new Error("assertion failed: a report has a receipt");
      return { receipt: answer.receipt, records: answer.records, request };
    },
    token,
    via: "grpc",
  };
}

function maker(via: "grpc" | "http", patient: boolean, name: string): Worker {
  let sent = 0;
  return {
    next: () => ({ count: 1, id: `${name}-${sent++}`, kind: "dataset" }),
    patient,
    async send(transport, request) {
      const { receipt, resource } = await clientOf(DatasetService, transport).createDataset({
        dataset: { name: request.id },
        project: PROJECT,
        requestId: request.id,
      });
      if (receipt === undefined || resource === undefined) throw new Error("assertion failed: a dataset is made");
      return { receipt, records: [resource.record], request };
    },
    via,
  };
}

/** What the server wrote says more than what the client heard. */
const explained = (error: unknown, server: ServerProcess): Error =>
  new Error(`${String(error)}\n${server.lines.slice(-10).join("\n")}`, { cause: error });

/** Sends one request after the other until the server dies or `ended` is set. */
async function work(
  worker: Worker,
  server: ServerProcess,
  transport: Transport,
  tally: Tally,
  isEnded: () => boolean,
): Promise<void> {
  while (!isEnded()) {
    const request = (worker.open ??= worker.next());
    try {
      tally.acked.push(await worker.send(transport, request));
      delete worker.open;
    } catch (error) {
      if (!(error instanceof ConnectError) || !UNKNOWN.has(error.code)) throw explained(error, server);
      if (!worker.patient) {
        tally.abandoned.push(request);
        delete worker.open;
      }
      await sleep(5);
    }
  }
}

export interface Outcome {
  readonly kills: number;
  readonly acks: number;
  /** Acknowledged records. */
  readonly records: number;
  /** What was acknowledged and does not hold, and why. */
  readonly lost: readonly string[];
  /** Requests that are committed and whose client never heard so. */
  readonly unacknowledged: number;
}

/** Kills the server of a new ledger `upTo` times; rejects when anything but an acknowledgement is wrong. */
export async function torture(seed: number, upTo: number): Promise<Outcome> {
  const random = seededNumbers(seed);
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "home");
  const home = await initHome(dir);
  const tally: Tally = { abandoned: [], acked: [] };
  let token = "";
  const workers: Worker[] = [];
  {
    const server = await startServer(dir);
    ({ token } = await enrol(server, home.token, PROJECT));
    const transport = grpcTransport(server, token);
    for (let k = 0; k < 8; k++)
      workers.push(reporter(await startRun(transport, PROJECT, `r${k}`), `report${k}`, random));
    for (let k = 0; k < 2; k++) {
      workers.push(maker("http", true, `patient-http${k}`), maker("http", false, `hasty-http${k}`));
      workers.push(maker("grpc", true, `patient-grpc${k}`), maker("grpc", false, `hasty-grpc${k}`));
    }
    assert.equal(await server.stop(), 0);
  }

  const transportOf = (server: ServerProcess, worker: Worker): Transport =>
    (worker.via === "grpc" ? grpcTransport : httpTransport)(server, worker.token ?? token);
  const serve = async (server: ServerProcess, whileMs: number): Promise<void> => {
    let ended = false;
    const working = Promise.all(workers.map((w) => work(w, server, transportOf(server, w), tally, () => ended)));
    // A worker that fails fails the test; it must not wait for the server's death.
    await Promise.race([sleep(whileMs), working]);
    ended = true;
    await server.kill();
    await working;
  };

  let kills = 0;
  for (; kills < upTo; kills++) {
    const launched = launchServer(dir);
    if (random() * 10 < KILLED_STARTING) {
      launched.ready.catch(() => undefined);
      await sleep(random() * 2 * LONGEST_LIFE_MS);
      await launched.kill();
    } else await serve(await launched.ready, SHORTEST_LIFE_MS + random() * (LONGEST_LIFE_MS - SHORTEST_LIFE_MS));
  }

  const last = await startServer(dir);
  for (const worker of workers) {
    if (worker.open === undefined) continue;
    if (worker.patient)
      tally.acked.push(
        await worker.send(transportOf(last, worker), worker.open).catch((error: unknown) => {
          throw explained(error, last);
        }),
      );
    else tally.abandoned.push(worker.open);
  }
  assert.equal(await last.stop(), 0);

  const verified = await datapilot([
    "verify",
    "bucket",
    dir,
    "--policy",
    join(dir, "trust/policy.txt"),
    "--kept",
    join(dir, "trust/kept-checkpoint"),
    "--genesis",
    join(dir, "trust/genesis"),
    "--json",
  ]);
  assert.equal(verified.code, 0, verified.stdout + verified.stderr);
  assert.equal((JSON.parse(verified.stdout) as { readonly verdict: string }).verdict, "COMPLETE");

  const copy = await readLog(dir);
  const policy = await readPolicy(dir);
  const final = await readObject(join(dir, "head", "checkpoint"));
  if (final === undefined) throw new Error("assertion failed: a checkpoint is published at the end");
  const lost: string[] = [];
  for (const { receipt, records, request } of tally.acked) {
    const why = disproof(copy, policy, final, receipt);
    if (why !== undefined) lost.push(`${request.id}: ${why}`);
    for (const record of records)
      if (copy.indexes.get(record)?.length !== 1) lost.push(`${request.id}: ${record} is not there once`);
  }

  // No request twice, and none in part.
  const made = new Map<string, number>();
  for (const { record } of copy.items)
    if (record !== null)
      made.set(`${record.request_id}/${record.kind}`, (made.get(`${record.request_id}/${record.kind}`) ?? 0) + 1);
  const countOf = ({ id, kind }: Request): number => made.get(`${id}/${kind}`) ?? 0;
  for (const { request } of tally.acked) assert.equal(countOf(request), request.count, request.id);
  for (const request of tally.abandoned) assert.ok([0, request.count].includes(countOf(request)), request.id);
  return {
    acks: tally.acked.length,
    kills,
    lost,
    records: tally.acked.reduce((n, a) => n + a.records.length, 0),
    unacknowledged: tally.abandoned.filter((r) => countOf(r) > 0).length,
  };
}
