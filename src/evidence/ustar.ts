/** Writes the container of a pack: ustar with every header byte fixed (`docs/formats/packs.md`). */
import { utf8 } from "../std/bytes.ts";

const BLOCK = 512;
export const END_OF_ARCHIVE = new Uint8Array(2 * BLOCK);

const text = (value: string, length: number): string => value.padEnd(length, "\0");
const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, "0");

/** The header block of a member. */
export function memberHeader(name: string, sizeBytes: number): Uint8Array {
  const before = `${text(name, 100)}0000644\0${"0000000\0".repeat(2)}${octal(sizeBytes, 11)}\0${octal(0, 11)}\0`;
  const after = text(`0${text("", 100)}ustar\x0000`, BLOCK - before.length - 8);
  // The checksum counts its own field as spaces.
  const sum = utf8(`${before}${" ".repeat(8)}${after}`).reduce((total, byte) => total + byte, 0);
  return utf8(`${before}${octal(sum, 6)}\0 ${after}`);
}

/** Zero bytes that fill a member to whole blocks. */
export const padding = (sizeBytes: number): Uint8Array => new Uint8Array((BLOCK - (sizeBytes % BLOCK)) % BLOCK);
