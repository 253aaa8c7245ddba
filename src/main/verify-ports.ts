/** What verification needs of this platform: native signatures, and buckets on disks and on S3. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { UsageError } from "../cli/command.ts";
import type { VerifyPorts } from "../cli/verify.ts";
import { nativeVerifier } from "../log/native-verifier.ts";
import { openFileCopy, type StoreReader } from "../store/fs/file-copy.ts";
import type { S3Store } from "../store/s3/s3-store.ts";
import { systemClock } from "./home.ts";
import { type Environment, openS3, s3AccessOf } from "./s3.ts";

/** Whether a place is the address of buckets on S3, and not a folder. */
export const isS3 = (place: string): boolean => /^s3(?:\+http)?:\/\//.test(place);

/** Opens buckets for reading. */
export async function openForReading(
  place: string,
  env: Environment,
): Promise<(StoreReader & AsyncDisposable) | S3Store> {
  if (isS3(place)) return openS3(s3AccessOf(place, env), "reader");
  const found = await stat(join(place, "ledger")).catch(() => undefined);
  if (found?.isDirectory() !== true)
    throw new UsageError(
      `${place} has no folder "ledger". Give the folder that holds the buckets or their copies (ledger, and head where there is one), or an address such as s3://HOST/NAME.`,
    );
  return Object.assign(openFileCopy(place), { [Symbol.asyncDispose]: () => Promise.resolve() });
}

export const createVerifyPorts = (env: Environment): VerifyPorts => ({
  now: () => systemClock.now(),
  openBucket: (place) => openForReading(place, env),
  verifier: nativeVerifier,
});
