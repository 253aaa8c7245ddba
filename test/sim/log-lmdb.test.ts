/** The scenario over the real index, with a fault at a sample of its store calls. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, it } from "vitest";
import type { Index } from "../../src/index/index.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import type { FaultKind } from "../fakes/fault-store.ts";
import { assertWhole, live } from "./log-scenario.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "datapilot-sim-"));
});
afterAll(() => rm(folder, { force: true, recursive: true }));

it.each<FaultKind>(["error-after", "crash-before", "crash-after"])("%s over LMDB", async (kind) => {
  for (let n = 0; n < 60; n += 3) {
    const opened: Index[] = [];
    // Two in stock: one to live with, one for a process that starts without.
    const stock = [
      await openLmdbIndex({ path: join(folder, `${kind}-${n}-a`) }),
      await openLmdbIndex({ path: join(folder, `${kind}-${n}-b`) }),
    ];
    const createIndex = (): Index => {
      const index = stock.shift();
      if (index === undefined) throw new Error("no more indexes");
      opened.push(index);
      return index;
    };
    const life = await live({ createIndex, faults: [(store) => store.faults.at(n, kind)], keepIndex: n % 2 === 0 });
    await assertWhole(life).catch((error: unknown) => {
      throw new Error(`${kind} at call ${n}`, { cause: error });
    });
    for (const index of [...opened, ...stock]) await index[Symbol.asyncDispose]();
  }
});
