/**
 * Keys as bytes. Numbers are big-endian; in the key of a view each whole `sha256:…` shrinks to a mark and its 32 bytes.
 *
 * No text of a key holds NUL, the mark or its neighbour; one that does, or is too long for the map, is replaced by its hash, and
 * then found by `get` but not by `scan`.
 */
import { createHash } from "node:crypto";
import { VIEWS, type View } from "../../fold/view.ts";
import { assert } from "../../std/assert.ts";

/** The log's indexes have 32 bits here. */
export const MAX_INDEX = 0xffff_ffff;

export function u32Key(n: number): Buffer {
  assert(n >= 0 && n <= MAX_INDEX, "an index has 32 bits");
  const key = Buffer.allocUnsafe(4);
  key.writeUInt32BE(n);
  return key;
}

export function pairKey(a: number, b: number): Buffer {
  const key = Buffer.allocUnsafe(8);
  key.writeUInt32BE(a);
  key.writeUInt32BE(b, 4);
  return key;
}

export function levelKey(level: number, block: number): Buffer {
  const key = Buffer.allocUnsafe(5);
  key[0] = level;
  key.writeUInt32BE(block, 1);
  return key;
}

export function listKey(project: number, kind: number, chunk: number): Buffer {
  const key = Buffer.allocUnsafe(10);
  key.writeUInt32BE(project);
  key.writeUInt16BE(kind, 4);
  key.writeUInt32BE(chunk, 6);
  return key;
}

const VIEW_NUMBER = new Map<View, number>(VIEWS.map((view, i) => [view, i]));
const ID = "sha256:";
const ID_LENGTH = 71;
const ID_MARK = 1;
const HASH_MARK = 2;
const MAX_KEY_BYTES = 1_024;
const scratch = Buffer.allocUnsafe(8 * MAX_KEY_BYTES);
// oxlint-disable-next-line no-control-regex -- these are the marks
const MARKS = /[\0\u0001\u0002]/;

/** Writes the text behind the view's number into `scratch`; returns the end. */
function writeViewKey(view: View, text: string): number {
  scratch[0] = VIEW_NUMBER.get(view) ?? 0xff;
  if (text.length > MAX_KEY_BYTES || MARKS.test(text)) return writeHash(text, 1);
  let end = 1;
  let from = 0;
  for (let at = text.indexOf(ID); at >= 0; at = text.indexOf(ID, from)) {
    if (at > from) end += scratch.write(text.slice(from, at), end, "utf8");
    from = at + ID_LENGTH;
    scratch[end] = ID_MARK;
    const written = from <= text.length ? scratch.write(text.slice(at + ID.length, from), end + 1, "hex") : 0;
    if (written === 32) end += 33;
    else {
      from = at + ID.length;
      end += scratch.write(ID, end, "utf8");
    }
  }
  if (from < text.length) end += scratch.write(from === 0 ? text : text.slice(from), end, "utf8");
  return end > MAX_KEY_BYTES ? writeHash(text, 1) : end;
}

function writeHash(text: string, at: number): number {
  scratch[at] = HASH_MARK;
  createHash("sha256")
    .update(text)
    .digest()
    .copy(scratch, at + 1);
  return at + 33;
}

function written(end: number): Buffer {
  const key = Buffer.allocUnsafe(end);
  scratch.copy(key, 0, 0, end);
  return key;
}

export const viewKey = (view: View, text: string): Buffer => written(writeViewKey(view, text));

/** Key of an older version of a row: behind a NUL, which no key holds, the index that made it. */
export function historyKey(view: View, text: string, changedAt: number): Buffer {
  const end = writeViewKey(view, text);
  scratch[end] = 0;
  scratch.writeUInt32BE(changedAt, end + 1);
  return written(end + 5);
}

/** The text of a view's key; undefined for one that was hashed. */
export function textOfViewKey(key: Buffer): string | undefined {
  let text = "";
  let from = 1;
  for (let at = 1; at < key.length; at++) {
    if (key[at] === HASH_MARK) return undefined;
    if (key[at] !== ID_MARK) continue;
    text += `${key.toString("utf8", from, at)}${ID}${key.toString("hex", at + 1, at + 33)}`;
    at += 32;
    from = at + 1;
  }
  return text + key.toString("utf8", from);
}

/** The first key behind all that begin with `prefix`. */
export function afterPrefix(prefix: Buffer): Buffer | undefined {
  for (let i = prefix.length - 1; i >= 0; i--) {
    if (prefix[i] === 0xff) continue;
    const end = Buffer.from(prefix.subarray(0, i + 1));
    end[i] = (end[i] ?? 0) + 1;
    return end;
  }
  return undefined;
}
