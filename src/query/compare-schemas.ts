/** How two schemas differ: fields that only one has, and those whose type, nullability or classes changed. */
import { create } from "@bufbuild/protobuf";
import {
  type CompareRequest,
  type CompareSchemasResponse,
  CompareSchemasResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { differences, fieldFacts } from "./differences.ts";
import { findVisible } from "./get.ts";
import type { Facts } from "./run-facts.ts";

const SCHEMAS = { kinds: ["schema"], collection: "schemas" } as const;

export function compareSchemas(reads: Reads, caller: Caller, request: CompareRequest): CompareSchemasResponse {
  const { project, left, right } = request;
  using reader = readerAsOf(reads, request.asOf);
  const fieldsOf = (name: string): Facts => {
    const id = findVisible(reads, reader, caller, { name, project }, SCHEMAS);
    return fieldFacts(reader.record(id)?.record.body ?? {});
  };
  return create(CompareSchemasResponseSchema, {
    fields: differences(fieldsOf(left), fieldsOf(right)),
    treeSize: reader.size,
  });
}
