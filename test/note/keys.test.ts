import { expect, it } from "vitest";
import { formatVkey, type KeyAlgorithm, keyId, parseKeyName, parseVkey } from "../../src/note/keys.ts";
import { hex, readVector, unhex } from "../merkle/model.ts";

interface KeyVectors {
  readonly valid: { vkey: string; name: string; id: number; algorithm: KeyAlgorithm; publicKey: string }[];
  readonly invalid: { name: string; vkey: string; code: string }[];
}

const { invalid, valid } = readVector("note/keys.json") as KeyVectors;

it.each(valid)(
  "reads and writes the key of $name, algorithm $algorithm",
  ({ algorithm, id, name, publicKey, vkey }) => {
    const key = parseVkey(vkey);
    expect(key && { ...key, publicKey: hex(key.publicKey) }).toEqual({ algorithm, id, name, publicKey });
    expect(formatVkey(name, algorithm, unhex(publicKey))).toBe(vkey);
    expect(keyId(name, algorithm, unhex(publicKey))).toBe(id);
  },
);

it.each(invalid)("refuses a key: $name", ({ vkey }) => {
  expect(parseVkey(vkey)).toBeUndefined();
});

it("tells algorithms of one public key apart", () => {
  const publicKey = unhex(valid[0]?.publicKey ?? "");
  expect(keyId("a", 1, publicKey)).not.toBe(keyId("a", 4, publicKey));
  expect(parseVkey(formatVkey("a", 4, publicKey))?.algorithm).toBe(4);
});

it("takes names without space, plus sign and control characters, up to 255 bytes", () => {
  for (const name of ["a", "log.example/x", "é", "x".repeat(255), "é".repeat(127)])
    expect(parseKeyName(name)).toBe(name);
  const bad = [
    "",
    "a b",
    "a+b",
    "a\u00a0b",
    "a\u0085b",
    "a\u2028b",
    "a\u3000b",
    "a\tb",
    "a\nb",
    "a\u0000b",
    "\ud800",
    "x".repeat(256),
    "é".repeat(128),
  ];
  for (const name of bad) expect(parseKeyName(name), JSON.stringify(name)).toBeUndefined();
  expect(() => formatVkey("a b", 1, new Uint8Array(32))).toThrow(/assertion/);
  expect(() => formatVkey("a", 1, new Uint8Array(31))).toThrow(/assertion/);
});
