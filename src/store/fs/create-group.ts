/**
 * Creates files, many at the price of a few: whole, under their final name at once, and durable before anybody hears of them
 * (`docs/operating.md`). A group goes through its steps together, so that what the disk does for one sync serves all:
 *
 * - every file is written under `tmp`; then all are synced; then each is linked to its name and loses its first one; then every folder
 *   that a name or a new folder was put into is synced;
 * - before its link nothing has happened to a file, and its outcome is `failed`; after it, only success or `unknown`;
 * - a file that fails does so alone; a sync that fails ends all writing.
 *
 * A file alone is synced by this thread, at once; several go through the thread pool, side by side, and leave room there for others.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  fsync,
  fsyncSync,
  futimesSync,
  linkSync,
  openSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { etagOf, MODE_LOCKED } from "./disk.ts";
import { codeOf, FolderMemory } from "./durability.ts";

const fsyncAsync = promisify(fsync);

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

/** A folder that was emptied and removed meanwhile is made again this often. */
const FOLDER_TRIES = 3;

/** How far one file of a group has come. */
interface Making {
  readonly file: FileToCreate;
  readonly folder: string;
  fd?: number;
  etag: string;
  isLinked: boolean;
  /** Once it went wrong. */
  wrong?: FileOutcome;
}

export class GroupCreator {
  readonly #folders: FolderMemory;
  readonly #sideBySide: number;
  #broken: unknown;

  /** `root` is there and durable; `sideBySide` syncs go through the pool at a time. */
  constructor(root: string, sideBySide: number) {
    this.#folders = new FolderMemory(root);
    this.#sideBySide = sideBySide;
  }

  async create(files: readonly FileToCreate[]): Promise<FileOutcome[]> {
    const group = files.map((file): Making => ({ etag: "", file, folder: dirname(file.path), isLinked: false }));
    for (const one of group) this.#attempt(one, () => write(one));
    const written = group.flatMap(({ fd }) => (fd === undefined ? [] : [fd]));
    await this.#sync(written);
    for (const fd of written) closeSync(fd);
    /** Folders that something was put into. */
    const touched = new Set<string>();
    for (const one of group) this.#attempt(one, () => this.#name(one, touched));
    const unsure = await this.#syncFolders(touched);
    return group.map((one) => this.#outcomeOf(one, unsure));
  }

  /** Takes a step with a file that has not failed; until its link a failure means that nothing has happened. */
  #attempt(one: Making, step: () => void): void {
    if (one.wrong !== undefined) return;
    let error = this.#broken;
    try {
      if (error === undefined) step();
    } catch (thrown) {
      error = thrown;
    }
    if (error === undefined) return;
    discard(one.file.temporary);
    one.wrong = { error: this.#told("writing an object", error), outcome: "failed" };
  }

  /** Gives the file its name, if nobody has it, in a folder that is there. */
  #name(one: Making, touched: Set<string>): void {
    const { file, folder } = one;
    for (let tries = 1; ; tries++) {
      try {
        this.#folders.make(folder, touched);
        one.isLinked = link(file.temporary, file.path);
        break;
      } catch (error) {
        this.#folders.forget(folder);
        if (codeOf(error) !== "ENOENT" || tries >= FOLDER_TRIES) throw error;
      }
    }
    touched.add(folder);
    discard(file.temporary);
  }

  /**
   * Also where a name was taken: its winner may not have synced it yet, and the loser may be about to rely on it. Gives why it is not
   * known whether all are durable, when it is not.
   */
  async #syncFolders(touched: ReadonlySet<string>): Promise<unknown> {
    const open: number[] = [];
    let unsure: unknown;
    try {
      for (const path of touched) open.push(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY));
    } catch (error) {
      unsure = error;
    }
    await this.#sync(open);
    for (const fd of open) closeSync(fd);
    unsure ??= this.#broken;
    this.#folders.settle(unsure === undefined);
    return unsure;
  }

  #outcomeOf({ etag, file, isLinked, wrong }: Making, unsure: unknown): FileOutcome {
    if (wrong !== undefined) return wrong;
    let error = unsure;
    try {
      if (error === undefined && isLinked && file.locksLast) chmodSync(file.path, MODE_LOCKED);
    } catch (thrown) {
      error = thrown;
    }
    if (error !== undefined) return { error: this.#told("naming an object", error), outcome: "unknown" };
    return isLinked ? { etag, outcome: "created" } : { outcome: "exists" };
  }

  /** Resolves when none is being synced any more, whatever came of it. */
  async #sync(fds: readonly number[]): Promise<void> {
    const [first] = fds;
    if (fds.length === 1 && first !== undefined) {
      try {
        fsyncSync(first);
      } catch (error) {
        this.#broken = error;
      }
      return;
    }
    const waiting = fds.values();
    const some = async (): Promise<void> => {
      for (const fd of waiting)
        await fsyncAsync(fd).catch((error: unknown) => {
          this.#broken = error;
        });
    };
    await Promise.all(Array.from({ length: Math.min(this.#sideBySide, fds.length) }, some));
  }

  #told(doing: string, error: unknown): DiskError {
    return {
      breaks: this.#broken !== undefined,
      code: codeOf(error),
      doing,
      message: error instanceof Error ? error.message : String(error),
    };
  }
}

function write(one: Making): void {
  const { content, mode, temporary, times } = one.file;
  if (typeof content === "string") {
    one.etag = content;
    return;
  }
  const fd = openSync(temporary, "wx", mode);
  try {
    for (let at = 0; at < content.length; ) at += writeSync(fd, content, at);
    futimesSync(fd, times.access, times.modification);
    one.etag = etagOf(fstatSync(fd, { bigint: true }));
    one.fd = fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** False when the name is taken. */
function link(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    // Over NFS the answer may be lost, and the repetition then meets its own link.
    if (hasTwoNames(from)) return true;
    if (codeOf(error) === "EEXIST") return false;
    throw error;
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
