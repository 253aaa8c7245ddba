/** Cosignatures (C2SP tlog-cosignature): a time and a signature that says "at that time I saw this tree, extending what I saw before". */
import { concat, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { VerifierKey } from "./keys.ts";
import type { Note, NoteSignature } from "./note.ts";
import type { SignatureVerifier } from "./signatures.ts";

function uint64(n: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(n));
  return bytes;
}

const withLength = (text: string): Uint8Array => {
  const bytes = utf8(text);
  return concat(Uint8Array.of(bytes.length), bytes);
};

/** What a cosigner signs. `timestamp` is in seconds since the epoch; `text` is the note's. */
export function cosignatureMessage(algorithm: 4 | 6, name: string, timestamp: number, text: string, tree: Checkpoint): Uint8Array {
  if (algorithm === 4) return utf8(`cosignature/v1\ntime ${timestamp}\n${text}`);
  return concat(utf8("subtree/v1\n\0"), withLength(name), uint64(timestamp), withLength(tree.origin), uint64(0), uint64(tree.size), tree.root);
}

/** The signature blob of a note line: time and signature. */
export const formatCosignature = (timestamp: number, signature: Uint8Array): Uint8Array => concat(uint64(timestamp), signature);

export interface Cosignature {
  /** Seconds since the epoch. */
  readonly timestamp: number;
}

/** The earliest of the key's lines; undefined when one of them is wrong. */
export function openCosignature(text: string, tree: Checkpoint, key: VerifierKey, lines: readonly NoteSignature[], verifier: SignatureVerifier): Cosignature | undefined {
  const { algorithm } = key;
  if (algorithm === 1) return undefined;
  let earliest: number | undefined;
  for (const { signature } of lines) {
    if (signature.length <= 8) return undefined;
    const time = new DataView(signature.buffer, signature.byteOffset).getBigUint64(0);
    if (time > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
    const timestamp = Number(time);
    const message = cosignatureMessage(algorithm, key.name, timestamp, text, tree);
    const verify = algorithm === 4 ? verifier.ed25519 : verifier.mlDsa44;
    if (!verify(key.publicKey, message, signature.subarray(8))) return undefined;
    earliest = Math.min(earliest ?? timestamp, timestamp);
  }
  return earliest === undefined ? undefined : { timestamp: earliest };
}

/** A cosigner's line on a checkpoint; undefined when there is none. A line that fails rejects the note. */
export function verifyCosignature(note: Note, tree: Checkpoint, key: VerifierKey, verifier: SignatureVerifier): Cosignature | undefined {
  const lines = note.signatures.filter((s) => s.name === key.name && s.id === key.id);
  if (lines.length === 0) return undefined;
  const opened = openCosignature(note.text, tree, key, lines, verifier);
  if (opened === undefined) throw new Violation("checkpoint.signature", `the line of ${key.name} is not its cosignature of this note`);
  return opened;
}
