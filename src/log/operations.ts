/** The `operation` records of the server's own upkeep, in the project `_system`: made by the leader, and read again by the next. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { OperationSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import type { IndexReader } from "../index/index.ts";
import { bodyFromMessage } from "../record/body.ts";
import type { JsonObject } from "../record/json.ts";
import { assertDefined } from "../std/assert.ts";
import type { LogIndex, RecordId } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { parseTime, type Random } from "../std/ports.ts";
import type { Log } from "./log.ts";

export interface PastOperation {
  readonly index: LogIndex;
  readonly body: JsonObject;
  readonly timeMs: number;
  /** Whether the server itself made it, and not an operator through the API. */
  readonly isOwn: boolean;
}

const PAGE = 256;

const systemOf = (reader: IndexReader): RecordId =>
  assertDefined(reader.entry(1), "entry 1 creates the project _system").record;

export const countsOf = (counts: Readonly<Record<string, number>>): { name: string; value: number }[] =>
  Object.entries(counts).map(([name, value]) => ({ name, value }));

/** Records it as the server; resolves when it is committed and signed. */
export async function recordOperation(
  { log, random }: { readonly log: Log; readonly random: Random },
  operation: MessageInitShape<typeof OperationSchema>,
  signal?: AbortSignal,
): Promise<LogIndex> {
  const body = bodyFromMessage("operation", create(OperationSchema, operation));
  using reader = log.index.reader();
  const project = systemOf(reader);
  const requestId = `upkeep:${formatHex(random.bytes(16))}`;
  const { committed } = await log.submit({
    admit: () => ({
      drafts: [{ actor: { method: "system" }, body, kind: "operation", links: [], project, requestId }],
      value: null,
    }),
    lane: "control",
    project,
    ...(signal === undefined ? {} : { signal }),
  });
  return assertDefined(committed?.records[0], "what is submitted is recorded").index;
}

/** Digests of artifacts of which the log says that they were erased. */
export function erasedDigests(reader: IndexReader): Set<string> {
  const erased = new Set<string>();
  for (const { body } of operationsOf(reader, "ERASURE"))
    for (const digest of (body["digests"] ?? []) as readonly string[]) erased.add(digest);
  return erased;
}

/** Operations of a type in `_system`, newest first. */
export function* operationsOf(reader: IndexReader, type: string): Generator<PastOperation> {
  const project = systemOf(reader);
  for (let from: number | undefined; ; ) {
    const page = reader.list({
      kinds: ["operation"],
      limit: PAGE,
      project,
      reverse: true,
      ...(from === undefined ? {} : { from }),
    });
    for (const index of page) {
      const found = reader.record(assertDefined(reader.entry(index), "a listed entry is there").record)?.record;
      if (found?.body["type"] !== `OPERATION_TYPE_${type}`) continue;
      const timeMs = parseTime(found.time) ?? 0;
      yield { body: found.body, index, isOwn: found.actor.principal === undefined, timeMs };
    }
    const last = page.at(-1);
    if (page.length < PAGE || last === undefined || last === 0) return;
    from = last - 1;
  }
}
