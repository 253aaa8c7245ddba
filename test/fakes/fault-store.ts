/**
 * Wraps an object store with the faults of `docs/operating.md`, as one process meets them: programmed for the next call, for the
 * n-th call, or drawn from a seed. Two processes share one inner store through two wrappers.
 */
import { Fault } from "../../src/std/faults.ts";
import type {
  Bucket,
  ObjectStore,
  OpenedObject,
  PutOutcome,
  StoreOptions,
  SwapOutcome,
} from "../../src/store/object-store.ts";

export type FaultKind =
  /** Nothing happens, and the caller cannot know: a time-out, a 409. */
  | "error-before"
  /** It happens, and the caller cannot know. */
  | "error-after"
  /** The caller hears an error now; the write lands up to `zombieCalls` calls later. */
  | "zombie"
  /** The call waits before it takes effect. */
  | "delay"
  /** The write is delivered twice, and the caller hears the second answer. */
  | "duplicate"
  /** Refused before anything is written: a full disk, a 503. */
  | "disk-full"
  /** A read breaks off; an opened stream does so in the middle. */
  | "torn"
  /** The body stops on its way: nothing is written, and until that is given up the store answers nobody about the key. */
  | "stalled"
  /** The process dies before, or after, the call takes effect: this and every later call throws `Crash`. */
  | "crash-before"
  | "crash-after";

export type Operation =
  | "create"
  | "get"
  | "head"
  | "swap"
  | "replace"
  | "remove"
  | "list"
  | "versions"
  | "extend"
  | "open";

export class Crash extends Error {
  override readonly name = "Crash";
}

export interface FaultStoreOptions {
  /** Seed of what chance decides; default 1. */
  readonly seed?: number;
  /** Probability of each fault at each call where it makes sense; default none. */
  readonly rates?: Partial<Record<FaultKind, number>>;
  /** A zombie lands at the latest this many calls later; default 200. */
  readonly zombieCalls?: number;
  /** What a delay waits for, `delaySteps` times; default a turn of the event loop. */
  readonly pause?: () => Promise<void>;
  readonly delaySteps?: number;
  /** Awaited before a call takes effect and before its answer leaves: where a simulation puts its scheduler. */
  readonly step?: (call: string) => Promise<void>;
  /** Lands a zombie; by default it lands within `zombieCalls` calls of this store. */
  readonly land?: (zombie: () => Promise<unknown>) => void;
  /** Ends the process that crashes; by default this call and every later one throws `Crash`. */
  readonly die?: () => Promise<never>;
  /** Shared by all who see the store; by default nobody else waits for a body that stalls. */
  readonly stalls?: Stalls;
}

/** Keys whose body is stuck on its way. */
export class Stalls {
  readonly #stuck = new Map<string, Promise<void>>();
  readonly #idle: () => Promise<void>;

  /** `idle` is how long the store waits for the rest of a body. */
  constructor(idle: () => Promise<void>) {
    this.#idle = idle;
  }

  async stall(key: string): Promise<void> {
    await this.passed(key);
    const over = this.#idle();
    this.#stuck.set(key, over);
    await over;
    this.#stuck.delete(key);
  }

  async passed(key: string): Promise<void> {
    for (let stuck = this.#stuck.get(key); stuck !== undefined; stuck = this.#stuck.get(key)) await stuck;
  }
}

export interface Faults {
  /** The next call of `operation` (for a key that `matches`) meets `kind`. May be called several times: first in, first out. */
  next(operation: Operation, kind: FaultKind, matches?: (bucket: Bucket, key: string) => boolean): void;
  /** Call number `n`, counted from 0 over all operations, meets `kind`. */
  at(n: number, kind: FaultKind): void;
  /** Calls so far. */
  readonly calls: number;
  /** How often each kind struck. */
  readonly struck: Readonly<Record<FaultKind, number>>;
  /** The inner store loses the last `count` objects that this wrapper created in the ledger; it must know `forget`. */
  amnesia(count: number): void;
  /** Ends all faults, programmed and drawn, and lets every zombie land. */
  quiet(): Promise<void>;
  /** The process starts again after a crash. */
  revive(): void;
}

export interface FaultStore extends ObjectStore {
  readonly faults: Faults;
}

type Forgetting = ObjectStore & { forget?(bucket: Bucket, key: string): void };

const READS: ReadonlySet<Operation> = new Set<Operation>(["get", "head", "list", "versions", "open"]);
const WRITE_FAULTS: readonly FaultKind[] = [
  "error-before",
  "error-after",
  "zombie",
  "delay",
  "duplicate",
  "disk-full",
  "stalled",
  "crash-before",
  "crash-after",
];
const READ_FAULTS: readonly FaultKind[] = ["error-before", "delay", "torn", "crash-before"];

/** Numbers in [0, 1) that a seed decides (mulberry32). */
export function seededNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const unavailable = (what: string): Fault => new Fault("STORE_UNAVAILABLE", `injected: ${what}`);

export function createFaultStore(inner: Forgetting, options: FaultStoreOptions = {}): FaultStore {
  const random = seededNumbers(options.seed ?? 1);
  const pause = options.pause ?? (() => new Promise<void>((resolve) => setImmediate(resolve)));
  const stalls = options.stalls ?? new Stalls(pause);
  const zombieCalls = options.zombieCalls ?? 200;
  const programmed: { operation: Operation; kind: FaultKind; matches: (bucket: Bucket, key: string) => boolean }[] = [];
  const numbered = new Map<number, FaultKind>();
  const zombies: { atCall: number; land: () => Promise<unknown> }[] = [];
  const created: string[] = [];
  const struck: Record<FaultKind, number> = {
    "error-before": 0,
    "error-after": 0,
    zombie: 0,
    delay: 0,
    duplicate: 0,
    "disk-full": 0,
    torn: 0,
    stalled: 0,
    "crash-before": 0,
    "crash-after": 0,
  };
  let calls = 0;
  let isQuiet = false;
  let isDead = false;

  function draw(operation: Operation, bucket: Bucket, key: string, n: number): FaultKind | undefined {
    const at = numbered.get(n);
    if (at !== undefined) return at;
    const i = programmed.findIndex((p) => p.operation === operation && p.matches(bucket, key));
    if (i >= 0) return programmed.splice(i, 1)[0]?.kind;
    if (isQuiet) return undefined;
    for (const kind of READS.has(operation) ? READ_FAULTS : WRITE_FAULTS) {
      const rate = options.rates?.[kind] ?? 0;
      if (rate > 0 && random() < rate) return kind;
    }
    return undefined;
  }

  async function landDue(): Promise<void> {
    for (let i = zombies.findIndex((z) => z.atCall <= calls); i >= 0; i = zombies.findIndex((z) => z.atCall <= calls))
      // Nobody hears what becomes of it.
      await zombies
        .splice(i, 1)[0]
        ?.land()
        .catch(() => undefined);
  }

  async function begin(
    operation: Operation,
    bucket: Bucket,
    key: string,
    given: StoreOptions | undefined,
  ): Promise<FaultKind | undefined> {
    if (given?.signal?.aborted === true)
      throw new Fault("STORE_UNAVAILABLE", `${operation} was cancelled`, { cause: given.signal.reason });
    if (isDead) return crash(`${operation} after the crash`);
    await options.step?.(`${operation} ${bucket}`);
    const kind = draw(operation, bucket, key, calls++);
    await landDue();
    if (kind !== undefined) struck[kind]++;
    if (kind === "delay") for (let i = options.delaySteps ?? 3; i > 0; i--) await pause();
    if (kind === "stalled") await stalls.stall(`${bucket} ${key}`);
    else await stalls.passed(`${bucket} ${key}`);
    if (isDead || kind === "crash-before") return crash(`before ${operation} ${key}`);
    return kind;
  }

  async function afterwards(kind: FaultKind | undefined, operation: Operation, key: string): Promise<void> {
    // A call that another call's crash overtook is never heard of either.
    if (isDead || kind === "crash-after") return crash(`after ${operation} ${key}`);
    await options.step?.(`answer ${operation}`);
  }

  async function crash(where: string): Promise<never> {
    isDead = true;
    return options.die === undefined ? Promise.reject(new Crash(where)) : options.die();
  }

  async function lostAnswer<T>(answer: () => T): Promise<T> {
    await options.step?.("no answer");
    return answer();
  }

  /** `lost` makes the answer of a write whose fate is unknown: an outcome where there is one, else a fault. */
  async function write<T>(
    operation: Operation,
    bucket: Bucket,
    key: string,
    given: StoreOptions | undefined,
    perform: () => Promise<T>,
    lost: (cause: Fault) => T,
  ): Promise<T> {
    const kind = await begin(operation, bucket, key, given);
    switch (kind) {
      case "disk-full":
        throw unavailable("the disk is full: free space");
      case "stalled":
        return lost(unavailable("the body stalled, nothing happened"));
      case "error-before":
        return lostAnswer(() => lost(unavailable("no answer, nothing happened")));
      case "zombie":
        if (options.land !== undefined) options.land(perform);
        else zombies.push({ atCall: calls + 1 + Math.floor(random() * zombieCalls), land: perform });
        return lostAnswer(() => lost(unavailable("no answer yet")));
      case "duplicate":
        await perform();
        break;
      case "error-after": {
        await perform();
        return lostAnswer(() => lost(unavailable("no answer, it happened")));
      }
      case "torn":
      case "delay":
      case "crash-before":
      case "crash-after":
      case undefined:
        break;
    }
    const answer = await perform();
    await afterwards(kind, operation, key);
    return answer;
  }

  async function read<T>(
    operation: Operation,
    bucket: Bucket,
    key: string,
    given: StoreOptions | undefined,
    perform: () => Promise<T>,
  ): Promise<T> {
    const kind = await begin(operation, bucket, key, given);
    if (kind === "error-before" || kind === "error-after" || kind === "disk-full") throw unavailable("a read failed");
    const answer = await perform();
    if (kind === "torn") throw unavailable("a read broke off");
    await afterwards(kind, operation, key);
    return answer;
  }

  async function* listing<T>(
    operation: Operation,
    bucket: Bucket,
    prefix: string,
    given: StoreOptions | undefined,
    perform: () => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    const kind = await begin(operation, bucket, prefix, given);
    if (kind === "error-before") throw unavailable("a listing failed");
    let listed = 0;
    for await (const item of perform()) {
      if (kind === "torn" && listed++ > 0) throw unavailable("a listing broke off");
      yield item;
    }
  }

  const unknown = (cause: unknown): { outcome: "unknown"; cause: unknown } => ({ outcome: "unknown", cause });
  const fail = (cause: Fault): never => {
    throw cause;
  };

  return {
    lock: inner.lock,
    // The caller's bytes are copied: a zombie lands what was sent, not what the buffer holds later.
    create(bucket, key, body, given) {
      const frozen = body.slice();
      return write<PutOutcome>(
        "create",
        bucket,
        key,
        given,
        async () => {
          const done = await inner.create(bucket, key, frozen, { retainUntil: given.retainUntil });
          if (done.outcome === "created" && bucket === "ledger") created.push(key);
          return done;
        },
        unknown,
      );
    },
    swap(bucket, key, body, etag, given) {
      const frozen = body.slice();
      return write<SwapOutcome>("swap", bucket, key, given, () => inner.swap(bucket, key, frozen, etag), unknown);
    },
    replace(bucket, key, body, given) {
      const frozen = body.slice();
      return write<void>("replace", bucket, key, given, () => inner.replace(bucket, key, frozen), fail);
    },
    remove: (bucket, key, given) => write<void>("remove", bucket, key, given, () => inner.remove(bucket, key), fail),
    extend: (bucket, key, until, given) =>
      write<void>(
        "extend",
        bucket,
        key,
        given,
        () => inner.extend(bucket, key, until, { versionId: given?.versionId }),
        fail,
      ),
    get: (bucket, key, given) => read("get", bucket, key, given, () => inner.get(bucket, key, given)),
    head: (bucket, key, given) => read("head", bucket, key, given, () => inner.head(bucket, key, given)),
    async open(bucket, key, given) {
      const kind = await begin("open", bucket, key, given);
      if (kind === "error-before") throw unavailable("a read failed");
      const opened = await inner.open(bucket, key, given);
      return kind === "torn" && opened !== null ? tornInHalf(opened) : opened;
    },
    list: (bucket, prefix, given) => listing("list", bucket, prefix, given, () => inner.list(bucket, prefix, given)),
    versions: (bucket, prefix, given) =>
      listing("versions", bucket, prefix, given, () => inner.versions(bucket, prefix, given)),
    faults: {
      next(operation, kind, matches = () => true) {
        programmed.push({ operation, kind, matches });
      },
      at(n, kind) {
        numbered.set(n, kind);
      },
      get calls() {
        return calls;
      },
      struck,
      amnesia(count) {
        if (inner.forget === undefined) throw new Error("the inner store cannot forget");
        for (const key of created.splice(Math.max(0, created.length - count))) inner.forget("ledger", key);
      },
      async quiet() {
        isQuiet = true;
        programmed.length = 0;
        numbered.clear();
        for (const zombie of zombies.splice(0)) await zombie.land().catch(() => undefined);
      },
      revive() {
        isDead = false;
      },
    },
  };
}

function tornInHalf(opened: OpenedObject): OpenedObject {
  return {
    sizeBytes: opened.sizeBytes,
    stream: (async function* () {
      let left = Math.floor(opened.sizeBytes / 2);
      for await (const piece of opened.stream) {
        if (piece.length > left) {
          if (left > 0) yield piece.subarray(0, left);
          throw unavailable("a stream broke off");
        }
        left -= piece.length;
        yield piece;
      }
      throw unavailable("a stream broke off");
    })(),
  };
}
