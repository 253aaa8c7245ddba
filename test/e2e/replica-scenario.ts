/**
 * Three servers of one ledger, each with a home of its own, on the same buckets: what a replica answers and what it hands on, and
 * that nothing that was acknowledged is lost when leaders are killed.
 */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { expect } from "vitest";
import { Classification } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { AccessService, ProjectService } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { DatasetService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { faultOf } from "../../src/api/faults.ts";
import {
  clientOf,
  enrol,
  grpcTransport,
  httpTransport,
  type NewHome,
  type ServerProcess,
  startServer,
} from "./server.ts";

const PROJECT = "fraud";
/** Of a caller, who then asks another server. */
const PATIENCE_MS = 20_000;

/** A home that shares the first one's buckets and has its keys, and the signer's memory with them. */
export async function replicaHome(parent: string, first: string, name: string): Promise<string> {
  const dir = join(parent, name);
  await mkdir(dir);
  await cp(join(first, "keys"), join(dir, "keys"), { recursive: true });
  return dir;
}

const metric = async ({ url }: ServerProcess, name: string): Promise<number> =>
  Number(new RegExp(`^${name} (\\S+)$`, "m").exec(await (await fetch(`${url}/metrics`)).text())?.[1]);
export const leads = async (server: ServerProcess): Promise<boolean> =>
  (await metric(server, "datapilot_log_leading")) === 1;

export async function leaderOf(servers: readonly ServerProcess[], withinMs = 60_000): Promise<ServerProcess> {
  for (let waited = 0; waited < withinMs; waited += 100) {
    for (const server of servers) if (await leads(server).catch(() => false)) return server;
    await sleep(100);
  }
  throw new Error("nobody leads");
}

/** The server is gone, or says that another time would do. */
const retryable = (error: unknown): boolean =>
  error instanceof ConnectError &&
  (error.code === Code.Unavailable || error.code === Code.DeadlineExceeded || faultOf(error) === undefined);

/** Where the buckets are, and who may use them. */
export interface Place {
  /** Makes the ledger, with its first home in this folder. */
  readonly init: (first: string) => Promise<NewHome>;
  /** Value of `--store`. */
  readonly store: (first: string) => string;
  readonly env: Readonly<Record<string, string>>;
}

/** Gives the folder of the first home; no server runs any more. */
export async function liveThrough(place: Place, parent: string): Promise<string> {
  const first = join(parent, "first");
  const home = await place.init(first);
  const homes = [first, await replicaHome(parent, first, "second"), await replicaHome(parent, first, "third")];
  const start = (k: number, ...args: string[]): Promise<ServerProcess> =>
    startServer(homes[k] ?? "", { args: ["--store", place.store(first), ...args], env: place.env });
  const servers = [await start(0), await start(1, "--replica"), await start(2, "--replica")] as [
    ServerProcess,
    ServerProcess,
    ServerProcess,
  ];
  // Writers end with the scenario, however it ends.
  let over = false;
  try {
    const [leader, second, third] = servers;
    expect(await Promise.all(servers.map(leads))).toEqual([true, false, false]);
    const { token } = await enrol(leader, home.token, PROJECT);

    // A write over a replica, by either port, and the state that came of it.
    const made = new Map<string, { readonly index: number; readonly size: number }>();
    const write = async (transport: Transport, name: string): Promise<void> => {
      const { receipt } = await clientOf(DatasetService, transport).createDataset(
        {
          dataset: { classification: Classification.INTERNAL, name },
          project: PROJECT,
          requestId: `dataset-${name}`,
        },
        { timeoutMs: PATIENCE_MS },
      );
      made.set(receipt?.record ?? "", { index: receipt?.logIndex ?? -1, size: receipt?.treeSize ?? 0 });
    };
    await write(grpcTransport(second, token), "by-grpc");
    await write(httpTransport(third, token), "by-http");
    const last = [...made.values()].at(-1);
    for (const server of servers) {
      for (const transport of [grpcTransport(server, token), httpTransport(server, token)]) {
        const header = new Headers();
        const { treeSize } = await clientOf(DatasetService, transport).getDataset(
          { minTreeSize: last?.size ?? 0, name: "by-http", project: PROJECT },
          { onHeader: (h) => h.forEach((value, name) => header.set(name, value)) },
        );
        expect(treeSize).toBeGreaterThanOrEqual(last?.size ?? 1);
        expect(Number(header.get("datapilot-tree-size"))).toBeGreaterThanOrEqual(last?.size ?? 1);
        expect(Number(header.get("datapilot-lag-ms"))).toBeGreaterThanOrEqual(0);
      }
    }
    // The newest, whoever is asked; a receipt that no replica can give yet; what is refused, refused by the leader.
    const latest = { headers: { "datapilot-read": "latest" } };
    for (const server of servers) {
      const { treeSize } = await clientOf(LedgerService, grpcTransport(server, token))
        .listRecords({}, latest)
        .then((r) => r);
      expect(treeSize).toBeGreaterThanOrEqual(last?.size ?? 1);
    }
    const [record = ""] = made.keys();
    expect((await clientOf(LedgerService, grpcTransport(second, token)).getReceipt({ record })).logIndex).toBe(
      made.get(record)?.index,
    );
    const refusal = await clientOf(ProjectService, httpTransport(second, token))
      .createProject({ project: { name: "mine" }, requestId: "mine" })
      .catch((error: unknown) => error);
    expect(faultOf(refusal)).toMatchObject({ reason: "PERMISSION_DENIED" });
    const denied = await clientOf(AccessService, grpcTransport(second, "dp_nobody"))
      .whoAmI({})
      .catch((error: unknown) => error);
    expect(faultOf(denied)).toMatchObject({ reason: "TOKEN_INVALID" });
    // A stream, and the façade without RPCs.
    const watched: number[] = [];
    const ended = new AbortController();
    for await (const entry of clientOf(LedgerService, grpcTransport(third, home.token)).watchEntries(
      { fromIndex: 0 },
      { signal: ended.signal },
    )) {
      watched.push(entry.logIndex);
      if (watched.length >= 5) break;
    }
    expect(watched).toEqual([0, 1, 2, 3, 4]);
    const facade = await fetch(`${second.url}/projects/${PROJECT}/artifacts`, {
      body: JSON.stringify({ digest: `sha256:${"a".repeat(64)}`, size_bytes: 4 }),
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      method: "POST",
    });
    expect(await facade.json()).toMatchObject({ upload_url: expect.stringMatching(/^http/) });
    expect((await fetch(`${third.url}/log/checkpoint`)).status).toBe(200);

    // Writers that repeat what was not answered, through whichever server lives, while leaders are killed.
    const enough = new AbortController();
    const alive = new Set<ServerProcess>(servers);
    const worker = async (who: number): Promise<number> => {
      let count = 0;
      while (!enough.signal.aborted) {
        const name = `w${who}-${count}`;
        for (let attempt = 0; ; attempt++) {
          const [...left] = alive;
          const server = left[(who + count + attempt) % left.length];
          if (server === undefined) throw new Error("assertion failed: one server lives");
          try {
            await write(grpcTransport(server, token), name);
            break;
          } catch (error) {
            if (over) return count;
            if (!retryable(error)) throw error;
            await sleep(100);
          }
        }
        count++;
        await sleep(20);
      }
      return count;
    };
    const workers = [0, 1, 2].map(worker);
    await sleep(1_500);
    const before = made.size;
    alive.delete(leader);
    await leader.kill();
    const next = await leaderOf([second, third]);
    await sleep(3_000);
    expect(made.size).toBeGreaterThan(before);
    // It comes back as what it was started to be, and the one that led follows.
    servers[0] = await start(0);
    alive.add(servers[0]);
    await leaderOf([servers[0]]);
    await sleep(3_000);
    expect(await leads(next)).toBe(false);
    // A clean end hands over.
    alive.delete(servers[0]);
    expect(await servers[0].stop()).toBe(0);
    await leaderOf([second, third]);
    await sleep(2_000);
    enough.abort();
    const counts = await Promise.all(workers);
    expect(Math.min(...counts)).toBeGreaterThan(5);

    const final = await leaderOf([second, third]);
    const ledger = clientOf(LedgerService, grpcTransport(final, token));
    for (const [id, { index }] of made)
      expect((await ledger.getReceipt({ record: id }, { timeoutMs: PATIENCE_MS })).logIndex).toBe(index);
    const names = await clientOf(DatasetService, grpcTransport(final, token)).listDatasets({
      pageSize: 1000,
      project: PROJECT,
    });
    expect(names.resources).toHaveLength(made.size);
    console.info(`${made.size} acknowledgements over three servers, one killed, one ended; 0 lost`);
  } finally {
    over = true;
    for (const server of servers) await server.kill();
  }
  return first;
}
