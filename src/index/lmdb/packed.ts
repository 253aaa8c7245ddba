/**
 * Texts of rows as bytes: UTF-8 in which each `sha256:` and 64 lower-case hex digits shrinks to a mark and 32 bytes. Canonical JSON
 * holds no control characters, so the mark stands for nothing else and unpacking gives the same text.
 */
const ID = "sha256:";
const ID_LENGTH = 71;
const MARK = 1;
const NOT_HEX = 0xff;

const DIGIT = new Uint8Array(128).fill(NOT_HEX);
for (let value = 0; value < 16; value++) DIGIT[value.toString(16).charCodeAt(0)] = value;

let scratch = Buffer.allocUnsafeSlow(1 << 14);

/** Writes the 32 bytes of 64 hex digits; false when these are not all lower-case hex. */
function writeDigest(text: string, from: number, to: number): boolean {
  for (let i = 0, at = from; i < 32; i++, at += 2) {
    const first = text.charCodeAt(at);
    const second = text.charCodeAt(at + 1);
    if ((first | second) > 0x7f) return false;
    const high = DIGIT[first] as number;
    const low = DIGIT[second] as number;
    if ((high | low) > 0xf) return false;
    scratch[to + i] = (high << 4) | low;
  }
  return true;
}

/** Writes the packed text into `scratch`; returns where it ends. */
function write(text: string, start: number): number {
  const most = start + 3 * text.length;
  if (most > scratch.length) {
    const larger = Buffer.allocUnsafeSlow(2 * most);
    scratch.copy(larger, 0, 0, start);
    scratch = larger;
  }
  let end = start;
  let from = 0;
  for (let at = text.indexOf(ID); at >= 0; at = text.indexOf(ID, at + 1)) {
    const start = end + (at > from ? scratch.write(text.slice(from, at), end, "utf8") : 0);
    if (at + ID_LENGTH > text.length || !writeDigest(text, at + ID.length, start + 1)) continue;
    scratch[start] = MARK;
    end = start + 33;
    from = at + ID_LENGTH;
    at = from - 1;
  }
  if (from < text.length) end += scratch.write(from === 0 ? text : text.slice(from), end, "utf8");
  return end;
}

function taken(end: number): Buffer {
  const bytes = Buffer.allocUnsafe(end);
  scratch.copy(bytes, 0, 0, end);
  return bytes;
}

/** `head` bytes, which the caller fills, and the text. */
export const pack = (text: string, head: number): Buffer => taken(write(text, head));

/** The text from `head` to `end`. */
export function unpack(bytes: Buffer, head: number, end = bytes.length): string {
  let text = "";
  let from = head;
  for (let mark = bytes.indexOf(MARK, from); mark >= 0 && mark < end; mark = bytes.indexOf(MARK, from)) {
    text += `${bytes.toString("utf8", from, mark)}${ID}${bytes.toString("hex", mark + 1, mark + 33)}`;
    from = mark + 33;
  }
  return text + bytes.toString("utf8", from, end);
}

/** A text and the number that it stands under. */
export interface Numbered {
  readonly number: number;
  readonly text: string;
}

/** Small enough that a page holds two. */
const LIST_BYTES = 1_500;
const LIST_HEAD = 8;

/**
 * Numbered texts behind each other, each as its number and its length, 32 bits little-endian, and the packed text. As many from
 * `from` on as make a list of some length, at least one; `to` is the first that is not in it.
 */
export function packList(all: readonly Numbered[], from: number): { readonly bytes: Buffer; readonly to: number } {
  let end = 0;
  let to = from;
  for (; to < all.length && end < LIST_BYTES; to++) {
    const { number, text } = all[to] as Numbered;
    const start = end + LIST_HEAD;
    const textEnd = write(text, start);
    scratch.writeUInt32LE(number, end);
    scratch.writeUInt32LE(textEnd - start, end + 4);
    end = textEnd;
  }
  return { bytes: taken(end), to };
}

/** The last text of a list whose number is below `below`. */
export function findInList(bytes: Buffer, below: number): Numbered | undefined {
  let found: number | undefined;
  for (let at = 0; at < bytes.length; at += LIST_HEAD + bytes.readUInt32LE(at + 4)) {
    if (bytes.readUInt32LE(at) >= below) break;
    found = at;
  }
  if (found === undefined) return undefined;
  const start = found + LIST_HEAD;
  return { number: bytes.readUInt32LE(found), text: unpack(bytes, start, start + bytes.readUInt32LE(found + 4)) };
}
