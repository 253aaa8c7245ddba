import { expect, it } from "vitest";
import { formatCheckpoint, openCheckpoint, parseCheckpoint, verifyLogSignature } from "../../src/note/checkpoint.ts";
import { formatVkey, parseVkey, type VerifierKey } from "../../src/note/keys.ts";
import { parseNote } from "../../src/note/note.ts";
import { pureVerifier } from "../../src/note/signatures.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { hex, readVector, unhex } from "../merkle/model.ts";

interface Opened {
  readonly name: string;
  readonly keys: string[];
  readonly note: string;
  readonly origin: string;
  readonly size: number;
  readonly root: string;
  readonly signedBy: string[];
}

interface CheckpointVectors {
  readonly texts: {
    valid: { text: string; origin: string; size: number; root: string }[];
    invalid: { name: string; text: string; code: string }[];
  };
  readonly opened: Opened[];
  readonly refused: { name: string; keys: string[]; note: string; code: string }[];
}

const { opened, refused, texts } = readVector("note/checkpoints.json") as CheckpointVectors;
const keyOf = (vkey: string): VerifierKey => assertDefined(parseVkey(vkey), vkey);
const formatted = (key: VerifierKey): string => formatVkey(key.name, key.algorithm, key.publicKey);

it.each(texts.valid)("reads and writes the text of size $size", ({ origin, root, size, text }) => {
  const checkpoint = parseCheckpoint(text);
  expect({ ...checkpoint, root: hex(checkpoint.root) }).toEqual({ origin, root, size });
  expect(formatCheckpoint({ origin, root: unhex(root), size })).toBe(text);
});

it.each(texts.invalid)("refuses a text: $name", ({ code, text }) => {
  expect(() => parseCheckpoint(text)).toThrow(expect.objectContaining({ code }));
});

it.each(opened)("opens: $name", ({ keys, note, origin, root, signedBy, size }) => {
  const found = openCheckpoint(utf8(note), keys.map(keyOf), pureVerifier);
  expect({ ...found.checkpoint, root: hex(found.checkpoint.root) }).toEqual({ origin, root, size });
  expect(found.signedBy.map(formatted)).toEqual(signedBy);
  expect(found.note).toEqual(parseNote(utf8(note)));
});

it.each(refused)("refuses: $name", ({ code, keys, note }) => {
  expect(() => openCheckpoint(utf8(note), keys.map(keyOf), pureVerifier)).toThrow(expect.objectContaining({ code }));
});

it("counts a key that is given twice once", () => {
  const [first] = opened;
  if (first === undefined) throw new Error("the vector is missing");
  const keys = [...first.keys, ...first.keys].map(keyOf);
  expect(openCheckpoint(utf8(first.note), keys, pureVerifier).signedBy.map(formatted)).toEqual(first.signedBy);
});

it("says of one key whether it signed, failed or is absent", () => {
  const answer = (vector: { note: string; keys: string[] } | undefined, at = 0): boolean | undefined =>
    verifyLogSignature(parseNote(utf8(vector?.note ?? "")), keyOf(vector?.keys[at] ?? ""), pureVerifier);
  const both = opened.find((v) => v.name.startsWith("both"));
  expect([answer(both, 0), answer(both, 1)]).toEqual([true, true]);
  expect(answer(refused.find((v) => v.name === "known key fails"))).toBe(false);
  expect(
    answer(
      refused.find((v) => v.name === "one of two known keys fails"),
      1,
    ),
  ).toBe(false);
  expect(answer(refused.find((v) => v.name === "no line of a known key"))).toBeUndefined();
  expect(answer(refused.find((v) => v.name.includes("algorithm 4")))).toBeUndefined();
});

it("never formats what it would not read", () => {
  const root = new Uint8Array(32);
  expect(() => formatCheckpoint({ origin: "a b", root, size: 1 })).toThrow(/assertion/);
  expect(() => formatCheckpoint({ origin: "a", root, size: 0.5 })).toThrow(/assertion/);
  expect(() => formatCheckpoint({ origin: "a", root: root.subarray(1), size: 1 })).toThrow(/assertion/);
});
