/** What lies over commits in the bucket: found, told, and never written over (rules W6, W7). */
import { describe, expect, it } from "vitest";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { parseTrustPolicy } from "../../src/note/trust-policy.ts";
import { CommitChain } from "../../src/record/chain.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";
import { verifyBucket } from "../../src/verify/bucket.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "./memory-index.ts";
import { createProject, createWorld, MemoryLastSigned, NEVER_MS, openIn, testKeys, type World } from "./world.ts";

const TRUST = {
  kept: [],
  mirrors: new Set<string>(),
  policy: parseTrustPolicy(`log ${testKeys.log.vkey}\nlog ${testKeys.logPq.vkey}\nquorum none\n`),
  requirePq: false,
  verifier: nativeVerifier,
};

interface Grown {
  readonly store: MemoryStore;
  readonly world: World;
  readonly index: ReturnType<typeof createMemoryIndex>;
  /** Number of the next commit. */
  readonly n: number;
}

async function grown(): Promise<Grown> {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const index = createMemoryIndex();
  const log = await openIn(world, store, index);
  for (const name of ["fraud", "risk", "churn"]) await log.submit(createProject(name, world.init.system));
  await log[Symbol.asyncDispose]();
  return { index, n: index.watermark.n, store, world };
}

const contents = async (store: MemoryStore, n: number): Promise<string[]> => {
  const found: string[] = [];
  for await (const v of store.versions("ledger", commitKey(n)))
    if (!v.isMarker)
      found.push(Buffer.from((await store.get("ledger", v.key, { versionId: v.versionId }))?.body ?? []).toString());
  return found;
};

it.each([0, 3, -1])("goes on over a delete marker on slot %s, and says so", async (at) => {
  const { index, n, store, world } = await grown();
  const slot = at < 0 ? n + at : at;
  const before = await contents(store, slot);
  store.hide(commitKey(slot));
  const { state } = index.watermark;
  for (const own of [index, createMemoryIndex()]) {
    const log = await openIn(world, store, own);
    expect(log.health()).toMatchObject({ writing: true });
    // An index that is adopted reads the last commit only; what lies below is for whoever verifies the bucket.
    if (own !== index || slot === n - 1 || slot === 0)
      expect(log.health()).toMatchObject({ alarm: "commit.hidden", hiddenCommits: 1 });
    expect((await log.submit(createProject(`after-${own.watermark.n}`, world.init.system))).value).toBe("new");
    await world.clock.sleep(3_000);
    expect(log.health().published).toBe(log.health().size);
    await log[Symbol.asyncDispose]();
  }
  expect(await contents(store, slot)).toEqual(before);
  expect(state).not.toBe(index.watermark.state);
});

it("takes a commit for what its oldest version says, whatever was laid over it", async () => {
  const { n, store, world } = await grown();
  store.shadow(commitKey(2), utf8("junk"));
  store.shadow(commitKey(n - 1), utf8("junk"));
  const log = await openIn(world, store);
  expect(log.health()).toMatchObject({ alarm: "commit.hidden", hiddenCommits: 2, writing: true });
  await log[Symbol.asyncDispose]();
});

it("never puts into a slot whose commit is hidden", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const first = await openIn(world, store);
  await first.submit(createProject("fraud", world.init.system));
  const second = await openIn(world, store);
  await second.submit(createProject("risk", world.init.system));
  const n = second.index.watermark.n;
  store.hide(commitKey(n - 1));
  // A third takes over: to a plain read the log ends before the newest commit, and a create there would succeed.
  const third = await openIn(world, store);
  expect(third.health()).toMatchObject({ alarm: "commit.hidden", size: second.health().size });
  expect(await contents(store, n - 1)).toHaveLength(1);
  for (const log of [first, second, third]) await log[Symbol.asyncDispose]();
});

it("finds a hole behind a marker", async () => {
  const { n, store, world } = await grown();
  store.forget("ledger", commitKey(n - 2));
  store.hide(commitKey(n - 1));
  await expect(openIn(world, store)).rejects.toMatchObject({ code: "commit.gap" });
});

it("publishes nothing over two contents of a slot", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  await world.clock.sleep(3_000);
  const { published } = log.health();
  await log.submit(createProject("fraud", world.init.system));
  // What a store does that lets a second writer win.
  store.shadow(commitKey(log.index.watermark.n - 1), utf8("another commit"));
  await world.clock.sleep(5_000);
  expect(log.health()).toMatchObject({ alarm: "commit.hidden", published });
  await log.submit(createProject("risk", world.init.system));
  await world.clock.sleep(5_000);
  expect(log.health().published).toBe(published);
  await log[Symbol.asyncDispose]();
});

it("takes two versions of the same bytes for one", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  await log.submit(createProject("fraud", world.init.system));
  const key = commitKey(log.index.watermark.n - 1);
  store.shadow(key, (await store.get("ledger", key))?.body ?? utf8(""));
  await world.clock.sleep(3_000);
  const health = log.health();
  expect(health.alarm).toBeUndefined();
  expect(health.published).toBe(health.size);
  await log[Symbol.asyncDispose]();
});

it("tells of a marker before it publishes, and publishes", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  await log.submit(createProject("fraud", world.init.system));
  store.hide(commitKey(log.index.watermark.n - 1));
  await world.clock.sleep(3_000);
  const health = log.health();
  expect(health).toMatchObject({ alarm: "commit.hidden", hiddenCommits: 1, writing: true });
  expect(health.published).toBe(health.size);
  await log[Symbol.asyncDispose]();
});

it("prolongs a lock that is too short, and does not publish over one that stays so", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  await log.submit(createProject("fraud", world.init.system));
  const n = log.index.watermark.n - 1;
  const bytes = (await store.get("ledger", commitKey(n)))?.body ?? utf8("");
  store.forget("ledger", commitKey(n));
  store.shadow(commitKey(n), bytes, { retainUntil: world.clock.now() + 1_000 });
  await world.clock.sleep(3_000);
  expect(log.health().published).toBe(log.health().size);
  expect((await store.head("ledger", commitKey(n)))?.retainUntil).toBeGreaterThan(world.clock.now() + 300 * 86_400_000);
  await log[Symbol.asyncDispose]();
});

it("puts back what the store forgot, before it publishes", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  await log.submit(createProject("fraud", world.init.system));
  const n = log.index.watermark.n - 1;
  const [bytes] = await contents(store, n);
  store.forget("ledger", commitKey(n));
  await world.clock.sleep(3_000);
  expect(await contents(store, n)).toEqual([bytes]);
  expect(log.health().published).toBe(log.health().size);
  let chain = CommitChain.genesis();
  for (let k = 0; k < chain.n + 1 && k <= n; k++)
    chain = chain.advance(chain.check((await store.get("ledger", commitKey(k)))?.body ?? utf8(""), nativeVerifier));
  expect(chain.n).toBe(n + 1);
  await log[Symbol.asyncDispose]();
});

it("stops publishing at a slot that is empty for good", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const index = createMemoryIndex();
  index.commitBytes = () => undefined;
  const log = await openIn(world, store, index);
  await world.clock.sleep(3_000);
  await log.submit(createProject("fraud", world.init.system));
  await log.submit(createProject("risk", world.init.system));
  store.forget("ledger", commitKey(index.watermark.n - 2));
  const { published } = log.health();
  await world.clock.sleep(3_000);
  expect(log.health()).toMatchObject({ alarm: "commit.gap", published });
  await log[Symbol.asyncDispose]();
});

describe("a create over a delete marker", () => {
  const close = async (...logs: readonly AsyncDisposable[]): Promise<void> => {
    for (const log of logs) await log[Symbol.asyncDispose]();
  };

  it("is no commit when there was one before: its writer adopts that, signs nothing, and steps down", async () => {
    const store = createMemoryStore();
    const world = await createWorld(store);
    const first = await openIn(world, store);
    const n = first.index.watermark.n;
    const other = new MemoryLastSigned();
    other.notes = [...world.lastSigned.notes];
    const second = await openIn({ ...world, lastSigned: other }, store, createMemoryIndex(), {
      publishIntervalMs: NEVER_MS,
    });
    store.hide(commitKey(n));
    const before = [...world.lastSigned.notes];
    await expect(first.submit(createProject("fraud", world.init.system))).rejects.toMatchObject({
      reason: "NOT_WRITER",
    });
    expect(first.health()).toMatchObject({ alarm: "commit.hidden", stopped: "writer.lost" });
    expect(first.index.watermark.root).toBe(second.index.watermark.root);
    expect(world.lastSigned.notes).toEqual(before);
    expect(await contents(store, n)).toHaveLength(2);
    // Who leads goes on; whoever reads what lies on top learns of it at the next commit.
    expect((await second.submit(createProject("risk", world.init.system))).value).toBe("new");
    await expect(openIn(world, store, createMemoryIndex(), { follow: true })).rejects.toMatchObject({
      code: "commit.hidden",
    });
    const report = await verifyBucket(store, TRUST, {
      concurrency: 1,
      nowMs: world.clock.now(),
      records: "objects",
      state: true,
    });
    const found = report.checks.flatMap((c) => c.failures.map((f) => `${f.code} ${f.at}`));
    expect(found).toContain(`commit.hidden ${commitKey(n)}`);
    expect(found.join()).not.toContain("commit.prev");
    await close(first, second);
  });

  it("lets nobody begin a term at a slot with two commits", async () => {
    const store = createMemoryStore();
    const world = await createWorld(store);
    const first = await openIn(world, store);
    const n = first.index.watermark.n;
    const second = await openIn(world, store, createMemoryIndex(), { publishIntervalMs: NEVER_MS });
    store.hide(commitKey(n));
    await first.submit(createProject("fraud", world.init.system)).catch(() => undefined);
    await close(first);
    // The newest version is a commit like any other, and the last one.
    await expect(openIn(world, store)).rejects.toMatchObject({ code: "commit.hidden" });
    await close(second);
  });
});
