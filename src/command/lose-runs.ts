/**
 * Ends runs that nobody hears: after the project's `lost_after_s` of silence the server itself records that a run is LOST.
 *
 * - A run is heard by its start, its batches and its heartbeats. Heartbeats are not recorded, so the time in which this server
 *   did not listen never counts as silence: not before it started, and not across a jump of the wall clock.
 * - A run whose children run is not lost before them.
 * - Silence is judged again inside admission, so that a report which comes first wins.
 */
import { create } from "@bufbuild/protobuf";
import { RunFinishSchema, RunStatus } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import type { ViewReader } from "../fold/view.ts";
import type { Draft } from "../log/submission.ts";
import { digestOf, type RecordId } from "../std/brand.ts";
import { parseTime } from "../std/ports.ts";
import { link } from "./admission.ts";
import { bodyOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { Rounds } from "./rounds.ts";
import { type RunSignals, signalsOf } from "./run-signals.ts";

const DEFAULT_LOST_AFTER_S = 6 * 3_600;
/** Less cannot be told from the pause between two heartbeats. */
const MIN_LOST_AFTER_S = 60;
const SWEEP_MS = 60_000;
/** A wall clock that went further than this from the steady one was set. */
const JUMP_MS = 30_000;

type Parts = Pick<Deps, "clock" | "log" | "logger">;

interface Moment {
  readonly wallMs: number;
  readonly steadyMs: number;
}

export class SilentRuns implements AsyncDisposable {
  readonly #parts: Parts;
  readonly #signals: RunSignals;
  readonly #running = new Set<RecordId>();
  readonly #rounds = new Rounds();
  readonly #unsubscribe: () => void;
  #listeningSince: Moment;
  #sweptAt: Moment;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#signals = signalsOf(parts.log);
    this.#listeningSince = this.#now();
    this.#sweptAt = this.#listeningSince;
    this.#unsubscribe = parts.log.onCommit(({ items }) => {
      for (const { record } of items) {
        const run = record?.kind === "run.start" ? record.links.find((l) => l.rel === "run")?.to : undefined;
        if (run !== undefined) this.#running.add(run);
      }
    });
    using reader = parts.log.index.reader();
    for (const [run, { status }] of reader.scan("run", ""))
      if (status === "running") this.#running.add(run as RecordId);
  }

  /** Sweeps once a minute until it is disposed of. */
  start(): void {
    this.#rounds.start(this.#parts, SWEEP_MS, () => this.sweep(), "silent runs could not be ended");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe();
    await this.#rounds[Symbol.asyncDispose]();
  }

  /** Ends the runs that are silent now; gives their ids. */
  async sweep(): Promise<readonly RecordId[]> {
    const { clock, log, logger } = this.#parts;
    this.#noteJump();
    const lost: RecordId[] = [];
    for (const run of this.#silent()) {
      if (this.#rounds.signal.aborted) break;
      const project = projectOf(this.#parts, run);
      if (project === undefined) continue;
      const { committed, value } = await log.submit({
        admit: (reader) => {
          const silentS = this.#silentSeconds(reader, run, clock.now());
          return silentS === undefined
            ? { drafts: [], value: 0 }
            : { drafts: [lostDraft(reader, run, project, silentS)], value: silentS };
        },
        project,
        signal: this.#rounds.signal,
      });
      if (committed === null) continue;
      this.#signals.forget(run);
      this.#running.delete(run);
      lost.push(run);
      logger.warn({ log_index: committed.records[0]?.index, run, silent_s: value }, "a silent run is lost");
    }
    return lost;
  }

  #now(): Moment {
    const { clock } = this.#parts;
    return { steadyMs: clock.monotonic(), wallMs: clock.now() };
  }

  /** When the wall clock was set, or the machine slept, nobody was heard for reasons of our own. */
  #noteJump(): void {
    const now = this.#now();
    const wall = now.wallMs - this.#sweptAt.wallMs;
    const steady = now.steadyMs - this.#sweptAt.steadyMs;
    if (Math.abs(wall - steady) > JUMP_MS) {
      this.#listeningSince = now;
      this.#parts.logger.warn({ jumped_ms: Math.round(wall - steady) }, "the clock jumped: silence counts from now");
    }
    this.#sweptAt = now;
  }

  #silent(): RecordId[] {
    const now = this.#parts.clock.now();
    using reader = this.#parts.log.index.reader();
    const silent: RecordId[] = [];
    for (const run of this.#running) {
      if (reader.get("run", run)?.value.status !== "running") this.#running.delete(run);
      else if (this.#silentSeconds(reader, run, now) !== undefined) silent.push(run);
    }
    return silent;
  }

  /** For how long the run was silent, when that is too long. */
  #silentSeconds(reader: ViewReader, run: RecordId, nowMs: number): number | undefined {
    const row = reader.get("run", run)?.value;
    if (row?.status !== "running" || (reader.get("children-active", run)?.value.n ?? 0) > 0) return undefined;
    const reported = row.last ?? row.start;
    const reportedMs = reported === undefined ? undefined : parseTime(reader.record(reported)?.record.time ?? "");
    const heardMs = Math.max(reportedMs ?? 0, this.#signals.heardMs(run) ?? 0, this.#listeningSince.wallMs);
    const silentS = Math.floor((nowMs - heardMs) / 1_000);
    return silentS >= lostAfterSeconds(reader, run) ? silentS : undefined;
  }
}

function projectOf({ log }: Parts, run: RecordId): RecordId | undefined {
  using reader = log.index.reader();
  return reader.get("entity", run)?.value.project;
}

function lostAfterSeconds(reader: ViewReader, run: RecordId): number {
  const project = reader.get("entity", run)?.value.project;
  const revision = project === undefined ? undefined : reader.get("project", project)?.value.revision;
  const said = revision === undefined ? undefined : reader.record(revision)?.record.body["lost_after_s"];
  return typeof said === "number" ? Math.max(said, MIN_LOST_AFTER_S) : DEFAULT_LOST_AFTER_S;
}

function lostDraft(reader: ViewReader, run: RecordId, project: RecordId, silentS: number): Draft {
  const { batches = 0, last } = reader.get("run", run)?.value ?? {};
  const finish = create(RunFinishSchema, { batches, reason: `not heard for ${silentS} s`, status: RunStatus.LOST });
  return {
    actor: { method: "system" },
    body: bodyOf("run.finish", finish),
    kind: "run.finish",
    links: [...link("run", run), ...link("last", last)],
    project,
    requestId: `lost:${digestOf(run)}`,
  };
}
