/**
 * Signed notes (C2SP signed-note): a text, an empty line, and signature lines `— <name> <base64(key id ‖ signature)>`.
 *
 * Says nothing about who signed: names and ids are claims until a key of them was tried. An attacker controls all bytes here.
 */
import { assert } from "../std/assert.ts";
import { concat, formatBase64, parseBase64, parseUtf8, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { isNoteName } from "./keys.ts";

export interface NoteSignature {
  readonly name: string;
  /** uint32. */
  readonly id: number;
  /** What follows the key id: its form depends on the key. */
  readonly signature: Uint8Array;
  /** The line as it stands in the note, without line feed. */
  readonly line: string;
}

export interface Note {
  /** Ends with a line feed; what is signed. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

export const MAX_NOTE_BYTES = 65_536;
const MAX_SIGNATURES = 128;
const DASH = "\u2014 ";

/** One signature line, without line feed. */
export function signatureLine(name: string, id: number, signature: Uint8Array): string {
  assert(isNoteName(name), `${JSON.stringify(name)} is a key name`);
  const prefix = new Uint8Array(4);
  new DataView(prefix.buffer).setUint32(0, id);
  return `${DASH}${name} ${formatBase64(concat(prefix, signature))}`;
}

/** Parses one signature line, without line feed; undefined for anything that `signatureLine` does not format. */
export function parseSignatureLine(line: string): NoteSignature | undefined {
  if (!line.startsWith(DASH)) return undefined;
  const space = line.indexOf(" ", DASH.length);
  const name = line.slice(DASH.length, space);
  if (space < 0 || !isNoteName(name)) return undefined;
  const blob = parseBase64(line.slice(space + 1));
  if (blob === undefined || blob.length < 5) return undefined;
  return { id: new DataView(blob.buffer, blob.byteOffset, 4).getUint32(0), line, name, signature: blob.subarray(4) };
}

// Every ASCII control character but the line feed.
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0009\u000b-\u001f]/;

const malformed = (detail: string): Violation => new Violation("checkpoint.malformed", detail);

/** Throws the Violation `checkpoint.malformed` unless the bytes are a note with 1 to 128 signatures. */
export function parseNote(bytes: Uint8Array, { maxBytes = MAX_NOTE_BYTES }: { readonly maxBytes?: number } = {}): Note {
  if (bytes.length > maxBytes) throw malformed(`the note is over ${maxBytes} bytes`);
  const whole = parseUtf8(bytes);
  if (whole === undefined) throw malformed("the note is not UTF-8");
  if (CONTROL.test(whole)) throw malformed("the note has a control character; lines end with a line feed alone");
  // The text may have empty lines; the last one divides.
  const end = whole.lastIndexOf("\n\n");
  if (end < 1) throw malformed("no empty line divides text and signatures");
  if (!whole.endsWith("\n")) throw malformed("the last line does not end with a line feed");
  const lines = whole.slice(end + 2, -1).split("\n");
  if (end + 2 >= whole.length) throw malformed("the note has no signature");
  if (lines.length > MAX_SIGNATURES) throw malformed(`the note has over ${MAX_SIGNATURES} signatures`);
  const signatures = lines.map((line) => {
    const signature = parseSignatureLine(line);
    if (signature === undefined) throw malformed("a signature line has another form than dash, name and strict base64");
    return signature;
  });
  return { signatures, text: whole.slice(0, end + 1) };
}

/** The bytes of a note. `text` ends with a line feed; signatures are lines without one, or what makes them. */
export function formatNote(
  text: string,
  signatures: readonly (string | Pick<NoteSignature, "name" | "id" | "signature">)[],
): Uint8Array {
  assert(text.endsWith("\n") && signatures.length > 0, "a note has a text that ends with a line feed, and a signature");
  const lines = signatures.map((s) => (typeof s === "string" ? s : signatureLine(s.name, s.id, s.signature)));
  return utf8(`${text}\n${lines.join("\n")}\n`);
}
