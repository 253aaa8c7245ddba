/**
 * A copy of the buckets in folders, read as it lies there: nothing is made, locked, swept or changed. Lists every file, also those
 * whose names are no keys, so that a verifier sees what does not belong. Says nothing of locks: copying changes the dates that
 * carry them, and a copy's locks would prove nothing about the original's.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../../std/faults.ts";
import { parseKey } from "../keys.ts";
import type { Bucket, ObjectInfo, ObjectStore } from "../object-store.ts";

/** What reading takes of the port. */
export type StoreReader = Pick<ObjectStore, "get" | "head" | "list" | "lock">;

const isAbsent = (error: unknown): boolean =>
  ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");

export function openFileCopy(root: string): StoreReader {
  const pathOf = (bucket: Bucket, key: string): string | undefined =>
    parseKey(bucket, key) === undefined ? undefined : join(root, bucket, key);
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
  async function* walk(folder: string, at: string, prefix: string): AsyncGenerator<string> {
    const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
      if (isAbsent(error)) return [];
      throw unreadable(at, error);
    });
    const named = entries
      .map((e) => ({ isFolder: e.isDirectory(), key: `${at}${e.name}${e.isDirectory() ? "/" : ""}` }))
      .toSorted((a, b) => (a.key < b.key ? -1 : 1));
    for (const { isFolder, key } of named) {
      if (isFolder) {
        if (key.startsWith(prefix) || prefix.startsWith(key))
          yield* walk(join(folder, key.slice(at.length, -1)), key, prefix);
      } else if (key.startsWith(prefix)) yield key;
    }
  }
  return {
    async get(bucket, key) {
      const path = pathOf(bucket, key);
      if (path === undefined) return null;
      try {
        return { body: await readFile(path), etag: "" };
      } catch (error) {
        if (isAbsent(error)) return null;
        throw unreadable(key, error);
      }
    },
    async head(bucket, key) {
      const path = pathOf(bucket, key);
      return path === undefined ? null : infoOf(path, key);
    },
    async *list(bucket, prefix) {
      for await (const key of walk(join(root, bucket), "", prefix)) {
        const info = await infoOf(join(root, bucket, key), key);
        if (info !== null) yield info;
      }
    },
    // A copy proves nothing about the locks of what it was copied from.
    lock: "advisory",
  };
}
