/**
 * Signatures of notes, and one strict meaning of an Ed25519 signature: A and R canonical, S below the order, A not of small
 * order, and R == S·B − k·A without clearing the cofactor, as Go, OpenSSL and Node check it. A verifier that clears the cofactor
 * would accept what others refuse.
 */
import { ed25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { ml_dsa44 } from "@noble/post-quantum/ml-dsa.js";
import { concat, equalBytes } from "../std/bytes.ts";

export interface SignatureVerifier {
  ed25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  mlDsa44(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
}

/** Signs notes under one key; the message is what the key's algorithm says. */
export interface NoteSigner {
  readonly name: string;
  readonly id: number;
  readonly algorithm: 1 | 4 | 6;
  sign(message: Uint8Array): Uint8Array;
}

const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const FIELD = 2n ** 255n - 19n;

function littleEndian(bytes: Uint8Array): bigint {
  let n = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) n = (n << 8n) | BigInt(bytes[i] ?? 0);
  return n;
}

/** Whether an encoded point has its y below the field's prime (the sign bit aside). */
function isCanonicalPoint(bytes: Uint8Array): boolean {
  const y = bytes.slice();
  y[31] = (y[31] ?? 0) & 0x7f;
  return littleEndian(y) < FIELD;
}

// The y coordinates of the eight points of small order.
const SMALL_ORDER_Y = new Set([0n, 1n, FIELD - 1n, ...torsionY()]);

function torsionY(): bigint[] {
  const hex = ["26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"];
  return hex.map((h) => littleEndian(Uint8Array.from(h.match(/../g) ?? [], (b) => Number.parseInt(b, 16))));
}

/** The checks that a lenient native verifier may lack; what they pass, the equation still decides. */
export function isStrictEd25519(publicKey: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  if (!isCanonicalPoint(publicKey) || !isCanonicalPoint(signature.subarray(0, 32)) || littleEndian(signature.subarray(32)) >= ORDER) return false;
  const y = publicKey.slice();
  y[31] = (y[31] ?? 0) & 0x7f;
  return !SMALL_ORDER_Y.has(littleEndian(y));
}

function verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (!isStrictEd25519(publicKey, signature)) return false;
  try {
    const { Point } = ed25519;
    const r = signature.subarray(0, 32);
    const a = Point.fromBytes(publicKey);
    const s = littleEndian(signature.subarray(32));
    const k = littleEndian(sha512(concat(r, publicKey, message))) % ORDER;
    const sB = s === 0n ? Point.ZERO : Point.BASE.multiplyUnsafe(s);
    const kA = k === 0n ? Point.ZERO : a.multiplyUnsafe(k);
    return equalBytes(sB.subtract(kA).toBytes(), r);
  } catch {
    return false; // not a point
  }
}

function verifyMlDsa44(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== 1312 || signature.length !== 2420) return false;
  try {
    return ml_dsa44.verify(signature, message, publicKey);
  } catch {
    return false;
  }
}

/** Runs anywhere, a browser included. */
export const pureVerifier: SignatureVerifier = { ed25519: verifyEd25519, mlDsa44: verifyMlDsa44 };
