/**
 * Tells junk in a commit slot from a commit that went wrong. Junk carries no valid signature of any commit key that ever was in
 * force: anyone with a right to PUT can make it. What carries one is a bug or a stolen key, and no version that is unknown here
 * is ever called junk.
 */
import { parseSignatureLine } from "../note/note.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import type { CommitChain } from "../record/chain.ts";
import { parseUtf8 } from "../std/bytes.ts";

const LF = 0x0a;
const MAX_LINE_BYTES = 64 * 1024;

export function isJunk(chain: CommitChain, bytes: Uint8Array, verifier: SignatureVerifier): boolean {
  const first = bytes.indexOf(LF);
  const second = first < 0 ? -1 : bytes.indexOf(LF, first + 1);
  const end = second < 0 ? -1 : bytes.indexOf(LF, second + 2);
  if (end < 0 || bytes[second + 1] !== LF || end > MAX_LINE_BYTES) return true;
  const line = parseSignatureLine(parseUtf8(bytes.subarray(second + 2, end)) ?? "");
  if (line === undefined) return true;
  const text = bytes.subarray(0, second + 1);
  const signed = chain.keys
    .ever("KEY_ROLE_COMMIT")
    .some(
      (key) => key.id === line.id && key.name === line.name && verifier.ed25519(key.publicKey, text, line.signature),
    );
  return !signed;
}
