/** Checkpoints (C2SP tlog-checkpoint): origin, size and root of a tree in a signed note, without extension lines. */
import { parseDecimal } from "../std/brand.ts";
import { formatBase64, parseBase64, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { openCosignature } from "./cosignature.ts";
import { isKeyName, type VerifierKey } from "./keys.ts";
import { type Note, parseNote } from "./note.ts";
import type { SignatureVerifier } from "./signatures.ts";

export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
}

export const formatCheckpoint = ({ origin, root, size }: Checkpoint): string => `${origin}\n${size}\n${formatBase64(root)}\n`;

export function parseCheckpoint(text: string): Checkpoint {
  const [origin = "", decimal = "", base64 = "", ...rest] = text.split("\n");
  const size = parseDecimal(decimal);
  const root = parseBase64(base64);
  if (rest.length !== 1 || rest[0] !== "" || !isKeyName(origin) || size === undefined || root?.length !== 32) throw new Violation("checkpoint.malformed", "the text is not exactly origin, decimal size and base64 root, a line each");
  return { origin, root, size };
}

/** Whether the key's line on a note is right; undefined when the note has none. */
export function verifyLogSignature(note: Note, key: VerifierKey, verifier: SignatureVerifier): boolean | undefined {
  const lines = note.signatures.filter((s) => s.name === key.name && s.id === key.id);
  if (lines.length === 0) return undefined;
  if (key.algorithm === 1) return lines.every((l) => verifier.ed25519(key.publicKey, utf8(note.text), l.signature));
  return openCosignature(note.text, parseCheckpoint(note.text), key, lines, verifier) !== undefined;
}

export interface OpenedCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly note: Note;
  readonly signedBy: readonly VerifierKey[];
}

/** Opens a checkpoint: lines of unknown keys are ignored, a known key whose line fails rejects the note. */
export function openCheckpoint(bytes: Uint8Array, keys: readonly VerifierKey[], verifier: SignatureVerifier): OpenedCheckpoint {
  const note = parseNote(bytes);
  const checkpoint = parseCheckpoint(note.text);
  const signedBy = keys.filter((key) => {
    const right = verifyLogSignature(note, key, verifier);
    if (right === false) throw new Violation("checkpoint.signature", `the line of ${key.name} is not its signature of this note`);
    return right === true;
  });
  return { checkpoint, note, signedBy };
}
