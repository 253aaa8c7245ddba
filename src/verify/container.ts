/**
 * Stage 1, the container of an evidence pack: an uncompressed ustar archive whose every header byte is fixed, so that one
 * set of members has one archive and no two readers disagree about what is inside (`docs/formats/packs.md`).
 *
 * Every byte here is an attacker's. Nothing is written to disk, names are compared and never joined to a path, and there is no
 * decompressor. Blobs are hashed while they stream, and only those that are asked for are kept; all other members are.
 */
import { sha256Stream } from "../merkle/hash.ts";
import { MAX_CHUNK_MANIFEST_BYTES } from "../record/chunks.ts";
import { concat, equalBytes, formatHex, utf8 } from "../std/bytes.ts";
import { type Limits, overLimit } from "./limits.ts";
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
  /** The bytes; absent for most blobs and the report, which are only hashed. */
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

  /** Tells the source that no more is wanted. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}

const isZero = (bytes: Uint8Array): boolean => bytes.every((b) => b === 0);
const paddingOf = (sizeBytes: number): number => (BLOCK - (sizeBytes % BLOCK)) % BLOCK;

interface Header {
  readonly name: string;
  readonly sizeBytes: number;
  /** Position in the order of members. */
  readonly rank: number;
}

/** Name and size of a header that is, byte for byte, the one that the format gives them. */
function parseHeader(header: Uint8Array): Header | undefined {
  const end = header.subarray(0, 100).indexOf(0);
  const name = String.fromCharCode(...header.subarray(0, end < 0 ? 100 : end));
  const octal = String.fromCharCode(...header.subarray(124, 135));
  const sizeBytes = /^[0-7]{11}$/.test(octal) ? Number.parseInt(octal, 8) : -1;
  const rank = rankOf(name);
  if (rank === undefined || sizeBytes < 0 || !equalBytes(header, headerOf(name, sizeBytes))) return undefined;
  return { name, rank, sizeBytes };
}

/** What is wrong with a member's place after the one before it. */
function orderFlaw(header: Header, before: Header | undefined): string | undefined {
  const rank = before?.rank ?? -1;
  const isBlob = header.rank === FIXED_ORDER.length;
  if (header.rank < rank || (header.rank === rank && (!isBlob || header.name <= (before?.name ?? ""))))
    return `member ${header.name} is out of order`;
  const skipped = FIXED_ORDER.slice(rank + 1, header.rank).find((n) => !OPTIONAL.has(n));
  return skipped === undefined ? undefined : `member ${skipped} is missing`;
}

const FIRST_BYTES = 1 << 16;

/** Bytes that are kept. What a header promises is not believed: memory grows with what came, to no more than the size. */
class Kept {
  readonly #sizeBytes: number;
  #bytes: Uint8Array;
  #length = 0;

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
    this.#bytes = new Uint8Array(Math.min(sizeBytes, FIRST_BYTES));
  }

  append(part: Uint8Array): void {
    const length = this.#length + part.length;
    if (length > this.#bytes.length) {
      const grown = new Uint8Array(Math.min(this.#sizeBytes, Math.max(length, 2 * this.#bytes.length)));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(part, this.#length);
    this.#length = length;
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

/** Names of the blobs to keep, from the bytes of `records.jsonl`, of which nothing is checked yet. */
export type KeptBlobs = (records: Uint8Array) => ReadonlySet<string>;

/** Reads the members; undefined when the container is not one, and then `stage` says why. */
export async function readContainer(
  source: AsyncIterable<Uint8Array>,
  limits: Limits,
  stage: Stage,
  progress: (bytes: number) => void,
  keptBlobs: KeptBlobs,
): Promise<readonly Member[] | undefined> {
  const reader = new Reader(source);
  try {
    return await readMembers(reader, limits, stage, progress, keptBlobs);
  } finally {
    await reader.close();
  }
}

async function readMembers(
  reader: Reader,
  limits: Limits,
  stage: Stage,
  progress: (bytes: number) => void,
  keptBlobs: KeptBlobs,
): Promise<readonly Member[] | undefined> {
  const members: Member[] = [];
  let whole = 2 * BLOCK;
  let kept = 0;
  let before: Header | undefined;
  let wanted: ReadonlySet<string> | undefined;
  const isWanted = (name: string): boolean =>
    (wanted ??= keptBlobs(members.find((m) => m.name === "records.jsonl")?.bytes ?? new Uint8Array())).has(name);
  const malformed = (detail: string): undefined =>
    stage.fail("pack.malformed", before?.name ?? "start", detail) as undefined;
  for (;;) {
    const block = await reader.exactly(BLOCK);
    if (block.length < BLOCK) return malformed("the archive ends where a header was due");
    if (isZero(block)) {
      const second = await reader.exactly(BLOCK);
      if (second.length < BLOCK || !isZero(second)) return malformed("one end block instead of two");
      if ((await reader.some(1)).length > 0) return malformed("bytes after the end of the archive");
      break;
    }
    const header = parseHeader(block);
    if (header === undefined) return malformed("a header follows that is not one that the format gives");
    const { name, rank, sizeBytes } = header;
    const flaw = orderFlaw(header, before);
    if (flaw !== undefined) return malformed(flaw);
    const isKept =
      rank < FIXED_ORDER.length ||
      (rank === FIXED_ORDER.length && sizeBytes <= MAX_CHUNK_MANIFEST_BYTES && isWanted(name));
    whole += BLOCK + sizeBytes + paddingOf(sizeBytes);
    if (isKept) kept += sizeBytes;
    const over =
      rank === 0 && sizeBytes > limits.manifest
        ? "manifest"
        : members.length >= limits.members
          ? "members"
          : whole > limits.pack
            ? "pack"
            : kept > limits.total
              ? "total"
              : undefined;
    if (over !== undefined) {
      const { code, message } = overLimit("the archive", over);
      return stage.fail(code, name, message) as undefined;
    }
    before = header;
    const hash = sha256Stream();
    const bytes = isKept ? new Kept(sizeBytes) : undefined;
    for (let missing = sizeBytes; missing > 0; ) {
      const part = await reader.some(missing);
      if (part.length === 0) return malformed(`the archive ends inside ${name}`);
      hash.update(part);
      bytes?.append(part);
      missing -= part.length;
      progress(part.length);
    }
    const padding = await reader.exactly(paddingOf(sizeBytes));
    if (padding.length !== paddingOf(sizeBytes) || !isZero(padding)) return malformed(`padding of ${name} is not zero`);
    members.push({ bytes: bytes?.bytes(), name, sha256: formatHex(hash.digest()), sizeBytes });
  }
  const absent = FIXED_ORDER.find((n) => !OPTIONAL.has(n) && !members.some((m) => m.name === n));
  return absent === undefined ? members : malformed(`member ${absent} is missing`);
}
