/**
 * The text of a checkpoint (C2SP tlog-checkpoint): origin, size and root, a line each.
 *
 * No extension lines: ML-DSA cosignatures do not cover them, so what they say would hang on the Ed25519 keys alone.
 */
import { assert } from "../std/assert.ts";
import { parseDecimal } from "../std/brand.ts";
import { formatBase64, parseBase64 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { parseKeyName } from "./keys.ts";

export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

export function formatCheckpoint({ origin, root, size }: Checkpoint): string {
  assert(parseKeyName(origin) !== undefined, `${JSON.stringify(origin)} is an origin`);
  assert(
    Number.isSafeInteger(size) && size >= 0 && root.length === 32,
    "a checkpoint has a size and a root of 32 bytes",
  );
  return `${origin}\n${size}\n${formatBase64(root)}\n`;
}

/** Throws the Violation `checkpoint.malformed` for anything that `formatCheckpoint` does not format. */
export function parseCheckpoint(text: string): Checkpoint {
  const malformed = (detail: string): Violation => new Violation("checkpoint.malformed", detail);
  const lines = text.split("\n");
  if (lines.length !== 4 || lines[3] !== "") throw malformed("a checkpoint is three lines, without extensions");
  const origin = parseKeyName(lines[0] ?? "");
  if (origin === undefined) throw malformed("the origin is not a name of up to 255 bytes without space and plus sign");
  const size = parseDecimal(lines[1] ?? "");
  if (size === undefined) throw malformed("the size is not a decimal up to 2^53-1 without leading zeros");
  const root = parseBase64(lines[2] ?? "");
  if (root?.length !== 32) throw malformed("the root is not strict base64 of 32 bytes");
  return { origin, root, size };
}
