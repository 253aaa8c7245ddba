/** A ledger on a MinIO of its own, with a home for each server; and what its buckets hold in the end. */
import assert from "node:assert/strict";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { commitKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import { administratorOf, type Environment, readerOf, serverOf } from "../minio/environment.ts";
import { type Minio, type MinioOptions, startMinio } from "../minio/minio.ts";
import { machineClock } from "../store/machine.ts";
import { type LogCopy, readLog, readPolicy } from "./log-copy.ts";
import {
  datapilot,
  initHome,
  type Launched,
  launchServer,
  type NewHome,
  type ServerProcess,
  temporaryFolder,
} from "./server.ts";
import type { Held, Workers } from "./workers.ts";

const POLL_MS = 20;

export interface MinioLedger extends AsyncDisposable {
  readonly minio: Minio;
  readonly env: Environment;
  /** Of `init`: the keys are there first. */
  readonly first: NewHome;
  /** A further home, with the keys. */
  home(name: string): Promise<string>;
  launch(dir: string, how?: HowStarted): Launched;
  start(dir: string, how?: HowStarted): Promise<ServerProcess>;
  store(duty: "reader" | "writer", port?: number): Promise<S3Store>;
  /** Ends when all is published; the buckets verify, and hold what the workers were told, each slot once. */
  check(last: ServerProcess, workers: Workers): Promise<Held & { readonly commits: number }>;
}

export interface HowStarted {
  readonly replica?: boolean;
  /** Port at which it reaches the store; the store's own when absent. */
  readonly port?: number;
  readonly env?: Environment;
}

export async function makeMinioLedger(name: string, options?: MinioOptions): Promise<MinioLedger> {
  await using held = new AsyncDisposableStack();
  const folder = held.use(await temporaryFolder());
  const minio = held.use(await startMinio(options));
  const env = await serverOf(minio, name);
  const reading = await readerOf(minio, name);
  const addressAt = (port = minio.port): string => `s3+http://127.0.0.1:${port}/${name}`;
  const first = await initHome(join(folder.path, "first"), ["--store", addressAt(), "--retention-days", "1"], {
    ...env,
    ...administratorOf(minio),
  });
  const launch = (dir: string, { env: more = {}, port, replica = false }: HowStarted = {}): Launched =>
    launchServer(dir, {
      args: ["--store", addressAt(port), ...(replica ? ["--replica"] : [])],
      env: { ...env, ...more },
    });
  const owned = held.move();
  const store = async (duty: "reader" | "writer", port?: number): Promise<S3Store> =>
    createS3Store({
      address: parseS3Address(addressAt(port)),
      clock: machineClock,
      credentials: await minio.as(duty, name),
    });
  return {
    async check(last, workers) {
      await untilPublished(last);
      assert.equal(await last.stop(), 0);
      await expectComplete(addressAt(), first.dir, reading);
      await using reader = await store("reader");
      const copy = await readLog(async (key) => (await reader.get("ledger", key))?.body);
      const final = (await reader.get("head", "checkpoint"))?.body;
      if (final === undefined) throw new Error("assertion failed: a checkpoint is published at the end");
      await expectOnce(reader, copy);
      return { ...workers.check(copy, await readPolicy(first.dir), final), commits: copy.commits.length };
    },
    env,
    first,
    async home(of) {
      const dir = join(folder.path, of);
      await mkdir(dir);
      await cp(join(first.dir, "keys"), join(dir, "keys"), { recursive: true });
      return dir;
    },
    launch,
    minio,
    start: (dir, how) => launch(dir, how).ready,
    store,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A server that ends publishes what it can in ten seconds; here all of it is wanted. */
export async function untilPublished(server: ServerProcess): Promise<void> {
  while ((await metricOf(server, "datapilot_log_published_size")) < (await metricOf(server, "datapilot_log_size")))
    await sleep(POLL_MS);
}

export const metricOf = async ({ url }: ServerProcess, name: string): Promise<number> =>
  Number(new RegExp(`^${name} (\\S+)$`, "m").exec(await (await fetch(`${url}/metrics`)).text())?.[1]);

export async function expectComplete(place: string, home: string, env: Environment = {}): Promise<void> {
  const trust = (name: string): string => join(home, "trust", name);
  const trusted = ["--policy", trust("policy.txt"), "--kept", trust("kept-checkpoint"), "--genesis", trust("genesis")];
  const verified = await datapilot(["verify", "bucket", place, ...trusted, "--json"], env);
  assert.equal(verified.code, 0, verified.stdout + verified.stderr);
  assert.equal((JSON.parse(verified.stdout) as { readonly verdict: string }).verdict, "COMPLETE");
}

/** Every slot was written once: no retry and no second writer laid a version over a commit. */
async function expectOnce(store: S3Store, copy: LogCopy): Promise<void> {
  const slots = new Map<string, number>();
  for await (const { key } of store.versions("ledger", "commits/")) slots.set(key, (slots.get(key) ?? 0) + 1);
  assert.deepEqual(
    [...slots].filter(([, versions]) => versions !== 1),
    [],
  );
  assert.equal(slots.size, copy.commits.length);
  assert.ok(slots.has(commitKey(copy.commits.length - 1)));
}
