/**
 * The three key pairs of a ledger as PKCS#8 files, readable by their owner only. They lie outside the data directories: a copy
 * of the data is no copy of the keys.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdir, open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { LedgerKeys } from "../ports.ts";
import { type NativeSigner, nativeSigner } from "./native-signer.ts";

export interface NativeLedgerKeys extends LedgerKeys {
  readonly log: NativeSigner;
  readonly logPq: NativeSigner;
  readonly commit: NativeSigner;
}

const FILES = { commit: "commit.pem", log: "log.pem", logPq: "log-pq.pem" } as const;

export const commitKeyName = (origin: string): string => `${origin}/commit`;

function signers(origin: string, keys: Readonly<Record<keyof typeof FILES, KeyObject>>): NativeLedgerKeys {
  return {
    commit: nativeSigner(commitKeyName(origin), 1, keys.commit),
    log: nativeSigner(origin, 1, keys.log),
    logPq: nativeSigner(origin, 6, keys.logPq),
  };
}

const generate = (): Record<keyof typeof FILES, KeyObject> => ({
  commit: generateKeyPairSync("ed25519").privateKey,
  log: generateKeyPairSync("ed25519").privateKey,
  logPq: generateKeyPairSync("ml-dsa-44").privateKey,
});

/** Fresh keys that no file holds: for tests and demonstrations. */
export const ephemeralKeys = (origin: string): NativeLedgerKeys => signers(origin, generate());

/** Generates three key pairs into `folder`; never overwrites one. */
export async function generateKeyFiles(folder: string, origin: string): Promise<NativeLedgerKeys> {
  await mkdir(folder, { mode: 0o700, recursive: true });
  const keys = generate();
  for (const role of ["log", "logPq", "commit"] as const) {
    const file = await open(join(folder, FILES[role]), "wx", 0o600);
    await file.writeFile(keys[role].export({ format: "pem", type: "pkcs8" }));
    await file.sync();
    await file.close();
  }
  const at = await open(folder, "r");
  await at.sync();
  await at.close();
  return signers(origin, keys);
}

async function readKey(path: string): Promise<KeyObject> {
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) throw new Error(`Others may read ${path}. Give it to its owner alone: chmod 600 ${path}`);
  return createPrivateKey(await readFile(path));
}

/** Loads what `generateKeyFiles` wrote; refuses files that others may read. */
export async function loadKeyFiles(folder: string, origin: string): Promise<NativeLedgerKeys> {
  const [log, logPq, commit] = await Promise.all([
    readKey(join(folder, FILES.log)),
    readKey(join(folder, FILES.logPq)),
    readKey(join(folder, FILES.commit)),
  ]);
  return signers(origin, { commit, log, logPq });
}
