/** Runs of chance over the index that the server has: what a crash leaves of it is what it had written, or nothing. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, it } from "vitest";
import type { Index } from "../../src/index/index.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { byChance } from "./chance.ts";
import { Tally } from "./tally.ts";

const SEEDS = 12;
/** More than the machines of any run. */
const STOCK = 6;

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "datapilot-sim-"));
});
afterAll(() => rm(folder, { force: true, recursive: true }));

it("keeps the invariants", async () => {
  const tally = new Tally();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const stock: Index[] = [];
    for (let k = 0; k < STOCK; k++) stock.push(await openLmdbIndex({ path: join(folder, `${seed}-${k}`) }));
    let used = 0;
    await tally.run(
      {
        ...byChance(seed),
        createDisk: (scheduler) => {
          const index = stock[used++];
          if (index === undefined) throw new Error("assertion failed: there are more machines than indexes");
          return { crash: () => (scheduler.chance(0.3) ? index.clear() : undefined), index };
        },
      },
      `vitest run test/sim/lmdb.test.ts (seed ${seed})`,
    );
    for (const index of stock) await index[Symbol.asyncDispose]();
  }
  console.info(`over LMDB: ${tally.toString()}`);
});
