/** Runs that nobody hears are ended by the server, and may still say how they ended. */
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RunStatus } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { GetRequestSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import * as api from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { heartbeat } from "../../src/command/heartbeat.ts";
import { SilentRuns } from "../../src/command/lose-runs.ts";
import { getRun } from "../../src/query/run.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { Lab, type Run } from "./lab.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

const HOUR = 3_600_000;

let world: World;
let lab: Lab;
/** What a steady clock says; it goes with the wall clock unless a test sets that one alone. */
let steadyMs = 0;
let silent: SilentRuns;

const pass = (ms: number): void => {
  world.clock.ms += ms;
  steadyMs += ms;
};

const watch = (): SilentRuns => {
  const { clock, ...deps } = world.deps;
  return new SilentRuns({
    ...deps,
    clock: { monotonic: () => steadyMs, now: () => clock.now(), sleep: (ms, signal) => clock.sleep(ms, signal) },
  });
};

beforeEach(async () => {
  steadyMs = 0;
  world = await createWorld();
  await newProject(world, "fraud");
  lab = new Lab(world, await world.member("fraud", "contributor"), "fraud");
  silent = watch();
});
afterEach(async () => {
  await silent[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

const statusOf = (run: Run): string => {
  using reader = world.deps.log.index.reader();
  return reader.get("run", run.id)?.value.status ?? "";
};
const summaryOf = (run: Run) =>
  getRun(world.deps, lab.caller, create(GetRequestSchema, { name: run.id, project: "fraud" })).summary;
const beat = (run: Run) =>
  heartbeat(world.deps, run.token, create(api.HeartbeatRequestSchema, { project: "fraud", run: run.id }));
const lastRecord = () => {
  using reader = world.deps.log.index.reader();
  const entry = assertDefined(reader.entry(reader.size - 1), "an entry");
  return assertDefined(reader.record(entry.record), "a record").record;
};

describe("a silent run", () => {
  it("is ended by the server after six hours, once", async () => {
    const run = await lab.running();
    await lab.batch(run, 0, { metrics: [{ key: "auc", value: 0.9 }] });
    pass(6 * HOUR - 1);
    expect(await silent.sweep()).toEqual([]);
    pass(1);
    expect(await silent.sweep()).toEqual([run.id]);
    expect(statusOf(run)).toBe("lost");
    expect(lastRecord()).toMatchObject({
      actor: { method: "system" },
      body: { batches: 1, reason: "not heard for 21600 s", status: "RUN_STATUS_LOST" },
      kind: "run.finish",
    });
    expect(summaryOf(run)?.finish).toMatchObject({ status: RunStatus.LOST });
    const { size } = world.deps.log.index.watermark;
    pass(6 * HOUR);
    expect(await silent.sweep()).toEqual([]);
    expect(world.deps.log.index.watermark.size).toBe(size);
    await refused(() => beat(run), "RUN_NOT_RUNNING");
  });

  it("is one that neither beats nor reports", async () => {
    const [beating, reporting, still] = [await lab.running(), await lab.running(), await lab.running()];
    pass(5 * HOUR);
    await beat(beating);
    await lab.batch(reporting, 0, { metrics: [{ key: "auc", value: 0.9 }] });
    pass(2 * HOUR);
    expect(await silent.sweep()).toEqual([still.id]);
    pass(4 * HOUR);
    expect((await silent.sweep()).toSorted()).toEqual([beating.id, reporting.id].toSorted());
  });

  it("is lost as soon as its project says", async () => {
    await newProject(world, "fast", { project: { lostAfterS: 600, name: "fast" } });
    const fast = new Lab(world, await world.member("fast", "contributor"), "fast");
    const [here, there] = [await fast.running(), await lab.running()];
    pass(600_000);
    expect(await silent.sweep()).toEqual([here.id]);
    expect(statusOf(there)).toBe("running");
  });

  it("that had ended is left alone", async () => {
    const run = await lab.running();
    await lab.finish(run, 0);
    pass(7 * HOUR);
    expect(await silent.sweep()).toEqual([]);
    expect(statusOf(run)).toBe("succeeded");
  });

  it("does not end before its children", async () => {
    const parent = await lab.running();
    const child = await lab.running(lab.plan([], { parent: parent.id }));
    pass(7 * HOUR);
    expect(await silent.sweep()).toEqual([child.id]);
    expect(await silent.sweep()).toEqual([parent.id]);
  });
});

describe("a server that did not listen", () => {
  it("gives every run its time anew", async () => {
    const run = await lab.running();
    pass(5 * HOUR);
    await silent[Symbol.asyncDispose]();
    pass(24 * HOUR);
    silent = watch();
    expect(await silent.sweep()).toEqual([]);
    pass(6 * HOUR);
    expect(await silent.sweep()).toEqual([run.id]);
  });

  it("takes no jump of the wall clock for silence", async () => {
    const run = await lab.running();
    pass(HOUR);
    await beat(run);
    world.clock.ms += 48 * HOUR;
    expect(await silent.sweep()).toEqual([]);
    pass(6 * HOUR);
    expect(await silent.sweep()).toEqual([run.id]);
  });
});

describe("a lost run", () => {
  it("says late how it ended, with its own token", async () => {
    const started = await lab.start(lab.plan());
    const run = { id: started.run?.record ?? "", token: world.caller(started.runToken) };
    await lab.batch(run, 0, { metrics: [{ key: "auc", value: 0.8 }] });
    pass(6 * HOUR);
    await silent.sweep();
    const late = { id: run.id, token: world.caller(started.runToken) };
    // What was delivered before is not news.
    const { size } = world.deps.log.index.watermark;
    await lab.batch(late, 0, { late: true, metrics: [{ key: "auc", value: 0.8 }] });
    expect(world.deps.log.index.watermark.size).toBe(size);
    await lab.batch(late, 1, { metrics: [{ key: "auc", value: 0.9 }] });
    expect(lastRecord().body).toMatchObject({ late: true, seq: 1 });
    await lab.batch(late, 1, { metrics: [{ key: "auc", value: 0.9 }] });
    await refused(() => lab.batch(late, 1, { metrics: [{ key: "auc", value: 0.7 }] }), "REQUEST_ID_REUSED");
    await lab.finish(late, 2);
    expect(lastRecord().body).toMatchObject({ late: true, status: "RUN_STATUS_SUCCEEDED" });
    expect(statusOf(run)).toBe("succeeded");
    // The answer may have been lost: said again it is answered again, and what would be new is refused.
    await lab.finish(late, 2);
    await refused(() => lab.batch(late, 2, { metrics: [{ key: "auc", value: 0.8 }] }), "RUN_NOT_RUNNING");
  });

  it("does so within the token's life only", async () => {
    const started = await lab.start(lab.plan());
    pass(25 * HOUR);
    await silent.sweep();
    await refused(() => world.caller(started.runToken), "TOKEN_INVALID");
  });
});

it("sweeps by the clock until it is disposed of", async () => {
  const run = await lab.running();
  const { clock: _, ...deps } = world.deps;
  let wake = Promise.withResolvers<void>();
  const swept = new SilentRuns({
    ...deps,
    clock: {
      monotonic: () => steadyMs,
      now: () => world.clock.now(),
      sleep: (_ms, signal) =>
        Promise.race([
          wake.promise,
          new Promise<void>((_resolve, reject) => {
            signal?.addEventListener("abort", () => reject(signal.reason as Error));
          }),
        ]),
    },
  });
  swept.start();
  pass(6 * HOUR);
  const done = wake;
  wake = Promise.withResolvers();
  done.resolve();
  await expect.poll(() => statusOf(run)).toBe("lost");
  await swept[Symbol.asyncDispose]();
});
