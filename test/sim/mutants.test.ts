/**
 * The simulation is worth what it catches: each planted fault of the protocol must break an invariant within 50 seeds. Mutants are
 * put between the log and its store, or over a method of its parts; nothing in the source knows of them.
 */
import { afterEach, expect, it, vi } from "vitest";
import { Changes } from "../../src/log/changes.ts";
import { Committer } from "../../src/log/committer.ts";
import { Materialiser } from "../../src/log/materialise.ts";
import { formatCheckpoint } from "../../src/note/checkpoint.ts";
import { formatNote, signatureLine } from "../../src/note/note.ts";
import { parseCommit } from "../../src/record/commit.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { equalBytes, parseHex, utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { parseCommitKey } from "../../src/store/keys.ts";
import type { ObjectStore, PutOutcome } from "../../src/store/object-store.ts";
import { ORIGIN, testKeys } from "../log/world.ts";
import { byChance } from "./chance.ts";
import { Broken } from "./invariants.ts";
import type { Process } from "./machine.ts";
import { type SimulationOptions, simulate } from "./simulation.ts";

const SEEDS = 50;
/** When a mutant was caught, so many seeds say how often it is. */
const ENOUGH = 12;

afterEach(() => vi.restoreAllMocks());

type Between = NonNullable<SimulationOptions["between"]>;
type CommitPut = (key: string, body: Uint8Array, put: () => Promise<PutOutcome>) => Promise<PutOutcome>;

/** Changes how commits are put, and nothing else. */
const puttingCommits = (store: ObjectStore, mutate: CommitPut): ObjectStore => ({
  ...store,
  create: (bucket, key, body, options) => {
    const put = (): Promise<PutOutcome> => store.create(bucket, key, body, options);
    return bucket === "ledger" && parseCommitKey(key) !== undefined ? mutate(key, body, put) : put();
  },
});

/** Before a note is remembered, so before its signature leaves the signer. */
function beforeSigning({ lastSigned }: Process, wait: () => Promise<unknown>): void {
  const write = lastSigned.write.bind(lastSigned);
  lastSigned.write = async (note) => {
    await wait();
    await write(note);
  };
}

/** The next commit is put while the last one is under way; it is signed, and answered, once both are there. */
const twoInFlight: Between = (store, process) => {
  let inFlight: Promise<unknown> = Promise.resolve();
  beforeSigning(process, () => inFlight);
  return puttingCommits(store, async (_, __, put) => {
    const before = inFlight;
    const land = async (): Promise<void> => {
      // However it fails, it is put again.
      for (;;) {
        const { outcome } = await put().catch(() => ({ outcome: "unknown" }));
        if (outcome !== "unknown") return;
        await process.clock.sleep(20);
      }
    };
    inFlight = Promise.all([before, land()]);
    await before;
    return { etag: "on its way", outcome: "created" };
  });
};

/** Whatever is in the slot already is taken for one's own. */
const noCompare: Between = (store) =>
  puttingCommits(store, async (_, __, put) => {
    const done = await put();
    return done.outcome === "exists" ? { etag: "there", outcome: "created" } : done;
  });

/** A commit whose fate is unknown and that is not found counts as failed: another one is made for its slot. */
const rebuildOnAbsent: Between = (store) => {
  let failed: Uint8Array | undefined;
  return puttingCommits(store, async (key, body, put) => {
    if (failed === undefined || !equalBytes(failed, body)) {
      const done = await put();
      if (done.outcome !== "unknown" || (await store.get("ledger", key)) !== null) return done;
      failed = body.slice();
    }
    throw new Fault("STORE_UNAVAILABLE", "it is not there");
  });
};

/** The tree of a commit is signed before the commit is there. */
const checkpointFirst: Between = (store, { lastSigned }) =>
  puttingCommits(store, async (_, body, put) => {
    const { count, first, root } = parseCommit(body).header;
    const text = formatCheckpoint({
      origin: ORIGIN,
      root: assertDefined(parseHex(root), "a root"),
      size: first + count,
    });
    const { log } = testKeys;
    await lastSigned.write(formatNote(text, [signatureLine(log.name, log.id, log.sign(utf8(text)))]));
    return put();
  });

function answerFirst(): void {
  // oxlint-disable-next-line typescript/unbound-method
  const commit = Committer.prototype.commit;
  vi.spyOn(Committer.prototype, "commit").mockImplementation(function (this: Committer, ...given) {
    commit.apply(this, given).catch(() => undefined);
    return Promise.resolve({ kind: "ours" });
  });
}

interface Mutant {
  readonly name: string;
  readonly between?: Between;
  readonly plant?: () => void;
}

const MUTANTS: readonly Mutant[] = [
  { between: twoInFlight, name: "two commits in flight" },
  { between: noCompare, name: "no comparison when the slot is taken" },
  { between: rebuildOnAbsent, name: "another commit when the first is not found" },
  { name: "an answer before the commit is there", plant: answerFirst },
  { between: checkpointFirst, name: "a checkpoint before the commit is there" },
  { name: "guards not checked again", plant: () => void vi.spyOn(Changes.prototype, "unmoved").mockReturnValue(true) },
  {
    name: "publication before records are materialised",
    plant: () => void vi.spyOn(Materialiser.prototype, "reached").mockResolvedValue(),
  },
];

it.each(MUTANTS)("catches $name", async ({ between, name, plant }) => {
  plant?.();
  const caught: string[] = [];
  let seeds = 0;
  while (seeds < SEEDS && (seeds < ENOUGH || caught.length === 0)) {
    try {
      await simulate({ ...byChance(++seeds), ...(between === undefined ? {} : { between }) });
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      caught.push(error.invariant);
    }
  }
  console.info(
    `${name}: caught in ${caught.length} of ${seeds} seeds, by ${[...new Set(caught)].toSorted().join(", ")}`,
  );
  expect(caught).not.toEqual([]);
});
