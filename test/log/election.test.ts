/** Who leads: by a lease that is safe to lose, on a store that three processes share. */
import { afterEach, expect, it } from "vitest";
import { Election, LEASE_TIMES } from "../../src/log/election.ts";
import { formatLease, Lease, parseLease } from "../../src/log/lease.ts";
import type { Log } from "../../src/log/log.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { parseVkey } from "../../src/note/keys.ts";
import { CommitChain } from "../../src/record/chain.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { commitKey, LEADER } from "../../src/store/keys.ts";
import { createFaultStore, type FaultStore, seededNumbers } from "../fakes/fault-store.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "./memory-index.ts";
import {
  createProject,
  createWorld,
  MemoryLastSigned,
  ORIGIN,
  openIn,
  quietLogger,
  seededRandom,
  testKeys,
  type World,
} from "./world.ts";

interface Node {
  readonly log: Log;
  readonly election: Election;
  readonly store: FaultStore;
  readonly lease: Lease;
}

let shared: MemoryStore;
let world: World;
const nodes: Node[] = [];
let numbers = 0;

interface More {
  readonly key?: undefined;
  readonly probe?: () => Promise<void>;
}

async function start(waits: boolean, more: More = {}): Promise<Node> {
  const n = ++numbers;
  const store = createFaultStore(shared, { seed: n });
  const lastSigned = new MemoryLastSigned();
  lastSigned.notes = [...world.lastSigned.notes];
  const random = seededRandom(1_000 + n);
  const log = await openIn({ ...world, lastSigned, random }, store, createMemoryIndex(), {
    follow: true,
    ...(more.probe === undefined ? {} : { probe: more.probe }),
  });
  const lease = new Lease({
    clock: world.clock,
    keys: () => log.commitKeys(),
    origin: ORIGIN,
    store,
    verifier: nativeVerifier,
  });
  const election = new Election({
    clock: world.clock,
    key: "key" in more ? undefined : testKeys.commit,
    lease,
    log,
    logger: quietLogger,
    random,
    url: () => `http://node-${n}`,
    waits,
  });
  await election.begin();
  const node = { election, lease, log, store };
  nodes.push(node);
  return node;
}

async function begin(): Promise<void> {
  shared = createMemoryStore();
  world = await createWorld(shared);
  numbers = 0;
}

afterEach(async () => {
  for (const { election, store } of nodes.splice(0)) {
    store.faults.revive();
    await store.faults.quiet();
    await election[Symbol.asyncDispose]();
  }
});

const leaders = (): Log[] => nodes.map((n) => n.log).filter((log) => log.role === "leader");

/** Until somebody leads, or for so long. */
async function waitFor(happened: () => boolean, withinMs: number): Promise<number> {
  const from = world.clock.monotonic();
  while (!happened() && world.clock.monotonic() - from < withinMs) await world.clock.sleep(100);
  return world.clock.monotonic() - from;
}

it("is a signed note of this log, and nothing else", () => {
  const leader = { beat: 3, epoch: 2, url: "https://a:8420", writer: "0".repeat(32) };
  const key = assertDefined(parseVkey(testKeys.commit.vkey), "a key");
  const known = { keys: () => [key], origin: ORIGIN, verifier: nativeVerifier };
  const bytes = formatLease(ORIGIN, leader, testKeys.commit);
  expect(parseLease(bytes, known)).toEqual(leader);
  const text = Buffer.from(bytes).toString();
  for (const forged of [
    text.replace("a:8420", "b:8420"),
    text.replace("/leader", "/commit"),
    text.replace('"beat":3', '"beat":4'),
    "nonsense",
    "",
  ])
    expect(parseLease(utf8(forged), known)).toBeUndefined();
  expect(parseLease(bytes, { ...known, keys: () => [] })).toBeUndefined();
  expect(parseLease(formatLease("other/0a1b2c3d", leader, testKeys.commit), known)).toBeUndefined();
  expect(parseLease(formatLease(ORIGIN, leader, testKeys.log), known)).toBeUndefined();
});

it("has one leader, and the others know where it is", async () => {
  await begin();
  const [a, b, c] = [await start(false), await start(true), await start(true)];
  await world.clock.sleep(30_000);
  expect(leaders()).toEqual([a.log]);
  expect(a.election.leader).toBeUndefined();
  for (const follower of [b, c]) expect(follower.election.leader).toMatchObject({ url: "http://node-1" });
  await a.log.submit(createProject("fraud", world.init.system));
  expect(await b.log.reached(a.log.index.watermark.size, 2_000)).toBe(true);
});

it("does not unseat who leads while it probes the store, nor when the store does not pass", async () => {
  await begin();
  const a = await start(false);
  const stores: Fault[] = [];
  let probes = 0;
  const probe = async (): Promise<void> => {
    probes++;
    expect((await a.lease.look(new AbortController().signal)).leader?.url).toBe("http://node-1");
    expect(a.log.role).toBe("leader");
    await world.clock.sleep(5_000);
    const fault = stores.pop();
    if (fault !== undefined) throw fault;
  };
  stores.push(new Fault("STORE_UNAVAILABLE", "clock: an hour off"));
  await expect(start(false, { probe })).rejects.toThrow("an hour off");
  await world.clock.sleep(5_000);
  expect(leaders()).toEqual([a.log]);
  const b = await start(false, { probe });
  expect(probes).toBe(2);
  await world.clock.sleep(5_000);
  expect(leaders()).toEqual([b.log]);
});

it("hands over at once when the leader ends in peace", async () => {
  await begin();
  const [a, b] = [await start(false), await start(true)];
  await a.log.submit(createProject("fraud", world.init.system));
  await a.election[Symbol.asyncDispose]();
  const waited = await waitFor(() => b.log.role === "leader", 60_000);
  expect(waited).toBeLessThan(LEASE_TIMES.silenceMs / 2);
  expect((await b.log.submit(createProject("risk", world.init.system))).value).toBe("new");
});

it("takes over from a leader that fell silent, and not before", async () => {
  await begin();
  const [a, b] = [await start(false), await start(true)];
  const { committed } = await a.log.submit(createProject("fraud", world.init.system));
  await world.clock.sleep(5_000);
  // It dies: every call from now on fails.
  a.store.faults.next("get", "crash-before");
  a.store.faults.next("swap", "crash-before");
  const waited = await waitFor(() => b.log.role === "leader", 120_000);
  expect(waited).toBeGreaterThan(LEASE_TIMES.silenceMs - LEASE_TIMES.beatMs);
  expect(waited).toBeLessThan(2 * LEASE_TIMES.silenceMs);
  const id = committed?.records[0]?.id;
  expect(b.log.index.reader().indexOf(id ?? world.init.genesis)).toBe(committed?.records[0]?.index);
  expect((await b.log.submit(createProject("risk", world.init.system))).value).toBe("new");
});

it("goes on without the lease until another writes, then follows, and leads again when that one is gone", async () => {
  await begin();
  const [a, b] = [await start(false), await start(true)];
  // The lease cannot be renewed, commits can.
  for (let i = 0; i < 10; i++) a.store.faults.next("swap", "error-before", (_, key) => key === LEADER);
  await world.clock.sleep(8_000);
  expect((await a.log.submit(createProject("fraud", world.init.system))).value).toBe("new");
  await waitFor(() => b.log.role === "leader", 120_000);
  await b.log.submit(createProject("risk", world.init.system));
  await waitFor(() => a.log.role === "follower", 120_000);
  expect(await a.log.reached(b.log.index.watermark.size, 10_000)).toBe(true);
  expect(leaders()).toEqual([b.log]);
  await world.clock.sleep(1_000);
  expect(a.election.leader).toMatchObject({ url: "http://node-2" });
  await b.election[Symbol.asyncDispose]();
  await waitFor(() => a.log.role === "leader", 60_000);
  expect((await a.log.submit(createProject("churn", world.init.system))).value).toBe("new");
});

it("does not take a lease that it cannot reach for silent", async () => {
  await begin();
  const [a, b] = [await start(false), await start(true)];
  await world.clock.sleep(3_000);
  for (let i = 0; i < 60; i++) b.store.faults.next("get", "error-before", (_, key) => key === LEADER);
  await world.clock.sleep(45_000);
  expect(b.election.leader).toMatchObject({ url: "http://node-1" });
  await world.clock.sleep(60_000);
  expect(leaders()).toEqual([a.log]);
  expect(b.log.epoch).toBe(1);
});

it("leads on for as long as nobody else reaches the lease either", async () => {
  await begin();
  const [a, b] = [await start(false), await start(true)];
  await world.clock.sleep(3_000);
  for (const { store } of [a, b])
    for (const call of ["get", "swap"] as const)
      for (let i = 0; i < 30; i++) store.faults.next(call, "error-before", (_, key) => key === LEADER);
  await world.clock.sleep(20_000);
  expect((await a.log.submit(createProject("fraud", world.init.system))).value).toBe("new");
  expect(leaders()).toEqual([a.log]);
  expect(a.log.health().stopped).toBeUndefined();
});

it("notices who writes without the lease, though nobody asks it to write", async () => {
  await begin();
  const a = await start(false);
  await world.clock.sleep(3_000);
  const lastSigned = new MemoryLastSigned();
  lastSigned.notes = [...world.lastSigned.notes];
  const other = await openIn({ ...world, lastSigned, random: seededRandom(77) }, shared);
  const waited = await waitFor(() => a.log.role === "follower", 60_000);
  expect(waited).toBeLessThanOrEqual(2 * LEASE_TIMES.beatMs);
  expect(a.log.health()).toMatchObject({ stopped: "writer.lost" });
  await other[Symbol.asyncDispose]();
});

it("says how old its state may be, also as a leader", async () => {
  await begin();
  const a = await start(false);
  await world.clock.sleep(30_000);
  expect(a.log.health().lagMs).toBeLessThanOrEqual(2 * LEASE_TIMES.beatMs);
  // It does not reach the next slot: whether it still leads it cannot know.
  for (let i = 0; i < 1_000; i++) a.store.faults.next("get", "error-before", (_, key) => key.startsWith("commits/"));
  await world.clock.sleep(20_000);
  expect(a.log.health()).toMatchObject({ role: "leader" });
  expect(a.log.health().lagMs).toBeGreaterThan(15_000);
});

it("hands on what waits, and leaves open only what may be committed", async () => {
  await begin();
  const [a] = [await start(false), await start(true)];
  // The first commit's fate is unknown for as long as A leads; the others wait behind it.
  a.store.faults.next("create", "error-before", (_, key) => key.startsWith("commits/"));
  const submit = (name: string) => a.log.submit(createProject(name, world.init.system));
  const flying = submit("p0");
  flying.catch(() => undefined);
  await world.clock.sleep(1);
  const outcomes = Promise.allSettled([flying, submit("p1"), submit("p2")]);
  a.log.resign();
  const reasons = (await outcomes).map((o) => (o.status === "rejected" ? (o.reason as Fault).reason : o.status));
  expect(reasons).toEqual(["WRITER_LOST", "NOT_WRITER", "NOT_WRITER"]);
  await waitFor(() => leaders().length > 0, 60_000);
  const [leader] = leaders();
  for (const name of ["p0", "p1", "p2"])
    expect((await leader?.submit(createProject(name, world.init.system)))?.value).toBe("new");
});

it("who was started to write takes the lease from whoever holds it", async () => {
  await begin();
  const a = await start(false);
  const b = await start(false);
  await world.clock.sleep(30_000);
  expect(leaders()).toEqual([b.log]);
  expect(a.log.health()).toMatchObject({ role: "follower", stopped: "writer.lost" });
  expect(b.log.epoch).toBe(2);
});

it("never leads without keys", async () => {
  await begin();
  const a = await start(false);
  const reader = await start(true, { key: undefined });
  await world.clock.sleep(3_000);
  expect(reader.election.leader).toMatchObject({ url: "http://node-1" });
  await a.election[Symbol.asyncDispose]();
  await world.clock.sleep(60_000);
  expect(reader.log.role).toBe("follower");
  expect(reader.election.leader).toBeUndefined();
});

it("takes what is no lease for silence, and writes over it", async () => {
  await begin();
  const [a, b] = [await start(false), await start(true)];
  shared.tamper("head", LEADER, utf8("nonsense"));
  await world.clock.sleep(30_000);
  expect(leaders()).toEqual([a.log]);
  expect(b.election.leader).toMatchObject({ url: "http://node-1" });
});

it("says why it may not lead, when it was started to", async () => {
  await begin();
  const a = await start(false);
  const n = a.log.index.watermark.n;
  await a.election[Symbol.asyncDispose]();
  shared.tamper("ledger", commitKey(n + 1), utf8("junk"));
  await expect(start(false)).rejects.toMatchObject({ code: "commit.squatted" });
});

it("loses nothing, and makes nothing twice, while leaders come and go", async () => {
  let takeovers = 0;
  for (let seed = 1; seed <= 12; seed++) {
    await begin();
    const next = seededNumbers(seed);
    for (let k = 0; k < 3; k++) await start(k > 0);
    const acknowledged = new Map<string, number>();
    for (let k = 0; k < 12; k++) {
      const name = `p${k}`;
      for (let tries = 0; ; tries++) {
        expect(tries, `seed ${seed}: ${name} is admitted at last`).toBeLessThan(400);
        const node = nodes[Math.floor(next() * nodes.length)];
        try {
          const done = await node?.log.submit(createProject(name, world.init.system));
          for (const record of done?.committed?.records ?? []) acknowledged.set(record.id, record.index);
          break;
        } catch (error) {
          if (!(error instanceof Fault) || !["NOT_WRITER", "WRITER_LOST"].includes(error.reason)) throw error;
          await world.clock.sleep(250);
        }
      }
      const leading = nodes.find((n) => n.log.role === "leader");
      const dice = next();
      if (leading === undefined || dice > 0.5) continue;
      takeovers++;
      if (dice < 0.2) leading.log.resign();
      else if (dice < 0.35)
        for (let i = 0; i < 8; i++) leading.store.faults.next("swap", "error-before", (_, key) => key === LEADER);
      else
        for (let i = 0; i < 3; i++)
          leading.store.faults.next("create", "zombie", (_, key) => key.startsWith("commits/"));
      await world.clock.sleep(next() * 20_000);
    }
    for (const { election } of nodes) await election[Symbol.asyncDispose]();
    for (const { store } of nodes.splice(0)) await store.faults.quiet();
    let chain = CommitChain.genesis();
    const places = new Map<string, number>();
    const names: unknown[] = [];
    for (const key of shared.keys("ledger").filter((k) => k.startsWith("commits/"))) {
      expect(key).toBe(commitKey(chain.n));
      const commit = chain.check((await shared.get("ledger", key))?.body ?? utf8(""), nativeVerifier);
      chain = chain.advance(commit);
      for (const item of commit.items) {
        places.set(item.entry.record, item.index);
        if (item.record?.kind === "project") names.push(item.record.body["name"]);
      }
    }
    for (const [id, index] of acknowledged) expect(places.get(id)).toBe(index);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toHaveLength(13);
    shared.assertSound();
  }
  expect(takeovers).toBeGreaterThan(30);
});
