/** Stage 4: the entries of the pack are leaves of the checkpoint's tree, at the indexes that it says. */
import { leafHash } from "../merkle/hash.ts";
import { rootFromSetProof } from "../merkle/set-proof.ts";
import { type Entry, parseEntry } from "../record/entry.ts";
import { parseDecimal, type RecordId } from "../std/brand.ts";
import { equalBytes, formatHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import type { Witnessed } from "./checkpoint.ts";
import { endsWithLineFeed, linesOf } from "./limits.ts";
import type { Stage } from "./report.ts";

export interface PackEntry {
  readonly index: number;
  readonly entry: Entry;
  readonly leaf: Uint8Array;
}

const SPACE = 0x20;
/** Digits of 2^53−1. */
const MAX_DIGITS = 16;

function parseLine(line: Uint8Array): PackEntry {
  const space = line.indexOf(SPACE);
  const index =
    space > 0 && space <= MAX_DIGITS ? parseDecimal(String.fromCharCode(...line.subarray(0, space))) : undefined;
  if (index === undefined) throw new Violation("entry.malformed", "the line does not begin with an index and a space");
  const bytes = line.subarray(space + 1);
  return { entry: parseEntry(bytes), index, leaf: leafHash(bytes) };
}

function parseEntries(entries: Uint8Array, size: number, stage: Stage): PackEntry[] {
  const found: PackEntry[] = [];
  const records = new Set<string>();
  if (!endsWithLineFeed(entries)) stage.fail("entry.malformed", "entries.txt", "does not end with a line feed");
  let number = 0;
  for (const line of linesOf(entries)) {
    const at = `entries.txt line ${++number}`;
    try {
      const item = parseLine(line);
      if (item.index <= (found.at(-1)?.index ?? -1)) stage.fail("entry.order", at, "indexes do not ascend");
      else if (item.index >= size)
        stage.fail("entry.order", at, `index ${item.index} is not below the checkpoint's size ${size}`);
      if (records.has(item.entry.record)) stage.fail("entry.duplicate", at, `${item.entry.record} is an entry twice`);
      records.add(item.entry.record);
      found.push(item);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code, at, error.message);
    }
  }
  return found;
}

/** Gives the entries; undefined when they are not what the tree holds. */
export function checkEntries(
  entries: Uint8Array,
  proof: Uint8Array,
  { checkpoint }: Witnessed,
  genesis: RecordId | undefined,
  stage: Stage,
): readonly PackEntry[] | undefined {
  const found = parseEntries(entries, checkpoint.size, stage);
  if (stage.failed) return undefined;
  const wrong = (detail: string): undefined => stage.fail("inclusion.root", "proof.bin", detail) as undefined;
  if (proof.length % 32 !== 0) return wrong("is not a whole number of hashes");
  const hashes = Array.from({ length: proof.length / 32 }, (_, i) => proof.subarray(32 * i, 32 * i + 32));
  try {
    const leaves = found.map((e) => ({ hash: e.leaf, index: e.index }));
    const root = rootFromSetProof(checkpoint.size, leaves, hashes);
    if (!equalBytes(root, checkpoint.root))
      wrong(`entries and proof give root ${formatHex(root)}, the checkpoint has ${formatHex(checkpoint.root)}`);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    wrong(error.message);
  }
  const first = found[0];
  if (first?.index !== 0)
    stage.fail("ledger.genesis", "entries.txt", "entry 0, the genesis of the ledger, is not here");
  else if (genesis !== undefined && first.entry.record !== genesis)
    stage.fail("ledger.genesis", "entries.txt", `the genesis is ${first.entry.record}, not ${genesis}: another ledger`);
  return stage.failed ? undefined : found;
}
