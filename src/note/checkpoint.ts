/**
 * Signed checkpoints: what a log says about its tree, accepted only under keys that the caller trusts.
 *
 * Lines of unknown keys are ignored; a line of a known key that fails refuses the whole note, whatever else signed it.
 */
import { equalBytes, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { type Checkpoint, parseCheckpoint } from "./checkpoint-text.ts";
import { verifyCosignature } from "./cosignature.ts";
import type { VerifierKey } from "./keys.ts";
import { type Note, parseNote } from "./note.ts";
import type { SignatureVerifier } from "./signatures.ts";

export { type Checkpoint, formatCheckpoint, parseCheckpoint } from "./checkpoint-text.ts";

/** Whether every line of the key verifies; undefined when there is none. A key of algorithm 4 never signs for a log: undefined. */
export function verifyLogSignature(note: Note, key: VerifierKey, verifier: SignatureVerifier): boolean | undefined {
  switch (key.algorithm) {
    case 1: {
      const lines = note.signatures.filter((line) => line.id === key.id && line.name === key.name);
      if (lines.length === 0) return undefined;
      const message = utf8(note.text);
      return lines.every((line) => verifier.ed25519(key.publicKey, message, line.signature));
    }
    case 6:
      try {
        return verifyCosignature(note, key, verifier) === undefined ? undefined : true;
      } catch (error) {
        if (error instanceof Violation && error.code === "checkpoint.signature") return false;
        throw error;
      }
    case 4:
      return undefined;
  }
}

export interface OpenedCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly note: Note;
  /** The given keys that signed, at least one of them by the name of the origin. */
  readonly signedBy: readonly VerifierKey[];
}

const sameKey = (a: VerifierKey, b: VerifierKey): boolean =>
  a.id === b.id && a.name === b.name && equalBytes(a.publicKey, b.publicKey);

/**
 * Opens a checkpoint under log keys. Violations: `checkpoint.malformed`; `checkpoint.signature` when a line of a given key fails,
 * or no key of the origin signed; `checkpoint.origin` when no key given is of the origin.
 */
export function openCheckpoint(
  bytes: Uint8Array,
  keys: readonly VerifierKey[],
  verifier: SignatureVerifier,
): OpenedCheckpoint {
  const note = parseNote(bytes);
  const checkpoint = parseCheckpoint(note.text);
  const signedBy: VerifierKey[] = [];
  for (const key of keys) {
    if (signedBy.some((k) => sameKey(k, key))) continue;
    const valid = verifyLogSignature(note, key, verifier);
    if (valid === false) throw new Violation("checkpoint.signature", `the signature of ${key.name} does not verify`);
    if (valid === true) signedBy.push(key);
  }
  if (!signedBy.some((key) => key.name === checkpoint.origin)) {
    if (keys.some((key) => key.name === checkpoint.origin))
      throw new Violation("checkpoint.signature", `no trusted key of ${checkpoint.origin} signed it`);
    throw new Violation("checkpoint.origin", `no trusted key is of the log ${checkpoint.origin}`);
  }
  return { checkpoint, note, signedBy };
}
