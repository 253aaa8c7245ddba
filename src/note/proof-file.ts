/**
 * Proof files (C2SP tlog-proof, `.tlog-proof`): one entry's index and inclusion proof, and the checkpoint that it leads to.
 *
 * `extra` is not authenticated by anything here: whoever uses it hashes it against the proof.
 */
import { assert } from "../std/assert.ts";
import { parseDecimal } from "../std/brand.ts";
import { formatBase64, parseBase64, parseUtf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";

export interface ProofFile {
  readonly extra?: Uint8Array | undefined;
  readonly index: number;
  /** From the leaf's sibling to the root's child. */
  readonly hashes: readonly Uint8Array[];
  /** The signed note, verbatim. */
  readonly checkpoint: string;
}

const HEADER = "c2sp.org/tlog-proof@v1";
const MAX_BYTES = 262_144;
const MAX_HASHES = 63;

export function formatProofFile({ checkpoint, extra, hashes, index }: ProofFile): string {
  assert(
    Number.isSafeInteger(index) && index >= 0 && hashes.length <= MAX_HASHES,
    "a proof has an index and up to 63 hashes",
  );
  const lines = [
    HEADER,
    ...(extra === undefined ? [] : [`extra ${formatBase64(extra)}`]),
    `index ${index}`,
    ...hashes.map(formatBase64),
    "",
    checkpoint,
  ];
  return lines.join("\n");
}

/** Throws the Violation `pack.malformed` unless the bytes have the form; the checkpoint in it is not looked at. */
export function parseProofFile(bytes: Uint8Array): ProofFile {
  const malformed = (detail: string): Violation => new Violation("pack.malformed", `the proof file ${detail}`);
  if (bytes.length > MAX_BYTES) throw malformed(`is over ${MAX_BYTES} bytes`);
  const whole = parseUtf8(bytes);
  if (whole === undefined) throw malformed("is not UTF-8");
  const end = whole.indexOf("\n\n");
  if (end < 0 || end + 2 === whole.length) throw malformed("has no checkpoint after an empty line");
  const lines = whole.slice(0, end).split("\n");
  if (lines.shift() !== HEADER) throw malformed(`does not begin with ${HEADER}`);
  let extra: Uint8Array | undefined;
  if (lines[0]?.startsWith("extra ") === true) {
    extra = parseBase64(lines.shift()?.slice(6) ?? "");
    if (extra === undefined) throw malformed("has an extra line that is not strict base64");
  }
  const indexLine = lines.shift();
  const index = indexLine?.startsWith("index ") === true ? parseDecimal(indexLine.slice(6)) : undefined;
  if (index === undefined) throw malformed("has no index line with a decimal without leading zeros");
  if (lines.length > MAX_HASHES) throw malformed(`has over ${MAX_HASHES} hashes`);
  const hashes = lines.map((line) => {
    const hash = line.length === 44 ? parseBase64(line) : undefined;
    if (hash?.length !== 32) throw malformed("has a line that is not strict base64 of a hash");
    return hash;
  });
  return { checkpoint: whole.slice(end + 2), hashes, index, ...(extra === undefined ? {} : { extra }) };
}
