/** Durable writes on a local file system: what returns is on the disk, file and folder. */
import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, statfs, unlink, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault } from "../../std/faults.ts";

const GiB = 1024 ** 3;
const SPACE_CHECK_MS = 1000;

export const codeOf = (error: unknown): string | undefined => (error as { code?: string } | undefined)?.code;

export function unavailable(error: unknown, what: string): Fault {
  const code = codeOf(error);
  const remedy = code === "ENOSPC" || code === "EDQUOT" ? "The disk is full; free space, and try again." : code === "EROFS" || code === "EACCES" || code === "EPERM" ? "The folder is not writable for this process; check its owner and mount." : "Check the disk and the system's log.";
  return new Fault("STORE_UNAVAILABLE", `${what} failed (${code ?? "unknown error"}). Nothing was recorded. ${remedy}`, { cause: error, retryAfterMs: 1000 });
}

/** One fsync of a folder serves all who asked before it began. */
class FolderSync {
  readonly #running = new Map<string, { current: Promise<void>; next: Promise<void> | undefined }>();

  sync(folder: string): Promise<void> {
    const state = this.#running.get(folder);
    if (state === undefined) {
      const entry = { current: this.#run(folder), next: undefined as Promise<void> | undefined };
      this.#running.set(folder, entry);
      void entry.current.finally(() => this.#advance(folder, entry)).catch(() => undefined);
      return entry.current;
    }
    // The one that runs may have begun before our change: wait for the one after it.
    state.next ??= state.current.catch(() => undefined).then(() => this.#run(folder));
    return state.next;
  }

  #advance(folder: string, entry: { current: Promise<void>; next: Promise<void> | undefined }): void {
    if (entry.next === undefined) {
      this.#running.delete(folder);
      return;
    }
    entry.current = entry.next;
    entry.next = undefined;
    void entry.current.finally(() => this.#advance(folder, entry)).catch(() => undefined);
  }

  async #run(folder: string): Promise<void> {
    const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

export class Disk {
  readonly #root: string;
  readonly #minimumFreeBytes: number | undefined;
  readonly #monotonic: () => number;
  readonly #known = new Set<string>();
  readonly #folders = new FolderSync();
  #checkedAt = Number.NEGATIVE_INFINITY;
  #enough = true;

  constructor(root: string, monotonic: () => number, minimumFreeBytes: number | undefined) {
    this.#root = root;
    this.#monotonic = monotonic;
    this.#minimumFreeBytes = minimumFreeBytes;
  }

  /** Refuses before anything is written while too little space is free: the larger of 1 GiB and 5 % by default. */
  async assertSpace(): Promise<void> {
    const now = this.#monotonic();
    if (now - this.#checkedAt > SPACE_CHECK_MS) {
      const s = await statfs(this.#root);
      const least = this.#minimumFreeBytes ?? Math.max(GiB, 0.05 * s.blocks * s.bsize);
      this.#enough = s.bavail * s.bsize >= least;
      this.#checkedAt = now;
    }
    if (!this.#enough) throw new Fault("STORE_UNAVAILABLE", "The disk is nearly full, so nothing new is written. Free space below the store's folder; writing goes on by itself then.", { retryAfterMs: 5000 });
  }

  /** Makes a folder and those above it; each new one is on the disk before this returns. */
  async makeFolder(folder: string): Promise<void> {
    if (this.#known.has(folder) || folder.length < this.#root.length) return;
    await this.makeFolder(dirname(folder));
    try {
      await mkdir(folder, { mode: 0o750 });
      await this.#folders.sync(dirname(folder));
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
    this.#known.add(folder);
  }

  syncFolder(folder: string): Promise<void> {
    return this.#folders.sync(folder);
  }

  /** Links a finished temporary file to its final name; false when the name is taken. */
  async publish(temporary: string, final: string): Promise<boolean> {
    try {
      await link(temporary, final);
    } catch (error) {
      if (codeOf(error) === "EEXIST") return false;
      throw error;
    }
    await this.#folders.sync(dirname(final));
    return true;
  }

  /** Writes a file whole and syncs it; atime carries the end of its lock. */
  async writeTemporary(name: string, body: Uint8Array, mode: number, retainUntil: number | undefined): Promise<string> {
    const path = join(this.#root, "tmp", name);
    const handle = await open(path, "wx", mode);
    try {
      await writeAll(handle, body);
      // The convention by which write-once volumes take a retention: atime, then read-only.
      if (retainUntil !== undefined) await handle.utimes(retainUntil / 1000, retainUntil / 1000);
      await handle.sync();
    } finally {
      await handle.close();
    }
    return path;
  }

  async discard(path: string): Promise<void> {
    await unlink(path).catch(() => undefined);
  }

  async setRetention(path: string, retainUntil: number): Promise<void> {
    await utimes(path, retainUntil / 1000, retainUntil / 1000);
  }
}

async function writeAll(handle: FileHandle, body: Uint8Array): Promise<void> {
  for (let at = 0; at < body.length; ) at += (await handle.write(body, at, body.length - at)).bytesWritten;
}
