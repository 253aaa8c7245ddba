/** What replication needs of this platform: the buckets of both sides, on disks and on S3. */
import { mkdir, realpath } from "node:fs/promises";
import { UsageError } from "../cli/command.ts";
import type { ReplicatePorts } from "../cli/replicate.ts";
import { nativeVerifier } from "../log/native-verifier.ts";
import type { Source } from "../replicate/ports.ts";
import { createFileStore } from "../store/fs/file-store.ts";
import { makeBuckets } from "../store/s3/buckets.ts";
import type { S3Store } from "../store/s3/s3-store.ts";
import { systemClock, systemRandom } from "./home.ts";
import { retentionOf } from "./retention.ts";
import { type Environment, openS3, type S3Access, s3AccessOf } from "./s3.ts";
import { isS3, openForReading } from "./verify-ports.ts";

export const createReplicatePorts = (env: Environment): ReplicatePorts => ({
  clock: systemClock,
  openSource: (place) => openForReading(place, env),
  async openTarget(place, from, source) {
    const isSame = isS3(place)
      ? place === from
      : !isS3(from) && (await realpath(await madeFolder(place))) === (await realpath(from));
    if (isSame) throw new UsageError(`${place} is both source and target. Give another place for the copy.`);
    return isS3(place)
      ? openBuckets(s3AccessOf(place, env), source)
      : createFileStore({
          allowAdvisoryLock: true,
          clock: systemClock,
          random: systemRandom,
          root: await madeFolder(place),
        });
  },
  verifier: nativeVerifier,
});

/**
 * Makes the buckets that are missing, when there are credentials for it. What they lock by default is a second belt: each object is
 * locked by itself, when the source was judged.
 */
async function openBuckets(access: S3Access, source: Source): Promise<S3Store> {
  const { address, ca } = access;
  if (access.has("administrator"))
    await makeBuckets(
      { address, ca, credentials: access.credentials("administrator") },
      (await retentionOf(source)) ?? 1,
    );
  return openS3(access, "writer");
}

async function madeFolder(path: string): Promise<string> {
  await mkdir(path, { mode: 0o750, recursive: true });
  return path;
}
