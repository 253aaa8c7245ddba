/**
 * What the file store asks of a disk: whole files under `tmp` that survive a power loss, and room for them. What is replaced, received
 * or removed goes through here; what is created, through the thread of `create-group.ts`.
 *
 * - A file is written under `tmp` and synced before it is named.
 * - Files under `tmp` bear the name of the process that owns them, so that a sweep takes only what the dead left.
 */
import {
  closeSync,
  fstatSync,
  futimesSync,
  mkdirSync,
  open,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statfs,
  statSync,
  unlinkSync,
  write,
  writeFileSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { formatHex } from "../../std/bytes.ts";
import { Fault } from "../../std/faults.ts";
import type { Clock, Random } from "../../std/ports.ts";
import { codeOf, Durability } from "./durability.ts";

const writeAsync = promisify(write);
const statfsAsync = promisify(statfs);
const openAsync = promisify(open);

/** Bodies up to this size are written without a trip through the thread pool. */
const SYNC_WRITE_BYTES = 64 * 1024;
const FREE_SPACE_FRESH_MS = 1_000;
const GIB = 1024 ** 3;
const MIN_FREE_SHARE = 0.05;
const DAY_MS = 86_400_000;
/** Files of `tmp` other than locks: who a process is, and what it writes. */
const TEMPORARY = /^(owner-|starting-|)([0-9a-f]{32})(?:-[0-9a-z]+)?$/;

/** Locked objects are read-only: with the access time that is how WORM volumes are told to hold a file. */
export const MODE_LOCKED = 0o444;
export const MODE_OPEN = 0o644;

/** Translates an error of the disk; a fault stays as it is. */
export function diskFault(doing: string, error: unknown): Fault {
  if (error instanceof Fault) return error;
  const code = codeOf(error);
  if (code === "ENOSPC" || code === "EDQUOT")
    return new Fault("STORE_UNAVAILABLE", `the disk is full (${doing}): free space or enlarge the volume`, {
      cause: error,
    });
  const what = code ?? (error instanceof Error ? error.message : "unknown error");
  return new Fault(
    "STORE_UNAVAILABLE",
    `the file store failed (${doing}): ${what}; check the disk and its permissions`,
    {
      cause: error,
    },
  );
}

/** Opaque name of one written file: unlike the content's hash it differs when the same bytes are written again. */
export function etagOf(stat: { readonly ino: bigint; readonly size: bigint; readonly mtimeNs: bigint }): string {
  return `${stat.ino.toString(36)}-${stat.size.toString(36)}-${microsecondsOf(stat.mtimeNs).toString(36)}`;
}

/** To the nearest, because a time in floating-point seconds is set up to 200 ns off. */
export const microsecondsOf = (ns: bigint): bigint => (ns + 500n) / 1000n;

export interface TemporaryFile {
  readonly path: string;
  readonly etag: string;
}

interface Owner {
  readonly name: string;
  readonly boot: string;
  readonly pidSpace: string;
  readonly pid: number;
  readonly start: string;
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
};

const pidSpaceHere = (): string => {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return hostname();
  }
};

/** Start time of a process in ticks since boot, so that a reused process id is not taken for its former owner. */
const startOf = (pid: number): string => {
  const text = readText(`/proc/${pid}/stat`);
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
};

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== "ESRCH";
  }
};

export class Disk extends Durability {
  readonly #clock: Clock;
  readonly #minimumFreeBytes: number | undefined;
  readonly #self: Owner;
  /** 32 hex, new for each instance. */
  readonly #name: string;
  #space: { atMs: number; freeBytes: number; minimumBytes: number } | undefined;
  #measuring: Promise<void> | undefined;
  #lastMtimeUs = 0;
  #sequence = 0;

  constructor(options: { root: string; minimumFreeBytes: number | undefined; clock: Clock; random: Random }) {
    super(options.root);
    this.#clock = options.clock;
    this.#minimumFreeBytes = options.minimumFreeBytes;
    this.#name = formatHex(options.random.bytes(16));
    this.#self = {
      name: this.#name,
      boot: readText("/proc/sys/kernel/random/boot_id") || hostname(),
      pidSpace: pidSpaceHere(),
      pid: process.pid,
      start: startOf(process.pid),
    };
  }

  get tmp(): string {
    return join(this.root, "tmp");
  }

  /** File that says who this process is; lock files are links to it. */
  get ownerFile(): string {
    return join(this.tmp, `owner-${this.#name}`);
  }

  /** Makes the folders, says who is here, and removes what dead processes left under `tmp`. */
  async start(folders: readonly string[]): Promise<void> {
    try {
      mkdirSync(this.root, { recursive: true });
      for (const folder of ["tmp", ...folders]) await this.ensureFolder(join(this.root, folder));
      const device = statSync(this.tmp).dev;
      for (const folder of folders)
        if (statSync(join(this.root, folder)).dev !== device)
          throw new Fault(
            "STORE_UNAVAILABLE",
            `${folder} lies on another volume than tmp: mount one volume at ${this.root}, links do not cross volumes`,
          );
      // Whole before it bears its name: a sweep by another process takes a nameless owner for dead.
      const starting = join(this.tmp, `starting-${this.#name}`);
      writeFileSync(starting, JSON.stringify(this.#self), { flag: "wx", mode: MODE_OPEN, flush: true });
      renameSync(starting, this.ownerFile);
      this.sweep();
    } catch (error) {
      throw diskFault("start", error);
    }
  }

  /** Whether the process that a file of `tmp` or a lock names can still act; undefined when that cannot be known from here. */
  isOwnerAlive(ownerText: string): boolean | undefined {
    let owner: Partial<Owner>;
    try {
      owner = JSON.parse(ownerText) as Partial<Owner>;
    } catch {
      return undefined;
    }
    if (typeof owner.pid !== "number" || owner.boot === undefined) return undefined;
    if (owner.boot !== this.#self.boot) return false;
    // Another container on this machine: its process ids mean nothing here.
    if (owner.pidSpace !== this.#self.pidSpace) return undefined;
    return isRunning(owner.pid) && owner.start === startOf(owner.pid);
  }

  /** Removes what dead processes left under `tmp`. */
  sweep(): void {
    const names = readdirSync(this.tmp);
    // Owners last, so that a sweep that was cut off is repeated.
    const owners = names.filter((n) => n.startsWith("owner-"));
    const life = new Map(owners.map((n) => [n.slice(6), this.isOwnerAlive(readText(join(this.tmp, n)))] as const));
    for (const name of [...names.filter((n) => !n.startsWith("owner-")), ...owners]) {
      const [, role, owner = ""] = TEMPORARY.exec(name) ?? [];
      if (role === undefined || owner === this.#name) continue;
      // A process that is starting has no owner's file yet, and one in another container cannot be asked.
      const alive = role === "starting-" ? undefined : life.has(owner) ? life.get(owner) : false;
      if (alive === true || (alive === undefined && (role === "owner-" || !this.#isOld(name)))) continue;
      this.discard(join(this.tmp, name));
    }
  }

  #isOld(name: string): boolean {
    try {
      return this.#clock.now() - statSync(join(this.tmp, name)).mtimeMs > DAY_MS;
    } catch {
      return false;
    }
  }

  /** Path of a new file under `tmp`. */
  temporaryPath(): string {
    return join(this.tmp, `${this.#name}-${(this.#sequence++).toString(36)}`);
  }

  /** Refuses a write that would leave less than the minimum free, before anything is written. */
  async requireSpace(bytes: number): Promise<void> {
    this.refuseBroken();
    if (this.#space === undefined || this.#clock.monotonic() - this.#space.atMs >= FREE_SPACE_FRESH_MS) {
      this.#measuring ??= this.#measure().finally(() => {
        this.#measuring = undefined;
      });
      await this.#measuring;
    }
    const space = this.#space;
    if (space === undefined) return;
    if (space.freeBytes - bytes < space.minimumBytes)
      throw new Fault(
        "STORE_UNAVAILABLE",
        `the disk is nearly full: ${space.freeBytes} bytes are free at ${this.root}, and ${space.minimumBytes} are kept free; free space or enlarge the volume`,
        { retryAfterMs: FREE_SPACE_FRESH_MS },
      );
    space.freeBytes -= bytes;
  }

  async #measure(): Promise<void> {
    try {
      const { bavail, blocks, bsize } = await statfsAsync(this.root);
      this.#space = {
        atMs: this.#clock.monotonic(),
        freeBytes: bavail * bsize,
        minimumBytes: this.#minimumFreeBytes ?? Math.max(GIB, MIN_FREE_SHARE * blocks * bsize),
      };
    } catch (error) {
      throw diskFault("measuring free space", error);
    }
  }

  /**
   * Times of a new file, in seconds: of access, which is its lock when it has one, and of modification, which no other file of this
   * process has, part of every etag.
   */
  timesOf(retainUntil: number | undefined): { readonly access: number; readonly modification: number } {
    this.#lastMtimeUs = Math.max(Math.floor(this.#clock.now()) * 1000, this.#lastMtimeUs + 1);
    const modification = this.#lastMtimeUs / 1e6;
    return { access: retainUntil === undefined ? modification : retainUntil / 1000, modification };
  }

  /** Writes a whole file under `tmp` and syncs it. Nothing is left of it when this throws. */
  async writeTemporary(body: Uint8Array, retainUntil: number | undefined, mode: number): Promise<TemporaryFile> {
    return this.fillTemporary(retainUntil, mode, async (fd) => {
      if (body.length <= SYNC_WRITE_BYTES) for (let at = 0; at < body.length; ) at += writeSync(fd, body, at);
      else await writeAll(fd, body);
    });
  }

  async fillTemporary(
    retainUntil: number | undefined,
    mode: number,
    fill: (fd: number) => Promise<void>,
  ): Promise<TemporaryFile> {
    const path = this.temporaryPath();
    // Always in the pool: also what others sync, the index and the signer, makes it wait for the journal.
    const fd = await openAsync(path, "wx", mode);
    try {
      let etag: string;
      try {
        await fill(fd);
        const { access, modification } = this.timesOf(retainUntil);
        futimesSync(fd, access, modification);
        etag = etagOf(fstatSync(fd, { bigint: true }));
        await this.syncFile(fd);
      } finally {
        closeSync(fd);
      }
      return { path, etag };
    } catch (error) {
      this.discard(path);
      throw error;
    }
  }

  discard(path: string): void {
    try {
      unlinkSync(path);
    } catch {
      // Swept at the next start.
    }
  }

  close(): void {
    this.discard(this.ownerFile);
  }
}

export async function writeAll(fd: number, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await writeAsync(fd, bytes, at, bytes.length - at)).bytesWritten;
}
