/** What replication needs of this platform: the buckets of both sides. */
import { mkdir, realpath } from "node:fs/promises";
import { UsageError } from "../cli/command.ts";
import type { ReplicatePorts } from "../cli/replicate.ts";
import { nativeVerifier } from "../log/native-verifier.ts";
import { createFileStore } from "../store/fs/file-store.ts";
import { systemClock, systemRandom } from "./home.ts";
import { openCopy } from "./verify-ports.ts";

export const createReplicatePorts = (): ReplicatePorts => ({
  clock: systemClock,
  openSource: openCopy,
  async openTarget(place, source) {
    await mkdir(place, { mode: 0o750, recursive: true });
    if ((await realpath(place)) === (await realpath(source)))
      throw new UsageError(`${place} is both source and target. Give another folder for the copy.`);
    return createFileStore({ allowAdvisoryLock: true, clock: systemClock, random: systemRandom, root: place });
  },
  verifier: nativeVerifier,
});
