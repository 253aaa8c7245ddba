import { createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isStrictEd25519, pureVerifier } from "../../src/note/signatures.ts";
import { readVector, unhex } from "../merkle/model.ts";

interface SignatureVector {
  readonly name: string;
  readonly publicKey: string;
  readonly message: string;
  readonly signature: string;
  /** Whether it passes the rules that stand beside the equation. */
  readonly strict: boolean;
  readonly valid: boolean;
  readonly code?: string;
}

const vectors = readVector("note/ed25519.json") as SignatureVector[];
const SPKI = Buffer.from("302a300506032b6570032100", "hex");

/** OpenSSL behind the strict rules, as the server uses it. */
function nativeStrict(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (!isStrictEd25519(publicKey, signature)) return false;
  return verify(
    null,
    message,
    createPublicKey({ format: "der", key: Buffer.concat([SPKI, publicKey]), type: "spki" }),
    signature,
  );
}

describe.each(vectors)("Ed25519: $name", ({ code, message, publicKey, signature, strict, valid }) => {
  it("has one answer, pure and native", () => {
    const [a, m, s] = [unhex(publicKey), unhex(message), unhex(signature)];
    expect(isStrictEd25519(a, s)).toBe(strict);
    expect(pureVerifier.ed25519(a, m, s)).toBe(valid);
    expect(nativeStrict(a, m, s)).toBe(valid);
    expect(code).toBe(valid ? undefined : "checkpoint.signature");
  });
});

it("refuses torsion that a cofactored check accepts", () => {
  const torsion = vectors.filter((v) => v.name.includes("a cofactored check accepts"));
  expect(torsion).toHaveLength(2);
  for (const { message, publicKey, signature } of torsion) {
    const [a, m, s] = [unhex(publicKey), unhex(message), unhex(signature)];
    expect(ed25519.verify(s, m, a, { zip215: false })).toBe(true);
    expect(pureVerifier.ed25519(a, m, s)).toBe(false);
  }
});

it("needs the rules on small order: the equation alone accepts", () => {
  const small = vectors.filter((v) => v.name.includes("of small order") || v.name === "R of order 8, equation holds");
  expect(small).toHaveLength(9);
  for (const { message, publicKey, signature } of small) {
    expect(ed25519.verify(unhex(signature), unhex(message), unhex(publicKey), { zip215: true })).toBe(true);
  }
});

it("accepts what the platform signs, and nothing near it", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const a = new Uint8Array(publicKey.export({ format: "der", type: "spki" }).subarray(12));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(511), (message, bit) => {
      const signature = new Uint8Array(sign(null, message, privateKey));
      expect(pureVerifier.ed25519(a, message, signature)).toBe(true);
      const at = bit >> 3;
      expect(pureVerifier.ed25519(a, message, signature.with(at, (signature[at] ?? 0) ^ (1 << (bit & 7))))).toBe(false);
      expect(pureVerifier.ed25519(a, new Uint8Array([...message, 0]), signature)).toBe(false);
    }),
    { numRuns: 25 },
  );
});

it("checks ML-DSA-44 as the platform does", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ml-dsa-44");
  const a = new Uint8Array(publicKey.export({ format: "der", type: "spki" }).subarray(22));
  const message = new Uint8Array([1, 2, 3]);
  const signature = new Uint8Array(sign(null, message, privateKey));
  expect(pureVerifier.mlDsa44(a, message, signature)).toBe(true);
  expect(pureVerifier.mlDsa44(a, new Uint8Array([1, 2]), signature)).toBe(false);
  expect(pureVerifier.mlDsa44(a, message, signature.with(100, (signature[100] ?? 0) ^ 1))).toBe(false);
  expect(pureVerifier.mlDsa44(a.with(100, (a[100] ?? 0) ^ 1), message, signature)).toBe(false);
  expect(pureVerifier.mlDsa44(a, message, signature.subarray(1))).toBe(false);
  expect(pureVerifier.mlDsa44(a.subarray(1), message, signature)).toBe(false);
});

it("answers any input", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 40 }),
      fc.uint8Array({ maxLength: 10 }),
      fc.uint8Array({ maxLength: 70 }),
      (a, m, s) => {
        expect(pureVerifier.ed25519(a, m, s)).toBe(false);
        expect(pureVerifier.mlDsa44(a, m, s)).toBe(false);
      },
    ),
  );
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 32, minLength: 32 }),
      fc.uint8Array({ maxLength: 64, minLength: 64 }),
      (a, s) => {
        expect(pureVerifier.ed25519(a, new Uint8Array(), s)).toBe(false);
      },
    ),
  );
});

it("leaves what it checks as it is, also in a Buffer, whose slices share its memory", () => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const message = Buffer.from("message");
  const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  const signature = sign(null, message, privateKey);
  // A point with its sign bit set is what masking would change.
  for (const point of [raw, signature.subarray(0, 32)]) point[31] = (point[31] ?? 0) | 0x80;
  const before = [Buffer.from(raw).toString("hex"), Buffer.from(signature).toString("hex")];
  isStrictEd25519(raw, signature);
  expect([raw.toString("hex"), signature.toString("hex")]).toEqual(before);
});
