/** Signed notes (C2SP signed-note): text, an empty line, and lines `— <name> <base64(id ‖ signature)>`. */
import { concat, formatBase64, parseBase64, parseUtf8, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { isKeyName } from "./keys.ts";

export interface NoteSignature {
  readonly name: string;
  readonly id: number;
  readonly signature: Uint8Array;
  /** The line without its line feed. */
  readonly line: string;
}

export interface Note {
  /** What is signed; ends with a line feed. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

export const MAX_NOTE_BYTES = 64 * 1024;
const MAX_SIGNATURES = 128;

const malformed = (detail: string): Violation => new Violation("checkpoint.malformed", detail);

export function signatureLine(name: string, id: number, signature: Uint8Array): string {
  const head = new Uint8Array(4);
  new DataView(head.buffer).setUint32(0, id);
  return `— ${name} ${formatBase64(concat(head, signature))}`;
}

/** Parses one signature line without its line feed; undefined when it is not one. */
export function parseSignatureLine(line: string): NoteSignature | undefined {
  const match = /^— (\S+) ([A-Za-z0-9+/=]+)$/.exec(line);
  const bytes = match?.[2] === undefined ? undefined : parseBase64(match[2]);
  const name = match?.[1] ?? "";
  if (bytes === undefined || bytes.length < 5 || !isKeyName(name)) return undefined;
  return { id: new DataView(bytes.buffer, bytes.byteOffset).getUint32(0), line, name, signature: bytes.subarray(4) };
}

/** Formats a note from its text and signature lines. */
export const formatNote = (text: string, lines: readonly string[]): Uint8Array => utf8(`${text}\n${lines.map((l) => `${l}\n`).join("")}`);

export function parseNote(bytes: Uint8Array, options: { readonly maxBytes?: number } = {}): Note {
  const limit = options.maxBytes ?? MAX_NOTE_BYTES;
  if (bytes.length > limit) throw malformed(`the note has ${bytes.length} bytes, the limit is ${limit}`);
  const whole = parseUtf8(bytes);
  if (whole === undefined) throw malformed("the note is not UTF-8");
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u0009\u000B-\u001F\u007F]/.test(whole)) throw malformed("the note has control characters; lines end with LF alone");
  const split = whole.lastIndexOf("\n\n");
  if (split < 0 || !whole.endsWith("\n")) throw malformed("the note has no empty line before its signatures, or does not end with LF");
  const lines = whole.slice(split + 2, -1).split("\n");
  if (lines.length > MAX_SIGNATURES) throw malformed(`the note has more than ${MAX_SIGNATURES} signatures`);
  const signatures = lines.map((line) => {
    const parsed = parseSignatureLine(line);
    if (parsed === undefined) throw malformed("a signature line has another form than `— <name> <base64>`");
    return parsed;
  });
  return { signatures, text: whole.slice(0, split + 1) };
}
