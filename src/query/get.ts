/** One resource, by name, short name or record id, at any tree size. */
import { create } from "@bufbuild/protobuf";
import { type GetRequest, type GetResponse, GetResponseSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { keys, type ViewReader } from "../fold/view.ts";
import { notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { IndexReader } from "../index/index.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findPrincipal, resolveRef } from "./resolve.ts";
import { findResource } from "./resource.ts";
import { checkVisible } from "./visible.ts";

/** What a method gets. */
export interface Wanted {
  /** Kinds that it answers. */
  readonly kinds: readonly string[];
  /** Where short names are looked up, such as `datasets`. */
  readonly collection?: string;
}

/**
 * Answers the resource. Throws NOT_FOUND for what is not there or not the caller's to see, AS_OF_AHEAD for a tree that is not
 * here yet, REQUEST_INVALID for what names something of another kind.
 */
export function getResource(reads: Reads, caller: Caller, request: GetRequest, wanted: Wanted): GetResponse {
  using reader = readerAsOf(reads, request.asOf, request.minTreeSize);
  const id = findVisible(reads, reader, caller, request, wanted);
  const resource = assertDefined(findResource(reader, id), "a resolved record is there");
  return create(GetResponseSchema, { resource, treeSize: reader.size });
}

/** The id of what a request names, at the reader's size, for answers of another shape. Throws as `getResource`. */
export function findVisible(
  reads: Reads,
  reader: IndexReader,
  caller: Caller,
  { name, project }: Pick<GetRequest, "name" | "project">,
  { kinds, collection }: Wanted,
): RecordId {
  const id = findId(reader, name, project, kinds, collection);
  using now = reads.log.index.reader();
  checkVisible(now, caller, id, reads.clock.now(), name);
  const found = reader.record(id);
  if (found === undefined) throw notFound(name);
  const { kind } = found.record;
  if (kinds.length > 0 && !kinds.includes(kind)) {
    throw new Fault("REQUEST_INVALID", `${name} is a ${kind}; what is asked for is a ${kinds.join(" or a ")}`, {
      fields: [{ field: "name", description: `is a ${kind}` }],
    });
  }
  return id;
}

function findId(
  reader: ViewReader,
  name: string,
  project: string,
  kinds: readonly string[],
  collection: string | undefined,
): RecordId {
  if (kinds.includes("principal")) {
    const principal = findPrincipal(reader, name.startsWith("principals/") ? name.slice("principals/".length) : name);
    if (principal !== undefined) return principal;
    throw notFound(name);
  }
  if (kinds.includes("project")) {
    const byName = reader.get("name", keys.name("-", "project", name))?.value.id;
    if (byName !== undefined) return byName;
  }
  return resolveRef(reader, name, project === "" ? undefined : findProject(reader, project), collection);
}
