/** Proof files (C2SP tlog-proof): an inclusion proof and the checkpoint that it leads to, as text. */
import { parseDecimal } from "../std/brand.ts";
import { formatBase64, parseBase64, parseUtf8, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";

const HEADER = "c2sp.org/tlog-proof@v1";
const MAX_HASHES = 63;

export interface ProofFile {
  /** Not authenticated by the file itself: here the entry, whose leaf hash the proof is for. */
  readonly extra?: Uint8Array;
  readonly index: number;
  readonly hashes: readonly Uint8Array[];
  /** The signed note, verbatim. */
  readonly checkpoint: string;
}

export const formatProofFile = ({ checkpoint, extra, hashes, index }: ProofFile): Uint8Array =>
  utf8(`${HEADER}\n${extra === undefined ? "" : `extra ${formatBase64(extra)}\n`}index ${index}\n${hashes.map((h) => `${formatBase64(h)}\n`).join("")}\n${checkpoint}`);

export function parseProofFile(bytes: Uint8Array): ProofFile {
  const bad = (detail: string): Violation => new Violation("proof.malformed", detail);
  const text = bytes.length > 1 << 20 ? undefined : parseUtf8(bytes);
  const split = text?.indexOf("\n\n") ?? -1;
  if (text === undefined || split < 0) throw bad("the file is not text with an empty line before its checkpoint");
  const lines = text.slice(0, split).split("\n");
  if (lines.shift() !== HEADER) throw bad(`the first line is not ${HEADER}`);
  let extra: Uint8Array | undefined;
  if (lines[0]?.startsWith("extra ") === true) {
    extra = parseBase64(lines.shift()?.slice("extra ".length) ?? "");
    if (extra === undefined) throw bad("extra is not base64");
  }
  const first = lines.shift() ?? "";
  const index = first.startsWith("index ") ? parseDecimal(first.slice("index ".length)) : undefined;
  if (index === undefined) throw bad("there is no line `index <n>`");
  if (lines.length > MAX_HASHES) throw bad(`there are more than ${MAX_HASHES} hashes`);
  const hashes = lines.map((line) => {
    const hash = parseBase64(line);
    if (hash?.length !== 32) throw bad("a hash is not 32 bytes of base64");
    return hash;
  });
  return { checkpoint: text.slice(split + 2), hashes, index, ...(extra === undefined ? {} : { extra }) };
}
