/** Junk in a slot: who stops, what an operator may void, and what everybody who reads then makes of it (rule W8). */
import { expect, it } from "vitest";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { CommitChain } from "../../src/record/chain.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "./memory-index.ts";
import { createProject, createWorld, openIn } from "./world.ts";

async function squatted(junk: readonly string[]) {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  await log.submit(createProject("fraud", world.init.system));
  const { n } = log.index.watermark;
  for (const [k, text] of junk.entries()) store.tamper("ledger", commitKey(n + k), utf8(text));
  await expect(log.submit(createProject("risk", world.init.system))).rejects.toMatchObject({ reason: "WRITER_LOST" });
  expect(log.health().stopped).toBe("commit.squatted");
  return { log, n, store, world };
}

it("voids what an operator names, and every reader passes over exactly that", async () => {
  const { log, n, store, world } = await squatted(["junk", "more junk"]);
  await log[Symbol.asyncDispose]();
  for (const voids of [undefined, [], [n], [n + 1], [n + 2]])
    await expect(openIn(world, store, undefined, voids === undefined ? {} : { voids })).rejects.toMatchObject({
      code: "commit.squatted",
    });
  const repaired = await openIn(world, store, undefined, { voids: [n, n + 1] });
  expect((await repaired.submit(createProject("risk", world.init.system))).value).toBe("new");
  await repaired[Symbol.asyncDispose]();
  const again = createMemoryIndex();
  const log2 = await openIn(world, store, again);
  expect(log2.health()).toMatchObject({ writing: true });
  expect(log2.health().alarm).toBeUndefined();
  await world.clock.sleep(3_000);
  expect(log2.health().published).toBe(log2.health().size);
  await log2[Symbol.asyncDispose]();
  // As a stranger reads it.
  let chain = CommitChain.genesis();
  for (let k = 0; k < again.watermark.n; k++) {
    const bytes = (await store.get("ledger", commitKey(k)))?.body ?? utf8("");
    chain =
      k === n || k === n + 1 ? chain.skip(bytes, nativeVerifier) : chain.advance(chain.check(bytes, nativeVerifier));
  }
  expect(chain.size).toBe(again.watermark.size);
});

it("goes on by itself once somebody else has voided it", async () => {
  const { log, n, store, world } = await squatted(["junk"]);
  await log.follow();
  const repaired = await openIn(world, store, undefined, { voids: [n] });
  await repaired.submit(createProject("risk", world.init.system));
  await repaired[Symbol.asyncDispose]();
  expect(await log.reached(repaired.index.watermark.size, 5_000)).toBe(true);
  await log.lead();
  expect((await log.submit(createProject("churn", world.init.system))).value).toBe("new");
  await log[Symbol.asyncDispose]();
});

it("passes over nothing else than the bytes that were named", async () => {
  const { log, n, store, world } = await squatted(["junk"]);
  await log[Symbol.asyncDispose]();
  const repaired = await openIn(world, store, undefined, { voids: [n] });
  await repaired[Symbol.asyncDispose]();
  store.tamper("ledger", commitKey(n), utf8("other junk"));
  await expect(openIn(world, store)).rejects.toMatchObject({ code: "commit.voids" });
});

it("never voids what a commit key signed", async () => {
  const { log, n, store, world } = await squatted(["junk"]);
  await log[Symbol.asyncDispose]();
  const earlier = await store.get("ledger", commitKey(n - 1));
  store.tamper("ledger", commitKey(n), earlier?.body ?? utf8(""));
  await expect(openIn(world, store, undefined, { voids: [n] })).rejects.toMatchObject({ code: "commit.n" });
});
