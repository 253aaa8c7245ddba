/**
 * One run: machines with the same keys on one store, clients that ask them, and a seed that decides who goes next and what fails.
 *
 * A rough time, then calm: the faults end, whoever waits is served, every process ends in order, a new machine joins with an empty
 * index, writes one change, and the whole ledger is verified. A run is a function of its options.
 *
 * The log is the real one, and so is everything below it down to the ports: clock, chance, object store, index, signer's memory.
 */

import { Election } from "../../src/log/election.ts";
import { initLedger } from "../../src/log/init.ts";
import { Lease } from "../../src/log/lease.ts";
import { type Log, openLog } from "../../src/log/log.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { QUEUE_LIMITS, type QueueLimits } from "../../src/log/queue.ts";
import { assertProbes } from "../../src/main/ledger.ts";
import { Fault } from "../../src/std/faults.ts";
import { Violation } from "../../src/std/violation.ts";
import { LEADER, parseCommitKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { probeStore } from "../../src/store/probes.ts";
import { createFaultStore, type FaultKind, type FaultStore, Stalls } from "../fakes/fault-store.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { ORIGIN, quietLogger, testKeys } from "../log/world.ts";
import { type Betrayal, type Betrayals, betrayable, underneath } from "./betrayed-store.ts";
import { History } from "./history.ts";
import * as invariants from "./invariants.ts";
import { Broken, type ReadLedger } from "./invariants.ts";
import { type Disk, Machine, Process, WrittenBehind } from "./machine.ts";
import { observe } from "./observed-store.ts";
import { type Client, GaveUp, type Scenario } from "./scenario.ts";
import { NEVER_MS, Scheduler } from "./scheduler.ts";

/** Probabilities, at each step, of what befalls processes. */
export interface Troubles {
  /** SIGKILL of a process, wherever it is. */
  readonly crash?: number;
  /** SIGSTOP for up to a minute. */
  readonly pause?: number;
  /** A wall clock that is set, by up to `jumpMs` either way; an hour when absent. */
  readonly jump?: number;
  readonly jumpMs?: number;
  /** An orderly restart. */
  readonly restart?: number;
  /** A process that does not reach the lease for up to a minute, and the rest of the store it does. */
  readonly cut?: number;
}

export interface SimulationOptions {
  readonly seed: number;
  readonly scenario: Scenario;
  /** Machines that may write; 1 when absent. */
  readonly leaders?: number;
  /** Whether the lease says which of them does; else each that runs takes over from the others. */
  readonly lease?: boolean;
  /** Probability of each fault at each store call where it makes sense. */
  readonly rates?: Partial<Record<FaultKind, number>>;
  readonly troubles?: Troubles;
  /** Store calls, counted from 0 over all processes, that meet a fault. */
  readonly planned?: readonly { readonly call: number; readonly kind: FaultKind }[];
  readonly queueLimits?: QueueLimits;
  /** What the store does that no store may, once, at some step. The ledger must survive it or refuse to go on. */
  readonly betrayal?: Betrayal;
  /** Whether processes probe the store when they start, as a server does. */
  readonly probes?: boolean;
  /** Puts something between the log and its store: where a mutant is planted. */
  readonly between?: (store: ObjectStore, process: Process) => ObjectStore;
  readonly createDisk?: (scheduler: Scheduler) => Disk;
}

export interface Summary {
  readonly faults: number;
  readonly commits: number;
  readonly acknowledged: number;
  /** Requests that are committed and whose client never heard so. */
  readonly unacknowledged: number;
  readonly processes: number;
  /** Store calls of all processes but the one that joins at the end. */
  readonly calls: number;
  readonly trace: string;
  /** Whether the store betrayed: a run may end before it came to that. */
  readonly isBetrayed: boolean;
  /** Why the ledger refused to go on after a betrayal; undefined when it went on. */
  readonly refusal: string | undefined;
  /** Whether it found commits under what was laid over them, and went on or not. */
  readonly hasFoundHidden: boolean;
}

/** Virtual time after which the faults end. */
const ROUGH_MS = 90_000;
/** Virtual time within which everything must be done after that. */
const CALM_MS = 30 * 60_000;
/** Probability, at each step, that the store betrays. */
const BETRAYAL = 1 / 150;
const POLL_MS = 200;
const ANSWER_MS = 60_000;
const RETENTION_DAYS = 30;
/** What ends a process and is no fault of its own: another one writes. */
const SUPERSEDED = new Set(["writer.lost", "checkpoint.ahead"]);

/** What a client may still learn by asking again. */
const UNKNOWN = new Set(["WRITER_LOST", "DEADLINE_EXCEEDED", "REPLICA_BEHIND"]);
/** Nothing came of this attempt. */
const NOTHING = new Set(["NOT_WRITER", "RATE_LIMITED", "STATE_CHANGED", "STORE_UNAVAILABLE"]);

const codeOf = (error: unknown): string =>
  error instanceof Violation ? error.code : error instanceof Fault ? error.reason : "internal";

class NoAnswer extends Error {}

export function simulate(options: SimulationOptions): Promise<Summary> {
  const scheduler = new Scheduler(options.seed);
  return scheduler.run(new Simulation(options, scheduler).run());
}

class Simulation implements Client {
  readonly scheduler: Scheduler;
  readonly #options: SimulationOptions;
  readonly #history = new History();
  readonly #memory: MemoryStore = createMemoryStore();
  readonly #betrayals: Betrayals;
  readonly #store: ObjectStore;
  readonly #stalls: Stalls;
  readonly #machines: Machine[];
  readonly #faulty: FaultStore[] = [];
  /** What processes logged as errors. */
  readonly #complaints: unknown[] = [];
  #troubles = 0;
  #callsBeforeJoin = 0;
  #refusal: string | undefined;
  #hasFoundHidden = false;
  /** A refusal that no betrayal explains: told once what it did to the ledger is known. */
  #unexplained: Broken | undefined;
  #calm = false;
  #closing = false;

  constructor(options: SimulationOptions, scheduler: Scheduler) {
    this.#options = options;
    this.scheduler = scheduler;
    this.#betrayals = betrayable(this.#memory, scheduler);
    this.#store = observe(this.#betrayals.store, {
      // What the store forgets was there.
      onBroken: (error) => (this.#betrayals.hasForgotten ? undefined : scheduler.fail(error)),
      onPublished: (note) => this.#history.onSigned(note),
    });
    this.#stalls = new Stalls(() => scheduler.sleep(undefined, scheduler.between(1_000, 30_000), undefined, "stall"));
    this.#machines = Array.from({ length: options.leaders ?? 1 }, (_, k) => new Machine(`m${k}`, this.#createDisk()));
  }

  #createDisk(): Disk {
    return this.#options.createDisk?.(this.scheduler) ?? new WrittenBehind(this.scheduler);
  }

  async run(): Promise<Summary> {
    if (this.#machines.length > 1 || this.#options.scenario.prepare !== undefined) await this.#found();
    this.scheduler.onStep = () => this.#strike();
    const running = Promise.all(this.#machines.map((m) => this.#keepRunning(m)));
    running.catch((error: unknown) => this.scheduler.fail(error));
    const { scenario } = this.#options;
    const served = Promise.all(scenario.clients(this).map((client) => client()));
    served.catch((error: unknown) => this.scheduler.fail(error));
    await Promise.race([served, this.scheduler.sleep(undefined, ROUGH_MS)]);
    this.#becomeCalm();
    await this.#within(served, "the clients are served");
    this.#closing = true;
    await this.#within(running, "the processes end");
    this.#callsBeforeJoin = this.#calls;
    const last = await this.#within(this.#join(), "a new machine joins and writes");
    const isWhole = this.#refusal === undefined && !this.#hasFoundHidden && !this.#betrayals.hasForgotten;
    const summary = await (isWhole ? this.#verify(last) : this.#verifySafe());
    if (this.#unexplained !== undefined) throw this.#unexplained;
    return summary;
  }

  /** Several machines begin with a ledger that was made, and the same memory of it; whatever a scenario prepares is in it. */
  async #found(): Promise<void> {
    const [first] = this.#machines;
    if (first === undefined) return;
    const process = new Process(first, this.scheduler, (note) => this.#history.onSigned(note));
    await this.#init(process, this.#store);
    const { prepare } = this.#options.scenario;
    if (prepare !== undefined) {
      const log = await this.#open(process, this.#store);
      await prepare({ log, process, store: this.#memory });
      await log[Symbol.asyncDispose]();
    }
    for (const machine of this.#machines) machine.notes = first.notes;
  }

  async #init({ clock, lastSigned, random }: Process, store: ObjectStore): Promise<void> {
    await initLedger({
      clock,
      keys: testKeys,
      lastSigned,
      origin: ORIGIN,
      random,
      retentionDays: RETENTION_DAYS,
      store,
    });
  }

  #becomeCalm(): void {
    this.#calm = true;
    this.scheduler.onStep = undefined;
    for (const store of this.#faulty) void store.faults.quiet();
    for (const { process } of this.#machines) {
      if (process === undefined) continue;
      process.pausedUntilMs = 0;
      process.cutUntilMs = 0;
    }
    this.scheduler.hurry();
  }

  /** I11 */
  async #within<T>(work: Promise<T>, what: string): Promise<T> {
    const late = this.scheduler.sleep(undefined, CALM_MS).then((): never => {
      throw new Broken("I11", `half an hour after the faults ended it does not come to pass that ${what}`);
    });
    return Promise.race([work, late]);
  }

  #strike(): void {
    const { betrayal, troubles = {} } = this.#options;
    const { scheduler } = this;
    if (betrayal !== undefined && this.#betrayals.times === 0 && scheduler.chance(BETRAYAL)) {
      this.#betrayals.strike(betrayal);
      // Power fails where the processes are, too.
      if (betrayal === "amnesia" && scheduler.chance(0.5)) this.#befall((p) => p.kill());
    }
    if (scheduler.chance(troubles.crash ?? 0)) this.#befall((p) => p.kill());
    if (scheduler.chance(troubles.pause ?? 0))
      this.#befall((p) => {
        p.pausedUntilMs = scheduler.ms + scheduler.below(60_000);
      });
    if (scheduler.chance(troubles.jump ?? 0))
      this.#befall(({ machine }) => {
        const { jumpMs = 3_600_000 } = troubles;
        machine.skewMs = scheduler.between(-jumpMs, jumpMs);
      });
    if (scheduler.chance(troubles.restart ?? 0))
      this.#befall((p) => {
        p.log = undefined;
      });
    if (scheduler.chance(troubles.cut ?? 0))
      this.#befall((p) => {
        p.cutUntilMs = scheduler.ms + scheduler.below(60_000);
      });
  }

  #befall(what: (process: Process) => void): void {
    const alive = this.#machines.flatMap(({ process }) => (process === undefined ? [] : [process]));
    const struck = alive[this.scheduler.below(alive.length)];
    if (struck === undefined) return;
    this.#troubles++;
    what(struck);
  }

  async #keepRunning(machine: Machine): Promise<void> {
    const { scheduler } = this;
    while (!this.#closing && this.#refusal === undefined) {
      const process = new Process(machine, scheduler, (note) => this.#history.onSigned(note));
      machine.process = process;
      await Promise.race([process.died, this.#live(process)]);
      machine.process = undefined;
      process.alive = false;
      if (!this.#closing) await scheduler.sleep(undefined, scheduler.between(20, 2_000), undefined, "restart");
    }
  }

  /** A process from its start until it stops, is told to end, or dies. */
  async #live(process: Process): Promise<void> {
    const store = this.#storeOf(process);
    if (process.machine.notes.length === 0) await this.#init(process, store);
    let log: Log;
    try {
      log = await this.#open(process, store, this.#options.lease);
    } catch (error) {
      if (error instanceof Violation && SUPERSEDED.has(error.code)) return;
      this.#refuse(codeOf(error), `${process.name} does not start`, error);
      return;
    }
    const election = this.#options.lease === true ? this.#elect(process, store, log) : undefined;
    await election?.begin();
    process.log = log;
    let end: string | undefined;
    while (end === undefined && process.log !== undefined && !this.#closing) {
      await process.clock.sleep(POLL_MS);
      end = this.#endOf(log);
    }
    process.log = undefined;
    await (election ?? log)[Symbol.asyncDispose]();
    end ??= this.#endOf(log);
    if (end !== undefined && end !== "closed" && !SUPERSEDED.has(end))
      this.#refuse(end, `${process.name} stopped: ${end}`, this.#complaints.at(-1));
  }

  /** Why a process has no more to do. Who follows waits for another term; who found something hidden goes on. */
  #endOf(log: Log): string | undefined {
    const { alarm, hiddenCommits, queuedBytes, queuedRecords, role, stopped } = log.health();
    this.#noteQueue(queuedRecords, queuedBytes);
    if (hiddenCommits > 0) this.#hasFoundHidden = true;
    const isWaiting = this.#options.lease === true && role === "follower";
    const code = stopped ?? (alarm === "commit.hidden" ? undefined : alarm);
    return isWaiting && code !== undefined && SUPERSEDED.has(code) ? undefined : code;
  }

  #elect(process: Process, store: ObjectStore, log: Log): Election {
    const { clock, name, random } = process;
    const { origin } = log;
    return new Election({
      clock,
      key: testKeys.commit,
      lease: new Lease({ clock, keys: () => log.commitKeys(), origin, store, verifier: nativeVerifier }),
      log,
      logger: quietLogger,
      random,
      url: () => `https://${name}.example`,
      waits: true,
    });
  }

  /** To refuse is right after a betrayal only, and then with a code that says what was found. */
  #refuse(code: string, what: string, cause: unknown): void {
    this.#refusal ??= code;
    if (this.#betrayals.times === 0 || code === "internal")
      this.#unexplained ??= new Broken("I11", `${what}: ${String(cause)}`, cause);
  }

  #noteQueue(records: number, bytes: number): void {
    const { queued } = this.#history;
    queued.records = Math.max(queued.records, records);
    queued.bytes = Math.max(queued.bytes, bytes);
  }

  #open(process: Process, store: ObjectStore, follow = false): Promise<Log> {
    const { probes = false, queueLimits } = this.#options;
    const { clock, lastSigned, machine, random } = process;
    return openLog({
      ...(probes ? { probe: async () => assertProbes(await probeStore(store, { random })) } : {}),
      ...(queueLimits === undefined ? {} : { queueLimits }),
      clock,
      follow,
      graceMs: 60_000,
      index: machine.disk.index,
      keys: testKeys,
      lastSigned,
      logger: { ...quietLogger, error: (fields) => this.#complaints.push((fields as { readonly err?: unknown }).err) },
      random,
      sealIntervalMs: 2 * NEVER_MS,
      store,
    });
  }

  #storeOf(process: Process): ObjectStore {
    const { between, planned = [], rates } = this.#options;
    const { scheduler } = this;
    const before = this.#calls;
    const store = createFaultStore(this.#store, {
      die: () => {
        process.kill();
        return new Promise<never>(() => undefined);
      },
      land: (zombie) =>
        scheduler.later(scheduler.below(200), "zombie", () => {
          zombie().catch(() => undefined);
        }),
      pause: () => scheduler.sleep(process, scheduler.below(2_000), undefined, "delay"),
      ...(rates === undefined || this.#calm ? {} : { rates }),
      seed: scheduler.below(2 ** 31),
      stalls: this.#stalls,
      step: (call) => scheduler.turn(process, call),
    });
    for (const { call, kind } of this.#closing ? [] : planned) if (call >= before) store.faults.at(call - before, kind);
    this.#faulty.push(store);
    return this.#cutOff(between?.(store, process) ?? store, process);
  }

  /** The store without the lease, for as long as the process does not reach it. */
  #cutOff(store: ObjectStore, process: Process): ObjectStore {
    const assertReached = (key: string): void => {
      if (key === LEADER && this.scheduler.ms < process.cutUntilMs)
        throw new Fault("STORE_UNAVAILABLE", "the lease is not reached");
    };
    return {
      ...store,
      async get(bucket, key, options) {
        assertReached(key);
        return store.get(bucket, key, options);
      },
      async swap(bucket, key, ...given) {
        assertReached(key);
        return store.swap(bucket, key, ...given);
      },
    };
  }

  get #calls(): number {
    return this.#faulty.reduce((n, { faults }) => n + faults.calls, 0);
  }

  /** Asks machines until one answers: see `Client`. */
  async ask(request: string, patient: boolean, work: Parameters<Client["ask"]>[2]): Promise<boolean> {
    const { scheduler } = this;
    this.#history.requests.add(request);
    let mayBe = false;
    for (;;) {
      const process = await this.#reach();
      if (process === undefined) return false;
      try {
        for (const ack of await this.#answer(process, work)) this.#history.acknowledged.push({ ...ack, request });
        return true;
      } catch (error) {
        if (error instanceof GaveUp) return false;
        if (error instanceof NoAnswer) mayBe = true;
        else if (!(error instanceof Fault)) throw new Broken("I11", `${request} met ${String(error)}`, error);
        else if (UNKNOWN.has(error.reason) && !error.message.includes("nothing was recorded")) mayBe = true;
        else if (!NOTHING.has(error.reason) && error.reason !== "DEADLINE_EXCEEDED") {
          // Told where it is: whoever may not ask any more is refused, and not told that nothing was recorded.
          if (error.metadata["recorded_index"] !== undefined) return false;
          // Decided. Of an earlier attempt that may be committed, only a process that knows all commits can speak.
          if (!mayBe || this.#isCurrent(process)) this.#history.denied.set(request, error.reason);
          return false;
        } else if (!patient && !mayBe) this.#history.denied.set(request, error.reason);
        if (!patient) return false;
        await scheduler.sleep(undefined, scheduler.between(10, 500), undefined, "try again");
      }
    }
  }

  #isCurrent({ machine }: Process): boolean {
    const commits = this.#memory.keys("ledger").filter((key) => parseCommitKey(key) !== undefined).length;
    return machine.disk.index.watermark.n === commits;
  }

  /** A process that takes requests; waits until there is one, unless there will be none. */
  async #reach(): Promise<Process | undefined> {
    while (this.#refusal === undefined) {
      const open = this.#machines.flatMap(({ process }) => (process?.log === undefined ? [] : [process]));
      const leading = open.filter((p) => p.log?.role === "leader");
      // Most clients know who leads.
      const known = leading.length > 0 && this.scheduler.chance(0.8) ? leading : open;
      const one = known[this.scheduler.below(known.length)];
      if (one !== undefined) return one;
      await this.scheduler.sleep(undefined, this.scheduler.between(20, 300), undefined, "nobody there");
    }
    return undefined;
  }

  async #answer(process: Process, work: Parameters<Client["ask"]>[2]): ReturnType<typeof work> {
    const { log } = process;
    if (log === undefined) throw new NoAnswer();
    const done = new AbortController();
    const late = this.scheduler.sleep(undefined, ANSWER_MS, done.signal, "client waits").then((): never => {
      throw new NoAnswer("no answer in time");
    });
    late.catch(() => undefined);
    const cut = process.died.then((): never => {
      throw new NoAnswer("the connection broke");
    });
    const answering = work({ log, process, store: this.#memory });
    const { queuedBytes, queuedRecords } = log.health();
    this.#noteQueue(queuedRecords, queuedBytes);
    try {
      return await Promise.race([answering, late, cut]);
    } finally {
      answering.catch(() => undefined);
      done.abort(new Error("answered"));
    }
  }

  /** A new machine, with nothing but the keys and the memory of the signer. */
  async #join(): Promise<Machine> {
    const newest = this.#machines.flatMap(({ notes }) => notes);
    const machine = new Machine("new", this.#createDisk(), newest);
    if (this.#refusal !== undefined) return machine;
    const process = new Process(machine, this.scheduler, (note) => this.#history.onSigned(note));
    try {
      const log = await this.#open(process, this.#storeOf(process));
      const work = this.#options.scenario.lastChange();
      for (const ack of await work({ log, process, store: this.#memory }))
        this.#history.acknowledged.push({ ...ack, request: "last-change" });
      await log.seal();
      await log[Symbol.asyncDispose]();
      const alarm = this.#endOf(log);
      if (alarm !== undefined && alarm !== "closed")
        this.#refuse(alarm, "the new machine stopped", this.#complaints.at(-1));
    } catch (error) {
      if (error instanceof Broken) throw error;
      this.#refuse(codeOf(error), "a new machine does not join", error);
    }
    return machine;
  }

  async #verify(last: Machine): Promise<Summary> {
    const { queueLimits = QUEUE_LIMITS, scenario } = this.#options;
    const history = this.#history;
    const ledger = await invariants.readLedger(this.#memory);
    invariants.holdOneContent(this.#memory);
    invariants.holdAcknowledged(ledger, history);
    invariants.holdOnce(ledger);
    invariants.holdProofs(ledger, history);
    invariants.holdSignatures(ledger, history);
    invariants.holdSequences(ledger);
    for (const { disk, name } of [...this.#machines, last]) {
      const { n, state } = disk.index.watermark;
      invariants.holdState(ledger, name, n, state);
    }
    await invariants.holdPublished(ledger);
    scenario.holdGuards(ledger.items);
    invariants.holdDenials(ledger, history);
    invariants.holdQueues(history, queueLimits, scenario.largestGroup);
    await invariants.holdVerdict(ledger, NEVER_MS);
    return this.#summary(ledger);
  }

  /** A ledger that refused, or whose store forgot: nothing that was acknowledged is contradicted, and nothing is there twice. */
  async #verifySafe(): Promise<Summary> {
    const history = this.#history;
    const ledger = await (this.#betrayals.times > 0
      ? invariants.readPrefix(underneath(this.#memory))
      : invariants.readLedger(this.#memory));
    const lost = this.#betrayals.hasForgotten && this.#refusal !== undefined;
    invariants.holdAcknowledged(ledger, history, (index) => index >= ledger.items.length && lost);
    invariants.holdOnce(ledger);
    invariants.holdProofs(ledger, history, (size) => size > ledger.items.length && lost);
    invariants.holdSequences(ledger);
    this.#options.scenario.holdGuards(ledger.items);
    invariants.holdDenials(ledger, history);
    return this.#summary(ledger);
  }

  #summary({ commits, items }: ReadLedger): Summary {
    const { acknowledged, requests } = this.#history;
    const heard = new Set(acknowledged.map((a) => a.request));
    const made = new Set(items.map((i) => i.record?.request_id ?? ""));
    const struck = this.#faulty.flatMap(({ faults }) => Object.values(faults.struck)).reduce((a, b) => a + b, 0);
    return {
      acknowledged: acknowledged.length,
      calls: this.#callsBeforeJoin,
      commits: commits.length,
      hasFoundHidden: this.#hasFoundHidden,
      isBetrayed: this.#betrayals.times > 0,
      faults: struck + this.#troubles + this.#betrayals.times,
      processes: this.#machines.reduce((n, m) => n + m.starts, 0),
      refusal: this.#refusal,
      trace: this.scheduler.trace,
      unacknowledged: [...requests].filter((r) => made.has(r) && !heard.has(r)).length,
    };
  }
}
