/** Two processes with the same keys on one store: for every slot exactly one wins, and the other notices before it answers. */
import { expect, it } from "vitest";
import type { Log } from "../../src/log/log.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { CommitChain } from "../../src/record/chain.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { Fault } from "../../src/std/faults.ts";
import { commitKey } from "../../src/store/keys.ts";
import { createFaultStore, seededNumbers } from "../fakes/fault-store.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "../log/memory-index.ts";
import { createProject, createWorld, MemoryLastSigned, openIn, seededRandom } from "../log/world.ts";

const ROUNDS = 12;

/** Returns how often a process took over. */
async function duel(seed: number): Promise<number> {
  const next = seededNumbers(seed);
  const inner = createMemoryStore({
    step: async () => (next() < 0.3 ? new Promise((resolve) => setImmediate(resolve)) : undefined),
  });
  const world = await createWorld(inner, seed);
  const answered = new Map<RecordId, number>();
  let takeovers = 0;
  const fight = async (who: number): Promise<void> => {
    const lastSigned = new MemoryLastSigned();
    lastSigned.notes = [...world.lastSigned.notes];
    const index = createMemoryIndex();
    for (let round = 0; round < ROUNDS; ) {
      const store = createFaultStore(inner, {
        rates: { delay: 0.2, "error-after": 0.05, "error-before": 0.05, zombie: 0.05 },
        seed: seed * 7 + who * 3 + round,
      });
      const log: Log = await openIn(
        { ...world, lastSigned, random: seededRandom(seed * 10 + who + round * 100) },
        store,
        index,
      );
      takeovers++;
      try {
        for (; round < ROUNDS; round++) {
          const { committed } = await log.submit(createProject(`p${who}-${round}`, world.init.system));
          for (const record of committed?.records ?? []) answered.set(record.id, record.index);
          if (next() < 0.3) await world.clock.sleep(1_500);
        }
      } catch (error) {
        if (!(error instanceof Fault) || (error.reason !== "WRITER_LOST" && error.reason !== "NOT_WRITER")) throw error;
      }
      await log[Symbol.asyncDispose]();
    }
  };
  await Promise.all([fight(1), fight(2)]);
  let chain = CommitChain.genesis();
  const places = new Map<RecordId, number>();
  const names: string[] = [];
  for (const [n, key] of inner
    .keys("ledger")
    .filter((k) => k.startsWith("commits/"))
    .entries()) {
    expect(key).toBe(commitKey(n));
    const commit = chain.check(assertDefined(await inner.get("ledger", key), key).body, nativeVerifier);
    chain = chain.advance(commit);
    for (const item of commit.items) {
      places.set(item.entry.record, item.index);
      if (item.record?.kind === "project") names.push(JSON.stringify(item.record.body["name"]));
    }
  }
  for (const [id, index] of answered) expect(places.get(id)).toBe(index);
  expect(new Set(names).size).toBe(names.length);
  expect(names).toHaveLength(2 * ROUNDS + 1);
  inner.assertSound();
  return takeovers;
}

it("has one winner for each slot", async () => {
  const SEEDS = 40;
  let takeovers = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    takeovers += await duel(seed).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
  }
  expect(takeovers).toBeGreaterThan(3 * SEEDS);
});
