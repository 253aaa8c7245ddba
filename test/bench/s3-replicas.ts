/** Three servers of one ledger on MinIO: how far replicas lag under full load, and how long nobody writes when the leader is killed. */
import { setTimeout as sleep } from "node:timers/promises";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { clientOf, enrol, grpcTransport, type ServerProcess, startRun } from "../e2e/server.ts";
import type { Minio } from "../minio/minio.ts";
import { Clients, runsFor } from "./clients.ts";
import { atMost, median, quantile, type Row, type Settings } from "./row.ts";
import { assertKept, createS3Ledger, type S3Ledger } from "./s3-ledger.ts";

const PROJECT = "shared";
const CLIENTS = 64;
const BATCH = 20;
const LOOK_MS = 20;
/** Ten seconds of silence, and the store's idle time-out. */
const BOUND_S = 20;
const WRITERS = 8;
/** Of a client for one call, which the next server may answer. */
const PATIENCE_MS = 2_000;
const ON_ITS_WAY_MS = 1_000;

/** A size of the log, and when it was seen. */
interface Seen {
  readonly atMs: number;
  readonly size: number;
}

async function watch(server: ServerProcess, token: string, signal: AbortSignal): Promise<Seen[]> {
  const ledger = clientOf(LedgerService, grpcTransport(server, token));
  const seen: Seen[] = [];
  while (!signal.aborted) {
    const atMs = performance.now();
    const { treeSize } = await ledger.getHealth({});
    // The replica's answer is dated by when it came, the leader's by when it was asked for: no lag is shown shorter than it is.
    seen.push({ atMs, size: treeSize });
    await sleep(LOOK_MS);
  }
  return seen;
}

/** How long after the leader had a size the replica had it. */
function lagsOf(leader: readonly Seen[], replica: readonly Seen[]): number[] {
  const lags: number[] = [];
  let at = 0;
  for (const { atMs, size } of leader) {
    while ((replica[at]?.size ?? Number.POSITIVE_INFINITY) < size) at++;
    const there = replica[at];
    if (there === undefined) break;
    lags.push(Math.max(0, there.atMs - atMs));
  }
  return lags;
}

async function lagRow(
  servers: readonly [ServerProcess, ServerProcess, ServerProcess],
  token: string,
  clients: Clients,
  { progress, quick }: Settings,
): Promise<Row> {
  progress("replicas under full load");
  const [leader, ...replicas] = servers;
  const runs = await runsFor(leader, token, PROJECT, CLIENTS, 1, "lag");
  const ended = new AbortController();
  const watched = [leader, ...replicas].map((server) => watch(server, token, ended.signal));
  const load = await clients.measure({
    call: { batch: BATCH, project: PROJECT },
    grpc: leader.grpc,
    runs,
    seconds: quick ? 8 : 20,
  });
  await sleep(2_000);
  ended.abort();
  const [first = [], ...others] = await Promise.all(watched);
  const lags = others.flatMap((replica) => lagsOf(first, replica));
  const value = quantile(lags, 0.99) / 1_000;
  return {
    baselines: [atMost("goal", value, 1, "≤ 1 s")],
    note: `p50 ${median(lags).toFixed(0)} ms, at most ${(Math.max(...lags) / 1_000).toFixed(2)} s, of two replicas, while the leader acknowledged ${Math.round((BATCH * load.calls) / load.seconds).toLocaleString("en")} records/s`,
    unit: "s",
    value,
    what: "lag of replicas on MinIO under full load, p99",
  };
}

/** Clients that repeat what was not answered, with the same request id, at whichever server lives. */
class Writers {
  readonly #alive: Set<ServerProcess>;
  readonly #ended = new AbortController();
  readonly #running: Promise<void>[];
  /** When each acknowledgement came. */
  readonly acknowledgedAtMs: number[] = [];
  /** Batches of each run that were acknowledged. */
  readonly until: Record<string, number> = {};

  constructor(alive: Set<ServerProcess>, runs: readonly { readonly run: string; readonly token: string }[]) {
    this.#alive = alive;
    this.#running = runs.map(({ run, token }, who) => this.#write(run, token, who));
  }

  async #write(run: string, token: string, who: number): Promise<void> {
    for (let seq = 0; !this.#ended.signal.aborted; seq++) {
      for (let attempt = 0; ; attempt++) {
        const [...left] = this.#alive;
        const server = left[(who + attempt) % left.length];
        if (server === undefined) throw new Error("assertion failed: a server lives");
        try {
          await clientOf(RunService, grpcTransport(server, token)).batchAppendRunEvents(
            {
              batches: [{ metrics: [{ key: "loss", step: seq, value: 1 / (seq + 1) }], seq }],
              project: PROJECT,
              requestId: `kill-${run}-${seq}`,
              run,
            },
            { timeoutMs: PATIENCE_MS },
          );
          break;
        } catch {
          await sleep(50);
        }
      }
      this.acknowledgedAtMs.push(performance.now());
      this.until[run] = seq + 1;
    }
  }

  async end(): Promise<void> {
    this.#ended.abort();
    await Promise.all(this.#running);
  }
}

async function leaderOf(servers: Iterable<ServerProcess>): Promise<ServerProcess> {
  for (;;) {
    for (const server of servers) {
      const metrics = await fetch(`${server.url}/metrics`).then(
        (r) => r.text(),
        () => "",
      );
      if (/^datapilot_log_leading 1$/m.test(metrics)) return server;
    }
    await sleep(100);
  }
}

async function takeoverRow(
  ledger: S3Ledger,
  alive: Set<ServerProcess>,
  token: string,
  lagging: Readonly<Record<string, number>>,
  { progress, quick }: Settings,
): Promise<Row> {
  const [leader] = alive;
  if (leader === undefined) throw new Error("assertion failed: there is a leader");
  const transport = grpcTransport(leader, token);
  const runs = await Promise.all(Array.from({ length: WRITERS }, (_, k) => startRun(transport, PROJECT, `kill-${k}`)));
  const writers = new Writers(alive, runs);
  const silences: number[] = [];
  const rounds = quick ? 2 : 5;
  for (let r = 0; r < rounds; r++) {
    progress(`kill of the leader, ${r + 1} of ${rounds}`);
    await sleep(3_000);
    const victim = await leaderOf(alive);
    alive.delete(victim);
    const killedAtMs = performance.now();
    await victim.kill();
    // What comes at once was on its way from the one that was killed: nobody takes over before ten seconds of silence.
    const next = async (): Promise<number> => {
      for (;;) {
        const first = writers.acknowledgedAtMs.find((atMs) => atMs > killedAtMs + ON_ITS_WAY_MS);
        if (first !== undefined) return first;
        await sleep(10);
      }
    };
    silences.push(((await next()) - killedAtMs) / 1_000);
    alive.add(await ledger.startReplica(`again-${r}`));
  }
  await writers.end();
  await using store = await ledger.read();
  const kept = await assertKept(store, { ...lagging, ...writers.until });
  const value = Math.max(...silences);
  return {
    baselines: [atMost("10 s of silence and the store's idle time-out", value, BOUND_S, "≤ 20 s")],
    note: `${silences.map((s) => s.toFixed(1)).join(", ")} s; ${WRITERS} clients repeat with the same request id; ${kept.acknowledged.toLocaleString("en")} records acknowledged, 0 lost, none twice`,
    unit: "s",
    value,
    what: `SIGKILL of the leader on MinIO to the next acknowledgement, longest of ${rounds}`,
  };
}

export async function replicaRows(minio: Minio, settings: Settings): Promise<Row[]> {
  const ledger = await createS3Ledger(minio, PROJECT, settings.folder);
  const first = await ledger.start();
  const alive = new Set([first]);
  try {
    const second = await ledger.startReplica("second");
    const third = await ledger.startReplica("third");
    alive.add(second).add(third);
    const { token } = await enrol(first, ledger.adminToken, PROJECT);
    await using clients = new Clients();
    const lag = await lagRow([first, second, third], token, clients, settings);
    return [lag, await takeoverRow(ledger, alive, token, clients.acknowledged, settings)];
  } finally {
    for (const server of alive) await server.kill();
  }
}
