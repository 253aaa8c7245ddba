/**
 * The thread that creates files: whole, under their final name at once, and durable before it answers (`docs/operating.md`). Its event
 * loop has nothing else to do, so that the steps of a file follow each other at once. Steps that touch metadata are synchronous;
 * syncs go through the thread pool, side by side, and share what the disk does for one.
 *
 * - A file is written under `tmp`, synced, and only then linked; its folder is synced before anybody hears of it.
 * - Before the link nothing has happened, and the outcome is `failed`; after it, only success or `unknown`.
 */
import {
  chmodSync,
  closeSync,
  fstatSync,
  futimesSync,
  linkSync,
  openSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { assertDefined } from "../../std/assert.ts";
import { etagOf, MODE_LOCKED } from "./disk.ts";
import { codeOf, Durability } from "./durability.ts";

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
}

export interface DiskError {
  readonly doing: string;
  readonly code: string | undefined;
  readonly message: string;
  /** Whether nothing more may be written. */
  readonly breaks: boolean;
}

export type FileOutcome =
  | { readonly outcome: "created"; readonly etag: string }
  | { readonly outcome: "exists" }
  | { readonly outcome: "unknown" | "failed"; readonly error: DiskError };

export type Numbered<T> = readonly [number: number, what: T];

/** A folder that was emptied and removed meanwhile is made again this often. */
const FOLDER_TRIES = 3;

const port = assertDefined(parentPort, "this is a thread");
const { root } = workerData as { readonly root: string };
const durability = new Durability(root);

async function create(file: FileToCreate): Promise<FileOutcome> {
  const { content, locksLast, path, temporary } = file;
  let etag: string;
  let isLinked: boolean;
  try {
    durability.refuseBroken();
    const [written, made] = await Promise.allSettled([
      typeof content === "string" ? content : write(file, content),
      durability.ensureFolder(dirname(path)),
    ]);
    if (written.status === "rejected") throw written.reason;
    if (made.status === "rejected") throw made.reason;
    etag = written.value;
    isLinked = await link(temporary, path);
  } catch (error) {
    discard(temporary);
    return { error: told("writing an object", error), outcome: "failed" };
  }
  try {
    // Also before `exists`: the winner may not have synced its link yet, and the loser may be about to rely on it.
    const syncing = durability.syncFolder(dirname(path));
    discard(temporary);
    await syncing;
    if (isLinked && locksLast) chmodSync(path, MODE_LOCKED);
  } catch (error) {
    return { error: told("naming an object", error), outcome: "unknown" };
  }
  return isLinked ? { etag, outcome: "created" } : { outcome: "exists" };
}

async function write({ mode, temporary, times }: FileToCreate, content: Uint8Array): Promise<string> {
  const fd = openSync(temporary, "wx", mode);
  try {
    for (let at = 0; at < content.length; ) at += writeSync(fd, content, at);
    futimesSync(fd, times.access, times.modification);
    const etag = etagOf(fstatSync(fd, { bigint: true }));
    await durability.syncFile(fd);
    return etag;
  } finally {
    closeSync(fd);
  }
}

/** False when the name is taken. */
async function link(from: string, to: string): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    try {
      linkSync(from, to);
      return true;
    } catch (error) {
      const code = codeOf(error);
      // Over NFS the answer may be lost, and the repetition then meets its own link.
      if (hasTwoNames(from)) return true;
      if (code === "EEXIST") return false;
      if (code !== "ENOENT" || tries >= FOLDER_TRIES) throw error;
      durability.forgetFolder(dirname(to));
      await durability.ensureFolder(dirname(to));
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

const told = (doing: string, error: unknown): DiskError => ({
  breaks: durability.broken !== undefined,
  code: codeOf(error),
  doing,
  message: error instanceof Error ? error.message : String(error),
});

let done: Numbered<FileOutcome>[] = [];

async function answer(number: number, file: FileToCreate): Promise<void> {
  const outcome = await create(file);
  // What is done in one turn is told together.
  if (done.length === 0) setImmediate(tell);
  done.push([number, outcome]);
}

function tell(): void {
  port.postMessage(done);
  done = [];
}

port.on("message", (files: readonly Numbered<FileToCreate>[]) => {
  for (const [number, file] of files) void answer(number, file);
});
