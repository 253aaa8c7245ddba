/**
 * The hashes of RFC 6962: a leaf is H(0x00 ‖ entry), a node H(0x01 ‖ left ‖ right), the empty tree H("").
 *
 * SHA-256 is pure by default; where a platform has a faster one, the composition root installs it once with `setSha256`,
 * before anything is hashed. Nothing here keeps a reference to what it is given.
 */
import { sha256 as pureSha256 } from "@noble/hashes/sha2.js";
import type { Digest } from "../std/brand.ts";
import { formatHex, fromLatin1 } from "../std/bytes.ts";

/** SHA-256 of bytes that come in pieces. */
export interface Sha256Stream {
  update(data: Uint8Array): void;
  /** Ends the stream; call it once. */
  digest(): Uint8Array;
}

let oneShot: (data: Uint8Array) => Uint8Array = (data) => pureSha256(data);
let oneShotHex = (data: Uint8Array): string => formatHex(oneShot(data));
let createStream: () => Sha256Stream = () => {
  const state = pureSha256.create();
  return { digest: () => state.digest(), update: (data) => void state.update(data) };
};

/** Installs the platform's SHA-256. `hash` must have read its input when it returns: the buffer is used again. */
export function setSha256(hash: (data: Uint8Array) => Uint8Array, stream: () => Sha256Stream = createStream): void {
  oneShot = hash;
  oneShotHex = (data) => formatHex(hash(data));
  createStream = stream;
}

/** The same for a platform that gives texts: of a short hash, they cost a third of what a buffer costs. */
export function setSha256Text(
  hash: (data: Uint8Array, form: "hex" | "binary") => string,
  stream: () => Sha256Stream = createStream,
): void {
  oneShot = (data) => fromLatin1(hash(data, "binary"));
  oneShotHex = (data) => hash(data, "hex");
  createStream = stream;
}

export const sha256 = (data: Uint8Array): Uint8Array => oneShot(data);
export const sha256Hex = (data: Uint8Array): Digest => oneShotHex(data) as Digest;
export const sha256Stream = (): Sha256Stream => createStream();

export const EMPTY_ROOT: Uint8Array = pureSha256(new Uint8Array());

/** One buffer for all leaves, and one for all nodes: allocating them each time costs as much as a native hash. */
let leaf = new Uint8Array(512);

function leafOf(entry: Uint8Array): Uint8Array {
  if (entry.length >= leaf.length) leaf = new Uint8Array(2 * entry.length);
  leaf.set(entry, 1);
  return leaf.subarray(0, entry.length + 1);
}

export const leafHash = (entry: Uint8Array): Uint8Array => oneShot(leafOf(entry));
export const leafHashHex = (entry: Uint8Array): Digest => oneShotHex(leafOf(entry)) as Digest;

const pair = new Uint8Array(65);
pair[0] = 1;

/** Both must be of 32 bytes; who takes hashes from outside checks that first. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  pair.set(left, 1);
  pair.set(right, 33);
  return oneShot(pair);
}
