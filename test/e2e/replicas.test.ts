/** Replicas on a folder that processes of one machine share. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { Classification } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { ProjectService } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { DatasetService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { faultOf } from "../../src/api/faults.ts";
import { leaderOf, leads, liveThrough, replicaHome } from "./replica-scenario.ts";
import {
  clientOf,
  datapilot,
  enrol,
  grpcTransport,
  httpTransport,
  initHome,
  type ServerProcess,
  startServer,
  temporaryFolder,
} from "./server.ts";

const PROJECT = "fraud";

it("answer reads, hand on the rest, and take over without losing what was acknowledged", async () => {
  await using folder = await temporaryFolder();
  const first = await liveThrough({ env: {}, init: (dir) => initHome(dir), store: (dir) => dir }, folder.path);
  // A server that ends in order publishes all that there is; the last ones were killed.
  await using last = await startServer(first);
  expect(await last.stop()).toBe(0);
  const trust = (name: string): string => join(first, "trust", name);
  const trusted = ["--policy", trust("policy.txt"), "--genesis", trust("genesis"), "--kept", trust("kept-checkpoint")];
  const verified = await datapilot(["verify", "bucket", first, ...trusted, "--json"]);
  expect(JSON.parse(verified.stdout)).toMatchObject({ verdict: "COMPLETE" });
}, 900_000);

it("no caller notices that the leader he asks is superseded, and each change is made once", async () => {
  await using folder = await temporaryFolder();
  const first = join(folder.path, "first");
  const home = await initHome(first);
  const second = await replicaHome(folder.path, first, "second");
  const old = await startServer(first);
  let next: ServerProcess | undefined;
  try {
    const { token } = await enrol(old, home.token, PROJECT);
    const enough = new AbortController();
    const made: string[] = [];
    // Without request ids: the server gives one, and so knows what became of what it had begun.
    const worker = async (who: number): Promise<void> => {
      const transport = (who % 2 === 0 ? grpcTransport : httpTransport)(old, token);
      for (let k = 0; !enough.signal.aborted; k++) {
        const name = `w${who}-${k}`;
        const { receipt } = await clientOf(DatasetService, transport).createDataset(
          { dataset: { classification: Classification.INTERNAL, name }, project: PROJECT },
          { timeoutMs: 30_000 },
        );
        made.push(`${name} ${receipt?.record}`);
      }
    };
    const workers = Promise.all(Array.from({ length: 12 }, (_, who) => worker(who)));
    workers.catch(() => enough.abort());
    await sleep(1_000);
    const before = made.length;
    // Started to write: it takes the lead from whoever has it.
    next = await startServer(second, { args: ["--store", first] });
    await leaderOf([next]);
    await sleep(3_000);
    enough.abort();
    await workers;
    expect(await leads(old)).toBe(false);
    expect(made.length).toBeGreaterThan(before);
    const there: string[] = [];
    for (let pageToken = ""; ; ) {
      const datasets = clientOf(DatasetService, grpcTransport(next, token));
      const page = await datasets.listDatasets({ pageSize: 1_000, pageToken, project: PROJECT });
      there.push(...page.resources.map((r) => `${r.name.split("/").at(-1)} ${r.record}`));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    expect(there.toSorted()).toEqual(made.toSorted());
    console.info(`${made.length} changes, ${made.length - before} of them after the leader changed; none refused`);
  } finally {
    await old.kill();
    await next?.kill();
  }
}, 120_000);

it("reads without keys, and never leads", async () => {
  await using folder = await temporaryFolder();
  const first = join(folder.path, "first");
  const home = await initHome(first);
  const reader = join(folder.path, "reader");
  await mkdir(reader);
  const leader = await startServer(first);
  const server = await startServer(reader, { args: ["--store", first, "--read-only"] });
  try {
    const { treeSize } = await clientOf(LedgerService, grpcTransport(server, home.token)).getHealth({});
    expect(treeSize).toBeGreaterThan(2);
    const { token } = await enrol(server, home.token, PROJECT);
    expect(token).not.toBe("");
    expect(await leader.stop()).toBe(0);
    await sleep(12_000);
    expect(await leads(server)).toBe(false);
    const left = await clientOf(ProjectService, grpcTransport(server, home.token))
      .createProject({ project: { name: "late" }, requestId: "late" })
      .catch((error: unknown) => error);
    expect(faultOf(left)).toMatchObject({ reason: "NOT_WRITER" });
    expect((await clientOf(LedgerService, grpcTransport(server, home.token)).getHealth({})).treeSize).toBeGreaterThan(
      treeSize,
    );
  } finally {
    await leader.kill();
    await server.kill();
  }
}, 600_000);
