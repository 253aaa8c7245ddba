import * as fc from "fast-check";
import { expect, it } from "vitest";
import { parseVkey } from "../../src/note/keys.ts";
import { formatNote, parseNote, parseSignatureLine, signatureLine } from "../../src/note/note.ts";
import { pureVerifier } from "../../src/note/signatures.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { hex, readVector, unhex } from "../merkle/model.ts";

interface NoteVectors {
  readonly valid: {
    name: string;
    note: string;
    text: string;
    signatures: { name: string; id: number; signature: string }[];
  }[];
  readonly invalid: { name: string; hex: string; code: string }[];
}

const { invalid, valid } = readVector("note/notes.json") as NoteVectors;
const malformed = expect.objectContaining({ code: "checkpoint.malformed" });

it.each(valid)("reads and writes: $name", ({ note, signatures, text }) => {
  const parsed = parseNote(utf8(note));
  expect(parsed.text).toBe(text);
  expect(parsed.signatures.map(({ id, name, signature }) => ({ id, name, signature: hex(signature) }))).toEqual(
    signatures,
  );
  expect(hex(formatNote(text, parsed.signatures))).toBe(hex(utf8(note)));
  const lines = parsed.signatures.map((s) => s.line);
  expect(hex(formatNote(text, lines))).toBe(hex(utf8(note)));
});

it.each(invalid)("refuses: $name", ({ code, hex: bytes }) => {
  expect(() => parseNote(unhex(bytes))).toThrow(expect.objectContaining({ code }));
});

it("verifies a note that golang.org/x/mod made", () => {
  const key = parseVkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
  const foreign = valid.find((v) => v.name.includes("x/mod"));
  if (key === undefined || foreign === undefined) throw new Error("the vector is missing");
  const { signatures, text } = parseNote(utf8(foreign.note));
  expect(signatures[0]?.id).toBe(key.id);
  expect(pureVerifier.ed25519(key.publicKey, utf8(text), signatures[0]?.signature ?? new Uint8Array())).toBe(true);
});

it("takes 128 signatures and 64 KiB, and no more", () => {
  const line = signatureLine("a", 1, new Uint8Array([1]));
  const of = (n: number): Uint8Array =>
    formatNote(
      "t\n",
      Array.from({ length: n }, () => line),
    );
  expect(parseNote(of(128)).signatures).toHaveLength(128);
  expect(() => parseNote(of(129))).toThrow(malformed);
  const room = 65_536 - of(1).length;
  const long = formatNote(`${"t".repeat(room + 1)}\n`, [line]);
  expect(long).toHaveLength(65_536);
  expect(parseNote(long).text).toHaveLength(room + 2);
  expect(() => parseNote(formatNote(`${"t".repeat(room + 2)}\n`, [line]))).toThrow(malformed);
  expect(() => parseNote(of(1), { maxBytes: 10 })).toThrow(malformed);
});

it("gives back any note", () => {
  const printable = fc.string({ unit: "grapheme" }).map((line) => line.replaceAll(/\p{Cc}/gu, ""));
  const text = fc.array(printable, { maxLength: 5, minLength: 1 }).map((lines) => `x${lines.join("\n")}\n`);
  const signature = fc.record({
    id: fc.nat(0xffff_ffff),
    name: fc.stringMatching(/^[a-z./é]+$/),
    signature: fc.uint8Array({ maxLength: 100, minLength: 1 }),
  });
  fc.assert(
    fc.property(text, fc.array(signature, { maxLength: 5, minLength: 1 }), (t, signatures) => {
      const parsed = parseNote(formatNote(t, signatures));
      expect(parsed.text).toBe(t);
      expect(parsed.signatures.map((s) => [s.name, s.id, hex(s.signature)])).toEqual(
        signatures.map((s) => [s.name, s.id, hex(s.signature)]),
      );
      for (const s of parsed.signatures) expect(parseSignatureLine(s.line)).toEqual(s);
    }),
  );
});

it("answers any bytes with a note that formats to them, or refuses", () => {
  const piece = fc.oneof(
    fc.constantFrom("\n", "\n\n", "— ", "a ", "AAAAAAA=", "AAAAAAAA", "\r", " ", "t"),
    fc.string({ maxLength: 3 }),
  );
  let notes = 0;
  const built = fc.array(piece, { maxLength: 12 }).map((parts) => parts.join(""));
  const near = built.map((middle) => `t\n\n— a AAAAAAA=\n${middle}`);
  fc.assert(
    fc.property(fc.oneof(built, near), (candidate) => {
      let parsed: ReturnType<typeof parseNote>;
      try {
        parsed = parseNote(utf8(candidate));
      } catch (error) {
        expect(error).toMatchObject({ code: "checkpoint.malformed" });
        return;
      }
      notes++;
      expect(hex(formatNote(parsed.text, parsed.signatures))).toBe(hex(utf8(candidate)));
    }),
    { numRuns: 1000 },
  );
  expect(notes).toBeGreaterThan(0);
});
