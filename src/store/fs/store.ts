/**
 * The embedded store: three folders with the keys of the three buckets. An object appears whole or not at all: it is written
 * aside, synced, linked to its name (which fails when the name is taken), and its folder is synced before the answer.
 *
 * The lock is advisory: atime holds its end and the file is read-only, which write-once volumes enforce and others do not. For one
 * host, on a local file system.
 */
import { createReadStream } from "node:fs";
import { open, readdir, readFile, rename, stat, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { formatHex } from "../../std/bytes.ts";
import { Fault } from "../../std/faults.ts";
import type { Clock, Random } from "../../std/ports.ts";
import { parseKey } from "../keys.ts";
import type { Bucket, CreateOptions, CreateOutcome, Deadline, MutableBucket, ObjectInfo, ObjectStore, OpenedObject, StoredObject, SwapOutcome } from "../object-store.ts";
import { codeOf, Disk, unavailable } from "./disk.ts";

export interface FileStoreOptions {
  /** Folder that holds `ledger`, `head`, `personal` and `tmp`. */
  readonly root: string;
  /** Bytes that stay free; the larger of 1 GiB and 5 % by default. */
  readonly minimumFreeBytes?: number;
  readonly clock: Clock;
  readonly random: Random;
}

export type ReceiveOutcome = { readonly outcome: "created" | "exists" } | { readonly outcome: "mismatch"; readonly detail: string };

const BUCKETS: readonly Bucket[] = ["ledger", "head", "personal"];
const LOCK_WAIT_MS = 5;
const LOCK_TRIES = 400;

const etagOf = (body: Uint8Array): string => createHash("sha256").update(body).digest("hex").slice(0, 32);

export class FileStore implements ObjectStore {
  readonly lock = "advisory";
  readonly #root: string;
  readonly #disk: Disk;
  readonly #random: Random;
  readonly #clock: Clock;

  private constructor(options: FileStoreOptions, disk: Disk) {
    this.#root = options.root;
    this.#random = options.random;
    this.#clock = options.clock;
    this.#disk = disk;
  }

  /** Opens the folder, makes what is missing, and removes what a crash left in `tmp`. */
  static async open(options: FileStoreOptions): Promise<FileStore> {
    const disk = new Disk(options.root, () => options.clock.monotonic(), options.minimumFreeBytes);
    for (const folder of [...BUCKETS, "tmp"]) await disk.makeFolder(join(options.root, folder));
    for (const name of await readdir(join(options.root, "tmp"))) await disk.discard(join(options.root, "tmp", name));
    return new FileStore(options, disk);
  }

  /** Opens a copy for reading: nothing is made, swept or changed. */
  static openReadOnly(options: FileStoreOptions): FileStore {
    return new FileStore(options, new Disk(options.root, () => options.clock.monotonic(), options.minimumFreeBytes));
  }

  #path(bucket: Bucket, key: string): string {
    if (parseKey(bucket, key) === undefined) throw new Fault("STORE_UNAVAILABLE", `${JSON.stringify(key.slice(0, 200))} is not a key of the ${bucket} bucket.`);
    return join(this.#root, bucket, key);
  }

  #temporaryName(): string {
    return formatHex(this.#random.bytes(16));
  }

  async create(bucket: Bucket, key: string, body: Uint8Array, options: CreateOptions = {}): Promise<CreateOutcome> {
    const path = this.#path(bucket, key);
    options.signal?.throwIfAborted();
    await this.#disk.assertSpace();
    let temporary: string | undefined;
    try {
      const [written] = await Promise.all([this.#disk.writeTemporary(this.#temporaryName(), body, bucket === "ledger" ? 0o444 : 0o640, options.retainUntil), this.#disk.makeFolder(dirname(path))]);
      temporary = written;
      return (await this.#disk.publish(temporary, path)) ? { etag: etagOf(body), outcome: "created" } : { outcome: "exists" };
    } catch (error) {
      throw unavailable(error, `Writing ${key}`);
    } finally {
      if (temporary !== undefined) await this.#disk.discard(temporary);
    }
  }

  /** Takes an upload: streams it aside while hashing, and links it only when length and digest are as announced. */
  async receive(key: string, sha256: string, sizeBytes: number, stream: AsyncIterable<Uint8Array>, options: CreateOptions = {}): Promise<ReceiveOutcome> {
    const path = this.#path("ledger", key);
    await this.#disk.assertSpace();
    const temporary = join(this.#root, "tmp", this.#temporaryName());
    const hash = createHash("sha256");
    let received = 0;
    try {
      const handle = await open(temporary, "wx", 0o444);
      try {
        for await (const chunk of stream) {
          options.signal?.throwIfAborted();
          received += chunk.length;
          if (received > sizeBytes) return { detail: `more than the announced ${sizeBytes} bytes came`, outcome: "mismatch" };
          hash.update(chunk);
          for (let at = 0; at < chunk.length; ) at += (await handle.write(chunk, at, chunk.length - at)).bytesWritten;
        }
        if (received !== sizeBytes) return { detail: `${received} bytes came, ${sizeBytes} were announced`, outcome: "mismatch" };
        const digest = hash.digest("hex");
        if (digest !== sha256) return { detail: `the bytes have SHA-256 ${digest}, ${sha256} was announced`, outcome: "mismatch" };
        if (options.retainUntil !== undefined) await handle.utimes(options.retainUntil / 1000, options.retainUntil / 1000);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await this.#disk.makeFolder(dirname(path));
      return { outcome: (await this.#disk.publish(temporary, path)) ? "created" : "exists" };
    } catch (error) {
      if (error instanceof Fault || codeOf(error) === undefined) throw error;
      throw unavailable(error, "Storing the upload");
    } finally {
      await this.#disk.discard(temporary);
    }
  }

  async get(bucket: Bucket, key: string, options: Deadline & { readonly range?: { readonly from: number; readonly to: number } } = {}): Promise<StoredObject | null> {
    const path = this.#path(bucket, key);
    const { range, signal } = options;
    try {
      const body = await readFile(path, signal === undefined ? {} : { signal });
      return { body: range === undefined ? body : body.subarray(range.from, range.to), etag: bucket === "ledger" ? "" : etagOf(body) };
    } catch (error) {
      if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return null;
      if (signal?.aborted === true) throw error;
      throw unavailable(error, `Reading ${key}`);
    }
  }

  async open(bucket: Bucket, key: string, options: Deadline = {}): Promise<OpenedObject | null> {
    const info = await this.head(bucket, key, options);
    if (info === null) return null;
    return { sizeBytes: info.sizeBytes, stream: createReadStream(this.#path(bucket, key), options.signal === undefined ? {} : { signal: options.signal }) };
  }

  async head(bucket: Bucket, key: string, _options: Deadline = {}): Promise<ObjectInfo | null> {
    return this.#info(bucket, key, this.#path(bucket, key));
  }

  async #info(bucket: Bucket, key: string, path: string): Promise<ObjectInfo | null> {
    try {
      const s = await stat(path);
      return { etag: `${s.ino.toString(16)}-${s.size.toString(16)}`, key, sizeBytes: s.size, ...(bucket === "ledger" ? { retainUntil: s.atimeMs } : {}) };
    } catch (error) {
      if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return null;
      throw unavailable(error, `Reading ${key}`);
    }
  }

  async swap(bucket: "head", key: string, body: Uint8Array, etag: string | null, options: Deadline = {}): Promise<SwapOutcome> {
    const path = this.#path(bucket, key);
    await this.#disk.assertSpace();
    await this.#disk.makeFolder(dirname(path));
    const unlock = await this.#lockFile(path);
    try {
      const now = await this.get(bucket, key, options);
      if ((now?.etag ?? null) !== etag) return { outcome: "moved" };
      await this.#overwrite(path, body);
      return { etag: etagOf(body), outcome: "swapped" };
    } finally {
      await unlock();
    }
  }

  /** A lock file beside the object, for the time of one read and one rename; a lock of a process that is gone is broken. */
  async #lockFile(path: string): Promise<() => Promise<void>> {
    const lockPath = join(this.#root, "tmp", `${createHash("sha256").update(path).digest("hex").slice(0, 32)}.lock`);
    for (let i = 0; i < LOCK_TRIES; i++) {
      try {
        const handle = await open(lockPath, "wx", 0o600);
        await handle.writeFile(`${process.pid} ${hostname()}`);
        await handle.close();
        return () => this.#disk.discard(lockPath);
      } catch (error) {
        if (codeOf(error) !== "EEXIST") throw unavailable(error, "Locking");
        if (i > 20 && (await isAbandoned(lockPath))) await unlink(lockPath).catch(() => undefined);
        await this.#clock.sleep(LOCK_WAIT_MS);
      }
    }
    throw new Fault("STORE_UNAVAILABLE", `Another process holds ${lockPath}. If none runs, remove the file.`, { retryAfterMs: 1000 });
  }

  async #overwrite(path: string, body: Uint8Array): Promise<void> {
    try {
      const temporary = await this.#disk.writeTemporary(this.#temporaryName(), body, 0o640, undefined);
      await rename(temporary, path);
      await this.#disk.syncFolder(dirname(path));
    } catch (error) {
      throw unavailable(error, "Writing");
    }
  }

  async replace(bucket: MutableBucket, key: string, body: Uint8Array, options: Deadline = {}): Promise<void> {
    const path = this.#path(bucket, key);
    options.signal?.throwIfAborted();
    await this.#disk.assertSpace();
    await this.#disk.makeFolder(dirname(path));
    await this.#overwrite(path, body);
  }

  async remove(bucket: MutableBucket, key: string, _options: Deadline = {}): Promise<void> {
    await unlink(this.#path(bucket, key)).catch((error: unknown) => {
      if (codeOf(error) !== "ENOENT") throw unavailable(error, `Removing ${key}`);
    });
  }

  async *list(bucket: Bucket, prefix: string, options: Deadline & { readonly after?: string; readonly limit?: number } = {}): AsyncGenerator<ObjectInfo> {
    const { after, signal } = options;
    let left = options.limit ?? Number.POSITIVE_INFINITY;
    for await (const key of this.#walk(join(this.#root, bucket), "", prefix, after ?? "")) {
      signal?.throwIfAborted();
      if (left-- <= 0) return;
      const info = await this.#info(bucket, key, join(this.#root, bucket, key));
      if (info !== null) yield info;
    }
  }

  /** Keys in order; folders that cannot hold a wanted key are not read. */
  async *#walk(folder: string, at: string, prefix: string, after: string): AsyncGenerator<string> {
    const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
      if (codeOf(error) === "ENOENT") return [];
      throw unavailable(error, `Listing ${at}`);
    });
    // A folder sorts as its keys do, with the slash.
    const named = entries.map((e) => ({ isFolder: e.isDirectory(), key: `${at}${e.name}${e.isDirectory() ? "/" : ""}` })).toSorted((a, b) => (a.key < b.key ? -1 : 1));
    for (const { key, isFolder } of named) {
      if (isFolder) {
        const wanted = key.startsWith(prefix) || prefix.startsWith(key);
        const ahead = after === "" || key >= after.slice(0, key.length);
        if (wanted && ahead) yield* this.#walk(join(folder, key.slice(at.length, -1)), key, prefix, after);
      } else if (key.startsWith(prefix) && key > after) yield key;
    }
  }

  async extend(bucket: "ledger", key: string, retainUntil: number, options: Deadline = {}): Promise<void> {
    const info = await this.head(bucket, key, options);
    if (info === null) throw new Fault("STORE_UNAVAILABLE", `${key} is not in the store.`);
    if (retainUntil > (info.retainUntil ?? 0)) await this.#disk.setRetention(this.#path(bucket, key), retainUntil);
  }
}

async function isAbandoned(lockPath: string): Promise<boolean> {
  const [pid, host] = (await readFile(lockPath, "utf8").catch(() => "")).split(" ");
  if (host !== hostname() || pid === undefined || !/^\d+$/.test(pid)) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return codeOf(error) === "ESRCH";
  }
}
