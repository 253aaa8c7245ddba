/**
 * Verifier keys of C2SP signed notes: `name+hex8(key id)+base64(algorithm ‖ public key)`.
 *
 * A key id is recomputed, never believed. The algorithm is part of the key: one public key as 1 and as 4 is two verifier keys,
 * and nothing here turns one into the other (`docs/formats/keys.md`).
 */
import { sha256 } from "../merkle/hash.ts";
import { assert } from "../std/assert.ts";
import { concat, formatBase64, parseBase64, utf8 } from "../std/bytes.ts";

/** 1: Ed25519 over a note's text. 4: Ed25519 cosignature. 6: ML-DSA-44 cosignature; a log's own ML-DSA line too has that form. */
export type KeyAlgorithm = 1 | 4 | 6;

export interface VerifierKey {
  readonly name: string;
  /** uint32. */
  readonly id: number;
  readonly algorithm: KeyAlgorithm;
  readonly publicKey: Uint8Array;
}

const MAX_NAME_BYTES = 255;
const PUBLIC_KEY_BYTES: Readonly<Record<KeyAlgorithm, number>> = { 1: 32, 4: 32, 6: 1312 };

const isAlgorithm = (n: number | undefined): n is KeyAlgorithm => n === 1 || n === 4 || n === 6;

// Unicode spaces, the plus sign, control characters.
// oxlint-disable-next-line no-control-regex
const FORBIDDEN = /[\p{White_Space}+\u0000-\u001f]/u;

/** Whether a name can stand in a signature line: not empty, well-formed, no space, plus sign or control character. */
export const isNoteName = (text: string): boolean => text.length > 0 && text.isWellFormed() && !FORBIDDEN.test(text);

/** A key name, which is an origin too: a note name of 255 bytes at most. */
export const parseKeyName = (text: string): string | undefined =>
  text.length <= MAX_NAME_BYTES && isNoteName(text) && utf8(text).length <= MAX_NAME_BYTES ? text : undefined;

/** The first four bytes of SHA-256(name ‖ LF ‖ algorithm ‖ public key), big-endian. */
export function keyId(name: string, algorithm: KeyAlgorithm, publicKey: Uint8Array): number {
  const hash = sha256(concat(utf8(name), new Uint8Array([0x0a, algorithm]), publicKey));
  return new DataView(hash.buffer, hash.byteOffset, 4).getUint32(0);
}

const formatId = (id: number): string => id.toString(16).padStart(8, "0");

export function formatVkey(name: string, algorithm: KeyAlgorithm, publicKey: Uint8Array): string {
  assert(parseKeyName(name) !== undefined, `${JSON.stringify(name)} is a key name`);
  assert(publicKey.length === PUBLIC_KEY_BYTES[algorithm], "the public key has the length of its algorithm");
  return `${name}+${formatId(keyId(name, algorithm, publicKey))}+${formatBase64(concat(new Uint8Array([algorithm]), publicKey))}`;
}

/** Parses exactly what `formatVkey` formats; undefined for anything else, a wrong key id included. */
export function parseVkey(text: string): VerifierKey | undefined {
  const afterName = text.indexOf("+");
  if (afterName < 0 || text[afterName + 9] !== "+") return undefined;
  const name = parseKeyName(text.slice(0, afterName));
  const blob = parseBase64(text.slice(afterName + 10));
  const algorithm = blob?.[0];
  if (name === undefined || blob === undefined || !isAlgorithm(algorithm)) return undefined;
  const publicKey = blob.subarray(1);
  if (publicKey.length !== PUBLIC_KEY_BYTES[algorithm]) return undefined;
  const id = keyId(name, algorithm, publicKey);
  return text.slice(afterName + 1, afterName + 9) === formatId(id) ? { algorithm, id, name, publicKey } : undefined;
}
