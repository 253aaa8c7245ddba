/** What outsiders are given to trust: keys as text, the policy file of verifiers, the id of the genesis, a checkpoint to keep. */
import { join } from "node:path";
import type { NativeLedgerKeys } from "../log/keys/key-files.ts";
import type { RecordId } from "../std/brand.ts";
import { writeWhole } from "./home.ts";

export interface TrustFiles {
  readonly logVkey: string;
  readonly logPqVkey: string;
  readonly commitVkey: string;
  readonly policy: string;
}

/** The policy names both keys of the log and asks for no witnesses; whoever has witnesses adds them. */
export function trustOf(keys: NativeLedgerKeys): TrustFiles {
  const [logVkey, logPqVkey, commitVkey] = [keys.log.vkey, keys.logPq.vkey, keys.commit.vkey];
  return { commitVkey, logPqVkey, logVkey, policy: `log ${logVkey}\nlog ${logPqVkey}\nquorum none\n` };
}

export async function writeTrust(folder: string, files: TrustFiles, genesis: RecordId): Promise<void> {
  await writeWhole(join(folder, "log.vkey"), `${files.logVkey}\n`);
  await writeWhole(join(folder, "log-pq.vkey"), `${files.logPqVkey}\n`);
  await writeWhole(join(folder, "commit.vkey"), `${files.commitVkey}\n`);
  await writeWhole(join(folder, "policy.txt"), files.policy);
  await writeWhole(join(folder, "genesis"), `${genesis}\n`);
}

export const keepCheckpoint = (folder: string, note: Uint8Array): Promise<void> =>
  writeWhole(join(folder, "kept-checkpoint"), note);
