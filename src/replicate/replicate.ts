/**
 * Copies a ledger from where it lies to somewhere else (`docs/operating.md`): what is new is judged first, then written.
 *
 * - Nothing is written unless everything new at the source is valid, is what its checkpoints sign, extends what somebody kept, and
 *   fits the copy.
 * - Nothing of the copy is scanned: the work is that of what is new since the watermark.
 * - It may be stopped at any point, and goes on when it is run again.
 */
import { Violation } from "../std/violation.ts";
import { type Failure, Stage } from "../verify/report.ts";
import { Copy, type Written } from "./copy.ts";
import { type Judged, judge, keptSizes } from "./judge.ts";
import type { ReplicaOptions, Sides, Source, Target } from "./ports.ts";
import { again, readWatermark, START, type Watermark } from "./watermark.ts";

export type ReplicaVerdict = "COPIED" | "INCOMPLETE" | "CONTRADICTED";

export interface ReplicaReport {
  /** Size of the source's largest valid checkpoint. */
  readonly claimed: number;
  readonly findings: readonly Failure[];
  /** Up to where the copy was whole before. */
  readonly from: Place;
  readonly notes: readonly string[];
  readonly origin: string;
  /** Size of the copy's checkpoint. */
  readonly published: number;
  /** Where the source ended. */
  readonly to: Place;
  readonly verdict: ReplicaVerdict;
  readonly written: Readonly<Written>;
}

export interface Place {
  readonly commits: number;
  readonly entries: number;
}

/** Codes that say that something is absent or late, not that something is wrong. */
const INCOMPLETE = new Set([
  "artifact.missing",
  "checkpoint.ahead",
  "checkpoint.missing",
  "checkpoint.quorum",
  "commit.gap",
  "record.missing",
  "replica.ahead",
]);

const isContradicted = (stage: Stage): boolean => stage.codes.difference(INCOMPLETE).size > 0;

const UNUSED = "the copy's watermark is not used: everything is compared again";

/** Where to begin. */
async function startOf(sides: Sides): Promise<Watermark> {
  const { notes, options } = sides;
  const mark = options.fromStart ? undefined : await readWatermark(sides);
  if (mark === undefined) return START;
  if (keptSizes(options).some((size) => size < mark.chain.size)) {
    notes.add(`${UNUSED}, since a kept checkpoint is older`);
    return START;
  }
  if (mark.personal || !options.personal) return mark;
  notes.add(`${UNUSED}, since personal values were not copied before`);
  return START;
}

/** Throws `Fault("STORE_UNAVAILABLE")` when a side does not answer, and the signal's reason. */
export async function replicate(source: Source, target: Target, options: ReplicaOptions): Promise<ReplicaReport> {
  const notes = new Set<string>();
  const sides: Sides = { notes, options, source, target };
  let start = await startOf(sides);
  let stage = new Stage("source");
  let judged = await judge(sides, again(start), stage);
  if (start !== START && isContradicted(stage)) {
    // Whose fault it is, the source's or the watermark's, is told without the watermark.
    notes.add(`${UNUSED}, since the source does not fit it`);
    start = START;
    stage = new Stage("source");
    judged = await judge(sides, again(start), stage);
  }
  const copy = new Copy(sides, start, judged, stage);
  let { published } = judged;
  if (!isContradicted(stage) && judged.claims.length > 0) {
    try {
      published = await copy.run();
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code, "copy", error.message);
    }
  }
  return report(start, judged, stage, { notes: [...notes], published, written: copy.written });
}

function report(
  start: Watermark,
  judged: Judged,
  stage: Stage,
  rest: Pick<ReplicaReport, "notes" | "published" | "written">,
): ReplicaReport {
  return {
    ...rest,
    claimed: judged.claimed,
    findings: stage.check().failures,
    from: { commits: start.chain.n, entries: start.chain.size },
    origin: judged.origin,
    to: { commits: judged.end, entries: judged.size },
    verdict: isContradicted(stage) ? "CONTRADICTED" : stage.failed ? "INCOMPLETE" : "COPIED",
  };
}
