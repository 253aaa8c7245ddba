/**
 * A MinIO without room: what is not taken is refused with the reason, nothing that was acknowledged is lost, reads go on, and once there
 * is room the same requests are recorded, each once. Needs a small file system (`volume.ts`).
 */
import { appendFileSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { DatasetService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { faultOf } from "../../src/api/faults.ts";
import { seededNumbers } from "../fakes/fault-store.ts";
import { makeMinioLedger } from "./minio-ledger.ts";
import { clientOf, grpcTransport, temporaryFolder } from "./server.ts";
import { mountVolume, unmountVolume } from "./volume.ts";
import { hire, PROJECT } from "./workers.ts";

/** MinIO keeps a hundredth of a drive free. */
const VOLUME_MIB = 256;
/** Less than that. */
const LEFT_BYTES = 1 << 20;
const GOING_ON = 20;
const CALLER_MS = 3_000;

function fill(path: string, sizeBytes: number): void {
  const piece = new Uint8Array(1 << 20);
  for (let left = sizeBytes; left > 0; left -= piece.length)
    appendFileSync(path, left < piece.length ? piece.subarray(0, left) : piece);
}

const folder = await temporaryFolder();
const volume = join(folder.path, "volume");
const isMounted = mountVolume(volume, VOLUME_MIB);

it.runIf(isMounted)(
  "refuses what a full MinIO cannot hold, says so, loses nothing, and goes on when there is room",
  async () => {
    try {
      await using ledger = await makeMinioLedger("full", { folder: volume });
      await using server = await ledger.start(ledger.first.dir);
      const random = seededNumbers(3);
      const workers = await hire(server, ledger.first.token, random);
      let ended = false;
      const working = workers.work(
        () => server,
        () => ended,
      );
      await Promise.race([workers.more(GOING_ON), working]);

      const filler = join(volume, "filler");
      const { bavail, bsize } = statfsSync(volume);
      fill(filler, bavail * bsize - LEFT_BYTES);
      const datasets = clientOf(DatasetService, grpcTransport(server, workers.token));
      const ask = (name: string): Promise<unknown> =>
        datasets.createDataset({ dataset: { name }, project: PROJECT, requestId: name }, { timeoutMs: CALLER_MS });
      // At first it may be taken and wait for its commit; when none came for some seconds it is refused at once.
      let refused: string | undefined;
      for (let k = 0; refused === undefined; k++) {
        const error: unknown = await ask(`during-${k % 4}`).catch((e: unknown) => e);
        if (!(error instanceof ConnectError)) continue;
        const fault = faultOf(error);
        expect(["DEADLINE_EXCEEDED", "STORE_UNAVAILABLE", undefined]).toContain(fault?.reason);
        if (fault?.reason === "STORE_UNAVAILABLE") refused = fault.message;
      }
      expect(refused).toMatch(/XMinioStorageFull: the store is full: free space or enlarge it/);
      await expect.poll(async () => (await fetch(`${server.url}/readyz`)).status, { timeout: 60_000 }).toBe(503);
      const { resources } = await datasets.listDatasets({ project: PROJECT });
      expect(resources.length).toBeGreaterThan(0);
      expect(server.lines.join("\n")).toContain("the store is full: free space or enlarge it");

      rmSync(filler);
      await expect.poll(async () => (await fetch(`${server.url}/readyz`)).status, { timeout: 60_000 }).toBe(200);
      await Promise.race([workers.more(GOING_ON), working]);
      for (let k = 0; k < 4; k++) await ask(`during-${k}`);
      ended = true;
      await working;
      await workers.settle(server);
      const outcome = await ledger.check(server, workers);
      expect(outcome.lost).toEqual([]);
      console.info(
        `full MinIO: ${outcome.acks} acknowledgements, ${outcome.lost.length} lost, ${outcome.unacknowledged} committed and not acknowledged`,
      );
    } finally {
      unmountVolume(volume);
      await folder[Symbol.asyncDispose]();
    }
  },
  300_000,
);
