/** The gate of a dataset version: what the newest decision on its quality says, and the report that it judged. */
import { create } from "@bufbuild/protobuf";
import { type GetGateResponse, GetGateResponseSchema } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import type { GetRequest } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findVisible } from "./get.ts";
import { findResource } from "./resource.ts";

export function getGate(reads: Reads, caller: Caller, request: GetRequest): GetGateResponse {
  using reader = readerAsOf(reads, request.asOf, request.minTreeSize);
  const version = findVisible(reads, reader, caller, request, { collection: "datasets", kinds: ["dataset.version"] });
  const row = reader.get("gate", version)?.value;
  const decision = row === undefined ? undefined : findResource(reader, row.decision);
  const report = row?.report === undefined ? undefined : findResource(reader, row.report);
  return create(GetGateResponseSchema, {
    gate: row?.outcome ?? "not_evaluated",
    treeSize: reader.size,
    ...(decision === undefined ? {} : { decision }),
    ...(report === undefined ? {} : { report }),
  });
}
