/**
 * How far the record objects of a bucket were read, so that a verification that was stopped goes on: the commits are walked again,
 * which is cheap, and the objects of those up to here are not read again. Kept by whoever verifies, and believed like his policy.
 */
import { isObject, type Json } from "../../record/json.ts";
import { Violation } from "../../std/violation.ts";
import type { Failure } from "../report.ts";

/** How many records are in which state. */
export interface RecordStates {
  lock_short: number;
  missing: number;
  /** Right, under something that was laid over them. */
  shadowed: number;
  verified: number;
}

export interface Resumed {
  /** Commits whose record objects were read. */
  readonly commits: number;
  /** SHA-256 of the last of them. */
  readonly hash: string;
  /** Indexes of entries whose objects were absent. */
  readonly absent: readonly number[];
  readonly failures: readonly Failure[];
  readonly states: RecordStates;
}

export const formatResumed = (resumed: Resumed): string => `${JSON.stringify({ ...resumed, v: 1 })}\n`;

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown): value is string => typeof value === "string";

/** Throws the Violation `resume.malformed`. */
export function parseResumed(text: string): Resumed {
  const malformed = new Violation(
    "resume.malformed",
    "the file is not one that a verification left: remove it, or name another",
  );
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    throw malformed;
  }
  if (!isObject(value) || value["v"] !== 1) throw malformed;
  const { absent, commits, failures, hash, states } = value;
  if (!isCount(commits) || commits === 0 || !isText(hash) || !Array.isArray(absent) || !absent.every(isCount))
    throw malformed;
  if (!Array.isArray(failures) || !isObject(states)) throw malformed;
  const { lock_short, missing, shadowed, verified } = states;
  if (!isCount(lock_short) || !isCount(missing) || !isCount(shadowed) || !isCount(verified)) throw malformed;
  return {
    absent,
    commits,
    failures: (failures as readonly Json[]).map((row) => {
      if (!isObject(row)) throw malformed;
      const { at, code, detail } = row;
      if (!isText(at) || !isText(code) || !isText(detail)) throw malformed;
      return { at, code, detail };
    }),
    hash,
    states: { lock_short, missing, shadowed, verified },
  };
}
