import * as fc from "fast-check";
import { expect, it } from "vitest";
import { formatProofFile, parseProofFile } from "../../src/note/proof-file.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { hex, readVector, unhex } from "../merkle/model.ts";

interface ProofVectors {
  readonly valid: { name: string; file: string; extra?: string; index: number; hashes: string[]; checkpoint: string }[];
  readonly invalid: { name: string; hex: string; code: string }[];
}

const { invalid, valid } = readVector("note/proof-files.json") as ProofVectors;

it.each(valid)("reads and writes: $name", ({ checkpoint, extra, file, hashes, index }) => {
  const parsed = parseProofFile(utf8(file));
  expect(parsed.extra && hex(parsed.extra)).toBe(extra);
  expect(parsed.index).toBe(index);
  expect(parsed.hashes.map(hex)).toEqual(hashes);
  expect(parsed.checkpoint).toBe(checkpoint);
  expect(
    formatProofFile({
      checkpoint,
      extra: extra === undefined ? undefined : unhex(extra),
      hashes: hashes.map(unhex),
      index,
    }),
  ).toBe(file);
});

it.each(invalid)("refuses: $name", ({ code, hex: bytes }) => {
  expect(() => parseProofFile(unhex(bytes))).toThrow(expect.objectContaining({ code }));
});

it("takes 256 KiB and no more", () => {
  const file = valid[0]?.file ?? "";
  const room = 262_144 - utf8(file).length;
  expect(parseProofFile(utf8(file + "x".repeat(room))).index).toBe(valid[0]?.index);
  expect(() => parseProofFile(utf8(file + "x".repeat(room + 1)))).toThrow(
    expect.objectContaining({ code: "pack.malformed" }),
  );
});

it("gives back any proof", () => {
  const hash = fc.uint8Array({ maxLength: 32, minLength: 32 });
  fc.assert(
    fc.property(
      fc.option(fc.uint8Array({ maxLength: 300 }), { nil: undefined }),
      fc.maxSafeNat(),
      fc.array(hash, { maxLength: 63 }),
      (extra, index, hashes) => {
        const parsed = parseProofFile(utf8(formatProofFile({ checkpoint: "o\n\n— x\n", extra, hashes, index })));
        expect(parsed.extra && hex(parsed.extra)).toBe(extra && hex(extra));
        expect(parsed.index).toBe(index);
        expect(parsed.hashes.map(hex)).toEqual(hashes.map(hex));
        expect(parsed.checkpoint).toBe("o\n\n— x\n");
      },
    ),
  );
});
