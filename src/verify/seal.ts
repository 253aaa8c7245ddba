/** Stage 6, the seal that closes the checkpoint: what completeness is measured by. */
import { type Digest, parseRecordId, type RecordId } from "../std/brand.ts";
import { parseHex } from "../std/bytes.ts";
import type { Witnessed } from "./checkpoint.ts";
import type { PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

export interface Seal {
  readonly index: number;
  /** Root over the heads of all projects. */
  readonly heads: Uint8Array;
  readonly projects: number;
  readonly ledger: RecordId;
}

/** Undefined when there is none that can be relied on. */
export function readSeal(records: readonly PackRecord[], { checkpoint }: Witnessed, stage: Stage): Seal | undefined {
  const last = records.at(-1);
  const index = checkpoint.size - 1;
  if (last?.index !== index || last.record?.kind !== "ledger.seal")
    return stage.fail("seal.missing", `entry ${index}`, "the last entry of the checkpoint is not a seal") as undefined;
  const mismatch = (detail: string): undefined => stage.fail("seal.mismatch", last.entry.record, detail) as undefined;
  const { heads, ledger, projects, size } = last.record.body;
  const root = typeof heads === "string" ? parseHex(heads) : undefined;
  const newest = typeof ledger === "string" ? parseRecordId(ledger) : undefined;
  if (size !== index) return mismatch(`seals size ${JSON.stringify(size ?? null)} at index ${index}`);
  if (root?.length !== 32 || typeof projects !== "number" || newest === undefined)
    return mismatch("does not state heads, projects and ledger");
  if (last.entry.project !== systemOf(records)) return mismatch("is not of the project _system, which entry 1 creates");
  return { heads: root, index, ledger: newest, projects };
}

const systemOf = (records: readonly PackRecord[]): Digest | undefined =>
  records[1]?.index === 1 ? records[1].entry.project : undefined;
