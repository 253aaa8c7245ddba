/**
 * A copy of the buckets in folders, read as it lies there: nothing is made, locked, swept or changed. Lists every file, also those
 * whose names are no keys, so that a verifier sees what does not belong. Says nothing of locks: copying changes the dates that
 * carry them, and a copy's locks would prove nothing about the original's.
 */
import { createReadStream, type Dirent, readdir, readdirSync, readFile, readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { Fault } from "../../std/faults.ts";
import { parseKey } from "../keys.ts";
import type { Bucket, ListOptions, ObjectInfo, ObjectStore } from "../object-store.ts";

/** What reading takes of the port; a listing says names alone, since asking for more of each file costs more than reading it. */
export interface StoreReader extends Pick<ObjectStore, "get" | "head" | "lock" | "open"> {
  list(bucket: Bucket, prefix: string, options?: Pick<ListOptions, "after">): AsyncIterable<Pick<ObjectInfo, "key">>;
}

/** The callback forms: a promise's handle doubles what reading a file costs. */
const readElsewhere = (path: string): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    readFile(path, (error, body) => (error === null ? resolve(body) : reject(error)));
  });
const listElsewhere = (path: string): Promise<Dirent[]> =>
  new Promise((resolve, reject) => {
    readdir(path, { withFileTypes: true }, (error, entries) => (error === null ? resolve(entries) : reject(error)));
  });

/** What the system holds in memory is here sooner than another thread is awake; what takes longer was not in memory. */
const HERE_MS = 1;
/** One read alone may have been slow because something else had the processor. */
const SLOW_READS = 2;
/** Reads that other threads do side by side, after so many that made this thread wait. */
const ELSEWHERE = 64;
/** How long this thread reads before others get a turn. */
const TURN_MS = 20;

/** Reads files and folders, each where it is faster. */
class Disk {
  readonly #hereMs: number;
  #elsewhere = 0;
  /** Slow reads in a row. */
  #slow = 0;
  #turnEndsMs = 0;

  constructor(hereMs: number) {
    this.#hereMs = hereMs;
  }

  read(path: string): Promise<Buffer> {
    return this.#do(path, readFileSync, readElsewhere);
  }

  list(path: string): Promise<Dirent[]> {
    return this.#do(path, (folder) => readdirSync(folder, { withFileTypes: true }), listElsewhere);
  }

  async #do<T>(path: string, here: (path: string) => T, elsewhere: (path: string) => Promise<T>): Promise<T> {
    if (this.#elsewhere > 0) {
      this.#elsewhere--;
      return elsewhere(path);
    }
    if (performance.now() > this.#turnEndsMs) {
      await turn();
      this.#turnEndsMs = performance.now() + TURN_MS;
    }
    const from = performance.now();
    const found = here(path);
    this.#slow = performance.now() - from > this.#hereMs ? this.#slow + 1 : 0;
    if (this.#slow >= SLOW_READS) this.#elsewhere = ELSEWHERE;
    return found;
  }
}

/** Folders whose names are read before they are asked for: with few files in each, a listing is all folders. */
const AHEAD = 16;
const PIECE_BYTES = 256 * 1024;

interface Named {
  readonly entry: Dirent;
  /** Ends with a slash for a folder. */
  readonly key: string;
  /** What the folder holds, when that was asked for ahead. */
  below?: Promise<Named[]>;
}

const isAbsent = (error: unknown): boolean =>
  ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");

/** `hereMs` is how long reading a file may take before others are read in other threads. */
export function openFileCopy(root: string, hereMs = HERE_MS): StoreReader {
  const disk = new Disk(hereMs);
  const pathOf = (bucket: Bucket, key: string): string | undefined =>
    // A key has no `..` and no doubled slash to resolve.
    parseKey(bucket, key) === undefined ? undefined : `${root}/${bucket}/${key}`;
  const unreadable = (key: string, error: unknown): Fault =>
    new Fault(
      "STORE_UNAVAILABLE",
      `${key} cannot be read: ${(error as Error).message}. Check the copy's owner and the disk.`,
      { cause: error },
    );
  async function infoOf(path: string, key: string): Promise<ObjectInfo | null> {
    try {
      const s = await stat(path);
      return s.isFile() ? { etag: `${s.ino}-${s.mtimeMs}`, key, sizeBytes: s.size } : null;
    } catch (error) {
      if (isAbsent(error)) return null;
      throw unreadable(key, error);
    }
  }
  /** What a folder holds after a key, descending, so that the end of the list comes first. */
  async function namesIn(bucket: Bucket, at: string, prefix: string, after: string): Promise<Named[]> {
    const entries = await disk.list(join(root, bucket, at)).catch((error: unknown) => {
      if (isAbsent(error)) return [];
      throw unreadable(at, error);
    });
    return entries
      .map((entry) => ({ entry, key: `${at}${entry.name}${entry.isDirectory() ? "/" : ""}` }))
      .filter(({ entry, key }) => key.startsWith(prefix) || (entry.isDirectory() && prefix.startsWith(key)))
      .filter(({ entry, key }) => key > after || (entry.isDirectory() && after.startsWith(key)))
      .toSorted((a, b) => (a.key < b.key ? 1 : -1));
  }
  return {
    async get(bucket, key) {
      const path = pathOf(bucket, key);
      if (path === undefined) return null;
      try {
        return { body: await disk.read(path), etag: "" };
      } catch (error) {
        if (isAbsent(error)) return null;
        throw unreadable(key, error);
      }
    },
    async head(bucket, key) {
      const path = pathOf(bucket, key);
      return path === undefined ? null : infoOf(path, key);
    },
    async open(bucket, key) {
      const path = pathOf(bucket, key);
      const info = path === undefined ? null : await infoOf(path, key);
      return path === undefined || info === null
        ? null
        : { sizeBytes: info.sizeBytes, stream: piecesOf(path, key, unreadable) };
    },
    async *list(bucket, prefix, { after = "" } = {}) {
      const waiting = await namesIn(bucket, "", prefix, after);
      const below = (named: Named): Promise<Named[]> => {
        named.below ??= namesIn(bucket, named.key, prefix, after);
        // Whoever awaits it hears of the failure; until then nobody must.
        named.below.catch(() => undefined);
        return named.below;
      };
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
        const { entry, key } = next;
        if (entry.isDirectory()) {
          for (const later of waiting.slice(-AHEAD)) if (later.entry.isDirectory()) void below(later);
          for (const named of await below(next)) waiting.push(named);
        } else if (entry.isFile() || (await infoOf(join(root, bucket, key), key)) !== null) yield { key };
      }
    },
    // A copy proves nothing about the locks of what it was copied from.
    lock: "advisory",
  };
}

/** Opens the file only when it is read, so that a stream nobody reads holds nothing. */
async function* piecesOf(
  path: string,
  key: string,
  unreadable: (key: string, error: unknown) => Fault,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of createReadStream(path, { highWaterMark: PIECE_BYTES })) yield piece as Uint8Array;
  } catch (error) {
    throw unreadable(key, error);
  }
}
