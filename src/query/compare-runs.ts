/** Runs side by side: every value that any of them has, and whether they differ. */
import { create } from "@bufbuild/protobuf";
import {
  type CompareRunsRequest,
  type CompareRunsResponse,
  CompareRunsResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { Fault } from "../std/faults.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findVisible } from "./get.ts";
import { namesFor } from "./names.ts";
import { RUNS } from "./run.ts";
import { runFacts } from "./run-facts.ts";

const MAX_RUNS = 10;

export function compareRuns(reads: Reads, caller: Caller, request: CompareRunsRequest): CompareRunsResponse {
  const { runs, project } = request;
  if (runs.length === 0 || runs.length > MAX_RUNS)
    throw new Fault("REQUEST_INVALID", `runs has ${runs.length} members: give 1 to ${MAX_RUNS}`, {
      fields: [{ field: "runs", description: `has ${runs.length} members` }],
    });
  using reader = readerAsOf(reads, request.asOf);
  const nameOf = namesFor(reads, caller, reader);
  const facts = runs.map((name) =>
    runFacts(reader, findVisible(reads, reader, caller, { name, project }, RUNS), nameOf),
  );
  const paths = [...new Set(facts.flatMap((f) => [...f.keys()]))].toSorted();
  const values = paths.map((path) => {
    const texts = facts.map((f) => f.get(path) ?? "");
    return { path, values: texts, differs: new Set(texts).size > 1 };
  });
  return create(CompareRunsResponseSchema, { values, treeSize: reader.size });
}
