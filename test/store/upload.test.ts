import { expect, it } from "vitest";
import { createUploadSigner, type UploadClaims } from "../../src/store/fs/upload.ts";

const secret = new Uint8Array(32).fill(7);
const signer = createUploadSigner(secret);
const claims: UploadClaims = {
  method: "PUT",
  key: "artifacts/x",
  sha256: "ab".repeat(32),
  sizeBytes: 12,
  expiresAtMs: 1_000,
  filename: "a b.csv",
};

it("verifies what it signed, for the method and until the expiry", () => {
  const token = signer.sign(claims);
  expect(token).toMatch(/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}$/);
  expect(signer.verify(token, "PUT", 999)).toEqual(claims);
  expect(signer.verify(token, "PUT", 1_000)).toBeUndefined();
  expect(signer.verify(token, "GET", 999)).toBeUndefined();
  const short: UploadClaims = { method: "GET", key: "k", expiresAtMs: 5 };
  expect(signer.verify(signer.sign(short), "GET", 4)).toEqual(short);
});

it("refuses every token with one character changed, cut or added", () => {
  const token = signer.sign(claims);
  for (let i = 0; i < token.length; i++) {
    const other = token[i] === "A" ? "B" : "A";
    for (const bad of [
      token.slice(0, i) + other + token.slice(i + 1),
      token.slice(0, i),
      token.slice(0, i) + other + token.slice(i),
    ])
      expect(signer.verify(bad, "PUT", 0), bad).toBeUndefined();
  }
  for (const bad of ["", ".", "..", `${token}.`, "a".repeat(1_000_000)])
    expect(signer.verify(bad, "PUT", 0)).toBeUndefined();
});

it("refuses tokens of another secret, and short secrets", () => {
  expect(createUploadSigner(new Uint8Array(32).fill(8)).verify(signer.sign(claims), "PUT", 0)).toBeUndefined();
  expect(() => createUploadSigner(new Uint8Array(31))).toThrow("32 bytes");
});
