/**
 * One holder at a time of a key, among the processes of one host: a lock file, which is a hard link to the file that says who
 * its owner is, made with create-if-absent.
 *
 * - Held for one read, compare and rename; never across a sync of somebody else's bytes.
 * - A lock whose owner is dead is broken under a lock of its own, named by that owner: so a late breaker never takes the lock
 *   of a living successor.
 * - An owner in another container cannot be asked; its lock is broken after it stayed the same for `SILENCE_MS`.
 */
import { linkSync, readFileSync, statSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../std/faults.ts";
import type { Clock } from "../../std/ports.ts";
import { refuseAborted } from "../aborted.ts";
import { type Disk, diskFault } from "./disk.ts";
import { codeOf } from "./durability.ts";

const SILENCE_MS = 30_000;
const GIVE_UP_MS = 40_000;
const FIRST_WAIT_MS = 1;
const LONGEST_WAIT_MS = 50;
/** A breaker may die too, and the breaker of its lock; deeper than this something else is wrong. */
const MAX_DEPTH = 4;
const OWNER_NAME = /"name":"([0-9a-f]{32})"/;

export class KeyLocks {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #tails = new Map<string, Promise<unknown>>();

  constructor(disk: Disk, clock: Clock) {
    this.#disk = disk;
    this.#clock = clock;
  }

  /** Runs `work` while no other caller, here or in another process, holds `name` (a plain file name). */
  async hold<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(name);
    const turn = (async () => {
      await before?.catch(() => undefined);
      const path = join(this.#disk.tmp, `lock-${name}`);
      await this.#acquire(path, signal, 0);
      try {
        return await work();
      } finally {
        unlinkSync(path);
      }
    })();
    this.#tails.set(name, turn);
    try {
      return await turn;
    } finally {
      if (this.#tails.get(name) === turn) this.#tails.delete(name);
    }
  }

  async #acquire(path: string, signal: AbortSignal | undefined, depth: number): Promise<void> {
    const startMs = this.#clock.monotonic();
    let seen: { readonly mark: string; readonly atMs: number } | undefined;
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS)) {
      refuseAborted(signal, "waiting for a lock");
      try {
        linkSync(this.#disk.ownerFile, path);
        return;
      } catch (error) {
        if (codeOf(error) !== "EEXIST") throw diskFault("locking a key", error);
      }
      const nowMs = this.#clock.monotonic();
      const holder = readHolder(path);
      if (holder === undefined) continue;
      if (seen?.mark !== holder.mark) seen = { mark: holder.mark, atMs: nowMs };
      const alive = this.#disk.isOwnerAlive(holder.text) ?? nowMs - seen.atMs < SILENCE_MS;
      if (!alive && depth < MAX_DEPTH) {
        await this.#break(path, holder.mark, signal, depth + 1);
        continue;
      }
      if (nowMs - startMs > GIVE_UP_MS)
        throw new Fault("STORE_UNAVAILABLE", `${path} stays locked: stop the process that holds it (${holder.text})`);
      await this.#clock.sleep(waitMs, signal).catch(() => undefined);
    }
  }

  async #break(path: string, mark: string, signal: AbortSignal | undefined, depth: number): Promise<void> {
    const own = `${path}-${mark}`;
    await this.#acquire(own, signal, depth);
    try {
      // Only the holder of `own` removes this owner's lock, so it cannot change between the look and the removal.
      if (readHolder(path)?.mark === mark) unlinkSync(path);
    } finally {
      unlinkSync(own);
    }
  }
}

/** The mark names the owner: the same as long as it holds the lock, and no other owner ever has it. */
function readHolder(path: string): { readonly text: string; readonly mark: string } | undefined {
  try {
    const text = readFileSync(path, "utf8");
    const { ino, ctimeNs } = statSync(path, { bigint: true });
    return { text, mark: OWNER_NAME.exec(text)?.[1] ?? `${ino.toString(36)}.${ctimeNs.toString(36)}` };
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw diskFault("reading a lock", error);
  }
}
