/**
 * What a thread has made durable on a disk: files, and folders with all that is in them.
 *
 * - A folder is used only after it, and every folder above it, was synced into its parent by this thread.
 * - After a sync failed nothing more is written: the kernel may have dropped the pages and would report success next time.
 *
 * Syncs go through the thread pool, and so do new folders while something is being synced: they wait for the journal then.
 */
import { closeSync, constants, fsync, mkdir, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { Fault } from "../../std/faults.ts";

const fsyncAsync = promisify(fsync);
const mkdirAsync = promisify(mkdir);

/** Folders remembered as durable; 65,536 hold all records of a ledger. */
const MAX_KNOWN_FOLDERS = 200_000;

export const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;

export class Durability {
  readonly root: string;
  readonly #folders = new Map<string, Promise<void> | true>();
  readonly #syncing = new Map<string, { running: Promise<void>; next: Promise<void> | undefined }>();
  #syncs = 0;
  #broken: unknown;

  /** `root` is there and durable. */
  constructor(root: string) {
    this.root = root;
  }

  /** What ended all writing; undefined as long as every sync succeeded. */
  get broken(): unknown {
    return this.#broken;
  }

  /** A sync failed, here or in another thread. */
  break(error: unknown): void {
    this.#broken = error;
  }

  refuseBroken(): void {
    if (this.#broken !== undefined)
      throw new Fault("STORE_UNAVAILABLE", "the disk failed to sync: check it, then start the process again", {
        cause: this.#broken,
      });
  }

  async syncFile(fd: number): Promise<void> {
    this.#syncs++;
    try {
      await fsyncAsync(fd);
    } catch (error) {
      this.break(error);
      throw error;
    } finally {
      this.#syncs--;
    }
  }

  /** Whether a call that changes a folder may have to wait for the journal. */
  get #isSyncing(): boolean {
    return this.#syncs > 0;
  }

  /** Makes a folder and those above it, and syncs each into its parent, once per process. */
  async ensureFolder(path: string): Promise<void> {
    const known = this.#folders.get(path);
    if (known === true) return;
    if (known !== undefined) return known;
    if (this.#folders.size >= MAX_KNOWN_FOLDERS) this.#folders.clear();
    const making = this.#makeFolder(path);
    this.#folders.set(path, making);
    try {
      await making;
      this.#folders.set(path, true);
    } catch (error) {
      this.forgetFolder(path);
      throw error;
    }
  }

  async #makeFolder(path: string): Promise<void> {
    if (path === this.root) return;
    await this.ensureFolder(dirname(path));
    try {
      if (this.#isSyncing) await mkdirAsync(path);
      else mkdirSync(path);
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
    await this.syncFolder(dirname(path));
  }

  /** What is said of a folder, and of those above it, may not hold any more: it is gone, or was none. */
  forgetFolder(path: string): void {
    for (let at = path; at.length > this.root.length; at = dirname(at)) this.#folders.delete(at);
  }

  /** Syncs a folder. Callers that come while a sync runs share the next one, which starts after all of them came. */
  syncFolder(path: string): Promise<void> {
    const group = this.#syncing.get(path);
    if (group === undefined) {
      const running = this.#syncNow(path);
      const fresh = { running, next: undefined };
      this.#syncing.set(path, fresh);
      return this.#afterSync(path, fresh);
    }
    group.next ??= group.running.then(
      () => this.#syncNow(path),
      () => this.#syncNow(path),
    );
    return group.next;
  }

  async #afterSync(path: string, group: { running: Promise<void>; next: Promise<void> | undefined }): Promise<void> {
    try {
      await group.running;
    } finally {
      this.#settle(path, group);
    }
  }

  #settle(path: string, group: { running: Promise<void>; next: Promise<void> | undefined }): void {
    if (group.next === undefined) {
      this.#syncing.delete(path);
      return;
    }
    group.running = group.next;
    group.next = undefined;
    const settle = (): void => this.#settle(path, group);
    group.running.then(settle, settle);
  }

  async #syncNow(path: string): Promise<void> {
    this.refuseBroken();
    const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await this.syncFile(fd);
    } finally {
      closeSync(fd);
    }
  }
}

/** Which folders one thread has made durable: each, and every folder above it, was synced into its parent. */
export class FolderMemory {
  readonly #root: string;
  #durable = new Set<string>();
  /** There, and not durable before `settle`. */
  readonly #made = new Set<string>();

  /** `root` is there and durable. */
  constructor(root: string) {
    this.#root = root;
  }

  /** Makes a folder and those above it; adds to `touched` what must be synced before they are durable. */
  make(path: string, touched: Set<string>): void {
    if (path === this.#root || this.#durable.has(path) || this.#made.has(path)) return;
    const parent = dirname(path);
    this.make(parent, touched);
    try {
      mkdirSync(path);
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
    touched.add(parent);
    this.#made.add(path);
  }

  /** All that was touched is synced, or not. */
  settle(isSynced: boolean): void {
    if (this.#durable.size >= MAX_KNOWN_FOLDERS) this.#durable = new Set();
    if (isSynced) for (const path of this.#made) this.#durable.add(path);
    this.#made.clear();
  }

  /** What is said of a folder, and of those above it, may not hold any more: it is gone, or was none. */
  forget(path: string): void {
    for (let at = path; at.length > this.#root.length; at = dirname(at)) {
      this.#durable.delete(at);
      this.#made.delete(at);
    }
  }
}
