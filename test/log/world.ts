/** What the tests of the log stand on: a clock that jumps, seeded chance, keys, and drafts that fold into something. */

import { keys as viewKeys } from "../../src/fold/view.ts";
import type { Index } from "../../src/index/index.ts";
import { type Initialised, initLedger } from "../../src/log/init.ts";
import { ephemeralKeys, type NativeLedgerKeys } from "../../src/log/keys/key-files.ts";
import { type Draft, type Log, type LogOptions, openLog, type Submission } from "../../src/log/log.ts";
import type { LastSigned, Logger } from "../../src/log/ports.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { Fault } from "../../src/std/faults.ts";
import type { Clock, Random } from "../../src/std/ports.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { seededNumbers } from "../fakes/fault-store.ts";
import { createMemoryIndex } from "./memory-index.ts";

export const ORIGIN = "datapilot.test/0a1b2c3d";

/** Longer sleeps never end: timers that a test does not mean. */
export const NEVER_MS = 1e12;
const TICKS = 6;

/** Time passes only when nothing else does: after some turns of the event loop the next sleeper wakes. */
export class JumpingClock implements Clock {
  #ms = Date.parse("2026-11-23T08:00:00.000Z");
  #monotonic = 0;
  #sleepers: { readonly due: number; wake(): void }[] = [];
  #pumping = false;

  now(): number {
    return this.#ms;
  }
  monotonic(): number {
    return this.#monotonic;
  }
  /** Moves the wall clock only. */
  shift(ms: number): void {
    this.#ms += ms;
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const sleeper = {
        due: this.#monotonic + ms,
        wake: () => {
          signal?.removeEventListener("abort", abandon);
          resolve();
        },
      };
      const abandon = (): void => {
        this.#sleepers = this.#sleepers.filter((s) => s !== sleeper);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", abandon, { once: true });
      this.#sleepers.push(sleeper);
      void this.#pump();
    });
  }
  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    for (;;) {
      for (let i = 0; i < TICKS; i++) await new Promise((resolve) => setImmediate(resolve));
      const next = this.#sleepers.filter((s) => s.due < NEVER_MS / 2).toSorted((a, b) => a.due - b.due)[0];
      if (next === undefined) break;
      this.#sleepers = this.#sleepers.filter((s) => s !== next);
      const step = Math.max(0, next.due - this.#monotonic);
      this.#monotonic += step;
      this.#ms += step;
      next.wake();
    }
    this.#pumping = false;
  }
}

export function seededRandom(seed: number): Random {
  const next = seededNumbers(seed);
  return { bytes: (length) => Uint8Array.from({ length }, () => Math.floor(next() * 256)) };
}

export class MemoryLastSigned implements LastSigned {
  notes: Uint8Array[] = [];
  read(): Promise<readonly Uint8Array[]> {
    return Promise.resolve(this.notes);
  }
  async write(note: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.notes = [note];
  }
}

export const quietLogger: Logger = { debug() {}, error() {}, info() {}, warn() {} };

export const testKeys: NativeLedgerKeys = ephemeralKeys(ORIGIN);

export interface World {
  readonly clock: JumpingClock;
  readonly random: Random;
  readonly lastSigned: MemoryLastSigned;
  readonly init: Initialised;
}

export async function createWorld(store: ObjectStore, seed = 1): Promise<World> {
  const clock = new JumpingClock();
  const random = seededRandom(seed);
  const lastSigned = new MemoryLastSigned();
  const init = await initLedger({
    clock,
    keys: testKeys,
    lastSigned,
    origin: ORIGIN,
    random,
    retentionDays: 365,
    store,
  });
  return { clock, init, lastSigned, random };
}

export const openIn = (
  world: World,
  store: ObjectStore,
  index: Index = createMemoryIndex(),
  more: Partial<LogOptions> = {},
): Promise<Log> =>
  openLog({
    clock: world.clock,
    graceMs: 60_000,
    index,
    keys: testKeys,
    lastSigned: world.lastSigned,
    logger: quietLogger,
    random: world.random,
    sealIntervalMs: NEVER_MS,
    store,
    ...more,
  });

const actor = { method: "system" } as const;

/** A project's creation record, unless the name is taken: what a use case does, in short. */
export const createProject = (name: string, owner: RecordId): Submission<RecordId | "new"> => ({
  admit(reader) {
    const taken = reader.get("name", viewKeys.name("-", "project", name));
    if (taken !== undefined) return { drafts: [], value: taken.value.id };
    const draft: Draft = { actor, body: { name }, kind: "project", links: [], requestId: `create-${name}` };
    return { drafts: [draft], value: "new" };
  },
  project: owner,
});

/** A dataset in a project; refused when the name is taken, and the same request is answered as before. */
export const createDataset = (
  project: RecordId,
  name: string,
  requestId = `dataset-${name}`,
): Submission<"created" | "repeated"> => ({
  admit(reader) {
    if (reader.get("request", viewKeys.request(undefined, project, requestId)) !== undefined)
      return { drafts: [], value: "repeated" };
    if (reader.get("name", viewKeys.name(project, "dataset", name)) !== undefined)
      throw new Fault("ALREADY_EXISTS", `${name} is there already.`);
    const draft: Draft = {
      actor,
      body: { classification: "CLASSIFICATION_INTERNAL", name },
      kind: "dataset",
      links: [],
      project,
      requestId,
    };
    return { drafts: [draft], value: "created" };
  },
  project,
});
