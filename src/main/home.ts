/**
 * A ledger's home on one host: index, keys, and what outsiders are given to trust; and either the three buckets of the embedded
 * store, or the address of those on S3.
 */
import { createHash, hash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { setSha256Text } from "../merkle/hash.ts";
import { parseCommit } from "../record/commit.ts";
import { Fault } from "../std/faults.ts";
import type { Clock, Random } from "../std/ports.ts";
import { commitKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";

export interface Home {
  readonly root: string;
  readonly index: string;
  readonly keys: string;
  readonly trust: string;
  readonly lastSigned: string;
  readonly uploadSecret: string;
  /** File with the address of the buckets; absent when they lie in the home. */
  readonly storeAddress: string;
}

export const homeOf = (root: string): Home => ({
  index: join(root, "index"),
  keys: join(root, "keys"),
  lastSigned: join(root, "keys", "last-signed"),
  root,
  storeAddress: join(root, "store"),
  trust: join(root, "trust"),
  uploadSecret: join(root, "keys", "upload.secret"),
});

export const systemClock: Clock = {
  monotonic: () => performance.now(),
  now: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
};

/** Drawn ahead, because a salt costs ten times as much alone. Given bytes are copies, and nothing is given twice. */
const POOL_BYTES = 4_096;
let pool: Uint8Array = new Uint8Array(0);
let taken = 0;

export const systemRandom: Random = {
  bytes(length) {
    if (length > POOL_BYTES) return new Uint8Array(randomBytes(length));
    if (pool.length - taken < length) {
      pool = randomBytes(POOL_BYTES);
      taken = 0;
    }
    const given = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      given[i] = pool[taken] ?? 0;
      pool[taken++] = 0;
    }
    return given;
  },
};

/** The platform's SHA-256 is several times as fast as the pure one. */
export const useNativeSha256 = (): void =>
  setSha256Text(
    (data, form) => hash("sha256", data, form),
    () => {
      const state = createHash("sha256");
      return { digest: () => new Uint8Array(state.digest()), update: (data) => void state.update(data) };
    },
  );

/** Makes the folders of a new home; refuses one that holds something. */
export async function createHome(root: string): Promise<Home> {
  await mkdir(root, { mode: 0o750, recursive: true });
  const found = await readdir(root);
  if (found.length > 0)
    throw new Fault(
      "REQUEST_INVALID",
      `${root} is not empty (it holds ${found.slice(0, 3).join(", ")}). Give a new folder; a ledger is never made over something else.`,
    );
  const home = homeOf(root);
  for (const folder of [home.index, home.trust]) await mkdir(folder, { mode: 0o750 });
  await mkdir(home.keys, { mode: 0o700 });
  await writeFile(home.uploadSecret, systemRandom.bytes(32), { mode: 0o600 });
  return home;
}

/** Throws REQUEST_INVALID for a folder that no ledger can be opened in, before anything is made there. */
export async function assertHome(home: Home): Promise<void> {
  const names = new Set<string>(await readdir(home.root).catch(() => []));
  if (names.has("keys")) return;
  if (!names.has("ledger"))
    throw new Fault(
      "REQUEST_INVALID",
      `${home.root} holds no ledger. Make one with: datapilot init --dir ${home.root}`,
    );
  throw new Fault(
    "REQUEST_INVALID",
    `${home.root} has no keys/: a copy without keys is verified (datapilot verify bucket), not served. Put the keys of this ledger back.`,
  );
}

/** The name of the log, from the first line of its genesis commit; null when there is no ledger. */
export async function findOrigin(store: ObjectStore): Promise<string | null> {
  const genesis = await store.get("ledger", commitKey(0));
  return genesis === null ? null : parseCommit(genesis.body).origin;
}

/** The name of the log that this home is for. `where` names the store in words for people. */
export async function originOf(store: ObjectStore, home: Home, where: string): Promise<string> {
  const origin = await findOrigin(store);
  if (origin === null)
    throw new Fault("REQUEST_INVALID", `${where} holds no ledger. Make one with: datapilot init --dir ${home.root}`);
  // Absent while a ledger is being made.
  const vkey = await readFile(join(home.trust, "log.vkey"), "utf8").catch(() => undefined);
  const own = vkey?.split("+", 1)[0];
  if (own !== undefined && own !== origin)
    throw new Fault(
      "REQUEST_INVALID",
      `${where} holds the ledger ${origin}, and ${home.root} is the home of ${own}. Correct --store or --dir.`,
    );
  return origin;
}

export const rememberStore = (home: Home, address: string): Promise<void> =>
  writeWhole(home.storeAddress, `${address}\n`);

/** Address of the buckets on S3; undefined when they lie in the home. */
export async function rememberedStore(home: Home): Promise<string | undefined> {
  try {
    return (await readFile(home.storeAddress, "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Writes a small file whole or not at all. */
export async function writeWhole(path: string, body: string | Uint8Array): Promise<void> {
  const partial = `${path}.partial`;
  const handle = await open(partial, "w", 0o644);
  await handle.writeFile(body);
  await handle.sync();
  await handle.close();
  await rename(partial, path);
}

/** What signs addresses of uploads; a home without keys signs none that another home takes. */
export const readUploadSecret = async (home: Home, isReadOnly = false): Promise<Uint8Array> =>
  isReadOnly ? systemRandom.bytes(32) : readFile(home.uploadSecret);

/** Holds the home for this process; two servers of one home would fight over its index. */
export async function holdHome(home: Home): Promise<AsyncDisposable> {
  // Whoever wants the index built again removes the whole folder; a copy and the home of a replica begin without.
  await mkdir(home.index, { mode: 0o750, recursive: true });
  const path = join(home.index, "server.lock");
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const handle = await open(path, "wx", 0o600);
      await handle.writeFile(String(process.pid));
      await handle.close();
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const pid = Number(await readFile(path, "utf8").catch(() => ""));
      if (isRunning(pid))
        throw new Fault("NOT_WRITER", `Process ${pid} serves ${home.root} already. Stop it first, or talk to it.`);
      await rm(path, { force: true });
    }
  }
  throw new Fault(
    "NOT_WRITER",
    `${path} comes back whenever it is removed. Another process starts at the same time; wait for it.`,
  );
}

function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid < 1 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
