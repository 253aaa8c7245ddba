/**
 * Cosignatures (C2SP tlog-cosignature): that a cosigner saw, at a time, the log at its newest consistent size.
 *
 * The line holds an 8-byte big-endian timestamp in seconds, then the signature. The Ed25519 message does not commit to the
 * cosigner's name, so one key must never serve two names (`policy.duplicate-key`).
 */
import { assert } from "../std/assert.ts";
import { concat, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { parseCheckpoint } from "./checkpoint-text.ts";
import type { KeyAlgorithm, VerifierKey } from "./keys.ts";
import type { Note } from "./note.ts";
import type { SignatureVerifier } from "./signatures.ts";

const LABEL = utf8("subtree/v1\n\0");

function u64(n: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(n));
  return bytes;
}

/** A string of 1 to 255 bytes after its length. */
function opaque(text: string): Uint8Array {
  const bytes = utf8(text);
  assert(bytes.length >= 1 && bytes.length <= 255, "a name has 1 to 255 bytes");
  return concat(new Uint8Array([bytes.length]), bytes);
}

/** What a cosigner signs. `text` is the note's text; for ML-DSA-44 it must be a checkpoint, else `checkpoint.malformed`. */
export function cosignatureMessage(
  key: { readonly name: string; readonly algorithm: KeyAlgorithm },
  timestamp: number,
  text: string,
): Uint8Array {
  assert(Number.isSafeInteger(timestamp) && timestamp >= 0, "a timestamp is in whole seconds");
  switch (key.algorithm) {
    case 4:
      return utf8(`cosignature/v1\ntime ${timestamp}\n${text}`);
    case 6: {
      const { origin, root, size } = parseCheckpoint(text);
      return concat(LABEL, opaque(key.name), u64(timestamp), opaque(origin), u64(0), u64(size), root);
    }
    case 1:
      throw new Error("assertion failed: a key of algorithm 1 makes no cosignatures");
  }
}

/** What stands in the signature line after the key id. */
export const formatCosignature = (timestamp: number, signature: Uint8Array): Uint8Array =>
  concat(u64(timestamp), signature);

/** Timestamp of a valid signature; undefined for an invalid one. */
function openBlob(blob: Uint8Array, key: VerifierKey, text: string, verifier: SignatureVerifier): number | undefined {
  if (blob.length < 8) return undefined;
  const timestamp = Number(new DataView(blob.buffer, blob.byteOffset, 8).getBigUint64(0));
  if (!Number.isSafeInteger(timestamp)) return undefined;
  const message = cosignatureMessage(key, timestamp, text);
  const signature = blob.subarray(8);
  const valid =
    key.algorithm === 4
      ? verifier.ed25519(key.publicKey, message, signature)
      : verifier.mlDsa44(key.publicKey, message, signature);
  return valid ? timestamp : undefined;
}

/**
 * When the key cosigned the note, in seconds since the epoch, or 0 when it states no time; undefined when no line is of this key,
 * or when the key makes no cosignatures. Of several lines the earliest time holds.
 *
 * Throws the Violation `checkpoint.signature` when a line of this key fails: the whole note is then refused.
 */
export function verifyCosignature(
  note: Note,
  key: VerifierKey,
  verifier: SignatureVerifier,
): { readonly timestamp: number } | undefined {
  if (key.algorithm === 1) return undefined;
  let earliest: number | undefined;
  for (const line of note.signatures) {
    if (line.id !== key.id || line.name !== key.name) continue;
    const timestamp = openBlob(line.signature, key, note.text, verifier);
    if (timestamp === undefined)
      throw new Violation("checkpoint.signature", `the signature of ${key.name} does not verify`);
    if (earliest === undefined || earliest === 0 || (timestamp > 0 && timestamp < earliest)) earliest = timestamp;
  }
  return earliest === undefined ? undefined : { timestamp: earliest };
}
