/**
 * The frame of requests that write nothing: authorise, answer, record the denial. Reads of `query/` run inside `recorded`, so
 * that nobody is refused without a trace.
 */
import { authorise, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { Permission } from "../identity/roles.ts";
import type { IndexReader } from "../index/index.ts";
import type { RecordId } from "../std/brand.ts";
import type { Deps } from "./context.ts";

export interface Question {
  /** Name of the project. */
  readonly project: string;
  readonly permission: Permission;
}

/** Answers from the present state, for a caller who has the permission in the project. */
export function ask<T>(
  deps: Deps,
  caller: Caller,
  question: Question,
  answer: (reader: IndexReader, project: RecordId, nowMs: number) => T,
): Promise<T> {
  return recorded(deps, caller, question, () => {
    using reader = deps.log.index.reader();
    const project = findProject(reader, question.project);
    if (project === undefined) throw notFound("project");
    const nowMs = deps.clock.now();
    authorise(reader, caller, project, question.permission, nowMs);
    return answer(reader, project, nowMs);
  });
}

/** Runs a read and records the denial that it ends in. */
export async function recorded<T>(
  deps: Deps,
  caller: Caller,
  question: { readonly project?: string; readonly permission?: Permission },
  read: () => T | Promise<T>,
): Promise<T> {
  try {
    return await read();
  } catch (error) {
    await deps.denials.record(error, {
      caller,
      project: question.project === undefined ? undefined : projectOf(deps, question.project),
      permission: question.permission,
    });
    throw error;
  }
}

function projectOf(deps: Deps, name: string): RecordId | undefined {
  using reader = deps.log.index.reader();
  return findProject(reader, name);
}
