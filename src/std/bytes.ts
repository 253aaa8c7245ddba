/**
 * Bytes and their two texts, hex and base64, in pure code.
 *
 * Both parsers are strict: what they accept, formatting gives back unchanged. Every decoder in Node, Go and Python is lenient
 * in some way, and leniency lets two texts stand for one value (`docs/formats/log.md`).
 */

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const utf8 = (text: string): Uint8Array => encoder.encode(text);

/** Decodes strict UTF-8 (a BOM stays a character); undefined when the bytes are not UTF-8. */
export function parseUtf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Bytes from a text that has one character for each. */
export function fromLatin1(text: string): Uint8Array {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < out.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

const codesOf = (characters: string): Uint8Array => utf8(characters);
const HEX = codesOf("0123456789abcdef");
/** Where the texts of hashes are made: most that is formatted is one. */
const hashText = new Uint8Array(64);

/** Characters are put down as bytes and decoded at once: a text that grows by two characters is a tree of texts, of four times the cost. */
export function formatHex(bytes: Uint8Array): string {
  const length = 2 * bytes.length;
  const out = length === hashText.length ? hashText : new Uint8Array(length);
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] ?? 0;
    out[2 * i] = HEX[byte >>> 4] ?? 0;
    out[2 * i + 1] = HEX[byte & 15] ?? 0;
  }
  return decoder.decode(out);
}

const NO_DIGIT = 0xff;
const DIGIT_OF = new Uint8Array(128).fill(NO_DIGIT);
for (let value = 0; value < 16; value++) DIGIT_OF[value.toString(16).charCodeAt(0)] = value;

/** Fills `out` from the lower-case hex that begins at `from`; false when there is other text. */
export function readHex(text: string, from: number, out: Uint8Array): boolean {
  for (let i = 0, at = from; i < out.length; i++, at += 2) {
    const high = DIGIT_OF[text.charCodeAt(at)] ?? NO_DIGIT;
    const low = DIGIT_OF[text.charCodeAt(at + 1)] ?? NO_DIGIT;
    if (high === NO_DIGIT || low === NO_DIGIT) return false;
    out[i] = high * 16 + low;
  }
  return true;
}

/** Parses lower-case hex of even length; undefined for anything else. */
export function parseHex(text: string): Uint8Array | undefined {
  const out = new Uint8Array(Math.floor(text.length / 2));
  return text.length % 2 === 0 && readHex(text, 0, out) ? out : undefined;
}

/** Whether `text` is lower-case hex from `from` to its end. */
export function endsInHex(text: string, from: number): boolean {
  for (let i = from; i < text.length; i++) if ((DIGIT_OF[text.charCodeAt(i)] ?? NO_DIGIT) === NO_DIGIT) return false;
  return true;
}

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const STANDARD = codesOf(BASE64);
const URL_SAFE = codesOf(`${BASE64.slice(0, 62)}-_`);
const PADDING = "=".charCodeAt(0);

function toBase64(bytes: Uint8Array, alphabet: Uint8Array, isPadded: boolean): string {
  const groups = Math.ceil(bytes.length / 3);
  const missing = 3 * groups - bytes.length;
  const end = 4 * groups - missing;
  const out = new Uint8Array(isPadded ? 4 * groups : end);
  for (let i = 0, at = 0; at < end; i += 3, at += 4) {
    const bits = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    out[at] = alphabet[bits >>> 18] ?? 0;
    out[at + 1] = alphabet[(bits >>> 12) & 63] ?? 0;
    if (at + 2 < end) out[at + 2] = alphabet[(bits >>> 6) & 63] ?? 0;
    if (at + 3 < end) out[at + 3] = alphabet[bits & 63] ?? 0;
  }
  out.fill(PADDING, end);
  return decoder.decode(out);
}

export const formatBase64 = (bytes: Uint8Array): string => toBase64(bytes, STANDARD, true);

/** Parses standard padded base64; undefined unless encoding the result gives `text` again. */
export function parseBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i);
  return formatBase64(out) === text ? out : undefined;
}

export const formatBase64Url = (bytes: Uint8Array): string => toBase64(bytes, URL_SAFE, false);

/** Parses unpadded base64url; undefined unless encoding the result gives `text` again. */
export function parseBase64Url(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return undefined;
  const padded = text.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (text.length % 4)) % 4);
  return parseBase64(padded);
}
