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

const HEX_OF = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

export function formatHex(bytes: Uint8Array): string {
  let out = "";
  for (let i = 0; i < bytes.length; i++) out += HEX_OF[bytes[i] ?? 0] ?? "";
  return out;
}

/** Parses lower-case hex of even length; undefined for anything else. */
export function parseHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) return undefined;
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return out;
}

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL = `${BASE64.slice(0, 62)}-_`;

function toBase64(bytes: Uint8Array, alphabet: string, padding: string): string {
  let out = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const bits = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    out += alphabet.charAt(bits >>> 18) + alphabet.charAt((bits >>> 12) & 63);
    out += i + 1 < bytes.length ? alphabet.charAt((bits >>> 6) & 63) : padding;
    out += i + 2 < bytes.length ? alphabet.charAt(bits & 63) : padding;
  }
  return out;
}

export const formatBase64 = (bytes: Uint8Array): string => toBase64(bytes, BASE64, "=");

/** Parses standard padded base64; undefined unless encoding the result gives `text` again. */
export function parseBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i);
  return formatBase64(out) === text ? out : undefined;
}

export const formatBase64Url = (bytes: Uint8Array): string => toBase64(bytes, BASE64_URL, "");

/** Parses unpadded base64url; undefined unless encoding the result gives `text` again. */
export function parseBase64Url(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return undefined;
  const padded = text.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (text.length % 4)) % 4);
  return parseBase64(padded);
}
