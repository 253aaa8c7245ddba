/**
 * Clients that live longer than any server. They speak gRPC and HTTP; some repeat a request whose outcome is unknown with the same
 * id until it is answered, some give up and never learn it. Afterwards the log must hold what they were told: each acknowledged
 * record at its index, once, proven by its receipt; and of what was given up, all of a request or nothing.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { DatasetService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { TrustPolicy } from "../../src/note/trust-policy.ts";
import { type Acknowledgement, disproof, type LogCopy } from "./log-copy.ts";
import {
  clientOf,
  enrol,
  grpcTransport,
  httpTransport,
  type ServerProcess,
  type StartedRun,
  startRun,
} from "./server.ts";

export const PROJECT = "torture";
/** A caller waits no longer for one answer: the server may be stopped, or cut off. */
const PATIENCE_MS = 10_000;
const PAUSE_MS = 5;

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

interface Worker {
  /** Whether a request of unknown outcome is sent again. */
  readonly patient: boolean;
  readonly via: "grpc" | "http";
  readonly token: string;
  next(): Request;
  send(transport: Transport, request: Request): Promise<Acked>;
  /** Sent, and not answered. */
  open?: Request;
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
      const answer = await clientOf(RunService, transport).batchAppendRunEvents(
        { batches, project: PROJECT, requestId: request.id, run },
        { timeoutMs: PATIENCE_MS },
      );
      if (answer.receipt === undefined) throw new Error("assertion failed: a report has a receipt");
      return { receipt: answer.receipt, records: answer.records, request };
    },
    token,
    via: "grpc",
  };
}

function maker(via: "grpc" | "http", patient: boolean, name: string, token: string): Worker {
  let sent = 0;
  return {
    next: () => ({ count: 1, id: `${name}-${sent++}`, kind: "dataset" }),
    patient,
    async send(transport, request) {
      const { receipt, resource } = await clientOf(DatasetService, transport).createDataset(
        { dataset: { name: request.id }, project: PROJECT, requestId: request.id },
        { timeoutMs: PATIENCE_MS },
      );
      if (receipt === undefined || resource === undefined) throw new Error("assertion failed: a dataset is made");
      return { receipt, records: [resource.record], request };
    },
    token,
    via,
  };
}

/** What the server wrote says more than what the client heard. */
const explained = (error: unknown, server: ServerProcess): Error =>
  new Error(`${String(error)}\n${server.lines.slice(-10).join("\n")}`, { cause: error });

/** What was acknowledged and does not hold, and what is there without having been acknowledged. */
export interface Held {
  readonly acks: number;
  /** Acknowledged records. */
  readonly records: number;
  readonly lost: readonly string[];
  /** Requests that are committed and whose client never heard so. */
  readonly unacknowledged: number;
}

export class Workers {
  /** Of somebody who may make datasets. */
  readonly token: string;
  readonly #workers: readonly Worker[];
  readonly #acked: Acked[] = [];
  /** Requests that were given up. */
  readonly #abandoned: Request[] = [];
  /** One connection of each worker to each server. */
  readonly #transports = new WeakMap<ServerProcess, Map<Worker, Transport>>();

  constructor(token: string, workers: readonly Worker[]) {
    this.token = token;
    this.#workers = workers;
  }

  get acks(): number {
    return this.#acked.length;
  }

  /** Each sends one request after the other to a server of its choice, until `isEnded`. Rejects when one hears what is no unknown outcome. */
  async work(pick: () => ServerProcess | undefined, isEnded: () => boolean): Promise<void> {
    await Promise.all(this.#workers.map((w) => this.#work(w, pick, isEnded)));
  }

  async #work(worker: Worker, pick: () => ServerProcess | undefined, isEnded: () => boolean): Promise<void> {
    while (!isEnded()) {
      const server = pick();
      if (server === undefined) {
        await sleep(10 * PAUSE_MS);
        continue;
      }
      const request = (worker.open ??= worker.next());
      try {
        this.#acked.push(await worker.send(this.#transport(server, worker), request));
        delete worker.open;
      } catch (error) {
        if (!(error instanceof ConnectError) || !UNKNOWN.has(error.code)) throw explained(error, server);
        if (!worker.patient) {
          this.#abandoned.push(request);
          delete worker.open;
        }
        await sleep(PAUSE_MS);
      }
    }
  }

  #transport(server: ServerProcess, worker: Worker): Transport {
    const known = this.#transports.get(server) ?? new Map<Worker, Transport>();
    this.#transports.set(server, known);
    const transport =
      known.get(worker) ?? (worker.via === "grpc" ? grpcTransport : httpTransport)(server, worker.token);
    known.set(worker, transport);
    return transport;
  }

  /** Resolves when so many more were acknowledged. */
  async more(acks: number): Promise<void> {
    for (const before = this.acks; this.acks < before + acks; ) await sleep(4 * PAUSE_MS);
  }

  /** Asks for what is open still, of a server that is left alone. */
  async settle(server: ServerProcess): Promise<void> {
    for (const worker of this.#workers) {
      if (worker.open === undefined) continue;
      if (!worker.patient) this.#abandoned.push(worker.open);
      else
        this.#acked.push(
          await worker.send(this.#transport(server, worker), worker.open).catch((error: unknown) => {
            throw explained(error, server);
          }),
        );
      delete worker.open;
    }
  }

  /** Rejects when a request is there twice or in part. */
  check(copy: LogCopy, policy: TrustPolicy, final: Uint8Array): Held {
    const lost: string[] = [];
    for (const { receipt, records, request } of this.#acked) {
      const why = disproof(copy, policy, final, receipt);
      if (why !== undefined) lost.push(`${request.id}: ${why}`);
      for (const record of records)
        if (copy.indexes.get(record)?.length !== 1) lost.push(`${request.id}: ${record} is not there once`);
    }
    const made = new Map<string, number>();
    for (const { record } of copy.items)
      if (record !== null)
        made.set(`${record.request_id}/${record.kind}`, (made.get(`${record.request_id}/${record.kind}`) ?? 0) + 1);
    const countOf = ({ id, kind }: Request): number => made.get(`${id}/${kind}`) ?? 0;
    for (const { request } of this.#acked) assert.equal(countOf(request), request.count, request.id);
    for (const request of this.#abandoned) assert.ok([0, request.count].includes(countOf(request)), request.id);
    return {
      acks: this.#acked.length,
      lost,
      records: this.#acked.reduce((n, a) => n + a.records.length, 0),
      unacknowledged: this.#abandoned.filter((r) => countOf(r) > 0).length,
    };
  }
}

/** Eight runs that report, and eight that make datasets: half of them patient, half of them by HTTP. */
export async function hire(server: ServerProcess, administrator: string, random: () => number): Promise<Workers> {
  const { token } = await enrol(server, administrator, PROJECT);
  const transport = grpcTransport(server, token);
  const workers: Worker[] = [];
  for (let k = 0; k < 8; k++) workers.push(reporter(await startRun(transport, PROJECT, `r${k}`), `report${k}`, random));
  for (let k = 0; k < 2; k++) {
    for (const via of ["http", "grpc"] as const)
      workers.push(maker(via, true, `patient-${via}${k}`, token), maker(via, false, `hasty-${via}${k}`, token));
  }
  return new Workers(token, workers);
}
