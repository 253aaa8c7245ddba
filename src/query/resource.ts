/**
 * Records as the API shows them: typed body, resource name, and what the views say of them at the reader's size.
 *
 * A named entity is the record that created it and shows the body of its newest revision; every other record shows its own.
 */
import { create, type Message } from "@bufbuild/protobuf";
import {
  type Receipt,
  ReceiptSchema,
  type Resource,
  ResourceSchema,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { EntityRow } from "../fold/view.ts";
import { projectName } from "../identity/ledger.ts";
import type { IndexReader } from "../index/index.ts";
import type { LogReceipt } from "../log/log.ts";
import { messageFromBody } from "../record/body.ts";
import type { JsonObject } from "../record/json.ts";
import { kindSpec } from "../record/kinds.ts";
import { type LedgerRecord, parseRecord } from "../record/record.ts";
import { assertDefined } from "../std/assert.ts";
import { digestOf, type RecordId } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { BY_DIGEST, COLLECTIONS } from "./resolve.ts";

/** The record at `index`; asserts that it is below the reader's size. */
export function toResource(reader: IndexReader, index: number): Resource {
  const entry = assertDefined(reader.entry(index), `entry ${index} is below the reader's size`);
  const bytes = assertDefined(reader.bytes(index), `record ${index} is in the index`);
  return resourceOf(reader, entry.record, index, parseRecord(bytes), entry.project);
}

/** A record by its id; undefined when it is not below the reader's size. */
export function findResource(reader: IndexReader, id: RecordId): Resource | undefined {
  const index = reader.indexOf(id);
  return index === undefined ? undefined : toResource(reader, index);
}

function resourceOf(
  reader: IndexReader,
  id: RecordId,
  index: number,
  record: LedgerRecord,
  project: RecordId,
): Resource {
  const entity = reader.get("entity", id)?.value;
  const revision = entity?.revision ?? id;
  const body = revision === id ? record.body : (reader.record(revision)?.record.body ?? record.body);
  return create(ResourceSchema, {
    name: nameOf(reader, id, record, entity, project),
    record: id,
    kind: record.kind,
    project: projectName(reader, project),
    status: entity?.status ?? "",
    ordinal: entity?.ordinal ?? 0,
    logIndex: index,
    time: record.time,
    actor: record.actor.principal ?? "",
    etag: entity === undefined ? "" : revision,
    links: record.links.map(({ rel, to }) => ({ rel, to })),
    tainted: entity?.tainted ?? false,
    gate: record.kind === "dataset.version" ? (reader.get("gate", id)?.value.outcome ?? "not_evaluated") : "",
    body: bodyCase(record.kind, body),
  });
}

/** The body under its case of `Resource.body`; none for a kind that this program does not know. */
export function bodyCase(kind: string, body: JsonObject): Resource["body"] {
  const spec = kindSpec(kind);
  const message: Message | undefined = messageFromBody(kind, body);
  // The table of kinds pairs each case with its message, which the type of the union cannot say.
  return spec === undefined || message === undefined
    ? { case: undefined }
    : ({ case: spec.resourceField, value: message } as unknown as Resource["body"]);
}

const SEGMENTS: ReadonlyMap<string, string> = new Map(
  Object.entries(BY_DIGEST).map(([segment, kind]) => [kind, segment]),
);
const NAMED: ReadonlyMap<string, string> = new Map(
  Object.entries(COLLECTIONS).map(([segment, { kind }]) => [kind, segment]),
);
const VERSIONED: ReadonlyMap<string, string> = new Map(
  Object.entries(COLLECTIONS).flatMap(([segment, { versions }]) =>
    versions === undefined ? [] : [[versions, segment]],
  ),
);

function nameOf(
  reader: IndexReader,
  id: RecordId,
  record: LedgerRecord,
  entity: EntityRow | undefined,
  project: RecordId,
): string {
  const { kind } = record;
  const owner = `projects/${projectName(reader, project)}`;
  const digest = digestOf(id);
  if (kind === "project") return entity === undefined ? `${owner}/revisions/${digest}` : owner;
  if (kind === "principal") return entity?.name === undefined ? `principals/${digest}` : `principals/${entity.name}`;
  const versions = VERSIONED.get(kind);
  if (versions !== undefined && entity?.ordinal !== undefined) {
    const parent = entity.parent === undefined ? entity.name : reader.get("entity", entity.parent)?.value.name;
    return `${owner}/${versions}/${parent ?? entity.name ?? digest}/versions/${entity.ordinal}`;
  }
  const named = NAMED.get(kind);
  // Schemas share names, so theirs does not name one.
  if (named !== undefined && entity?.name !== undefined && kind !== "schema") return `${owner}/${named}/${entity.name}`;
  return `${owner}/${SEGMENTS.get(kind) ?? named ?? kind}/${digest}`;
}

export function toReceipt(
  id: RecordId,
  receipt: LogReceipt,
  more: { readonly existing: boolean; readonly also?: readonly RecordId[] },
): Receipt {
  return {
    $typeName: ReceiptSchema.typeName,
    record: id,
    logIndex: receipt.index,
    treeSize: receipt.size,
    entry: receipt.entry,
    leafHash: formatHex(receipt.leafHash),
    inclusionProof: receipt.proof.map(formatHex),
    checkpoint: receipt.checkpoint,
    existing: more.existing,
    also: [...(more.also ?? [])],
  };
}
