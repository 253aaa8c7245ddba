/**
 * The hashes of RFC 6962: a leaf is H(0x00 ‖ entry), a node H(0x01 ‖ left ‖ right), the empty tree H("").
 *
 * SHA-256 is pure by default; where a platform has a faster one, the composition root installs it once with `setSha256`.
 */
import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import type { Digest } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";

let hash: (data: Uint8Array) => Uint8Array = nobleSha256;

export function setSha256(implementation: (data: Uint8Array) => Uint8Array): void {
  hash = implementation;
}

export const sha256 = (data: Uint8Array): Uint8Array => hash(data);
export const sha256Hex = (data: Uint8Array): Digest => formatHex(hash(data)) as Digest;

/** Hashes what comes in pieces. */
export function sha256Stream(): { update(data: Uint8Array): void; digest(): Uint8Array } {
  const state = nobleSha256.create();
  return { digest: () => state.digest(), update: (data) => void state.update(data) };
}

export const EMPTY_ROOT: Uint8Array = nobleSha256(new Uint8Array());

export function leafHash(entry: Uint8Array): Uint8Array {
  const data = new Uint8Array(entry.length + 1);
  data.set(entry, 1);
  return hash(data);
}

const pair = new Uint8Array(65);
pair[0] = 1;

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  pair.set(left, 1);
  pair.set(right, 33);
  return hash(pair);
}
