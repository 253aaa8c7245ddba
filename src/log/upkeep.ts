/**
 * What the leader does beside taking changes, for as long as it leads: it records what was found wrong in the bucket, looks at the
 * whole bucket again and again, and prolongs locks before they end. Each leaves an `operation` in the log.
 *
 * - Findings are recorded at once, and together: at most `RECORDS_PER_HOUR` records, each naming `MAX_NAMED` at most, since whoever can
 *   put objects into the bucket would fill the log otherwise. A look at everything is recorded once a day.
 * - What cannot be recorded waits: for the store, or for the next time that this process leads.
 * - Nothing here stops a change from being taken, and a failure here is told and tried again.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  OperationOutcome,
  type OperationSchema,
  OperationType,
} from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import type { JsonObject } from "../record/json.ts";
import { Fault } from "../std/faults.ts";
import { type Clock, formatTime, parseTime, type Random } from "../std/ports.ts";
import type { ObjectStore } from "../store/object-store.ts";
import type { Finding, Findings } from "./findings.ts";
import type { Log } from "./log.ts";
import { countsOf, operationsOf, recordOperation } from "./operations.ts";
import type { Logger } from "./ports.ts";
import { type Renewed, renew } from "./renewal.ts";
import { DAY_MS } from "./retention.ts";
import { type Scrubbed, scrub } from "./scrub.ts";

type Operation = MessageInitShape<typeof OperationSchema>;

export interface UpkeepPace {
  /** Objects that are looked at in a second; 0 for none. */
  readonly scrubRate?: number;
  /** Between two looks at everything. */
  readonly scrubPauseMs?: number;
}

export interface UpkeepOptions extends UpkeepPace {
  readonly log: Log;
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly findings: Findings;
  readonly tally: Tally;
}

/** What was done, for metrics. */
export interface Tally {
  scrubbedObjects: number;
  /** When the last look at everything ended, in milliseconds since the epoch; 0 before the first. */
  scrubbedAtMs: number;
  prolongedLocks: number;
  unprolongedLocks: number;
}

export const createTally = (): Tally => ({
  prolongedLocks: 0,
  scrubbedAtMs: 0,
  scrubbedObjects: 0,
  unprolongedLocks: 0,
});

const RECORDS_PER_HOUR = 6;
const HOUR_MS = 3_600_000;
const MAX_NAMED = 50;
/** What is found at the same time is recorded together. */
const GATHER_MS = 1_000;
const RETRY_MS = 60_000;
/** A server that has just begun to lead has more urgent work. */
const FIRST_MS = 10_000;
const SCRUB_PAUSE_MS = 600_000;
export const SCRUB_RATE = 20;
/** Renewals whose ends are where others may have to begin. */
const MAX_PAST = 1_000;

export class Upkeep implements AsyncDisposable {
  readonly #options: UpkeepOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  readonly #forget: () => void;
  /** When findings were recorded within the last hour. */
  #recordedAtMs: number[] = [];
  #wake = Promise.withResolvers<void>();

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#remember();
    this.#forget = options.findings.onUnrecorded(() => this.#wake.resolve());
    this.#running = Promise.all([
      this.#forever("findings could not be recorded", () => this.#recordFindings()),
      this.#forever("locks could not be prolonged", () => this.#renew()),
      ...(options.scrubRate === 0 ? [] : [this.#forever("the bucket could not be looked at", () => this.#scrub())]),
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("the upkeep ends"));
    this.#forget();
    this.#wake.resolve();
    await this.#running;
  }

  /** What an earlier leader recorded is not recorded again. */
  #remember(): void {
    const { findings, log } = this.#options;
    using reader = log.index.reader();
    let past = 0;
    for (const { body, isOwn } of operationsOf(reader, "SCRUB")) {
      if (++past > MAX_PAST) return;
      if (isOwn) for (const finding of findingsOf(body)) findings.remember(finding);
    }
  }

  async #forever(failed: string, work: () => Promise<void>): Promise<void> {
    const { clock, log, logger } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await work();
      } catch (error) {
        if (signal.aborted) return;
        // Another process leads by now, and this ends soon.
        const isOver = error instanceof Fault && (error.reason === "NOT_WRITER" || log.role !== "leader");
        if (!isOver) logger.warn({ err: error }, failed);
        await clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  #sleep(ms: number): Promise<void> {
    return this.#options.clock.sleep(ms, this.#stop.signal);
  }

  async #record(operation: Operation): Promise<void> {
    const index = await recordOperation(this.#options, operation, this.#stop.signal);
    this.#options.logger.info({ log_index: index }, "an operation is recorded");
  }

  // Findings.

  async #recordFindings(): Promise<void> {
    const { clock, findings } = this.#options;
    if (findings.unrecorded().length === 0) {
      this.#wake = Promise.withResolvers<void>();
      await this.#wake.promise;
      this.#stop.signal.throwIfAborted();
    }
    await this.#sleep(GATHER_MS);
    const now = clock.monotonic();
    this.#recordedAtMs = this.#recordedAtMs.filter((at) => now - at < HOUR_MS);
    const [oldest = now] = this.#recordedAtMs;
    if (this.#recordedAtMs.length >= RECORDS_PER_HOUR) await this.#sleep(oldest + HOUR_MS - now);
    const found = findings.unrecorded();
    if (found.length === 0) return;
    await this.#record(operationOf(found));
    findings.recorded(found);
    this.#recordedAtMs.push(clock.monotonic());
  }

  // Looks at everything.

  async #scrub(): Promise<void> {
    const {
      clock,
      findings,
      log,
      logger,
      random,
      scrubPauseMs = SCRUB_PAUSE_MS,
      scrubRate = SCRUB_RATE,
      store,
      tally,
    } = this.#options;
    await this.#sleep(Math.min(FIRST_MS, scrubPauseMs));
    for (;;) {
      const scrubbed = await scrub({
        clock,
        findings,
        index: log.index,
        objectsPerSecond: scrubRate,
        onObject: () => void tally.scrubbedObjects++,
        random,
        signal: this.#stop.signal,
        store,
      });
      tally.scrubbedAtMs = clock.now();
      tally.prolongedLocks += scrubbed.counts.prolonged;
      const open = Object.fromEntries(findings.open());
      logger.info({ ...scrubbed.counts, found: open, size: scrubbed.size }, "the bucket was looked at");
      if (this.#isDaily()) await this.#record(summaryOf(scrubbed, open));
      await this.#sleep(scrubPauseMs);
    }
  }

  /** Whether the log has no look at everything of the last day. */
  #isDaily(): boolean {
    const { clock, log } = this.#options;
    using reader = log.index.reader();
    let past = 0;
    for (const { body, isOwn, timeMs } of operationsOf(reader, "SCRUB")) {
      if (clock.now() - timeMs >= DAY_MS || ++past > MAX_PAST) break;
      if (isOwn && body["range"] !== undefined) return false;
    }
    const made = parseTime(reader.record(log.genesis)?.record.time ?? "") ?? 0;
    return clock.now() - made >= DAY_MS;
  }

  // Locks.

  async #renew(): Promise<void> {
    await this.#sleep(FIRST_MS);
    for (;;) {
      await this.#renewDue();
      await this.#sleep(DAY_MS);
    }
  }

  async #renewDue(): Promise<void> {
    const { clock, findings, log, logger, store, tally } = this.#options;
    const wrong: Finding[] = [];
    const report = (finding: Finding): void => {
      wrong.push(finding);
      findings.report(finding);
    };
    const ranges = renew({ clock, index: log.index, report, signal: this.#stop.signal, store }, beginsOf(log));
    for await (const renewed of ranges) {
      tally.prolongedLocks += renewed.counts.prolonged;
      tally.unprolongedLocks += renewed.counts.wrong;
      const { counts, range, reason } = renewed;
      const fields = { ...counts, ...range, ...(reason === undefined ? {} : { reason }) };
      if (reason === undefined && counts.wrong === 0) logger.info(fields, "locks were prolonged");
      else logger.error(fields, "locks could not all be prolonged");
      if (this.#stop.signal.aborted) return;
      await this.#record(renewalOf(renewed, wrong.splice(0)));
    }
  }
}

/** Numbers of the commits at which an earlier renewal ended: what follows may be due although what is before is not. */
export function beginsOf({ index }: Pick<Log, "index">): number[] {
  using reader = index.reader();
  const begins = new Set<number>();
  let past = 0;
  for (const { body } of operationsOf(reader, "RETENTION")) {
    if (++past > MAX_PAST) break;
    const { to } = (body["range"] ?? {}) as { readonly to?: number };
    const entry = to === undefined || to === 0 ? undefined : reader.entry(to - 1);
    if (entry !== undefined) begins.add(entry.commit + 1);
  }
  return [...begins];
}

const findingsOf = (body: JsonObject): Finding[] =>
  ((body["findings"] ?? []) as readonly Partial<Finding>[]).map(({ code = "", detail = "", object = "" }) => ({
    code,
    detail,
    object,
  }));

/** Names as many as a record may, and counts all. */
function named(found: readonly Finding[]): Pick<Operation & object, "findings"> {
  return { findings: found.slice(0, MAX_NAMED).map(({ code, detail, object }) => ({ code, detail, object })) };
}

function countByCode(found: readonly Finding[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { code } of found) counts[code] = (counts[code] ?? 0) + 1;
  return counts;
}

const operationOf = (found: readonly Finding[]): Operation => ({
  ...named(found),
  counts: countsOf(countByCode(found)),
  outcome: OperationOutcome.FOUND,
  type: OperationType.SCRUB,
});

const summaryOf = ({ counts, size }: Scrubbed, open: Readonly<Record<string, number>>): Operation => ({
  counts: countsOf({ ...counts, ...open }),
  outcome: Object.keys(open).length === 0 ? OperationOutcome.DONE : OperationOutcome.FOUND,
  range: { from: 0, to: size },
  type: OperationType.SCRUB,
});

/** What a renewal is recorded as. */
export function renewalOf({ counts, range, reason, until }: Renewed, wrong: readonly Finding[]): Operation {
  return {
    ...named(wrong),
    ...(reason === undefined ? {} : { reason }),
    counts: countsOf({ ...counts }),
    outcome:
      reason !== undefined
        ? OperationOutcome.INCOMPLETE
        : counts.wrong > 0
          ? OperationOutcome.FOUND
          : OperationOutcome.DONE,
    range,
    type: OperationType.RETENTION,
    until: formatTime(until),
  };
}
