/**
 * Lists of resources in log order. A list answers for one tree size from its first page to its last, whatever is appended
 * meanwhile; a page may be short, or empty, when the filter keeps little: it goes on while there is a token.
 */
import { create } from "@bufbuild/protobuf";
import {
  type ListRequest,
  type ListResponse,
  ListResponseSchema,
  type Resource,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { authorise, mayRead, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { IndexReader } from "../index/index.ts";
import { parseRecord } from "../record/record.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { matches, parseFilter, type Term } from "./filter.ts";
import { findVisible } from "./get.ts";
import { formatPageToken, parsePageToken, questionOf } from "./page-token.ts";
import { toResource } from "./resource.ts";
import { permissionToList } from "./visible.ts";

const DEFAULT_PAGE = 100;
export const MAX_PAGE = 1_000;
/** Entries that one page looks at. */
const MAX_SCANNED = 20_000;
const CHUNK = 500;

/** What a method lists. */
export interface Listed {
  readonly kinds: readonly string[];
  /** Collection of the parent, such as `datasets` for versions; absent where there is no parent. */
  readonly parents?: { readonly kinds: readonly string[]; readonly collection: string };
  /** The project whose resources these are when the request names none, such as `_ledger` for principals. */
  readonly project?: string;
  /** Projects themselves: each is listed where it may be read. */
  readonly everywhere?: boolean;
}

/**
 * Answers a page. Throws NOT_FOUND for a project or parent that is not there or not the caller's to see, AS_OF_AHEAD,
 * PERMISSION_DENIED, REQUEST_INVALID for a filter, order or token that is none.
 */
export function listResources(reads: Reads, caller: Caller, request: ListRequest, listed: Listed): ListResponse {
  const { parent, filter, orderBy, asOf } = request;
  const projectText = request.project === "" ? (listed.project ?? "") : request.project;
  const question = questionOf([...listed.kinds, "/", projectText, parent, filter, orderBy]);
  const token = parsePageToken(request.pageToken, question);
  const terms = parseFilter(filter);
  const reverse = parseOrder(orderBy);
  const limit = pageSize(request.pageSize);
  using reader = readerAsOf(reads, token?.size ?? asOf, request.minTreeSize);
  const project = listed.everywhere === true ? undefined : checkProject(reads, caller, projectText, listed);
  const parentId = parent === "" ? undefined : findParent(reads, reader, caller, request, listed);
  const visible = visibility(reads, caller);
  const page: Resource[] = [];
  let from = token?.from ?? (reverse ? reader.size - 1 : 0);
  let scanned = 0;
  let more = from >= 0 && reader.size > 0;
  while (more && page.length < limit && scanned < MAX_SCANNED) {
    const indexes = reader.list({
      kinds: listed.kinds,
      from,
      limit: CHUNK,
      reverse,
      ...(project === undefined ? {} : { project }),
    });
    more = indexes.length === CHUNK;
    for (const [i, index] of indexes.entries()) {
      if (page.length >= limit) {
        from = index;
        more = true;
        break;
      }
      scanned++;
      const keep = visible === undefined || project !== undefined || visible(reader, index);
      const resource = keep ? select(reader, index, parentId, terms) : undefined;
      if (resource !== undefined) page.push(resource);
      if (i === indexes.length - 1) from = reverse ? index - 1 : index + 1;
    }
    if (from < 0 || from >= reader.size) more = false;
  }
  return create(ListResponseSchema, {
    resources: page,
    nextPageToken: more ? formatPageToken({ from, size: reader.size }, question) : "",
    treeSize: reader.size,
  });
}

/** The resource at an index when it is asked for: no revisions, children of the parent only, what the filter keeps. */
function select(
  reader: IndexReader,
  index: number,
  parent: RecordId | undefined,
  terms: readonly Term[],
): Resource | undefined {
  const id = assertDefined(reader.entry(index), "a listed entry is there").record;
  const record = parseRecord(assertDefined(reader.bytes(index), "a listed record is there"));
  if (record.links.some((l) => l.rel === "revises")) return undefined;
  if (parent !== undefined && !record.links.some((l) => l.to === parent)) return undefined;
  const resource = toResource(reader, index);
  if (terms.length === 0) return resource;
  const revision = reader.get("entity", id)?.value.revision ?? id;
  const body = revision === id ? record.body : (reader.record(revision)?.record.body ?? record.body);
  return matches(terms, resource, body) ? resource : undefined;
}

function visibility(reads: Reads, caller: Caller): (reader: IndexReader, index: number) => boolean {
  const known = new Map<RecordId, boolean>();
  return (reader, index) => {
    const project = assertDefined(reader.entry(index), "a listed entry is there").project;
    const before = known.get(project);
    if (before !== undefined) return before;
    using now = reads.log.index.reader();
    const may = mayRead(now, caller, project, reads.clock.now());
    known.set(project, may);
    return may;
  };
}

function checkProject(reads: Reads, caller: Caller, name: string, listed: Listed): RecordId {
  using now = reads.log.index.reader();
  const project = findProject(now, name);
  if (project === undefined) throw notFound("project");
  authorise(now, caller, project, permissionToList(listed.kinds), reads.clock.now());
  return project;
}

function findParent(
  reads: Reads,
  reader: IndexReader,
  caller: Caller,
  { parent, project }: ListRequest,
  { parents }: Listed,
): RecordId {
  if (parents === undefined) {
    throw new Fault("REQUEST_INVALID", "parent is not taken by this list: leave it empty", {
      fields: [{ field: "parent", description: "is not taken" }],
    });
  }
  return findVisible(reads, reader, caller, { name: parent, project }, parents);
}

function parseOrder(text: string): boolean {
  if (text === "" || text === "log_index") return false;
  if (text === "log_index desc") return true;
  throw new Fault("REQUEST_INVALID", "order_by is log_index or log_index desc", {
    fields: [{ field: "order_by", description: "is neither log_index nor log_index desc" }],
  });
}

function pageSize(asked: number): number {
  if (asked > MAX_PAGE) throw new Fault("LIMIT_EXCEEDED", `page_size is above ${MAX_PAGE}: ask for less at a time`);
  return asked === 0 ? DEFAULT_PAGE : asked;
}
