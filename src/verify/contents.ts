/**
 * Stage 1, what is in the container: the manifest that agrees with it, and each member as later stages read it. Everything that
 * has a form or a limit of its own is held to it here, so that no later stage meets bytes without end or rows of another shape.
 */
import { parseEntry } from "../record/entry.ts";
import { Violation } from "../std/violation.ts";
import type { Member } from "./container.ts";
import { endsWithLineFeed, type Limits, linesOf, overLimit } from "./limits.ts";
import { checkManifest, type Manifest } from "./manifest.ts";
import type { Stage } from "./report.ts";
import { type HeadRow, type HistoryRow, type PersonalRow, parseHeads, parseHistory, parsePersonal } from "./rows.ts";

export interface Contents {
  readonly blobs: readonly Member[];
  readonly checkpoint: Uint8Array;
  readonly entries: Uint8Array;
  readonly heads: readonly HeadRow[];
  readonly history: readonly HistoryRow[];
  readonly manifest: Manifest;
  readonly personal: readonly PersonalRow[];
  readonly proof: Uint8Array;
  readonly records: Uint8Array;
}

/** Undefined when something is not as the format has it; then `stage` says what. */
export function readContents(members: readonly Member[], limits: Limits, stage: Stage): Contents | undefined {
  const manifest = checkManifest(members, limits, stage);
  if (manifest === undefined || stage.failed) return undefined;
  const byName = new Map(members.map((m) => [m.name, m.bytes]));
  const required = (name: string): Uint8Array => byName.get(name) ?? new Uint8Array();
  let at = "checkpoint";
  try {
    const checkpoint = required(at);
    if (checkpoint.length > limits.note) throw overLimit("the note", "note");
    at = "history.jsonl";
    const history = parseHistory(byName.get(at), limits);
    at = "entries.txt";
    const entries = required(at);
    checkLines(entries, limits.entries, limits.line, "line");
    at = "heads.jsonl";
    const heads = parseHeads(required(at), limits);
    at = "records.jsonl";
    const records = required(at);
    if (!endsWithLineFeed(records)) throw new Violation("pack.malformed", "does not end with a line feed");
    // As many lines as entries, and one more to find out that there are too many.
    checkLines(records, limits.entries + 1, limits.record, "record");
    at = "personal.jsonl";
    const personal = parsePersonal(byName.get(at), limits);
    at = "manifest.json";
    checkComplete(manifest, entries, heads);
    const blobs = members.filter((m) => m.name.startsWith("blobs/"));
    return { blobs, checkpoint, entries, heads, history, manifest, personal, proof: required("proof.bin"), records };
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return stage.fail(error.code, at, error.message) as undefined;
  }
}

function checkLines(bytes: Uint8Array, maxLines: number, maxBytes: number, limit: "line" | "record"): void {
  let number = 0;
  for (const line of linesOf(bytes)) {
    if (++number > maxLines) throw overLimit(`line ${number}`, "entries");
    if (line.length > maxBytes) throw overLimit(`line ${number}`, limit);
  }
}

/** `_ledger` is complete in every pack, and what has a head is complete. */
function checkComplete({ complete }: Manifest, entries: Uint8Array, heads: readonly HeadRow[]): void {
  const ledger = ledgerOf(entries);
  if (ledger !== undefined && !complete.has(ledger))
    throw new Violation("pack.manifest", `complete does not list _ledger, ${ledger}`);
  const extra = heads.find((h) => !complete.has(h.project));
  if (extra !== undefined)
    throw new Violation("pack.manifest", `${extra.project} has a head, and is not listed as complete`);
}

/** The project of entry 0; undefined when the entries do not begin with it, which stage 4 finds. */
function ledgerOf(entries: Uint8Array): string | undefined {
  const [first] = linesOf(entries);
  if (first === undefined || first[0] !== 0x30 || first[1] !== 0x20) return undefined;
  try {
    return parseEntry(first.subarray(2)).project;
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}
