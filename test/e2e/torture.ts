/**
 * SIGKILL at random under load: of the server of an embedded ledger, and of three servers on one MinIO and of that MinIO. What was
 * acknowledged is there afterwards, once, and proven by its receipt; what was not acknowledged happened whole or not at all; the
 * buckets verify.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { assertDefined } from "../../src/std/assert.ts";
import { seededNumbers } from "../fakes/fault-store.ts";
import { readLog, readObject, readPolicy } from "./log-copy.ts";
import { expectComplete, type MinioLedger, makeMinioLedger, untilPublished } from "./minio-ledger.ts";
import { initHome, launchServer, type ServerProcess, startServer, temporaryFolder } from "./server.ts";
import { type Held, hire, type Workers } from "./workers.ts";

const LONGEST_LIFE_MS = 600;
const SHORTEST_LIFE_MS = 15;
/** Of ten starts, this many are killed while they start. */
const KILLED_STARTING = 2;

export interface Outcome extends Held {
  readonly kills: number;
  readonly commits: number;
}

export const summary = (outcomes: readonly Outcome[]): string => {
  const sum = (of: (o: Outcome) => number): number => outcomes.reduce((n, o) => n + of(o), 0);
  return (
    `${sum((o) => o.kills)} kills, ${sum((o) => o.commits)} commits, ${sum((o) => o.acks)} acknowledgements of ` +
    `${sum((o) => o.records)} records, ${sum((o) => o.lost.length)} lost, ` +
    `${sum((o) => o.unacknowledged)} committed and not acknowledged`
  );
};

/** Kills the server of a new embedded ledger `upTo` times; rejects when anything but an acknowledgement is wrong. */
export async function torture(seed: number, upTo: number): Promise<Outcome> {
  const random = seededNumbers(seed);
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "home");
  const home = await initHome(dir);
  let workers: Workers;
  {
    const server = await startServer(dir);
    workers = await hire(server, home.token, random);
    assert.equal(await server.stop(), 0);
  }

  const serve = async (server: ServerProcess, whileMs: number): Promise<void> => {
    let ended = false;
    const working = workers.work(
      () => server,
      () => ended,
    );
    // A worker that fails fails the test; it must not wait for the server's death.
    await Promise.race([sleep(whileMs), working]);
    ended = true;
    await server.kill();
    await working;
  };

  let kills = 0;
  for (; kills < upTo; kills++) {
    const launched = launchServer(dir);
    if (random() * 10 < KILLED_STARTING) {
      launched.ready.catch(() => undefined);
      await sleep(random() * 2 * LONGEST_LIFE_MS);
      await launched.kill();
    } else await serve(await launched.ready, SHORTEST_LIFE_MS + random() * (LONGEST_LIFE_MS - SHORTEST_LIFE_MS));
  }

  const last = await startServer(dir);
  await workers.settle(last);
  await untilPublished(last);
  assert.equal(await last.stop(), 0);
  await expectComplete(dir, dir);
  const copy = await readLog(dir);
  const final = await readObject(join(dir, "head", "checkpoint"));
  if (final === undefined) throw new Error("assertion failed: a checkpoint is published at the end");
  return { ...workers.check(copy, await readPolicy(dir), final), commits: copy.commits.length, kills };
}

/** A server is killed so soon after it was ready, and MinIO so soon after its start. */
const LIFE_MS = { minio: 3_500, replica: 2_500, writer: 1_500 } as const;
/** Of a hundred kills; there are two replicas. */
const SHARE = { minio: 14, replica: 28, writer: 30 } as const;
/** Acknowledgements that show that work goes on. */
const GOING_ON = 20;
/** What a server says that does not start while its store is gone. */
const STORE_IS_GONE = /check that the store runs|start the store|look into the store's log/;

export interface MinioOutcome extends Outcome {
  /** From the SIGKILL of a leader that nobody starts again to the next acknowledgement. */
  readonly takeoverMs: number;
  /** Processes that ended by themselves because the store was gone when they started. */
  readonly refusals: number;
}

/** Three servers on a MinIO, of which the first leads whenever it lives. */
class Storm {
  readonly #ledger: MinioLedger;
  readonly #random: () => number;
  readonly alive = new Map<string, ServerProcess>();
  kills = 0;
  refusals = 0;

  constructor(ledger: MinioLedger, random: () => number) {
    this.#ledger = ledger;
    this.#random = random;
  }

  get leader(): string {
    return this.#ledger.first.dir;
  }

  pick(): ServerProcess | undefined {
    return [...this.alive.values()][Math.floor(this.#random() * this.alive.size)];
  }

  async start(dir: string): Promise<void> {
    this.alive.set(dir, await this.#ledger.start(dir, { replica: dir !== this.leader }));
  }

  async kill(dir: string): Promise<void> {
    const server = this.alive.get(dir);
    this.alive.delete(dir);
    await server?.kill();
    this.kills++;
  }

  /** Kills the server of a home so many times, also while it starts. */
  async killServer(dir: string, times: number): Promise<void> {
    const kind = dir === this.leader ? "writer" : "replica";
    for (let done = 0; done < times; ) {
      const launched = this.#ledger.launch(dir, { replica: kind === "replica" });
      let refused: Error | undefined;
      const ready = launched.ready.then(
        (server) => void this.alive.set(dir, server),
        (error: Error) => (refused = error),
      );
      if (this.#random() * 10 >= KILLED_STARTING) await ready;
      await sleep(this.#random() * LIFE_MS[kind]);
      this.alive.delete(dir);
      if (refused === undefined) done++;
      else if (STORE_IS_GONE.test(refused.message)) this.refusals++;
      else throw refused;
      await launched.kill();
      await ready;
      this.alive.delete(dir);
    }
    this.kills += times;
  }

  async killStore(times: number): Promise<void> {
    for (let done = 0; done < times; done++) {
      await sleep((0.5 + this.#random()) * LIFE_MS.minio);
      await this.#ledger.minio.restart();
    }
    this.kills += times;
  }

  /** Kills the leader for good; gives the time to the next acknowledgement, which a replica that took over gives. */
  async takeover(workers: Workers): Promise<number> {
    await workers.more(GOING_ON);
    await this.kill(this.leader);
    const fromMs = performance.now();
    // What the leader had answered before may still be on its way.
    await sleep(500);
    await workers.more(1);
    const tookMs = performance.now() - fromMs;
    await workers.more(GOING_ON);
    return tookMs;
  }
}

/** Kills writers, replicas and the store of a new ledger on MinIO `upTo` times or a few more. */
export async function tortureMinio(seed: number, upTo: number): Promise<MinioOutcome> {
  const random = seededNumbers(seed);
  await using ledger = await makeMinioLedger("torture");
  const storm = new Storm(ledger, random);
  const homes = [storm.leader, await ledger.home("second"), await ledger.home("third")];
  const times = (of: keyof typeof SHARE): number => Math.ceil((upTo * SHARE[of]) / 100);
  await storm.start(storm.leader);
  const workers = await hire(assertDefined(storm.pick(), "the first server lives"), ledger.first.token, random);
  await storm.kill(storm.leader);

  let ended = false;
  const working = workers.work(
    () => storm.pick(),
    () => ended,
  );
  // A worker that fails fails the test at once.
  const beside = <T>(work: Promise<T>): Promise<T> =>
    Promise.race([work, working.then((): never => assert.fail("the workers ended before the end"))]);
  let takeoverMs: number;
  try {
    const kills = homes.map((dir) => storm.killServer(dir, times(dir === storm.leader ? "writer" : "replica")));
    await beside(Promise.all([...kills, storm.killStore(times("minio"))]));
    await Promise.all(homes.map((dir) => storm.start(dir)));
    takeoverMs = await beside(storm.takeover(workers));
    ended = true;
    await working;
  } finally {
    ended = true;
    for (const server of storm.alive.values()) await server.kill();
  }
  const last = await ledger.start(storm.leader);
  await workers.settle(last);
  const { kills, refusals } = storm;
  return { ...(await ledger.check(last, workers)), kills, refusals, takeoverMs };
}
