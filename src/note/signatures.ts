/**
 * Signatures, checked in pure code, and the rules that make every implementation give one answer (`docs/formats/log.md`):
 * A and R canonical and not of small order, S < L, and R = S·B − k·A without clearing the cofactor. (OpenSSL 3.5 refuses an R of
 * small order, Go takes it; no honest signer makes one.)
 *
 * Libraries differ exactly there. A native verifier has the equation but not all of the rules: it is used behind
 * `isStrictEd25519`.
 */
import { ED25519_TORSION_SUBGROUP, ed25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { ml_dsa44 } from "@noble/post-quantum/ml-dsa.js";
import { concat, equalBytes, formatHex } from "../std/bytes.ts";
import type { KeyAlgorithm } from "./keys.ts";

/** Checks signatures. Both methods are total: input of any length gives false, never a throw. */
export interface SignatureVerifier {
  ed25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  mlDsa44(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
}

/** Signs with one key. */
export interface NoteSigner {
  readonly name: string;
  readonly id: number;
  readonly algorithm: KeyAlgorithm;
  /** The bare signature of the algorithm, without key id or timestamp: 64 bytes, or 2,420 for ML-DSA-44. */
  sign(message: Uint8Array): Uint8Array;
}

const ML_DSA_44_PUBLIC_KEY_BYTES = 1312;
const ML_DSA_44_SIGNATURE_BYTES = 2420;

const { Point } = ed25519;
const SMALL_ORDER: ReadonlySet<string> = new Set(ED25519_TORSION_SUBGROUP);
const isSmallOrder = (point: Uint8Array): boolean => SMALL_ORDER.has(formatHex(point));
const ORDER = Point.Fn.ORDER;

function bytesOf(number: bigint): Uint8Array {
  const bytes = new Uint8Array(32);
  let rest = number;
  for (let i = 0; i < 32; i++, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}

function numberOf(bytes: Uint8Array): bigint {
  let number = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) number = (number << 8n) | BigInt(bytes[i] ?? 0);
  return number;
}

const ORDER_BYTES = bytesOf(ORDER);
const FIELD_BYTES = bytesOf(Point.Fp.ORDER);
/** The two y whose x is 0; there the sign bit must be clear. */
const ONE = bytesOf(1n);
const MINUS_ONE = bytesOf(Point.Fp.ORDER - 1n);

/** Whether little-endian `a` is below `b`. */
function isBelow(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 31; i >= 0; i--) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

/** Whether 32 bytes are the one encoding of their point, if they are a point. */
function isCanonical(point: Uint8Array): boolean {
  const sign = (point[31] ?? 0) & 0x80;
  // A copy: the slice() of a Buffer would share its memory with what is checked.
  const y = Uint8Array.from(point);
  y[31] = (y[31] ?? 0) & 0x7f;
  return isBelow(y, FIELD_BYTES) && (sign === 0 || !(equalBytes(y, ONE) || equalBytes(y, MINUS_ONE)));
}

/** The rules that a cofactorless equation does not contain; cheap, on the bytes alone. */
export function isStrictEd25519(publicKey: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  const r = signature.subarray(0, 32);
  if (!isBelow(signature.subarray(32), ORDER_BYTES)) return false;
  return isCanonical(publicKey) && isCanonical(r) && !isSmallOrder(publicKey) && !isSmallOrder(r);
}

function verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (!isStrictEd25519(publicKey, signature)) return false;
  const r = signature.subarray(0, 32);
  let a: InstanceType<typeof Point>;
  try {
    a = Point.fromBytes(publicKey);
  } catch {
    return false; // not a point of the curve
  }
  const s = numberOf(signature.subarray(32));
  const k = numberOf(sha512(concat(r, publicKey, message))) % ORDER;
  // Equal encodings are equal points, torsion included.
  return equalBytes(Point.BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(k)).toBytes(), r);
}

function verifyMlDsa44(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== ML_DSA_44_PUBLIC_KEY_BYTES || signature.length !== ML_DSA_44_SIGNATURE_BYTES) return false;
  try {
    return ml_dsa44.verify(signature, message, publicKey);
  } catch {
    return false; // an encoding that the library refuses
  }
}

export const pureVerifier: SignatureVerifier = { ed25519: verifyEd25519, mlDsa44: verifyMlDsa44 };
