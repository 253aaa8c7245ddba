/** What the disk gives: files created if absent and flushed, one after the other or several at a time. */
import { link, mkdir, mkdtemp, open, unlink } from "node:fs/promises";
import { join } from "node:path";
import { median } from "./row.ts";

export interface RawRate {
  readonly perSecond: number;
  readonly p50Ms: number;
}

/** Makes the n-th file of a folder. */
export type RawCreate = (folder: string, n: number, body: Uint8Array) => Promise<void>;

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  await handle.sync();
  await handle.close();
}

/** The file alone: after a power loss its name may be gone. */
export const createFile: RawCreate = async (folder, n, body) => {
  const file = await open(join(folder, String(n)), "wx");
  await file.writeFile(body);
  await file.sync();
  await file.close();
};

/** Whole under its name or not at all, and durable: what the file store does for one object (`docs/operating.md`). */
export const createObject: RawCreate = async (folder, n, body) => {
  const temporary = join(folder, "tmp", String(n));
  await createFile(join(folder, "tmp"), n, body);
  await link(temporary, join(folder, String(n)));
  await syncFolder(folder);
  await unlink(temporary);
};

/**
 * Creates files of `body` for `seconds`, `inFlight` at a time. They stay: of an inode that was freed a moment ago ext4 asks the disk
 * before it passes it over, and whatever is created next would pay for that.
 */
export async function rawCreates(
  create: RawCreate,
  parent: string,
  body: Uint8Array,
  inFlight: number,
  seconds: number,
): Promise<RawRate> {
  const folder = await mkdtemp(join(parent, "raw-"));
  await mkdir(join(folder, "tmp"));
  const times: number[] = [];
  const begun = performance.now();
  const until = begun + seconds * 1_000;
  let next = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (performance.now() < until) {
        const from = performance.now();
        await create(folder, next++, body);
        times.push(performance.now() - from);
      }
    }),
  );
  return { p50Ms: median(times), perSecond: (times.length / (performance.now() - begun)) * 1_000 };
}
