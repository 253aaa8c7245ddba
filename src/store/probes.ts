/**
 * Start-up probes that hold for every object store (`docs/operating.md`): whether create-if-absent and compare-and-swap are what
 * the ledger's safety rests on. A store that fails one may not be written to; some fail only at random (a MinIO cluster of two
 * pools lets a second create through in 44 of 100 tries), hence the counts.
 *
 * Probes write to the head bucket, under names of their own, and remove what they wrote. In the ledger bucket they only create
 * genesis again.
 */
import { equalBytes, formatHex, utf8 } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import type { Random } from "../std/ports.ts";
import { commitKey, probeKey } from "./keys.ts";
import type { ObjectStore, PutOutcome } from "./object-store.ts";

/** Counts at start. */
export const START_PROBES = { doubleCreates: 64, createRaces: 64, swapRaces: 32 } as const;
/** Counts at a later takeover, and every ten minutes while writing: a cluster may be extended at any time. */
export const RUNNING_PROBES = { doubleCreates: 8, createRaces: 8, swapRaces: 8 } as const;

const IN_FLIGHT = 16;

export interface ProbeOptions {
  /** Names this run's keys. */
  readonly random: Random;
  readonly doubleCreates?: number | undefined;
  readonly createRaces?: number | undefined;
  readonly swapRaces?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ProbeResult {
  /** `double-create`, `create-race`, `swap-race`, `genesis`, or one of S3's (`s3/bucket-probes.ts`). */
  readonly name: string;
  readonly ok: boolean;
  /** Whether the store was seen to break a promise; without it, a probe that is not ok could not be carried out. */
  readonly isBroken?: boolean;
  /** What was seen. */
  readonly detail: string;
  /** What to do; empty when the probe held. */
  readonly remedy: string;
}

const CREATE_REMEDY =
  "use a store with atomic If-None-Match: MinIO in one server pool (not two), any S3 that passes, or the file store on a local disk";
const SWAP_REMEDY =
  "use a store with atomic If-Match, or let one process only write (writer: true) and accept that fail-over is by hand";

/** Runs every probe; a probe that could not be carried out has failed. */
export async function probeStore(store: ObjectStore, options: ProbeOptions): Promise<ProbeResult[]> {
  const run = formatHex(options.random.bytes(16));
  const { signal } = options;
  const doubleCreates = options.doubleCreates ?? START_PROBES.doubleCreates;
  const createRaces = options.createRaces ?? START_PROBES.createRaces;
  const swapRaces = options.swapRaces ?? START_PROBES.swapRaces;
  let used = 0;
  const keys = (count: number): string[] => Array.from({ length: count }, () => probeKey(run, used++));
  try {
    return [
      await probe("double-create", CREATE_REMEDY, keys(doubleCreates), (key) => createTwice(store, key, signal)),
      await probe("create-race", CREATE_REMEDY, keys(createRaces), (key) => raceCreates(store, key, signal)),
      await probe("swap-race", SWAP_REMEDY, keys(swapRaces), (key) => raceSwaps(store, key, signal)),
      await probe("genesis", CREATE_REMEDY, [commitKey(0)], (key) => createGenesisAgain(store, key, signal)),
    ];
  } finally {
    const rest = Array.from({ length: used }, (_, n) => probeKey(run, n));
    // What stays behind does no harm: nothing reads it, and the next run has other names.
    await inFlight(rest, (key) => store.remove("head", key, { signal }).catch(() => undefined));
  }
}

/** What went wrong with a try. */
interface Wrong {
  readonly said: string;
  readonly isBroken: boolean;
}

/** Undefined when the try held. */
type Try = (key: string) => Promise<Wrong | undefined>;

/** The store answered, and not as it promises. */
const broken = (said: string): Wrong => ({ isBroken: true, said });
/** An answer that leaves the outcome open breaks no promise. */
const answered = (what: string, outcomes: readonly string[]): Wrong => ({
  isBroken: !outcomes.includes("unknown"),
  said: `${what} answered ${outcomes.join(" and ")}`,
});

async function probe(name: string, remedy: string, keys: readonly string[], attempt: Try): Promise<ProbeResult> {
  const wrong: string[] = [];
  let isBroken = false;
  await inFlight(keys, async (key) => {
    try {
      const found = await attempt(key);
      if (found === undefined) return;
      wrong.push(found.said);
      isBroken ||= found.isBroken;
    } catch (error) {
      wrong.push(error instanceof Fault ? error.message : `failed: ${String(error)}`);
    }
  });
  const [first] = wrong;
  if (first === undefined) return { name, ok: true, detail: `${keys.length} of ${keys.length} held`, remedy: "" };
  return { name, ok: false, detail: `${wrong.length} of ${keys.length} failed; the first: ${first}`, isBroken, remedy };
}

async function createTwice(
  store: ObjectStore,
  key: string,
  signal: AbortSignal | undefined,
): Promise<Wrong | undefined> {
  const first = await store.create("head", key, utf8("first"), { signal });
  if (first.outcome !== "created") return answered("the first create of a new key", [first.outcome]);
  const second = await store.create("head", key, utf8("second"), { signal });
  if (second.outcome !== "exists") return answered("the second create of one key", [second.outcome]);
  const found = await store.get("head", key, { signal });
  return found !== null && equalBytes(found.body, utf8("first")) ? undefined : broken("the first bytes were not kept");
}

async function raceCreates(
  store: ObjectStore,
  key: string,
  signal: AbortSignal | undefined,
): Promise<Wrong | undefined> {
  const bodies = [utf8("left"), utf8("right")];
  const outcomes: PutOutcome[] = await Promise.all(bodies.map((body) => store.create("head", key, body, { signal })));
  const winners = bodies.filter((_, i) => outcomes[i]?.outcome === "created");
  const losers = outcomes.filter((o) => o.outcome === "exists");
  const [winner] = winners;
  if (winner === undefined || winners.length !== 1 || losers.length !== 1)
    return answered(
      "two creates of one key",
      outcomes.map((o) => o.outcome),
    );
  const found = await store.get("head", key, { signal });
  return found !== null && equalBytes(found.body, winner) ? undefined : broken("the winner's bytes were not kept");
}

async function raceSwaps(store: ObjectStore, key: string, signal: AbortSignal | undefined): Promise<Wrong | undefined> {
  const first = await store.swap("head", key, utf8("0"), null, { signal });
  if (first.outcome !== "swapped") return answered("a swap of an absent key", [first.outcome]);
  const bodies = [utf8("left"), utf8("right")];
  const outcomes = await Promise.all(bodies.map((body) => store.swap("head", key, body, first.etag, { signal })));
  const answers = outcomes.map((o) => o.outcome).toSorted();
  if (answers[0] !== "moved" || answers[1] !== "swapped") return answered("two swaps of one etag", answers);
  const winner = bodies[outcomes.findIndex((o) => o.outcome === "swapped")];
  const found = await store.get("head", key, { signal });
  if (found === null || winner === undefined || !equalBytes(found.body, winner))
    return broken("the winner's bytes were not kept");
  const late = await store.swap("head", key, utf8("late"), first.etag, { signal });
  return late.outcome === "moved" ? undefined : answered("a swap with an old etag", [late.outcome]);
}

async function createGenesisAgain(
  store: ObjectStore,
  key: string,
  signal: AbortSignal | undefined,
): Promise<Wrong | undefined> {
  const genesis = await store.get("ledger", key, { signal });
  if (genesis === null) return undefined;
  const info = await store.head("ledger", key, { signal });
  // The same bytes under the same lock: should the store take them, nothing is lost.
  const again = await store.create("ledger", key, genesis.body, { retainUntil: info?.retainUntil, signal });
  return again.outcome === "exists" ? undefined : answered("creating genesis again", [again.outcome]);
}

async function inFlight(keys: readonly string[], work: (key: string) => Promise<void>): Promise<void> {
  const waiting = keys.values();
  await Promise.all(
    Array.from({ length: Math.min(IN_FLIGHT, keys.length) }, async () => {
      for (const key of waiting) await work(key);
    }),
  );
}
