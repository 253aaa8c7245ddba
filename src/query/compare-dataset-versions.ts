/** How two versions of datasets differ: files, fields of their schemas, statistics. */
import { create } from "@bufbuild/protobuf";
import {
  type CompareDatasetVersionsResponse,
  CompareDatasetVersionsResponseSchema,
  type CompareRequest,
} from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import type { Caller } from "../identity/caller.ts";
import type { IndexReader } from "../index/index.ts";
import { canonicalize } from "../record/canonical.ts";
import type { RecordId } from "../std/brand.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { differences, fieldFacts, fileFacts } from "./differences.ts";
import { findVisible } from "./get.ts";
import { objects, textOf } from "./json-parts.ts";
import type { Facts } from "./run-facts.ts";

const VERSIONS = { kinds: ["dataset.version"], collection: "datasets" } as const;

interface VersionFacts {
  readonly files: Facts;
  readonly fields: Facts;
  readonly statistics: Facts;
}

export function compareDatasetVersions(
  reads: Reads,
  caller: Caller,
  request: CompareRequest,
): CompareDatasetVersionsResponse {
  const { project, left, right } = request;
  using reader = readerAsOf(reads, request.asOf);
  const [one, other] = [left, right].map((name) =>
    versionFacts(reader, findVisible(reads, reader, caller, { name, project }, VERSIONS)),
  ) as [VersionFacts, VersionFacts];
  return create(CompareDatasetVersionsResponseSchema, {
    files: differences(one.files, other.files),
    fields: differences(one.fields, other.fields),
    statistics: differences(one.statistics, other.statistics),
    treeSize: reader.size,
  });
}

function versionFacts(reader: IndexReader, id: RecordId): VersionFacts {
  const record = reader.record(id)?.record;
  const body = record?.body ?? {};
  const statistics = new Map<string, string>();
  if (typeof body["rows"] === "number") statistics.set("rows", canonicalize(body["rows"]));
  for (const { column, metric, value } of objects(body["statistics"]))
    statistics.set(`${textOf(column)}.${textOf(metric)}`, canonicalize(value ?? 0));
  const schema = record?.links.find((l) => l.rel === "schema")?.to;
  const fields = fieldFacts(schema === undefined ? {} : (reader.record(schema)?.record.body ?? {}));
  return { files: fileFacts(body, ""), fields, statistics };
}
