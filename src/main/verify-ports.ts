/** What verification needs of this platform: native signatures, and copies of the buckets on disks. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { UsageError } from "../cli/command.ts";
import type { VerifyPorts } from "../cli/verify.ts";
import { nativeVerifier } from "../log/native-verifier.ts";
import { openFileCopy, type StoreReader } from "../store/fs/file-copy.ts";
import { systemClock } from "./home.ts";

/** Opens buckets that lie in folders, for reading. */
export async function openCopy(directory: string): Promise<StoreReader> {
  const found = await stat(join(directory, "ledger")).catch(() => undefined);
  if (found?.isDirectory() !== true)
    throw new UsageError(
      `${directory} has no folder "ledger". Give the folder that holds the copies of the buckets: ledger, and head where there is one.`,
    );
  return openFileCopy(directory);
}

export const createVerifyPorts = (): VerifyPorts => ({
  now: () => systemClock.now(),
  openBucket: openCopy,
  verifier: nativeVerifier,
});
