/**
 * Signature checks by the platform, under the same strict meaning as the pure verifier: what OpenSSL may let pass is refused
 * first.
 */
import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { isStrictEd25519, type SignatureVerifier } from "../note/signatures.ts";
import { concat, formatHex, parseHex } from "../std/bytes.ts";

/** What stands before the raw key in its SubjectPublicKeyInfo. */
const SPKI_PREFIX = {
  ed25519: parseHex("302a300506032b6570032100") ?? new Uint8Array(),
  mlDsa44: parseHex("30820532300b06096086480165030403110382052100") ?? new Uint8Array(),
} as const;
const MAX_KEYS = 256;

const keys = new Map<string, KeyObject>();

function keyObject(prefix: Uint8Array, raw: Uint8Array): KeyObject {
  const name = formatHex(raw);
  const known = keys.get(name);
  if (known !== undefined) return known;
  const key = createPublicKey({ format: "der", key: Buffer.from(concat(prefix, raw)), type: "spki" });
  if (keys.size >= MAX_KEYS) keys.clear();
  keys.set(name, key);
  return key;
}

function check(prefix: Uint8Array, publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(null, message, keyObject(prefix, publicKey), signature);
  } catch {
    return false; // not a point
  }
}

/** A Buffer's `slice` shares memory; the same bytes as a plain array do not. */
const plain = (bytes: Uint8Array): Uint8Array =>
  Buffer.isBuffer(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length) : bytes;

export const nativeVerifier: SignatureVerifier = {
  ed25519: (publicKey, message, signature) =>
    isStrictEd25519(plain(publicKey), plain(signature)) && check(SPKI_PREFIX.ed25519, publicKey, message, signature),
  mlDsa44: (publicKey, message, signature) =>
    publicKey.length === 1312 && signature.length === 2420 && check(SPKI_PREFIX.mlDsa44, publicKey, message, signature),
};
