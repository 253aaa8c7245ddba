/**
 * The last signed note on a disk, in two files that are written in turn: whenever the machine stops, one of them is whole, and
 * a note that was not whole had not been released. In place, so that one flush of the data is enough.
 */
import { fdatasync, ftruncateSync, writeSync } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import type { LastSigned } from "../ports.ts";

const datasync = promisify(fdatasync);

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function openDurably(path: string): Promise<FileHandle> {
  // 0x40 | 0x2 (O_CREAT | O_RDWR): neither truncates nor appends.
  const handle = await open(path, "a+", 0o600).then(async (created) => {
    await created.close();
    return open(path, "r+");
  });
  const folder = await open(dirname(path), "r");
  await folder.sync();
  await folder.close();
  return handle;
}

export interface LastSignedFile extends LastSigned, AsyncDisposable {}

export async function openLastSigned(path: string): Promise<LastSignedFile> {
  const paths = [path, `${path}.alternate`];
  const handles = await Promise.all(paths.map(openDurably));
  const sizes = await Promise.all(handles.map(async (h) => (await h.stat()).size));
  // The smaller size of a tree has the shorter or equal note; to be sure, the file that parses older is found by its content.
  let turn = (await newerOf(paths)) === 0 ? 1 : 0;
  return {
    async read() {
      const found = await Promise.all(paths.map(readIfThere));
      return found.filter((b): b is Uint8Array => b !== undefined && b.length > 0);
    },
    async write(note) {
      const handle = handles[turn];
      if (handle === undefined) throw new Error("assertion failed: two files");
      // Into the page cache: only the flush waits for the disk.
      writeSync(handle.fd, note, 0, note.length, 0);
      if ((sizes[turn] ?? 0) > note.length) ftruncateSync(handle.fd, note.length);
      sizes[turn] = note.length;
      await datasync(handle.fd);
      turn = 1 - turn;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(handles.map((h) => h.close()));
    },
  };
}

/** Which file holds the larger tree, by the second line of its note: a write must never destroy that one. */
async function newerOf(paths: readonly string[]): Promise<number> {
  const [a = 0, b = 0] = await Promise.all(
    paths.map(async (path) => {
      const text = new TextDecoder().decode((await readIfThere(path)) ?? new Uint8Array());
      // A whole note ends with the line feed of its signature.
      return text.endsWith("\n") ? Number(text.split("\n")[1] ?? 0) || 0 : 0;
    }),
  );
  return a >= b ? 0 : 1;
}
