/** Questions about the log itself: checkpoints, proofs, exact bytes, entries as they come. */
import { create } from "@bufbuild/protobuf";
import {
  type BatchGetRecordsRequest,
  type BatchGetRecordsResponse,
  BatchGetRecordsResponseSchema,
  type GetCheckpointRequest,
  type GetCheckpointResponse,
  GetCheckpointResponseSchema,
  type GetConsistencyProofRequest,
  type GetConsistencyProofResponse,
  GetConsistencyProofResponseSchema,
  type GetHealthRequest,
  type GetHealthResponse,
  GetHealthResponseSchema,
  type GetReceiptRequest,
  type GetRecordRequest,
  type GetRecordResponse,
  GetRecordResponseSchema,
  type ListRecordsRequest,
  type WatchEntriesRequest,
  type WatchEntriesResponse,
  WatchEntriesResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { type ListResponse, ListResponseSchema, type Receipt } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { authorise, hidden, mayRead, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { IndexReader } from "../index/index.ts";
import type { Log } from "../log/log.ts";
import { consistencyProof } from "../merkle/proofs.ts";
import { formatProofFile } from "../note/proof-file.ts";
import { assertDefined } from "../std/assert.ts";
import { parseEitherId, type RecordId, type TreeSize } from "../std/brand.ts";
import { formatHex, utf8 } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import type { Clock } from "../std/ports.ts";
import { readerAsOf } from "./as-of.ts";
import { formatPageToken, parsePageToken, questionOf } from "./page-token.ts";
import { toReceipt, toResource } from "./resource.ts";
import { checkVisible } from "./visible.ts";

interface Parts {
  readonly log: Log;
  readonly clock: Clock;
  readonly store: { readonly lock: "compliance" | "advisory" };
}

const MAX_RECORDS = 1_000;
const DEFAULT_PAGE = 100;
const CHECKPOINT_EVERY_MS = 30_000;
const CHUNK = 500;
const decoder = new TextDecoder();

export function getCheckpoint({ log }: Parts, _caller: Caller, request: GetCheckpointRequest): GetCheckpointResponse {
  const published = request.published ? log.published() : null;
  if (request.published && published === null)
    throw new Fault(
      "NOT_FOUND",
      "No checkpoint is published yet: ask again in a second, or ask for the newest signed one.",
      { retryAfterMs: 1000 },
    );
  const checkpoint = published === null ? log.checkpoint() : decoder.decode(published);
  return create(GetCheckpointResponseSchema, { checkpoint, treeSize: Number(checkpoint.split("\n")[1]) });
}

function idOf(text: string): RecordId {
  const id = parseEitherId(text);
  if (id === undefined)
    throw new Fault("REQUEST_INVALID", "a record is named by sha256: and 64 lower-case hex characters", {
      fields: [{ description: "is not a record id", field: "record" }],
    });
  return id;
}

export function getReceipt({ clock, log }: Parts, caller: Caller, request: GetReceiptRequest): Receipt {
  const id = idOf(request.record);
  using reader = log.index.reader();
  const index = reader.indexOf(id);
  if (index === undefined) throw notFound(request.record);
  // Without a caller the log is public, and a receipt shows hashes only.
  if (caller.principal !== ("" as RecordId)) checkVisible(reader, caller, id, clock.now(), request.record);
  return toReceipt(id, log.receipt(index, request.treeSize === 0 ? undefined : (request.treeSize as TreeSize)), {
    existing: true,
  });
}

/** The proof file (C2SP tlog-proof) of a record in the newest signed tree, for nobody in particular where the log is public. */
export function proofFileOf(parts: Pick<Parts, "clock" | "log">, caller: Caller | undefined, record: string): string {
  const id = idOf(record);
  using reader = parts.log.index.reader();
  const index = reader.indexOf(id);
  if (index === undefined) throw notFound(record);
  if (caller !== undefined) checkVisible(reader, caller, id, parts.clock.now(), record);
  const { checkpoint, entry, proof } = parts.log.receipt(index);
  return formatProofFile({ checkpoint, extra: utf8(entry), hashes: proof, index });
}

export function getConsistencyProof(
  { log }: Parts,
  _caller: Caller,
  request: GetConsistencyProofRequest,
): GetConsistencyProofResponse {
  const checkpoint = log.checkpoint();
  const signed = Number(checkpoint.split("\n")[1]);
  const to = request.toSize === 0 ? signed : request.toSize;
  if (request.fromSize > to)
    throw new Fault(
      "REQUEST_INVALID",
      `from_size ${request.fromSize} is above to_size ${to}: a tree extends a smaller one`,
    );
  if (to > signed)
    throw new Fault("AS_OF_AHEAD", `the tree has ${signed} signed entries: ask again when it has grown`, {
      metadata: { tree_size: String(signed) },
      retryAfterMs: 500,
    });
  const hashes = consistencyProof(request.fromSize, to, log.index.nodes()).map(formatHex);
  return create(GetConsistencyProofResponseSchema, { checkpoint: to === signed ? checkpoint : "", hashes, toSize: to });
}

function readRecord({ clock, log }: Parts, reader: IndexReader, caller: Caller, text: string): GetRecordResponse {
  const id = idOf(text);
  const index = reader.indexOf(id);
  if (index === undefined) throw notFound(text);
  using now = log.index.reader();
  checkVisible(now, caller, id, clock.now(), text);
  const entry = assertDefined(reader.entry(index), "a found record has an entry");
  return create(GetRecordResponseSchema, {
    entry: decoder.decode(entry.entryBytes),
    logIndex: index,
    record: assertDefined(reader.bytes(index), "a found record has bytes"),
  });
}

export function getRecord(parts: Parts, caller: Caller, request: GetRecordRequest): GetRecordResponse {
  using reader = readerAsOf(parts, request.asOf);
  return readRecord(parts, reader, caller, request.record);
}

export function batchGetRecords(
  parts: Parts,
  caller: Caller,
  request: BatchGetRecordsRequest,
): BatchGetRecordsResponse {
  if (request.records.length > MAX_RECORDS)
    throw new Fault("LIMIT_EXCEEDED", `at most ${MAX_RECORDS} records at a time: ask in parts`);
  using reader = parts.log.index.reader();
  return create(BatchGetRecordsResponseSchema, {
    records: request.records.map((text) => readRecord(parts, reader, caller, text)),
  });
}

/** Which projects a caller may read, asked once each. */
function visibility({ clock, log }: Parts, caller: Caller): (project: RecordId) => boolean {
  const known = new Map<RecordId, boolean>();
  return (project) => {
    let may = known.get(project);
    if (may === undefined) {
      using now = log.index.reader();
      known.set(project, (may = mayRead(now, caller, project, clock.now())));
    }
    return may;
  };
}

export function listRecords(parts: Parts, caller: Caller, request: ListRecordsRequest): ListResponse {
  const { kinds, newestFirst } = request;
  if (request.pageSize > MAX_RECORDS)
    throw new Fault("LIMIT_EXCEEDED", `page_size is above ${MAX_RECORDS}: ask for less at a time`);
  const limit = request.pageSize === 0 ? DEFAULT_PAGE : request.pageSize;
  const question = questionOf(["records", request.project, ...kinds, String(newestFirst)]);
  const token = parsePageToken(request.pageToken, question);
  using reader = readerAsOf(parts, token?.size ?? request.asOf);
  let project: RecordId | undefined;
  if (request.project !== "") {
    project = findProject(reader, request.project);
    if (project === undefined) throw notFound("project");
    using now = parts.log.index.reader();
    authorise(now, caller, project, kinds.includes("access") ? "audit" : "read", parts.clock.now());
  }
  const visible = visibility(parts, caller);
  const resources = [];
  let from = token?.from ?? (newestFirst ? reader.size - 1 : request.fromIndex);
  let more = from >= 0 && from < reader.size;
  while (more && resources.length < limit) {
    const indexes = reader.list({
      from,
      limit: CHUNK,
      reverse: newestFirst,
      ...(kinds.length === 0 ? {} : { kinds }),
      ...(project === undefined ? {} : { project }),
    });
    more = indexes.length === CHUNK;
    for (const index of indexes) {
      if (resources.length === limit) {
        from = index;
        more = true;
        break;
      }
      const entry = assertDefined(reader.entry(index), "a listed entry is there");
      from = newestFirst ? index - 1 : index + 1;
      // Who was denied what is for auditors, and is listed where they ask for it.
      if (visible(entry.project) && (entry.kind !== "access" || kinds.includes("access")))
        resources.push(toResource(reader, index));
    }
  }
  return create(ListResponseSchema, {
    nextPageToken: more && from >= 0 ? formatPageToken({ from, size: reader.size }, question) : "",
    resources,
    treeSize: reader.size,
  });
}

/** Entries from an index on, then as they come, until the caller goes away. */
export async function* watchEntries(
  parts: Parts,
  caller: Caller,
  request: WatchEntriesRequest,
  signal?: AbortSignal,
): AsyncGenerator<WatchEntriesResponse> {
  const { clock, log } = parts;
  let wake = Promise.withResolvers<void>();
  const stop = log.onCommit(() => wake.resolve());
  const ended = signal ?? new AbortController().signal;
  const onAbort = (): void => wake.resolve();
  ended.addEventListener("abort", onAbort, { once: true });
  try {
    let next = request.fromIndex;
    let shown = Number.NEGATIVE_INFINITY;
    const wanted = new Set(request.projects.map((name) => projectNamed(parts, caller, name)));
    while (!ended.aborted) {
      const { size } = log.index.watermark;
      while (next < size && !ended.aborted) {
        const from = next;
        next = Math.min(size, from + CHUNK);
        yield* entriesBetween(parts, caller, request, wanted, from, next);
      }
      if (clock.monotonic() - shown >= CHECKPOINT_EVERY_MS || shown === Number.NEGATIVE_INFINITY) {
        shown = clock.monotonic();
        yield create(WatchEntriesResponseSchema, { checkpoint: log.checkpoint() });
      }
      wake = Promise.withResolvers<void>();
      if (log.index.watermark.size > next) continue;
      const timer = new AbortController();
      await Promise.race([wake.promise, clock.sleep(CHECKPOINT_EVERY_MS, timer.signal).catch(() => undefined)]);
      timer.abort();
    }
  } finally {
    ended.removeEventListener("abort", onAbort);
    stop();
  }
}

function projectNamed({ clock, log }: Parts, caller: Caller, name: string): RecordId {
  using now = log.index.reader();
  const project = findProject(now, name);
  if (project === undefined || !mayRead(now, caller, project, clock.now())) throw hidden("project");
  return project;
}

/** Rights are asked anew for each part, so that a right that is taken away ends the view. */
function entriesBetween(
  parts: Parts,
  caller: Caller,
  request: WatchEntriesRequest,
  wanted: ReadonlySet<RecordId>,
  from: number,
  to: number,
): WatchEntriesResponse[] {
  using reader = parts.log.index.reader(to as TreeSize);
  const visible = visibility(parts, caller);
  const out: WatchEntriesResponse[] = [];
  for (let i = from; i < to; i++) {
    const entry = assertDefined(reader.entry(i), "an entry below the size is there");
    if (
      (wanted.size > 0 && !wanted.has(entry.project)) ||
      (request.kinds.length > 0 && !request.kinds.includes(entry.kind)) ||
      !visible(entry.project)
    )
      continue;
    const record = request.includeRecords && entry.kind !== "access" ? reader.bytes(i) : undefined;
    out.push(
      create(WatchEntriesResponseSchema, {
        entry: decoder.decode(entry.entryBytes),
        logIndex: i,
        ...(record === undefined ? {} : { record }),
      }),
    );
  }
  return out;
}

export function getHealth({ log, store }: Parts, _caller: Caller, _request: GetHealthRequest): GetHealthResponse {
  const health = log.health();
  return create(GetHealthResponseSchema, {
    alarm: health.alarm ?? "",
    genesis: log.genesis,
    hiddenCommits: health.hiddenCommits,
    lagMs: Math.round(health.lagMs),
    lock: store.lock,
    materialisedSize: health.materialised,
    origin: log.origin,
    publishedSize: health.published,
    role: health.role,
    stateDigest: log.index.watermark.state,
    stopped: health.stopped ?? "",
    treeSize: health.size,
  });
}
