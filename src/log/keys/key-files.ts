/**
 * The three key pairs of a ledger as PKCS#8 files, readable by their owner only. They lie outside the data directories: a copy
 * of the data is no copy of the keys. A passphrase may wrap them besides.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdir, open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../../std/faults.ts";
import type { LedgerKeys } from "../ports.ts";
import { type NativeSigner, nativeSigner } from "./native-signer.ts";
import { isWrapped, type KeyPlace, unwrapKey, wrapKey } from "./wrapped-key.ts";

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

const placeOf = (origin: string, role: keyof typeof FILES): KeyPlace => ({
  origin,
  role: FILES[role].replace(".pem", ""),
});

/** Generates three key pairs into `folder`, wrapped when a passphrase is given; never overwrites one. */
export async function generateKeyFiles(folder: string, origin: string, passphrase?: string): Promise<NativeLedgerKeys> {
  await mkdir(folder, { mode: 0o700, recursive: true });
  const keys = generate();
  for (const role of ["log", "logPq", "commit"] as const) {
    const file = await open(join(folder, FILES[role]), "wx", 0o600);
    await file.writeFile(
      passphrase === undefined
        ? keys[role].export({ format: "pem", type: "pkcs8" })
        : await wrapKey(keys[role].export({ format: "der", type: "pkcs8" }), passphrase, placeOf(origin, role)),
    );
    await file.sync();
    await file.close();
  }
  const at = await open(folder, "r");
  await at.sync();
  await at.close();
  return signers(origin, keys);
}

async function readKey(path: string, passphrase: string | undefined, place: KeyPlace): Promise<KeyObject> {
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0)
    throw new Fault("REQUEST_INVALID", `Others may read ${path}. Give it to its owner alone: chmod 600 ${path}`);
  const text = await readFile(path, "utf8");
  if (!isWrapped(text)) return createPrivateKey(text);
  if (passphrase === undefined)
    throw new Fault(
      "REQUEST_INVALID",
      `${path} is wrapped. Give its passphrase: --key-passphrase-file FILE, or DATAPILOT_KEY_PASSPHRASE.`,
    );
  return createPrivateKey({ format: "der", key: Buffer.from(await unwrapKey(text, passphrase, place)), type: "pkcs8" });
}

/**
 * Loads what `generateKeyFiles` wrote. Throws the fault REQUEST_INVALID for files that others may read, and for wrapped ones that
 * the passphrase does not open.
 */
export async function loadKeyFiles(folder: string, origin: string, passphrase?: string): Promise<NativeLedgerKeys> {
  const read = (role: keyof typeof FILES): Promise<KeyObject> =>
    readKey(join(folder, FILES[role]), passphrase, placeOf(origin, role));
  const [log, logPq, commit] = await Promise.all([read("log"), read("logPq"), read("commit")]);
  return signers(origin, { commit, log, logPq });
}
