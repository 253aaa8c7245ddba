/** Aliases of a dataset, model or environment: what each names now, or all that they ever named, in log order. */

import { create } from "@bufbuild/protobuf";
import {
  type ListRequest,
  type ListResponse,
  ListResponseSchema,
  type Resource,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { keys } from "../fold/view.ts";
import type { Caller } from "../identity/caller.ts";
import type { IndexReader } from "../index/index.ts";
import { text } from "../policy/compile.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { parseFilter } from "./filter.ts";
import { findVisible } from "./get.ts";
import { listResources } from "./list.ts";
import { formatPageToken, parsePageToken, questionOf } from "./page-token.ts";
import { toResource } from "./resource.ts";

const DEFAULT_PAGE = 100;
const MAX_PAGE = 1_000;
const CHUNK = 1_000;
const PARENTS = ["models", "datasets", "environments"];
const KINDS = ["dataset", "environment", "model"];

/** Without a parent, or without `history = true`: only records that still name what they say. */
export function listAliases(reads: Reads, caller: Caller, request: ListRequest): ListResponse {
  const terms = parseFilter(request.filter, ["history", "name"]);
  const history = terms.some((t) => t.field === "history" && t.value === "true");
  const name = terms.find((t) => t.field === "name")?.value;
  const question = questionOf(["aliases", request.project, request.parent, request.filter]);
  const token = parsePageToken(request.pageToken, question);
  using reader = readerAsOf(reads, token?.size ?? request.asOf, request.minTreeSize);
  // The same checks and faults as every list, of the project's aliases.
  listResources(
    reads,
    caller,
    { ...request, filter: "", pageSize: 1, pageToken: "", parent: "" },
    { kinds: ["alias"] },
  );
  const project = assertDefined(projectOf(reader, request.project), "a project that was just listed is there");
  const entity = request.parent === "" ? undefined : findEntity(reads, reader, caller, request);
  const limit = Math.min(request.pageSize === 0 ? DEFAULT_PAGE : request.pageSize, MAX_PAGE);
  const page: Resource[] = [];
  let from = token?.from ?? 0;
  for (;;) {
    const indexes = reader.list({ from, kinds: ["alias"], limit: CHUNK, project });
    for (const index of indexes) {
      if (page.length === limit)
        return answer(page, reader, formatPageToken({ from: index, size: reader.size }, question));
      from = index + 1;
      const id = assertDefined(reader.entry(index), "a listed entry is there").record;
      const body = assertDefined(reader.record(id), "a listed record is there").record.body;
      const of = body["entity"] as RecordId;
      const alias = text(body["name"]);
      if ((entity !== undefined && of !== entity) || (name !== undefined && alias !== name)) continue;
      if (history || reader.get("alias", keys.alias(of, alias))?.value.id === id) page.push(toResource(reader, index));
    }
    if (indexes.length < CHUNK) return answer(page, reader, "");
  }
}

const answer = (resources: Resource[], reader: IndexReader, nextPageToken: string): ListResponse =>
  create(ListResponseSchema, { nextPageToken, resources, treeSize: reader.size });

const projectOf = (reader: IndexReader, name: string): RecordId | undefined =>
  reader.get("name", keys.name("-", "project", name))?.value.id;

/** A short name may be that of a model, a dataset or an environment: the first that there is. */
function findEntity(reads: Reads, reader: IndexReader, caller: Caller, { parent, project }: ListRequest): RecordId {
  let absent: unknown;
  for (const collection of PARENTS) {
    try {
      return findVisible(reads, reader, caller, { name: parent, project }, { collection, kinds: KINDS });
    } catch (error) {
      if (!(error instanceof Fault) || error.reason !== "NOT_FOUND") throw error;
      absent = error;
    }
  }
  throw absent;
}
