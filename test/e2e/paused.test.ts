/**
 * Writers that stop in the middle of a PUT, on a real MinIO: a leader that sleeps for forty seconds with half of a commit sent, a
 * leader whose connection stalls there, and somebody else who stalls in the slot that is written next. MinIO holds the key's lock for
 * the whole of a PUT, so nobody gets past it before its idle time-out (10 s).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { DatasetService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { faultOf } from "../../src/api/faults.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";
import { seededNumbers } from "../fakes/fault-store.ts";
import { type Fate, type Passing, type Proxy, startProxy } from "../minio/proxy.ts";
import { makeMinioLedger, metricOf } from "./minio-ledger.ts";
import { clientOf, grpcTransport, type ServerProcess } from "./server.ts";
import { hire, PROJECT, type Workers } from "./workers.ts";

const PAUSE_MS = 40_000;
const WAIT_MS = 120_000;
const GOING_ON = 20;

const isCommit = ({ method, path }: Passing): boolean => method === "PUT" && /-ledger\/commits\//.test(path);

/** Holds the next commit that passes in its middle, and nothing else; resolves when half of it is sent. */
function holdCommit(proxy: Proxy, until: Promise<unknown>): Promise<void> {
  const held = Promise.withResolvers<void>();
  proxy.rule = (request): Fate => {
    if (!isCommit(request)) return { kind: "pass" };
    proxy.rule = undefined;
    return { held: () => held.resolve(), kind: "hold", until };
  };
  return held.promise;
}

/** A caller who waits for as long as it takes, and what he hears. */
async function callOf(server: ServerProcess, { token }: Workers, name: string): Promise<string> {
  const request = { dataset: { name }, project: PROJECT, requestId: name };
  const call = clientOf(DatasetService, grpcTransport(server, token)).createDataset(request, { timeoutMs: WAIT_MS });
  return call.then(
    () => "ok",
    (error: unknown) => faultOf(error)?.reason ?? String(error),
  );
}

it("a leader that is stopped for 40 s in the middle of a commit is replaced, and follows when it wakes", async () => {
  await using ledger = await makeMinioLedger("paused");
  await using proxy = await startProxy(ledger.minio.port);
  await using leader = await ledger.start(ledger.first.dir, { port: proxy.port });
  await using second = await ledger.start(await ledger.home("second"), { replica: true });
  await using third = await ledger.start(await ledger.home("third"), { replica: true });
  const random = seededNumbers(1);
  const workers = await hire(leader, ledger.first.token, random);
  const servers = [leader, second, third];
  let ended = false;
  const working = workers.work(
    () => servers[Math.floor(random() * servers.length)],
    () => ended,
  );
  await workers.more(GOING_ON);

  const awake = Promise.withResolvers<void>();
  await holdCommit(proxy, awake.promise);
  const asked = callOf(leader, workers, "asleep");
  await sleep(200);
  process.kill(leader.pid, "SIGSTOP");
  const fromMs = performance.now();
  const since = (): number => performance.now() - fromMs;
  // What was answered before may still be on its way.
  await sleep(1_000);
  await Promise.race([workers.more(1), working]);
  const takeoverMs = since();
  expect(await Promise.all([second, third].map((s) => metricOf(s, "datapilot_log_leading")))).toContain(1);
  await sleep(Math.max(0, PAUSE_MS - since()));
  process.kill(leader.pid, "SIGCONT");
  awake.resolve();

  // It hears that another one wrote, says so or hands the call on, and follows.
  const heard = await asked;
  expect(["ok", "DEADLINE_EXCEEDED", "NOT_WRITER", "WRITER_LOST"]).toContain(heard);
  await expect.poll(() => metricOf(leader, "datapilot_log_leading"), { timeout: 60_000 }).toBe(0);
  await expect.poll(async () => (await fetch(`${leader.url}/readyz`)).status, { timeout: 60_000 }).toBe(200);
  expect(await callOf(leader, workers, "asleep")).toBe("ok");
  await workers.more(GOING_ON);
  ended = true;
  await working;
  for (const server of servers) await server.kill();
  const last = await ledger.start(ledger.first.dir);
  await workers.settle(last);
  const outcome = await ledger.check(last, workers);
  expect(outcome.lost).toEqual([]);
  console.info(
    `stopped for 40 s in the middle of a commit: the next acknowledgement after ${(takeoverMs / 1_000).toFixed(1)} s, ` +
      `the waiting caller heard ${heard}, ${outcome.acks} acknowledgements, ${outcome.lost.length} lost, ` +
      `${outcome.unacknowledged} committed and not acknowledged`,
  );
}, 300_000);

it("a connection that stalls in the middle of a commit, and a stranger's, hold the log up and change nothing", async () => {
  await using ledger = await makeMinioLedger("stalled");
  await using proxy = await startProxy(ledger.minio.port);
  await using leader = await ledger.start(ledger.first.dir, { port: proxy.port });
  await using replica = await ledger.start(await ledger.home("second"), { replica: true });
  const random = seededNumbers(2);
  const workers = await hire(leader, ledger.first.token, random);
  const servers = [leader, replica];
  const never = new Promise<void>(() => undefined);
  const during = async (stall: () => Promise<unknown>): Promise<number> => {
    let ended = false;
    const working = workers.work(
      () => servers[Math.floor(random() * servers.length)],
      () => ended,
    );
    await Promise.race([workers.more(GOING_ON), working]);
    await stall();
    const fromMs = performance.now();
    await sleep(500);
    await Promise.race([workers.more(GOING_ON), working]);
    const tookMs = performance.now() - fromMs;
    ended = true;
    await working;
    return tookMs;
  };
  const ownMs = await during(() => holdCommit(proxy, never));

  // A stranger with the rights to write begins to fill the next slot, and stops.
  await using stranger = await ledger.store("writer", proxy.port);
  await using reader = await ledger.store("reader");
  const junk = utf8("x".repeat(1_000));
  let squatting: Promise<unknown> = never;
  let slot = 0;
  const foreignMs = await during(async () => {
    // Until it is the first in a slot: the leader writes on meanwhile.
    for (;;) {
      while ((await reader.head("ledger", commitKey(slot))) !== null) slot++;
      const held = Promise.withResolvers<void>();
      const key = commitKey(slot + 1);
      proxy.rule = (request): Fate =>
        request.bodyBytes === junk.length && request.path.includes(key)
          ? { held: () => held.resolve(), kind: "hold", until: never }
          : { kind: "pass" };
      squatting = stranger.create("ledger", key, junk, { retainUntil: Date.now() + 86_400_000 });
      await held.promise;
      if ((await reader.head("ledger", commitKey(slot))) !== null) continue;
      slot++;
      return;
    }
  });
  proxy.rule = undefined;
  expect(await squatting).toMatchObject({ outcome: "unknown" });
  expect(await Promise.all(servers.map((s) => metricOf(s, "datapilot_log_leading")))).toEqual([1, 0]);
  expect(await metricOf(leader, "datapilot_log_alarm")).toBe(0);
  await replica.kill();
  await workers.settle(leader);
  const outcome = await ledger.check(leader, workers);
  expect(outcome.lost).toEqual([]);
  console.info(
    `stalled in the middle of a PUT: the next acknowledgement after ${(ownMs / 1_000).toFixed(1)} s when it is the leader's, ` +
      `${(foreignMs / 1_000).toFixed(1)} s when it is a stranger's in the same slot; 0 lost`,
  );
}, 300_000);
