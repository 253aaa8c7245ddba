/** One run: its plan, what it reported, its start, and what admitted or refused it. */
import { create } from "@bufbuild/protobuf";
import type { GetRequest, Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { type GetRunResponse, GetRunResponseSchema } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { Caller } from "../identity/caller.ts";
import type { RecordId } from "../std/brand.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findVisible } from "./get.ts";
import { findResource } from "./resource.ts";
import { summaryOf } from "./run-facts.ts";

export const RUNS = { kinds: ["run"], collection: "runs" } as const;

export function getRun(reads: Reads, caller: Caller, request: GetRequest): GetRunResponse {
  using reader = readerAsOf(reads, request.asOf, request.minTreeSize);
  const id = findVisible(reads, reader, caller, request, RUNS);
  const row = reader.get("run", id)?.value;
  const part = <N extends string>(name: N, of: RecordId | undefined): { readonly [K in N]?: Resource } => {
    const found = of === undefined ? undefined : findResource(reader, of);
    return (found === undefined ? {} : { [name]: found }) as { readonly [K in N]?: Resource };
  };
  return create(GetRunResponseSchema, {
    ...part("run", id),
    ...part("start", row?.start),
    ...part("decision", row?.decision),
    summary: summaryOf(reader, id),
    treeSize: reader.size,
  });
}
