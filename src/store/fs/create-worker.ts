/**
 * A thread that creates files: whole, under their final name at once, and durable before it answers (`docs/operating.md`). Its calls
 * are synchronous, since nothing else runs here: a create that went through the event loop call by call would wait for it six times.
 *
 * - What came together is done together, step by step: a folder that several files share is synced once.
 * - A file is written under `tmp`, synced, and only then linked; its folder is synced before anybody hears of it.
 * - A folder is used only after it, and every folder above it that was not durable, was synced into its parent.
 * - Before the link nothing has happened, and the outcome is `failed`; after it, only success or `unknown`.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  futimesSync,
  linkSync,
  mkdirSync,
  openSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { parentPort } from "node:worker_threads";
import { assertDefined } from "../../std/assert.ts";
import { codeOf, type DiskError, etagOf, foldersBelow, MODE_LOCKED } from "./disk.ts";

export interface FileToCreate {
  readonly path: string;
  /** Its first name, under `tmp`. */
  readonly temporary: string;
  /** The bytes to write, or the etag of a temporary file that is written and synced. */
  readonly content: Uint8Array | string;
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly times: { readonly access: number; readonly modification: number };
  /** Whether it turns read-only last, as a volume wants it that then holds it against everybody. */
  readonly locksLast: boolean;
  /** Above all that may have to be made. */
  readonly root: string;
  /** Folders below it that may not be durable yet, the highest first. */
  readonly folders: readonly string[];
}

export type FileOutcome =
  | { readonly outcome: "created"; readonly etag: string }
  | { readonly outcome: "exists" }
  | { readonly outcome: "unknown" | "failed"; readonly error: DiskError };

/** A folder that was emptied and removed meanwhile is made again this often. */
const FOLDER_TRIES = 3;

class SyncFailure extends Error {}

interface Making {
  readonly file: FileToCreate;
  fd: number | undefined;
  etag: string;
  isLinked: boolean;
  outcome: FileOutcome | undefined;
}

function createFiles(files: readonly FileToCreate[]): FileOutcome[] {
  const all = files.map((file): Making => ({ etag: "", fd: undefined, file, isLinked: false, outcome: undefined }));
  each(all, "writing an object", "failed", write);
  each(all, "writing an object", "failed", syncAndClose);
  const made = new Once(makeFolder);
  const synced = new Once(syncFolder);
  each(all, "making a folder", "failed", ({ file }) => file.folders.forEach((f) => made.do(f)));
  each(all, "making a folder", "failed", ({ file }) => file.folders.forEach((f) => synced.do(dirname(f))));
  each(all, "naming an object", "failed", link);
  // Also before `exists`: the winner may not have synced its link yet, and the loser may be about to rely on it.
  const published = new Once(syncFolder);
  each(all, "naming an object", "unknown", ({ file }) => published.do(dirname(file.path)));
  each(all, "locking an object", "unknown", ({ file, isLinked }) => {
    if (file.locksLast && isLinked) chmodSync(file.path, MODE_LOCKED);
  });
  return all.map(({ etag, fd, file, isLinked, outcome }) => {
    if (fd !== undefined) closeSync(fd);
    discard(file.temporary);
    return outcome ?? (isLinked ? { etag, outcome: "created" } : { outcome: "exists" });
  });
}

/** One step of all that did not fail before. */
function each(all: readonly Making[], doing: string, otherwise: "failed" | "unknown", step: (m: Making) => void): void {
  for (const making of all) {
    if (making.outcome !== undefined) continue;
    try {
      step(making);
    } catch (error) {
      const cause = error instanceof SyncFailure ? error.cause : error;
      const message = cause instanceof Error ? cause.message : String(cause);
      making.outcome = {
        error: { code: codeOf(cause), doing, isSync: error instanceof SyncFailure, message },
        outcome: otherwise,
      };
    }
  }
}

/** Does what several ask for once; who asks again for what failed is told so again. */
class Once {
  readonly #work: (path: string) => void;
  readonly #done = new Map<string, Error | undefined>();

  constructor(work: (path: string) => void) {
    this.#work = work;
  }

  do(path: string): void {
    if (!this.#done.has(path)) this.#done.set(path, this.#attempt(path));
    const failure = this.#done.get(path);
    if (failure !== undefined) throw failure;
  }

  #attempt(path: string): Error | undefined {
    try {
      this.#work(path);
      return undefined;
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }
}

function write(making: Making): void {
  const { content, mode, temporary, times } = making.file;
  if (typeof content === "string") {
    making.etag = content;
    return;
  }
  const fd = openSync(temporary, "wx", mode);
  making.fd = fd;
  for (let at = 0; at < content.length; ) at += writeSync(fd, content, at);
  futimesSync(fd, times.access, times.modification);
  making.etag = etagOf(fstatSync(fd, { bigint: true }));
}

function syncAndClose(making: Making): void {
  if (making.fd === undefined) return;
  sync(making.fd);
  closeSync(making.fd);
  making.fd = undefined;
}

function sync(fd: number): void {
  try {
    fsyncSync(fd);
  } catch (error) {
    throw new SyncFailure("a sync failed", { cause: error });
  }
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
  }
}

function syncFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    sync(fd);
  } finally {
    closeSync(fd);
  }
}

function link(making: Making): void {
  const { path, root, temporary } = making.file;
  for (let tries = 1; ; tries++) {
    try {
      linkSync(temporary, path);
      making.isLinked = true;
      return;
    } catch (error) {
      const code = codeOf(error);
      // Over NFS the answer may be lost, and the repetition then meets its own link.
      making.isLinked = hasTwoNames(temporary);
      if (making.isLinked || code === "EEXIST") return;
      if (code !== "ENOENT" || tries >= FOLDER_TRIES) throw error;
      for (const folder of foldersBelow(root, dirname(path))) {
        makeFolder(folder);
        syncFolder(dirname(folder));
      }
    }
  }
}

const hasTwoNames = (path: string): boolean => {
  try {
    return statSync(path).nlink === 2;
  } catch {
    return false;
  }
};

function discard(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Swept at the next start.
  }
}

const port = assertDefined(parentPort, "this is a thread");
port.on("message", (files: readonly FileToCreate[]) => port.postMessage(createFiles(files)));
