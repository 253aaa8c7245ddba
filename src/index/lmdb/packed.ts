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

/** `head` bytes, which the caller fills, and the text. */
export function pack(text: string, head: number): Buffer {
  const most = head + 3 * text.length;
  if (most > scratch.length) scratch = Buffer.allocUnsafeSlow(2 * most);
  let end = head;
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
  const bytes = Buffer.allocUnsafe(end);
  scratch.copy(bytes, 0, 0, end);
  return bytes;
}

/** The text behind `head` bytes. */
export function unpack(bytes: Buffer, head: number): string {
  let mark = bytes.indexOf(MARK, head);
  if (mark < 0) return bytes.toString("utf8", head);
  let text = "";
  let from = head;
  for (; mark >= 0; mark = bytes.indexOf(MARK, from)) {
    text += `${bytes.toString("utf8", from, mark)}${ID}${bytes.toString("hex", mark + 1, mark + 33)}`;
    from = mark + 33;
  }
  return text + bytes.toString("utf8", from);
}
