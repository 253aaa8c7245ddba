/**
 * Stores that a ledger cannot be kept on, and stores that fail while it is used, met by the program itself: each is refused in words
 * that say what to do, in a time that a person waits, and leaves nothing in the way. What each probe finds is in
 * `test/store/s3-probes.test.ts`.
 */
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { administratorOf, type Environment, serverOf, variables } from "../minio/environment.ts";
import { startMinio } from "../minio/minio.ts";
import { type Fate, startProxy } from "../minio/proxy.ts";
import { makeMinioLedger } from "./minio-ledger.ts";
import { clientOf, datapilot, enrol, grpcTransport, startRun, temporaryFolder } from "./server.ts";

const HOUR_MS = 3_600_000;
const LISTEN = ["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"];

/** A process whose clock is off by so much. */
const clockOff = (ms: number): Environment => ({
  NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(`const now = Date.now; Date.now = () => now() + ${ms};`)}`,
});

it("is not made on, nor served from, what does not keep its promises", async () => {
  await using folder = await temporaryFolder();
  const init = (name: string, store: string, env: Environment) =>
    datapilot(["init", "--dir", join(folder.path, name), "--solo", "--store", store], env);
  {
    await using pools = await startMinio({ pools: 2 });
    const env = { ...(await serverOf(pools, "pools")), ...administratorOf(pools) };
    const refused = await init("pools", pools.address("pools"), env);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/double-create.*one server pool/s);
  }
  await using ledger = await makeMinioLedger("right");
  const { dir } = ledger.first;
  const serve = (env: Environment) => datapilot(["server", "--dir", dir, ...LISTEN], env);
  const writer = await ledger.minio.as("writer", "right");
  for (const [env, words] of [
    [
      { ...ledger.env, ...clockOff(HOUR_MS) },
      /clock: this machine's clock is \d+ s ahead of the store's.*NTP|RequestTimeTooSkewed.*NTP/s,
    ],
    [
      { ...ledger.env, ...clockOff(-HOUR_MS) },
      /clock: this machine's clock is \d+ s behind the store's.*NTP|RequestTimeTooSkewed.*NTP/s,
    ],
    [variables("DATAPILOT_S3_", { ...writer, secretKey: "wrong" }), /SignatureDoesNotMatch.*DATAPILOT_S3_SECRET_KEY/s],
    [variables("DATAPILOT_S3_", { ...writer, sessionToken: "ended" }), /session.*expired/s],
    [variables("DATAPILOT_S3_", ledger.minio.root), /deploy\/iam\/writer\.json/],
  ] as const) {
    const { code, stderr, stdout } = await serve(env);
    expect(code).not.toBe(0);
    expect(stderr + stdout).toMatch(words);
  }
  await using server = await ledger.start(dir);
  expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
}, 300_000);

it("says when its credentials end while it runs, is not ready then, and goes on with new ones", async () => {
  await using ledger = await makeMinioLedger("ended");
  const { dir, token } = ledger.first;
  const server = await ledger.start(dir);
  const worker = await enrol(server, token, "vision");
  const before = await startRun(grpcTransport(server, worker.token), "vision", "before");
  await ledger.minio.restart(randomBytes(16).toString("hex"));
  const heard = await startRun(grpcTransport(server, worker.token), "vision", "after").catch((error: unknown) => error);
  expect(String(heard)).toMatch(/Nothing was recorded.*403.*(session|DATAPILOT_S3_ACCESS_KEY)/s);
  await expect.poll(async () => (await fetch(`${server.url}/readyz`)).status, { timeout: 60_000 }).toBe(503);
  await expect.poll(() => server.lines.join("\n"), { timeout: 60_000 }).toMatch(/does not do what it is asked/);
  expect(server.lines.join("\n")).toMatch(/the session of these credentials|or its session has expired/);
  await server.kill();
  const old = await datapilot(["server", "--dir", dir, ...LISTEN], ledger.env);
  expect(old.code).not.toBe(0);
  expect(old.stderr + old.stdout).toMatch(/403.*(session|DATAPILOT_S3_ACCESS_KEY)/s);
  await using again = await ledger.start(dir, { env: await serverOf(ledger.minio, "ended") });
  const after = await startRun(grpcTransport(again, worker.token), "vision", "after");
  expect(after.run).not.toBe(before.run);
  const runs = clientOf(RunService, grpcTransport(again, worker.token));
  expect((await runs.getRun({ name: before.run, project: "vision" })).run?.record).toBe(before.run);
}, 300_000);

it("is not half made, nor half opened, when MinIO dies at any moment of a start", async () => {
  await using minio = await startMinio();
  await using proxy = await startProxy(minio.port);
  await using folder = await temporaryFolder();
  const address = (name: string): string => `s3+http://127.0.0.1:${proxy.port}/${name}`;
  /** MinIO dies when this request comes. */
  const dieAt = (nth: number): Promise<void> => {
    const died = Promise.withResolvers<void>();
    let count = 0;
    proxy.rule = (): Fate => {
      if (++count === nth) {
        proxy.rule = undefined;
        died.resolve(minio.kill());
      }
      return { kind: "pass" };
    };
    return died.promise;
  };
  const env = async (name: string): Promise<Environment> => ({
    ...(await serverOf(minio, name)),
    ...administratorOf(minio),
  });
  // How many requests a whole one sends.
  let sent = 0;
  proxy.rule = (): Fate => {
    sent++;
    return { kind: "pass" };
  };
  const dir = join(folder.path, "whole");
  const given = await env("whole");
  const init = (home: string, name: string, with_: Environment) =>
    datapilot(["init", "--dir", home, "--solo", "--store", address(name), "--retention-days", "1"], with_);
  expect((await init(dir, "whole", given)).code).toBe(0);
  const whole = sent;
  sent = 0;

  // Buckets, probes, genesis, and what comes after it.
  for (const [k, part] of [0.005, 0.3, 0.85, 0.97].entries()) {
    const name = `part${k}`;
    const home = join(folder.path, name);
    const given = await env(name);
    const died = dieAt(Math.max(2, Math.floor(part * whole)));
    const { code, stderr } = await init(home, name, given);
    proxy.rule = undefined;
    if (code === 0) continue;
    await died;
    expect(stderr, name).toMatch(/check that the store runs|start the store|check the store's address|did not answer/);
    await minio.restart();
    // What the words say to do works: the same name, or another one where a ledger was begun.
    await rm(home, { force: true, recursive: true });
    const again = await init(home, name, given);
    if (again.code !== 0) {
      expect(again.stderr, name).toMatch(/holds the ledger .* already. Choose another name/);
      expect((await init(home, `${name}b`, await env(`${name}b`))).code, name).toBe(0);
    }
  }

  // A server whose store dies while it starts ends and says why, or waits for it and then serves.
  for (const nth of [1, 3, 40, 400]) {
    const died = dieAt(nth);
    const ended = datapilot(["server", "--dir", dir, ...LISTEN], given);
    await died;
    await sleep(1_000);
    const refused = await Promise.race([ended, sleep(45_000)]);
    if (refused === undefined) throw new Error(`the store died at request ${nth}, and the server says nothing`);
    expect(refused.code, String(nth)).not.toBe(0);
    expect(refused.stderr + refused.stdout, String(nth)).toMatch(
      /check that the store runs|start the store|check the store's address|did not answer/,
    );
    await minio.restart();
  }
  const doctor = await datapilot(["doctor", "--dir", dir], given);
  expect(doctor.code, doctor.stdout + doctor.stderr).toBe(0);
}, 600_000);
