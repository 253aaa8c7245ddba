/** Why two versions of models differ: files, and the runs that made them with inputs, parameters, metrics, code, environment. */
import { create } from "@bufbuild/protobuf";
import type { CompareRequest } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import {
  type CompareModelVersionsResponse,
  CompareModelVersionsResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { Caller } from "../identity/caller.ts";
import type { IndexReader } from "../index/index.ts";
import { canonicalize } from "../record/canonical.ts";
import type { RecordId } from "../std/brand.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { differences, fileFacts } from "./differences.ts";
import { findVisible } from "./get.ts";
import { namesFor } from "./names.ts";
import { type Facts, runFacts } from "./run-facts.ts";

const VERSIONS = { kinds: ["model.version"], collection: "models" } as const;

export function compareModelVersions(
  reads: Reads,
  caller: Caller,
  request: CompareRequest,
): CompareModelVersionsResponse {
  const { project, left, right } = request;
  using reader = readerAsOf(reads, request.asOf);
  const nameOf = namesFor(reads, caller, reader);
  const [one, other] = [left, right].map((name) =>
    versionFacts(reader, findVisible(reads, reader, caller, { name, project }, VERSIONS), nameOf),
  ) as [Facts, Facts];
  return create(CompareModelVersionsResponseSchema, { differences: differences(one, other), treeSize: reader.size });
}

function versionFacts(reader: IndexReader, id: RecordId, nameOf: (id: RecordId) => string): Facts {
  const record = reader.record(id)?.record;
  const body = record?.body ?? {};
  const facts = fileFacts(body, "files.");
  for (const name of ["framework", "signature"] as const) {
    const value = body[name];
    if (value !== undefined) facts.set(name, canonicalize(value));
  }
  const targets = (rel: string): RecordId[] => record?.links.filter((l) => l.rel === rel).map((l) => l.to) ?? [];
  const runs = targets("produced_by");
  facts.set("runs", canonicalize(runs));
  const parents = targets("parent");
  if (parents.length > 0) facts.set("parents", canonicalize(parents.map(nameOf)));
  // Runs of several steps are told apart by their step, else by their order.
  for (const [i, run] of runs.entries()) {
    const step = reader.record(run)?.record.body["step"];
    const prefix = runs.length === 1 ? "" : `runs.${typeof step === "string" ? step : i}.`;
    for (const [path, value] of runFacts(reader, run, nameOf)) {
      // What the run put out is compared as the version's files.
      if (!path.startsWith("files.")) facts.set(`${prefix}${path}`, value);
    }
  }
  return facts;
}
