/** Keys of signed notes in their text form, `name+hex8(id)+base64(algorithm ‖ key)` (C2SP signed-note). */
import { sha256 } from "../merkle/hash.ts";
import { concat, formatBase64, formatHex, parseBase64, utf8 } from "../std/bytes.ts";

/** 1 Ed25519, 4 Ed25519 cosignature, 6 ML-DSA-44 (sub)tree cosignature. */
export type KeyAlgorithm = 1 | 4 | 6;

export interface VerifierKey {
  readonly name: string;
  /** The first four bytes of the key's hash, big-endian. */
  readonly id: number;
  readonly algorithm: KeyAlgorithm;
  readonly publicKey: Uint8Array;
}

const KEY_BYTES: Readonly<Record<KeyAlgorithm, number>> = { 1: 32, 4: 32, 6: 1312 };
const MAX_NAME_BYTES = 255;

const isAlgorithm = (n: number | undefined): n is KeyAlgorithm => n === 1 || n === 4 || n === 6;

/** A key name: not empty, at most 255 bytes, no white space, no `+`. */
export const isKeyName = (name: string): boolean => name !== "" && !/[\s+\p{Cc}]/u.test(name) && utf8(name).length <= MAX_NAME_BYTES;

export function keyId(name: string, algorithm: KeyAlgorithm, publicKey: Uint8Array): number {
  const digest = sha256(concat(utf8(`${name}\n`), Uint8Array.of(algorithm), publicKey));
  return new DataView(digest.buffer, digest.byteOffset).getUint32(0);
}

export const formatKeyId = (id: number): string => id.toString(16).padStart(8, "0");

export const formatVkey = (name: string, algorithm: KeyAlgorithm, publicKey: Uint8Array): string =>
  `${name}+${formatKeyId(keyId(name, algorithm, publicKey))}+${formatBase64(concat(Uint8Array.of(algorithm), publicKey))}`;

/** Parses a verifier key; its id must be the one that name and key give. */
export function parseVkey(text: string): VerifierKey | undefined {
  const match = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text);
  const bytes = match?.[3] === undefined ? undefined : parseBase64(match[3]);
  const name = match?.[1] ?? "";
  const algorithm = bytes?.[0];
  if (bytes === undefined || !isKeyName(name) || !isAlgorithm(algorithm) || bytes.length !== 1 + KEY_BYTES[algorithm]) return undefined;
  const publicKey = bytes.slice(1);
  const id = keyId(name, algorithm, publicKey);
  return formatKeyId(id) === match?.[2] ? { algorithm, id, name, publicKey } : undefined;
}

/** Names a public key whatever its algorithm byte: Ed25519 keys of type 1 and 4 are the same key. */
export const publicKeyText = (key: VerifierKey): string => formatHex(key.publicKey);
