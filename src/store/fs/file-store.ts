/**
 * The object store on a local disk (`docs/operating.md`): three folders with the keys of the three buckets below them, so that
 * copying them to S3 is a migration. Owns nothing but files; `disk.ts` holds what makes them durable.
 *
 * - Create-if-absent is a hard link: whole or not at all, one winner. Nothing here overwrites a file of the ledger folder.
 * - A lock is the convention of WORM volumes: access time = retain-until, then read-only. On such a volume it holds against
 *   root; elsewhere it is advisory, and the operator must say that this is enough.
 * - Paths come from keys that parsed, so they hold no dots, no NUL and no link.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  close,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  futimesSync,
  lstatSync,
  open,
  openSync,
  read,
  readdir,
  renameSync,
  rmdirSync,
  unlinkSync,
  utimesSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Fault } from "../../std/faults.ts";
import type { Clock, Random } from "../../std/ports.ts";
import { refuseAborted } from "../aborted.ts";
import { parseCommitKey, parseKey } from "../keys.ts";
import {
  type Bucket,
  type CreateOptions,
  type GetOptions,
  type ListOptions,
  type LockMode,
  type MutableBucket,
  NO_VERSION,
  type ObjectInfo,
  type ObjectVersion,
  type OpenedObject,
  type PageOptions,
  type PutOutcome,
  type ReceiveOutcome,
  type ReceivingStore,
  type StoredObject,
  type StoreOptions,
  type SwapOutcome,
  type VersionOptions,
} from "../object-store.ts";
import { CreateThread } from "./create-thread.ts";
import { Disk, diskFault, etagOf, MODE_LOCKED, MODE_OPEN, microsecondsOf, type TemporaryFile } from "./disk.ts";
import { codeOf } from "./durability.ts";
import { KeyLocks } from "./key-lock.ts";
import { receiveStream } from "./upload.ts";

const openAsync = promisify(open);
const closeAsync = promisify(close);
const readAsync = promisify(read);
const readdirAsync = promisify(readdir);

const BUCKETS: readonly Bucket[] = ["ledger", "head", "personal"];
const PIECE_BYTES = 256 * 1024;
/** Entries of a listing that are looked at before other work gets its turn. */
const LIST_SLICE = 256;
/** How long the start-up probe locks its own file. */
const WORM_PROBE_MS = 60_000;
/** A folder that was emptied and removed meanwhile is made again this often. */
const FOLDER_TRIES = 3;

export interface FileStoreOptions {
  /** Holds `ledger/`, `head/`, `personal/` and `tmp/`, all on one volume. */
  readonly root: string;
  /** Start although this volume does not enforce locks. */
  readonly allowAdvisoryLock: boolean;
  /** Default: 1 GiB or 5 % of the volume, whichever is more. */
  readonly minimumFreeBytes?: number | undefined;
  readonly clock: Clock;
  readonly random: Random;
}

export interface FileStore extends ReceivingStore, AsyncDisposable {
  /** Removes what dead processes left half written; so does the start. */
  sweep(): void;
}

/** Opens the store, makes its folders and sweeps `tmp`. Throws `Fault("STORE_UNAVAILABLE")` with the remedy. */
export async function createFileStore(options: FileStoreOptions): Promise<FileStore> {
  const disk = new Disk({
    root: options.root,
    minimumFreeBytes: options.minimumFreeBytes,
    clock: options.clock,
    random: options.random,
  });
  await disk.start(BUCKETS);
  let lock: "compliance" | "advisory";
  try {
    lock = probeWorm(disk, options.clock);
  } catch (error) {
    throw diskFault("probing the lock", error);
  }
  if (lock === "advisory" && !options.allowAdvisoryLock) {
    disk.close();
    throw new Fault(
      "STORE_UNAVAILABLE",
      `${options.root} does not enforce locks: use a WORM volume or an S3 bucket with object lock, or leave out --require-lock and accept an advisory lock`,
    );
  }
  return new LocalFileStore(disk, options.clock, lock);
}

/** Locks a file for a minute and tries to remove it. */
function probeWorm(disk: Disk, clock: Clock): "compliance" | "advisory" {
  const path = disk.temporaryPath();
  closeSync(openSync(path, "wx", MODE_OPEN));
  utimesSync(path, (clock.now() + WORM_PROBE_MS) / 1000, clock.now() / 1000);
  chmodSync(path, MODE_LOCKED);
  try {
    unlinkSync(path);
    return "advisory";
  } catch (error) {
    if (["EPERM", "EACCES", "EROFS"].includes(codeOf(error) ?? "")) return "compliance";
    throw error;
  }
}

class LocalFileStore implements FileStore {
  readonly lock: "compliance" | "advisory";
  readonly #disk: Disk;
  readonly #locks: KeyLocks;
  /** Commits have a thread of their own: none waits behind other objects. */
  readonly #commits: CreateThread;
  readonly #objects: CreateThread;
  /** Cleared when this user may not read without touching access times. */
  #readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | (constants.O_NOATIME ?? 0);

  constructor(disk: Disk, clock: Clock, lock: "compliance" | "advisory") {
    this.#disk = disk;
    this.#locks = new KeyLocks(disk, clock);
    this.#commits = new CreateThread(disk.root, { atOnce: true });
    this.#objects = new CreateThread(disk.root);
    this.lock = lock;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#commits[Symbol.asyncDispose]();
    await this.#objects[Symbol.asyncDispose]();
    this.#disk.close();
  }

  sweep(): void {
    this.#disk.sweep();
  }

  get #lockMode(): LockMode {
    return this.lock === "compliance" ? "COMPLIANCE" : "advisory";
  }

  #pathOf(bucket: Bucket, key: string): string | undefined {
    return parseKey(bucket, key) === undefined ? undefined : join(this.#disk.root, bucket, key);
  }

  #pathToWrite(bucket: Bucket, key: string): string {
    const path = this.#pathOf(bucket, key);
    if (path === undefined)
      throw new Fault("REQUEST_INVALID", `${JSON.stringify(key.slice(0, 200))} is not a key of the ${bucket} bucket`);
    return path;
  }

  async create(bucket: Bucket, key: string, body: Uint8Array, options: CreateOptions): Promise<PutOutcome> {
    const path = this.#pathToWrite(bucket, key);
    refuseAborted(options.signal, "a write");
    await this.#disk.requireSpace(body.length);
    const thread = bucket === "ledger" && parseCommitKey(key) !== undefined ? this.#commits : this.#objects;
    return this.#create(thread, path, this.#disk.temporaryPath(), new Uint8Array(body), options);
  }

  /** Creates from bytes, which are then the thread's, or from a synced temporary file of the given etag. */
  async #create(
    thread: CreateThread,
    path: string,
    temporary: string,
    content: Uint8Array | string,
    { retainUntil, signal }: CreateOptions,
  ): Promise<PutOutcome> {
    refuseAborted(signal, "a write");
    const made = await thread.create({
      content,
      locksLast: retainUntil !== undefined && this.lock === "compliance",
      mode: this.#modeOf(retainUntil),
      path,
      temporary,
      times: this.#disk.timesOf(retainUntil),
    });
    if (made.outcome === "created" || made.outcome === "exists") return made;
    const { breaks, code, doing, message } = made.error;
    const error = Object.assign(new Error(message), code === undefined ? {} : { code });
    if (breaks) this.#disk.break(error);
    if (made.outcome === "failed") throw diskFault(doing, error);
    return { cause: error, outcome: "unknown" };
  }

  /** Writes the bytes while the folder is made. Nothing is left when either fails. */
  async #prepare(
    folder: string,
    body: Uint8Array,
    retainUntil: number | undefined,
    mode: number,
  ): Promise<TemporaryFile> {
    const writing = this.#disk.writeTemporary(body, retainUntil, mode);
    try {
      await this.#disk.ensureFolder(folder);
      return await writing;
    } catch (error) {
      await writing.then(
        (temporary) => this.#disk.discard(temporary.path),
        () => undefined,
      );
      throw diskFault("writing an object", error);
    }
  }

  async receive(
    key: string,
    sha256: string,
    sizeBytes: number,
    stream: AsyncIterable<Uint8Array>,
    options: CreateOptions,
  ): Promise<ReceiveOutcome> {
    const path = this.#pathToWrite("ledger", key);
    refuseAborted(options.signal, "an upload");
    await this.#disk.requireSpace(sizeBytes);
    const { retainUntil } = options;
    const received = await receiveStream(
      this.#disk,
      { sha256, sizeBytes, stream, signal: options.signal },
      retainUntil,
      this.#modeOf(retainUntil),
    );
    if ("outcome" in received) return received;
    try {
      return await this.#create(this.#objects, path, received.path, received.etag, options);
    } catch (error) {
      this.#disk.discard(received.path);
      throw error;
    }
  }

  /** A WORM volume takes a file over when it turns read-only, and then holds its second name too: so there, last. */
  #modeOf(retainUntil: number | undefined): number {
    return retainUntil === undefined || this.lock === "compliance" ? MODE_OPEN : MODE_LOCKED;
  }

  async #openToRead(path: string): Promise<number | undefined> {
    try {
      return await openAsync(path, this.#readFlags);
    } catch (error) {
      const code = codeOf(error);
      if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") return undefined;
      const plain = constants.O_RDONLY | constants.O_NOFOLLOW;
      if (code === "EPERM" && this.#readFlags !== plain) {
        this.#readFlags = plain;
        return this.#openToRead(path);
      }
      throw diskFault("reading an object", error);
    }
  }

  async get(bucket: Bucket, key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    const path = this.#pathOf(bucket, key);
    if (path === undefined || isOther(options)) return null;
    refuseAborted(options.signal, "a read");
    const fd = await this.#openToRead(path);
    if (fd === undefined) return null;
    try {
      const stat = fstatSync(fd, { bigint: true });
      if (!stat.isFile()) return null;
      const size = Number(stat.size);
      const from = Math.min(options.range?.from ?? 0, size);
      const to = Math.max(from, Math.min(options.range?.to ?? size, size));
      const body = new Uint8Array(to - from);
      await readWhole(fd, body, from);
      return { body, etag: etagOf(stat) };
    } catch (error) {
      throw diskFault("reading an object", error);
    } finally {
      closeSync(fd);
    }
  }

  async head(bucket: Bucket, key: string, options: VersionOptions = {}): Promise<ObjectInfo | null> {
    const path = this.#pathOf(bucket, key);
    if (path === undefined || isOther(options)) return null;
    refuseAborted(options.signal, "a read");
    return infoOf(path, key, this.#lockMode);
  }

  async open(bucket: Bucket, key: string, options: VersionOptions = {}): Promise<OpenedObject | null> {
    const path = this.#pathOf(bucket, key);
    if (path === undefined || isOther(options)) return null;
    refuseAborted(options.signal, "a read");
    const info = infoOf(path, key, this.#lockMode);
    if (info === null) return null;
    return { sizeBytes: info.sizeBytes, stream: this.#readPieces(path, info, options.signal) };
  }

  /** Opens the file only when it is read, so that a stream nobody reads holds nothing. */
  async *#readPieces(path: string, info: ObjectInfo, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const fd = await this.#openToRead(path);
    if (fd === undefined)
      throw new Fault("STORE_UNAVAILABLE", `${info.key} was removed while it was read: read it again`);
    try {
      if (etagOf(fstatSync(fd, { bigint: true })) !== info.etag)
        throw new Fault("STORE_UNAVAILABLE", `${info.key} was replaced while it was read: read it again`);
      for (let at = 0; at < info.sizeBytes; ) {
        refuseAborted(signal, "a read");
        const piece = new Uint8Array(Math.min(PIECE_BYTES, info.sizeBytes - at));
        await readWhole(fd, piece, at);
        at += piece.length;
        yield piece;
      }
    } catch (error) {
      throw diskFault("reading an object", error);
    } finally {
      await closeAsync(fd);
    }
  }

  async swap(
    bucket: "head",
    key: string,
    body: Uint8Array,
    etag: string | null,
    options: StoreOptions = {},
  ): Promise<SwapOutcome> {
    return this.#overwrite(bucket, key, body, options, (present) => present === etag);
  }

  async replace(bucket: MutableBucket, key: string, body: Uint8Array, options: StoreOptions = {}): Promise<void> {
    const done = await this.#overwrite(bucket, key, body, options, () => true);
    if (done.outcome === "unknown") throw diskFault("replacing an object", done.cause);
  }

  async #overwrite(
    bucket: MutableBucket,
    key: string,
    body: Uint8Array,
    options: StoreOptions,
    mayReplace: (etag: string | null) => boolean,
  ): Promise<SwapOutcome> {
    const path = this.#pathToWrite(bucket, key);
    refuseAborted(options.signal, "a write");
    await this.#disk.requireSpace(body.length);
    const folder = dirname(path);
    const temporary = await this.#prepare(folder, body, undefined, MODE_OPEN);
    try {
      return await this.#locks
        .hold<SwapOutcome>(lockName(bucket, key), options.signal, async () => {
          if (!mayReplace(infoOf(path, key, this.#lockMode)?.etag ?? null)) {
            this.#disk.discard(temporary.path);
            return { outcome: "moved" };
          }
          await this.#rename(temporary.path, path);
          try {
            await this.#disk.syncFolder(folder);
          } catch (error) {
            return { outcome: "unknown", cause: error };
          }
          return { outcome: "swapped", etag: temporary.etag };
        })
        .catch((error: unknown) => {
          this.#disk.discard(temporary.path);
          throw error;
        });
    } catch (error) {
      throw diskFault("replacing an object", error);
    }
  }

  async #rename(from: string, to: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        renameSync(from, to);
        return;
      } catch (error) {
        if (codeOf(error) !== "ENOENT" || tries >= FOLDER_TRIES) throw error;
        this.#disk.forgetFolder(dirname(to));
        await this.#disk.ensureFolder(dirname(to));
      }
    }
  }

  async remove(bucket: MutableBucket, key: string, options: StoreOptions = {}): Promise<void> {
    const path = this.#pathToWrite(bucket, key);
    refuseAborted(options.signal, "a removal");
    this.#disk.refuseBroken();
    try {
      await this.#locks.hold(lockName(bucket, key), options.signal, async () => {
        try {
          unlinkSync(path);
        } catch (error) {
          if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return;
          throw error;
        }
        await this.#disk.syncFolder(dirname(path));
      });
      if (key.includes("/")) this.#removeEmptyFolder(dirname(path));
    } catch (error) {
      throw diskFault("removing an object", error);
    }
  }

  /** Partial tiles leave one folder each behind; a writer that meets its absence makes it again. */
  #removeEmptyFolder(path: string): void {
    if (path === join(this.#disk.root, "personal", "sha256")) return;
    try {
      rmdirSync(path);
      this.#disk.forgetFolder(path);
    } catch {
      // Not empty, or somebody else was first.
    }
  }

  async extend(bucket: "ledger", key: string, retainUntil: number, options: VersionOptions = {}): Promise<void> {
    const path = this.#pathToWrite(bucket, key);
    if (isOther(options)) throw new Fault("NOT_FOUND", `${key} has no versions on disk`);
    refuseAborted(options.signal, "a change of a lock");
    this.#disk.refuseBroken();
    try {
      await this.#locks.hold(lockName(bucket, key), options.signal, async () => {
        const fd = await this.#openToRead(path);
        if (fd === undefined) throw new Fault("NOT_FOUND", `${key} is not in the ${bucket} bucket`);
        try {
          const stat = fstatSync(fd, { bigint: true });
          const present = retainUntilOf(stat);
          if (present !== undefined && present >= retainUntil) return;
          futimesSync(fd, retainUntil / 1000, Number(microsecondsOf(stat.mtimeNs)) / 1e6);
          fchmodSync(fd, MODE_LOCKED);
          await this.#disk.syncFile(fd);
        } finally {
          closeSync(fd);
        }
      });
    } catch (error) {
      throw diskFault("prolonging a lock", error);
    }
  }

  async *list(bucket: Bucket, prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    const { after = "", limit = Number.POSITIVE_INFINITY, signal } = options;
    let given = 0;
    if (limit <= 0) return;
    for await (const key of this.#walk(bucket, "", prefix, after, signal)) {
      const info = infoOf(join(this.#disk.root, bucket, key), key, this.#lockMode);
      // Removed since its folder was read.
      if (info === null) continue;
      yield info;
      if (++given >= limit) return;
    }
  }

  async *versions(bucket: Bucket, prefix: string, options: PageOptions = {}): AsyncGenerator<ObjectVersion> {
    for await (const { key, sizeBytes, etag } of this.list(bucket, prefix, options)) {
      const modifiedMs = modifiedMsOf(join(this.#disk.root, bucket, key));
      if (modifiedMs === undefined) continue;
      yield { key, versionId: NO_VERSION, sizeBytes, etag, isMarker: false, isLatest: true, modifiedMs };
    }
  }

  /** Keys in the order of their bytes: a folder sorts as its name with the slash, as it does in a flat list of keys. */
  async *#walk(
    bucket: Bucket,
    folder: string,
    prefix: string,
    after: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<string> {
    let entries: { readonly name: string; readonly isFolder: boolean }[];
    try {
      const found = await readdirAsync(join(this.#disk.root, bucket, folder), { withFileTypes: true });
      entries = found.map((e) => ({ name: e.isDirectory() ? `${e.name}/` : e.name, isFolder: e.isDirectory() }));
    } catch (error) {
      if (codeOf(error) === "ENOENT") return;
      throw diskFault("listing objects", error);
    }
    let looked = 0;
    for (const { name, isFolder } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const key = folder + name;
      if (isFolder) {
        const isPast = key <= after && !after.startsWith(key);
        if (!isPast && (key.startsWith(prefix) || prefix.startsWith(key)))
          yield* this.#walk(bucket, key, prefix, after, signal);
        continue;
      }
      if (!key.startsWith(prefix) || key <= after) continue;
      if (looked++ % LIST_SLICE === 0) {
        refuseAborted(signal, "a listing");
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      yield key;
    }
  }
}

const lockName = (bucket: Bucket, key: string): string =>
  createHash("sha256").update(`${bucket}/${key}`).digest("hex").slice(0, 32);

/** The time of access of a read-only file is its lock; of another file it says nothing. */
const retainUntilOf = (stat: {
  readonly mode: bigint;
  readonly atimeMs: bigint;
  readonly atimeNs: bigint;
}): number | undefined =>
  (stat.mode & 0o222n) === 0n ? Math.round(Number(microsecondsOf(stat.atimeNs)) / 1000) : undefined;

/** Files have no versions but the present one. */
const isOther = ({ versionId = NO_VERSION }: VersionOptions): boolean => versionId !== NO_VERSION;

/** Undefined when the file was removed meanwhile. */
const modifiedMsOf = (path: string): number | undefined => {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : Math.round(stat.mtimeMs);
};

function infoOf(path: string, key: string, lockMode: LockMode): ObjectInfo | null {
  try {
    const stat = lstatSync(path, { bigint: true });
    if (!stat.isFile()) return null;
    const retainUntil = retainUntilOf(stat);
    const info = { key, sizeBytes: Number(stat.size), etag: etagOf(stat) };
    return retainUntil === undefined ? info : { ...info, lockMode, retainUntil };
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw diskFault("looking at an object", error);
  }
}

async function readWhole(fd: number, into: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await readAsync(fd, into, at, into.length - at, position + at);
    if (bytesRead === 0)
      throw new Fault("STORE_UNAVAILABLE", "an object became shorter while it was read: check the disk");
    at += bytesRead;
  }
}
