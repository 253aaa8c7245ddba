/**
 * Stage 1, the container of an evidence pack: an uncompressed ustar archive whose every header byte is fixed, so that one
 * set of members has one archive and no two readers disagree about what is inside (`docs/formats/packs.md`).
 *
 * Every byte here is an attacker's. Nothing is written to disk, names are compared and never joined to a path, and there is no
 * decompressor. Blobs are hashed while they stream; all other members are kept.
 */
import { sha256Stream } from "../merkle/hash.ts";
import { concat, equalBytes, formatHex, utf8 } from "../std/bytes.ts";
import { type Limits, PACK_MEMBER_BYTES } from "./limits.ts";
import type { Stage } from "./report.ts";

const BLOCK = 512;
const FIXED_ORDER = [
  "manifest.json",
  "checkpoint",
  "history.jsonl",
  "entries.txt",
  "proof.bin",
  "heads.jsonl",
  "records.jsonl",
  "personal.jsonl",
];
const OPTIONAL = new Set(["history.jsonl", "personal.jsonl"]);
const BLOB_NAME = /^blobs\/[0-9a-f]{64}$/;
const REPORT = "report.html";

export interface Member {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  /** The bytes; absent for blobs and the report, which are only hashed. */
  readonly bytes: Uint8Array | undefined;
}

/** The only header that a member of this name and size may have. */
function headerOf(name: string, sizeBytes: number): Uint8Array {
  const header = new Uint8Array(BLOCK);
  const put = (text: string, at: number): void => header.set(utf8(text), at);
  put(name, 0);
  put("0000644\0", 100);
  put("0000000\0", 108);
  put("0000000\0", 116);
  put(`${sizeBytes.toString(8).padStart(11, "0")}\0`, 124);
  put("00000000000\0", 136);
  put("        ", 148);
  put("0", 156);
  put("ustar\0", 257);
  put("00", 263);
  let sum = 0;
  for (const byte of header) sum += byte;
  put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

/** Position of a name in the order of members; undefined for a name that no pack has. */
function rankOf(name: string): number | undefined {
  const fixed = FIXED_ORDER.indexOf(name);
  if (fixed >= 0) return fixed;
  if (BLOB_NAME.test(name)) return FIXED_ORDER.length;
  return name === REPORT ? FIXED_ORDER.length + 1 : undefined;
}

class Reader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** Up to `length` bytes, at least one; empty at the end. */
  async some(length: number): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return this.#rest;
      this.#rest = next.value;
    }
    const out = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(out.length);
    return out;
  }

  /** Exactly `length` bytes, or fewer at the end. */
  async exactly(length: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let missing = length;
    while (missing > 0) {
      const part = await this.some(missing);
      if (part.length === 0) break;
      parts.push(part);
      missing -= part.length;
    }
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : concat(...parts);
  }
}

const isZero = (bytes: Uint8Array): boolean => bytes.every((b) => b === 0);

/** Reads the members; undefined when the container is not one, and then `stage` says why. */
export async function readContainer(
  source: AsyncIterable<Uint8Array>,
  limits: Limits,
  stage: Stage,
  progress: (bytes: number) => void,
): Promise<readonly Member[] | undefined> {
  const reader = new Reader(source);
  const members: Member[] = [];
  let total = 0;
  let kept = 0;
  let rank = -1;
  let last = "";
  const malformed = (detail: string): undefined =>
    stage.fail("pack.malformed", last === "" ? "start" : last, detail) as undefined;
  for (;;) {
    const header = await reader.exactly(BLOCK);
    if (header.length < BLOCK) return malformed("the archive ends in the middle of a header");
    if (isZero(header)) {
      const second = await reader.exactly(BLOCK);
      if (second.length < BLOCK || !isZero(second)) return malformed("one end block instead of two");
      if ((await reader.some(1)).length > 0) return malformed("bytes after the end of the archive");
      break;
    }
    const end = header.subarray(0, 100).indexOf(0);
    const name = String.fromCharCode(...header.subarray(0, end < 0 ? 100 : end));
    const octal = String.fromCharCode(...header.subarray(124, 135));
    const sizeBytes = /^[0-7]{11}$/.test(octal) ? Number.parseInt(octal, 8) : -1;
    const position = rankOf(name);
    if (position === undefined || sizeBytes < 0 || !equalBytes(header, headerOf(name, sizeBytes)))
      return malformed(`header of ${JSON.stringify(name)} is not the one that the format gives`);
    if (position < rank || (position === rank && (position !== FIXED_ORDER.length || name <= last)))
      return malformed(`member ${name} is out of order`);
    const skipped = FIXED_ORDER.slice(rank + 1, position).find((n) => !OPTIONAL.has(n));
    if (skipped !== undefined) return malformed(`member ${skipped} is missing`);
    rank = position;
    last = name;
    total += sizeBytes + 2 * BLOCK;
    const isKept = position < FIXED_ORDER.length;
    if (isKept) kept += sizeBytes;
    const over =
      name === "manifest.json" && sizeBytes > limits.manifest
        ? "manifest"
        : members.length >= limits.members
          ? "members"
          : total > limits.pack
            ? "pack"
            : kept > limits.total
              ? "total"
              : sizeBytes > PACK_MEMBER_BYTES
                ? "member"
                : undefined;
    if (over !== undefined)
      return stage.fail(
        "pack.limit",
        name,
        `over the limit ${over}; if you trust the sender, raise it with --limit ${over}=VALUE`,
      ) as undefined;
    const hash = sha256Stream();
    const parts: Uint8Array[] = [];
    let missing = sizeBytes;
    while (missing > 0) {
      const part = await reader.some(missing);
      if (part.length === 0) return malformed(`the archive ends inside ${name}`);
      hash.update(part);
      if (isKept) parts.push(part);
      missing -= part.length;
      progress(part.length);
    }
    const padding = await reader.exactly((BLOCK - (sizeBytes % BLOCK)) % BLOCK);
    if (padding.length !== (BLOCK - (sizeBytes % BLOCK)) % BLOCK || !isZero(padding))
      return malformed(`padding of ${name} is not zero`);
    members.push({ bytes: isKept ? concat(...parts) : undefined, name, sha256: formatHex(hash.digest()), sizeBytes });
  }
  const absent = FIXED_ORDER.find((n) => !OPTIONAL.has(n) && !members.some((m) => m.name === n));
  return absent === undefined ? members : malformed(`member ${absent} is missing`);
}
