/**
 * A disk without room: writes are refused with a fault that says so, what was acknowledged stays, reads go on, and once there is room
 * the same requests are recorded, each once.
 *
 * The log runs over two file stores of one folder, one of which keeps more room free than any disk has. Where a small file system can
 * be mounted, a whole server meets the same.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DatasetService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { ErrorInfoSchema } from "../../gen/ts/google/rpc/error_details_pb.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { loadKeyFiles } from "../../src/log/keys/key-files.ts";
import { openLastSigned } from "../../src/log/keys/last-signed-file.ts";
import { openLog } from "../../src/log/log.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { homeOf, systemClock, systemRandom } from "../../src/main/home.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { openFileCopy } from "../../src/store/fs/file-copy.ts";
import { createFileStore } from "../../src/store/fs/file-store.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { verifyBucket } from "../../src/verify/bucket.ts";
import { createDataset, quietLogger } from "../log/world.ts";
import { disproof, readLog, readObject, readPolicy } from "./log-copy.ts";
import {
  clientOf,
  datapilot,
  enrol,
  grpcTransport,
  httpTransport,
  initHome,
  type NewHome,
  startServer,
  temporaryFolder,
} from "./server.ts";
import { mountVolume, unmountVolume } from "./volume.ts";

const REQUESTS = 20;

async function expectComplete(dir: string): Promise<void> {
  const policy = await readPolicy(dir);
  const kept = [new Uint8Array(readFileSync(join(dir, "trust/kept-checkpoint")))];
  const trust = { kept, mirrors: new Set<string>(), policy, requirePq: false, verifier: nativeVerifier };
  const report = await verifyBucket(openFileCopy(dir), trust, {
    concurrency: 8,
    nowMs: Date.now(),
    records: "objects",
  });
  expect(report.checks.flatMap((c) => c.failures)).toEqual([]);
  expect(report.verdict).toBe("COMPLETE");
}

it("refuses what a full disk cannot hold, loses nothing, and goes on when there is room", async () => {
  await using folder = await temporaryFolder();
  const { dir } = await initHome(join(folder.path, "home"));
  const home = homeOf(dir);
  const open = (minimumFreeBytes: number) =>
    createFileStore({ allowAdvisoryLock: true, clock: systemClock, minimumFreeBytes, random: systemRandom, root: dir });
  await using roomy = await open(1);
  await using full = await open(Number.MAX_SAFE_INTEGER);
  let isFull = false;
  const store = new Proxy<ObjectStore>(roomy, {
    get(_, name) {
      const now: ObjectStore = isFull ? full : roomy;
      const value: unknown = Reflect.get(now, name);
      return typeof value === "function" ? (value.bind(now) as unknown) : value;
    },
  });
  {
    await using lastSigned = await openLastSigned(home.lastSigned);
    await using index = await openLmdbIndex({ path: home.index });
    const origin = (await readLog(dir)).chain.origin;
    await using log = await openLog({
      clock: systemClock,
      index,
      keys: await loadKeyFiles(home.keys, origin),
      lastSigned,
      logger: quietLogger,
      random: systemRandom,
      store,
    });
    const project = assertDefined(log.index.reader().entry(1), "_system").record;
    const make = (name: string): Promise<unknown> => log.submit(createDataset(project, name));
    await Promise.all(Array.from({ length: REQUESTS }, (_, k) => make(`before-${k}`)));
    const { n, size } = index.watermark;

    isFull = true;
    const refused = await Promise.allSettled(Array.from({ length: REQUESTS }, (_, k) => make(`during-${k}`)));
    for (const outcome of refused)
      expect(outcome).toMatchObject({
        reason: {
          message: expect.stringMatching(/^Nothing was recorded: the disk is nearly full/) as string,
          reason: "STORE_UNAVAILABLE",
          retryAfterMs: expect.any(Number) as number,
        },
        status: "rejected",
      });
    await expect(log.seal()).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    expect(index.watermark).toMatchObject({ n, size });
    expect(log.health()).toMatchObject({ writing: true });
    expect(log.health().alarm).toBeUndefined();
    expect(log.receipt(assertDefined(log.index.reader().indexOf(project), "an entry"))).toMatchObject({ size });

    isFull = false;
    await Promise.all(Array.from({ length: REQUESTS }, (_, k) => make(`during-${k}`)));
    expect(index.watermark.size).toBe(size + REQUESTS);
  }
  const names = (await readLog(dir)).items.flatMap((i) =>
    i.record?.kind === "dataset" ? [i.record.body["name"]] : [],
  );
  expect(new Set(names).size).toBe(2 * REQUESTS);
  expect(names).toHaveLength(2 * REQUESTS);
  await expectComplete(dir);
});

/** A file system of this size holds a ledger and has little more than the GiB that the store keeps free. */
const VOLUME_MIB = 1_152;
const FILLER_BYTES = 160 << 20;

const folder = await temporaryFolder();
const volume = join(folder.path, "volume");
const isMounted = mountVolume(volume, VOLUME_MIB);

afterAll(async () => {
  if (isMounted) unmountVolume(volume);
  await folder[Symbol.asyncDispose]();
});

if (isMounted)
  describe("a server on a volume that fills up", () => {
    let home: NewHome;
    const dir = join(volume, "home");
    const filler = join(volume, "filler");
    beforeAll(async () => {
      home = await initHome(dir);
    });

    it("says so on both ports, stops whole, and records the same requests when there is room", async () => {
      await using server = await startServer(dir);
      const { token } = await enrol(server, home.token, "full");
      const transports = [grpcTransport(server, token), httpTransport(server, token)];
      const make = async (name: string, k: number) =>
        clientOf(DatasetService, assertDefined(transports[k % 2], "two ports")).createDataset({
          dataset: { name },
          project: "full",
          requestId: name,
        });
      const acked = await Promise.all(Array.from({ length: REQUESTS }, (_, k) => make(`before-${k}`, k)));

      writeFileSync(filler, new Uint8Array(FILLER_BYTES));
      // Free space is measured once a second.
      await sleep(1_100);
      const outcomes = await Promise.allSettled(Array.from({ length: REQUESTS }, (_, k) => make(`during-${k}`, k)));
      for (const outcome of outcomes) {
        const error: unknown = outcome.status === "rejected" ? outcome.reason : undefined;
        expect(error).toBeInstanceOf(ConnectError);
        expect((error as ConnectError).code).toBe(Code.Unavailable);
        expect((error as ConnectError).message).toContain("full");
        expect((error as ConnectError).findDetails(ErrorInfoSchema)[0]?.reason).toBe("STORE_UNAVAILABLE");
      }
      // A server that starts without room says why.
      expect(await server.stop()).toBe(0);
      const { code, stderr } = await datapilot([
        "server",
        "--dir",
        dir,
        "--listen",
        "127.0.0.1:0",
        "--grpc-listen",
        "127.0.0.1:0",
      ]);
      expect(code).not.toBe(0);
      expect(stderr).toContain("nearly full");

      rmSync(filler);
      await using again = await startServer(dir);
      transports.splice(0, 2, grpcTransport(again, token), httpTransport(again, token));
      const later = await Promise.all(Array.from({ length: REQUESTS }, (_, k) => make(`during-${k}`, k)));
      expect(await again.stop()).toBe(0);
      const copy = await readLog(dir);
      const final = assertDefined(await readObject(join(dir, "head/checkpoint")), "a checkpoint");
      const policy = await readPolicy(dir);
      for (const { receipt } of [...acked, ...later])
        expect(disproof(copy, policy, final, assertDefined(receipt, "a receipt"))).toBeUndefined();
      expect(await readdir(join(dir, "tmp"))).toEqual([]);
      await expectComplete(dir);
    });
  });
