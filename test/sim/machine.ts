/**
 * A machine of a simulation and the processes that live on it one after the other. A machine keeps what disks keep: the signer's
 * memory, and the index as far as it was written. A process has the ports that the log is given, each of which waits for the
 * scheduler.
 */
import type { Index, Watermark } from "../../src/index/index.ts";
import type { Log } from "../../src/log/log.ts";
import type { LastSigned } from "../../src/log/ports.ts";
import type { Clock, Random } from "../../src/std/ports.ts";
import { createMemoryIndex, type MemoryIndex } from "../log/memory-index.ts";
import { seededRandom } from "../log/world.ts";
import type { Living, Scheduler } from "./scheduler.ts";

const EPOCH_MS = Date.parse("2026-11-23T08:00:00.000Z");
/** Of the changes to an index, one in so many is followed by a transaction that writes all so far. */
const WRITTEN_EVERY = 6;

/** An index in memory that is written behind: a crash takes it back to its last transaction. */
export class WrittenBehind {
  readonly index: Index;
  readonly #memory: MemoryIndex = createMemoryIndex();
  readonly #scheduler: Scheduler;
  #written: Watermark;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
    const memory = this.#memory;
    this.#written = memory.watermark;
    const changed = (): void => {
      if (scheduler.below(WRITTEN_EVERY) === 0) this.#written = memory.watermark;
    };
    this.index = {
      ...memory,
      apply(commits) {
        memory.apply(commits);
        changed();
      },
      clear: () => {
        memory.clear();
        this.#written = memory.watermark;
      },
      flush: () => {
        this.#written = memory.watermark;
        return Promise.resolve();
      },
      setMaterialised(size) {
        memory.setMaterialised(size);
        changed();
      },
      setPublished(size, keepFrom) {
        memory.setPublished(size, keepFrom);
        changed();
      },
      get watermark() {
        return memory.watermark;
      },
    };
  }

  crash(): void {
    // Now and then the disk is lost with it.
    if (this.#scheduler.chance(0.15)) this.index.clear();
    else this.#memory.rewind(this.#written);
  }
}

/** What an index is to a machine; `crash` is what a crash leaves of it. */
export interface Disk {
  readonly index: Index;
  crash(): void;
}

export class Machine {
  readonly name: string;
  readonly disk: Disk;
  /** The signer's memory: the last note, and the one before while a write is torn. */
  notes: readonly Uint8Array[];
  /** How far its wall clock is off. */
  skewMs = 0;
  process: Process | undefined;
  starts = 0;

  constructor(name: string, disk: Disk, notes: readonly Uint8Array[] = []) {
    this.name = name;
    this.disk = disk;
    this.notes = notes;
  }
}

export class Process implements Living {
  readonly name: string;
  readonly machine: Machine;
  readonly clock: Clock;
  readonly random: Random;
  readonly lastSigned: LastSigned;
  alive = true;
  pausedUntilMs = 0;
  /** Until then it does not reach the lease. */
  cutUntilMs = 0;
  /** While clients may reach it. */
  log: Log | undefined;
  readonly died: Promise<void>;
  #die: () => void = () => undefined;

  /** `onSigned` hears of each note before it is released. */
  constructor(machine: Machine, scheduler: Scheduler, onSigned: (note: Uint8Array) => void) {
    this.machine = machine;
    this.name = `${machine.name}.${++machine.starts}`;
    this.died = new Promise((resolve) => {
      this.#die = resolve;
    });
    this.clock = {
      monotonic: () => scheduler.ms,
      now: () => EPOCH_MS + scheduler.ms + machine.skewMs,
      sleep: (ms, signal) => scheduler.sleep(this, ms, signal, `${this.name} sleep`),
    };
    this.random = seededRandom(scheduler.below(2 ** 31));
    this.lastSigned = {
      read: async () => {
        await scheduler.turn(this, "read last-signed");
        return machine.notes;
      },
      write: async (note) => {
        await scheduler.turn(this, "write last-signed");
        machine.notes = [...machine.notes.slice(-1), note];
        onSigned(note);
        await scheduler.turn(this, "last-signed written");
        machine.notes = [note];
      },
    };
  }

  /** SIGKILL: nothing that it waits for comes any more. */
  kill(): void {
    if (!this.alive) return;
    this.alive = false;
    this.log = undefined;
    this.machine.disk.crash();
    this.#die();
  }
}
