import { expect, it, vi } from "vitest";
import { keys } from "../../src/fold/view.ts";
import type { Submission } from "../../src/log/log.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { LogIndex, RecordId } from "../../src/std/brand.ts";
import { createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { createDataset, createProject, createWorld, openIn, quietLogger } from "./world.ts";

it("puts a group into one commit, contiguously, with its references", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  await using log = await openIn(world, store);
  const actor = { method: "system" } as const;
  const group: Submission<null> = {
    admit: () => ({
      drafts: [
        { actor, body: { name: "fraud" }, kind: "project", links: [], requestId: "g" },
        {
          actor,
          body: { classification: "CLASSIFICATION_PUBLIC", name: "d" },
          kind: "dataset",
          links: [],
          project: "$0",
          requestId: "g",
        },
        {
          actor,
          body: { classification: "CLASSIFICATION_PUBLIC", name: "d" },
          kind: "dataset",
          links: [{ rel: "revises", to: "$1" }],
          project: "$0",
          requestId: "g",
        },
      ],
      value: null,
    }),
    project: world.init.system,
  };
  const { committed } = await log.submit(group);
  const records = assertDefined(committed, "records").records;
  expect(records.map((r) => r.index)).toEqual([2, 3, 4]);
  expect(records[1]?.record.project).toBe(records[0]?.id);
  expect(records[2]?.record.links).toEqual([{ rel: "revises", to: records[1]?.id }]);
  const reader = log.index.reader();
  expect(new Set([2, 3, 4].map((i) => reader.entry(i)?.commit)).size).toBe(1);
});

it("refuses in the words of the admission, and again when the row moved meanwhile", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  await using log = await openIn(world, store);
  const project = assertDefined(
    (await log.submit(createProject("fraud", world.init.system))).committed?.records[0],
    "a project",
  ).id;
  const answers = await Promise.allSettled([
    log.submit(createDataset(project, "d", "one")),
    log.submit(createDataset(project, "d", "two")),
    log.submit(createDataset(project, "d", "one")),
  ]);
  expect(
    answers.map((a) => (a.status === "fulfilled" ? a.value.value : (a.reason as { reason: string }).reason)),
  ).toEqual(["created", "ALREADY_EXISTS", "repeated"]);
});

it("holds an answer that rests on a commit in flight until it is signed", async () => {
  const inner = createMemoryStore();
  const world = await createWorld(inner);
  const store = createFaultStore(inner);
  await using log = await openIn(world, store);
  store.faults.next("create", "error-before", (_, key) => key.startsWith("commits/"));
  const order: string[] = [];
  await Promise.all([
    log.submit(createProject("fraud", world.init.system)).then(() => order.push("made")),
    log
      .submit(createProject("fraud", world.init.system))
      .then(({ value }) =>
        order.push(log.index.reader().indexOf(value as never) === undefined ? "too early" : "found"),
      ),
  ]);
  expect(order).toEqual(["made", "found"]);
});

it("answers a repeat once what it rests on is signed, so that there is a receipt", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  const release = Promise.withResolvers<void>();
  const write = world.lastSigned.write.bind(world.lastSigned);
  world.lastSigned.write = async (note) => {
    await release.promise;
    await write(note);
  };
  const first = log.submit(createProject("fraud", world.init.system));
  await vi.waitFor(() => expect(log.health().size).toBe(3));
  const second = log.submit(createProject("fraud", world.init.system));
  const repeat = second.then(({ value }) => log.receipt(log.index.reader().indexOf(value as RecordId) as LogIndex));
  await world.clock.sleep(1_000);
  release.resolve();
  const made = assertDefined((await first).committed, "a record").records[0];
  expect((await repeat).index).toBe(made?.index);
  await log[Symbol.asyncDispose]();
});

it("tells callers whose deadline passes while the store is silent, and commits all the same", async () => {
  const inner = createMemoryStore();
  const world = await createWorld(inner);
  const store = createFaultStore(inner);
  await using log = await openIn(world, store);
  for (let i = 0; i < 12; i++) store.faults.next("create", "error-before", (_, key) => key.startsWith("commits/"));
  const submission = { ...createProject("fraud", world.init.system), deadlineMs: world.clock.now() + 100 };
  await expect(log.submit(submission)).rejects.toMatchObject({ reason: "DEADLINE_EXCEEDED" });
  await world.clock.sleep(60_000);
  expect(log.index.reader().get("name", keys.name("-", "project", "fraud"))).toBeDefined();
  await expect(log.submit({ ...submission, deadlineMs: world.clock.now() - 1 })).rejects.toMatchObject({
    reason: "DEADLINE_EXCEEDED",
  });
  const gone = new AbortController();
  const waiting = log.submit({ ...createProject("risk", world.init.system), signal: gone.signal });
  gone.abort();
  await expect(waiting).rejects.toMatchObject({ reason: "DEADLINE_EXCEEDED" });
});

it("says how long a change waits for a store that takes nothing, and warns of it", async () => {
  const inner = createMemoryStore();
  const world = await createWorld(inner);
  const store = createFaultStore(inner);
  const warnings: string[] = [];
  const logger = { ...quietLogger, warn: (_: object, message: string) => void warnings.push(message) };
  await using log = await openIn(world, store, undefined, { logger });
  expect(log.health().waitingMs).toBe(0);
  for (let i = 0; i < 4; i++) store.faults.next("create", "error-before", (_, key) => key.startsWith("commits/"));
  const waiting = log.submit(createProject("fraud", world.init.system));
  await world.clock.sleep(100);
  expect(log.health().waitingMs).toBeGreaterThan(0);
  expect((await waiting).value).toBe("new");
  expect(log.health().waitingMs).toBe(0);
  expect(warnings).toHaveLength(3);
});

it("takes nothing more while the store takes nothing, tells why, and keeps nobody waiting for ever", async () => {
  const inner = createMemoryStore();
  const world = await createWorld(inner);
  const store = createFaultStore(inner);
  await using log = await openIn(world, store);
  for (let i = 0; i < 40; i++) store.faults.next("create", "error-before", (_, key) => key.startsWith("commits/"));
  const heard: string[] = [];
  const hear = (what: string) => (fault: { reason: string; message: string }) =>
    void heard.push(`${what} ${fault.reason} ${/store/.test(fault.message)}`);
  const flying = log.submit(createProject("fraud", world.init.system)).catch(hear("flying"));
  await world.clock.sleep(1_000);
  const queued = log.submit(createProject("risk", world.init.system)).catch(hear("queued"));
  await world.clock.sleep(9_000);
  await log.submit(createProject("churn", world.init.system)).catch(hear("late"));
  expect(heard).toEqual(["late STORE_UNAVAILABLE true"]);
  await Promise.all([flying, queued]);
  expect(heard.slice(1)).toEqual(["flying DEADLINE_EXCEEDED true", "queued DEADLINE_EXCEEDED true"]);
  await store.faults.quiet();
  await world.clock.sleep(10_000);
  const names = (): boolean[] =>
    ["fraud", "risk", "churn"].map((n) => log.index.reader().get("name", keys.name("-", "project", n)) !== undefined);
  expect(names()).toEqual([true, false, false]);
  expect((await log.submit(createProject("risk", world.init.system))).value).toBe("new");
});

it("pushes back when records are not materialised", async () => {
  const inner = createMemoryStore();
  const world = await createWorld(inner);
  const store = createFaultStore(inner, { rates: {} });
  const log = await openIn(world, store, undefined, { backlogRecords: 10 });
  for (let i = 0; i < 4_000; i++) store.faults.next("create", "error-before", (_, key) => key.startsWith("records/"));
  await Promise.all(Array.from({ length: 12 }, (_, i) => log.submit(createProject(`p${i}`, world.init.system))));
  await expect(log.submit(createProject("late", world.init.system))).rejects.toMatchObject({
    reason: "RATE_LIMITED",
    retryAfterMs: 1_000,
  });
  await store.faults.quiet();
  await world.clock.sleep(20_000);
  expect((await log.submit(createProject("late", world.init.system))).value).toBe("new");
  await log[Symbol.asyncDispose]();
});

it("shares one seal among those who ask at once, and makes none when nothing came", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  await using log = await openIn(world, store);
  const [a, b] = await Promise.all([log.seal(), log.seal()]);
  expect(a).toBe(b);
  expect(await log.seal()).toBe(a);
  expect(a.size).toBe(a.index + 1);
  await log.submit(createProject("fraud", world.init.system));
  expect((await log.seal()).size).toBe(a.size + 2);
});
