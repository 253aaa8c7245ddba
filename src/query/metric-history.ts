/** All points of a metric of a run, as it reported them. */
import { create } from "@bufbuild/protobuf";
import type { Metric } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import {
  type ListMetricHistoryRequest,
  type ListMetricHistoryResponse,
  ListMetricHistoryResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { Fault } from "../std/faults.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findVisible } from "./get.ts";
import { RUNS } from "./run.ts";
import { batchesOf } from "./run-facts.ts";

const MAX_POINTS = 1_000_000;

export function listMetricHistory(
  reads: Reads,
  caller: Caller,
  request: ListMetricHistoryRequest,
): ListMetricHistoryResponse {
  const { project, run: name, key } = request;
  if (key === "")
    throw new Fault("REQUEST_INVALID", "key is missing: name a metric of the run", {
      fields: [{ field: "key", description: "is missing" }],
    });
  using reader = readerAsOf(reads, request.asOf);
  const run = findVisible(reads, reader, caller, { name, project }, RUNS);
  const metrics: Metric[] = [];
  for (const { batch } of batchesOf(reader, run)) {
    for (const metric of batch.metrics) if (metric.key === key) metrics.push(metric);
    if (metrics.length > MAX_POINTS)
      throw new Fault(
        "LIMIT_EXCEEDED",
        `the metric has more than ${MAX_POINTS} points: read the run's batches instead`,
      );
  }
  return create(ListMetricHistoryResponseSchema, { metrics, treeSize: reader.size });
}
