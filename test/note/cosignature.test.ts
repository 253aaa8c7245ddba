import { generateKeyPairSync, sign } from "node:crypto";
import { expect, it } from "vitest";
import { cosignatureMessage, formatCosignature, verifyCosignature } from "../../src/note/cosignature.ts";
import { keyId, parseVkey, type VerifierKey } from "../../src/note/keys.ts";
import { formatNote, parseNote } from "../../src/note/note.ts";
import { pureVerifier } from "../../src/note/signatures.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { hex, readVector } from "../merkle/model.ts";

interface CosignatureVectors {
  readonly valid: { name: string; key: string; note: string; timestamp: number | null; message?: string }[];
  readonly refused: { name: string; key: string; note: string; code: string }[];
}

const { refused, valid } = readVector("note/cosignatures.json") as CosignatureVectors;
const keyOf = (vkey: string): VerifierKey => assertDefined(parseVkey(vkey), vkey);

it.each(valid)("accepts: $name", ({ key, message, note, timestamp }) => {
  const parsed = parseNote(utf8(note));
  expect(verifyCosignature(parsed, keyOf(key), pureVerifier)).toEqual(timestamp === null ? undefined : { timestamp });
  if (message !== undefined) expect(hex(cosignatureMessage(keyOf(key), timestamp ?? 0, parsed.text))).toBe(message);
});

it.each(refused)("refuses: $name", ({ code, key, note }) => {
  expect(() => verifyCosignature(parseNote(utf8(note)), keyOf(key), pureVerifier)).toThrow(
    expect.objectContaining({ code }),
  );
});

it.each([
  { algorithm: 4, header: 12, type: "ed25519" },
  { algorithm: 6, header: 22, type: "ml-dsa-44" },
] as const)("verifies what it formats: $type", ({ algorithm, header, type }) => {
  const { privateKey, publicKey: spki } =
    type === "ed25519" ? generateKeyPairSync("ed25519") : generateKeyPairSync("ml-dsa-44");
  const publicKey = new Uint8Array(spki.export({ format: "der", type: "spki" }).subarray(header));
  const key: VerifierKey = { algorithm, id: keyId("w", algorithm, publicKey), name: "w", publicKey };
  const text = `o\n5\n${"A".repeat(43)}=\n`;
  const signature = formatCosignature(
    1_764_000_000,
    new Uint8Array(sign(null, cosignatureMessage(key, 1_764_000_000, text), privateKey)),
  );
  const note = parseNote(formatNote(text, [{ id: key.id, name: "w", signature }]));
  expect(verifyCosignature(note, key, pureVerifier)).toEqual({ timestamp: 1_764_000_000 });
});

it("makes no message of another kind", () => {
  expect(() => cosignatureMessage({ algorithm: 1, name: "w" }, 0, "t\n")).toThrow(/assertion/);
  expect(() => cosignatureMessage({ algorithm: 4, name: "w" }, 0.5, "t\n")).toThrow(/assertion/);
  expect(() => cosignatureMessage({ algorithm: 6, name: "w" }, 0, "t\n")).toThrow(
    expect.objectContaining({ code: "checkpoint.malformed" }),
  );
});
