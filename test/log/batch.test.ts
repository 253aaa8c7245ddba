import { expect, it } from "vitest";
import { Batch } from "../../src/log/batch.ts";
import { Changes } from "../../src/log/changes.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { CommitChain } from "../../src/record/chain.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { createWorld, openIn, testKeys } from "./world.ts";

it("voids the junk that was skipped, as readers of the next commit demand", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const { body } = assertDefined(await store.get("ledger", commitKey(0)), "the genesis commit");
  const chain = CommitChain.genesis();
  const after = chain.advance(chain.check(body, nativeVerifier)).skip(utf8("junk"), nativeVerifier);
  await using log = await openIn(world, store);
  using reader = log.index.reader();
  const batch = new Batch({ chain: after, changes: new Changes(after.size), knows: () => false, reader });
  const made = batch.seal({ epoch: 1, key: testKeys.commit, nowMs: world.clock.now(), writer: "0".repeat(32) });
  expect(after.voids).toHaveLength(1);
  expect(after.check(made.bytes, nativeVerifier).header.voids).toEqual(after.voids);
});
