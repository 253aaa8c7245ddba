/** Replicas on a folder that processes of one machine share. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { ProjectService } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { faultOf } from "../../src/api/faults.ts";
import { leads, liveThrough } from "./replica-scenario.ts";
import { clientOf, datapilot, enrol, grpcTransport, initHome, startServer, temporaryFolder } from "./server.ts";

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
}, 120_000);
