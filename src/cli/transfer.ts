/**
 * Moves artifact bytes straight between this machine and the store, hashing on both ways. What is long goes in chunks, and either way
 * goes on where it was left when it is tried again.
 */
import { createHash } from "node:crypto";
import {
  constants,
  createReadStream,
  createWriteStream,
  lstatSync,
  readdirSync,
  renameSync,
  statSync,
  unlinkSync,
} from "node:fs";
import { type FileHandle, open as openFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { create } from "@bufbuild/protobuf";
import { type Artifact, ArtifactSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import type { CreateArtifactResponse, DownloadUrl } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { sha256Hex } from "../merkle/hash.ts";
import {
  CHUNKED_ABOVE_BYTES,
  CHUNKS_MEDIA_TYPE,
  type ChunkManifest,
  chunkBytesOf,
  chunkCount,
  chunkRange,
  formatChunkManifest,
  MAX_CHUNK_BYTES,
  MAX_CHUNK_MANIFEST_BYTES,
  MAX_CHUNKS,
  parseChunkManifest,
} from "../record/chunks.ts";
import { type Digest, idOf } from "../std/brand.ts";
import { each } from "../std/each.ts";
import type { Connection } from "./client.ts";
import { UsageError } from "./command.ts";
import { EXIT, Exit, type Io, progress } from "./io.ts";

const BATCH = 500;
const MAX_FILES = 100_000;
/** What one PUT takes. */
const MAX_PUT_BYTES = 5 * 1_024 ** 3;
/** Chunks under way at once. */
const IN_FLIGHT = 4;
/** Chunks whose addresses are asked for together; each asking is recorded. */
const DOWNLOAD_PAGE = 8;
const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 250;
const PIECE_BYTES = 1 << 20;
/** Slower than a server hashes what its store does not vouch for. */
const CHECKED_BYTES_PER_MS = 20_000;
const CALL_MS = 60_000;
const MAX_CALL_MS = 86_400_000;

/** How files are split: it changes what they are known by, so whoever compares must split alike. */
export interface Splitting {
  /** Longer files lie in chunks. */
  readonly aboveBytes: number;
  /** Length of a chunk; by the file's length when absent. */
  readonly chunkBytes: number | undefined;
}

export interface LocalFile {
  /** Relative to the path that was given, with `/`. */
  readonly path: string;
  readonly file: string;
  /** Of the artifact: of a file in chunks, of its manifest. */
  readonly sizeBytes: number;
  /** Of the artifact: of a file in chunks, of its manifest. */
  readonly digest: string;
  /** Set for a file in chunks. */
  readonly chunked?: ChunkManifest;
}

export interface UploadedFile extends LocalFile {
  /** Id of the artifact's record. */
  readonly record: string;
}

/** Length of the file itself. */
export const contentBytes = ({ chunked, sizeBytes }: LocalFile): number => chunked?.sizeBytes ?? sizeBytes;

/** What was asked for, else what the environment says, else the usual. */
export function splittingOf(
  { env }: Pick<Io, "env">,
  asked: { readonly above?: number | undefined; readonly chunk?: number | undefined } = {},
): Splitting {
  const aboveBytes = asked.above ?? bytesOf(env, "DATAPILOT_CHUNK_ABOVE") ?? CHUNKED_ABOVE_BYTES;
  const chunkBytes = asked.chunk ?? bytesOf(env, "DATAPILOT_CHUNK_SIZE");
  if (aboveBytes < 1 || aboveBytes > MAX_PUT_BYTES)
    throw new UsageError(`Files go in one piece up to 1 to ${MAX_PUT_BYTES} bytes, not ${aboveBytes}.`);
  if (chunkBytes !== undefined && (chunkBytes < 1 || chunkBytes > MAX_CHUNK_BYTES))
    throw new UsageError(`A chunk has 1 to ${MAX_CHUNK_BYTES} bytes, not ${chunkBytes}.`);
  return { aboveBytes, chunkBytes };
}

function bytesOf(env: Io["env"], name: string): number | undefined {
  const text = env[name];
  if (text === undefined || text === "") return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new UsageError(`${name} takes a number of bytes, not ${JSON.stringify(text)}.`);
}

/** Regular files below a path; links are not followed, so that nothing outside is taken. */
function* walk(at: string): Generator<string> {
  const stat = lstatSync(at);
  if (stat.isDirectory()) for (const name of readdirSync(at).toSorted()) yield* walk(join(at, name));
  else if (stat.isFile()) yield at;
}

async function hashFile(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return `sha256:${hash.digest("hex")}`;
}

/** Digests of the chunks and of the whole, in one reading. */
export async function splitFile(file: string, sizeBytes: number, chunkBytes: number): Promise<ChunkManifest> {
  const count = chunkCount(sizeBytes, chunkBytes);
  if (count > MAX_CHUNKS)
    throw new UsageError(
      `${file} makes ${count} chunks of ${chunkBytes} bytes, and at most ${MAX_CHUNKS} are taken. Split the file, or make the chunks longer.`,
    );
  const whole = createHash("sha256");
  const chunks: Digest[] = [];
  let part = createHash("sha256");
  let room = chunkBytes;
  let read = 0;
  for await (const piece of createReadStream(file, { highWaterMark: PIECE_BYTES }) as AsyncIterable<Buffer>) {
    read += piece.length;
    whole.update(piece);
    for (let at = 0; at < piece.length; ) {
      const slice = piece.subarray(at, at + room);
      part.update(slice);
      at += slice.length;
      room -= slice.length;
      if (room > 0) continue;
      chunks.push(part.digest("hex") as Digest);
      part = createHash("sha256");
      room = chunkBytes;
    }
  }
  if (room < chunkBytes) chunks.push(part.digest("hex") as Digest);
  if (read !== sizeBytes)
    throw new UsageError(`${file} changed while it was read. Try again when nobody writes to it.`);
  return { chunkBytes, chunks, sha256Claimed: whole.digest("hex") as Digest, sizeBytes };
}

/** What a file is known by, and how it is split. */
export async function identityOf(
  file: string,
  { aboveBytes, chunkBytes }: Splitting,
): Promise<Pick<LocalFile, "chunked" | "digest" | "sizeBytes">> {
  const { size } = statSync(file);
  if (size <= aboveBytes) return { digest: await hashFile(file), sizeBytes: statSync(file).size };
  const chunked = await splitFile(file, size, chunkBytes ?? chunkBytesOf(size));
  const manifest = formatChunkManifest(chunked);
  return { chunked, digest: idOf(sha256Hex(manifest)), sizeBytes: manifest.length };
}

export async function hashFiles(
  io: Io,
  paths: readonly string[],
  splitting: Splitting = splittingOf(io),
): Promise<LocalFile[]> {
  const found: LocalFile[] = [];
  const shown = progress(io, "files hashed");
  for (const path of paths) {
    const isFolder = statSync(path).isDirectory();
    for (const file of walk(path)) {
      if (found.length >= MAX_FILES)
        throw new UsageError(`More than ${MAX_FILES} files below ${path}. Pack them, or name fewer.`);
      const name = isFolder ? relative(path, file).replaceAll("\\", "/") : basename(file);
      found.push({ ...(await identityOf(file, splitting)), file, path: name });
      shown.at(found.length);
    }
  }
  shown.end();
  const sorted = found.toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const twice = sorted.find((f, i) => f.path === sorted[i + 1]?.path);
  if (twice !== undefined)
    throw new UsageError(`Two files would have the name ${twice.path}. Give their common folder instead.`);
  if (sorted.length === 0) throw new UsageError(`There are no files below ${paths.join(", ")}.`);
  return sorted;
}

/** Uploads what the project does not have yet, and records it. */
export async function uploadFiles(
  io: Io,
  connection: Connection,
  paths: readonly string[],
  splitting?: Splitting,
): Promise<UploadedFile[]> {
  return upload(io, connection, await hashFiles(io, paths, splitting));
}

const artifactOf = ({ chunked, digest, path, sizeBytes }: LocalFile): Artifact =>
  create(ArtifactSchema, {
    digest,
    name: basename(path),
    sizeBytes,
    ...(chunked === undefined ? {} : { mediaType: CHUNKS_MEDIA_TYPE }),
  });

/** Takes up what an earlier try has left: what the store holds already is not sent again. */
export async function upload(io: Io, connection: Connection, files: readonly LocalFile[]): Promise<UploadedFile[]> {
  const { artifact, project } = connection;
  const shown = progress(io, "files uploaded");
  const out: UploadedFile[] = [];
  for (let at = 0; at < files.length; at += BATCH) {
    const batch = files.slice(at, at + BATCH);
    // Two files with one content are one artifact.
    const unique = batch.filter((f, i) => batch.findIndex((o) => o.digest === f.digest) === i);
    const bodies = unique.map(artifactOf);
    const places = await artifact.batchCreateArtifacts({ artifacts: bodies, project });
    for (const [i, source] of unique.entries()) {
      const place = places.artifacts[i];
      if (place === undefined || place.existing !== undefined) continue;
      if (source.chunked !== undefined) await uploadChunks(io, connection, source, source.chunked);
      if (!place.isStored) await put(io, connection, partOf(source), place);
      shown.at(at + i + 1, files.length);
    }
    // What its store does not vouch for, the server reads before it answers.
    const read = unique.reduce((sum, f) => sum + contentBytes(f), 0);
    const done = await artifact.batchCompleteArtifacts(
      { artifacts: bodies, project },
      unique.some((f) => f.chunked !== undefined)
        ? { timeoutMs: Math.min(MAX_CALL_MS, Math.ceil(CALL_MS + read / CHECKED_BYTES_PER_MS)) }
        : {},
    );
    const records = new Map(done.responses.map((r, i) => [unique[i]?.digest, r.resource?.record ?? ""]));
    for (const f of batch) out.push({ ...f, record: records.get(f.digest) ?? "" });
  }
  shown.end();
  return out;
}

/** Bytes for one PUT. */
interface Part {
  readonly name: string;
  readonly artifact: Artifact;
  readonly isChunk: boolean;
  read(): Readable;
}

const partOf = (source: LocalFile): Part => {
  const { chunked, file, path } = source;
  return {
    artifact: artifactOf(source),
    isChunk: false,
    name: chunked === undefined ? path : `the manifest of ${path}`,
    read: () => (chunked === undefined ? createReadStream(file) : Readable.from([formatChunkManifest(chunked)])),
  };
};

/** Each chunk once, some at a time. */
async function uploadChunks(
  io: Io,
  connection: Connection,
  { file, path }: LocalFile,
  manifest: ChunkManifest,
): Promise<void> {
  const shown = progress(io, `bytes of ${path} uploaded`);
  let bytes = 0;
  const seen = new Set<Digest>();
  await each(manifest.chunks.entries(), IN_FLIGHT, async ([position, digest]) => {
    const { from, to } = chunkRange(manifest, position);
    if (!seen.has(digest)) {
      seen.add(digest);
      const artifact = create(ArtifactSchema, { digest: idOf(digest), sizeBytes: to - from });
      const read = (): Readable => createReadStream(file, { end: to - 1, highWaterMark: PIECE_BYTES, start: from });
      await put(io, connection, { artifact, isChunk: true, name: `chunk ${position} of ${path}`, read });
    }
    bytes += to - from;
    shown.at(bytes, manifest.sizeBytes);
  });
  shown.end();
}

const pause = (attempt: number): Promise<void> => new Promise((r) => setTimeout(r, FIRST_PAUSE_MS * 2 ** attempt));

/** An address that ended, or a store that is in trouble: the same bytes may go through at another try. */
const mayPass = (status: number): boolean =>
  status === 403 || status === 408 || status === 409 || status === 429 || status >= 500;

/** PUTs the bytes where they belong, and tries again from their beginning when that fails. */
async function put(
  io: Io,
  { artifact, project }: Connection,
  part: Part,
  given?: CreateArtifactResponse,
): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const place =
      (attempt === 0 ? given : undefined) ??
      (await artifact.createArtifact({ artifact: part.artifact, isChunk: part.isChunk, project }));
    if (place.existing !== undefined || place.isStored) return;
    const isLast = attempt + 1 >= ATTEMPTS || io.signal.aborted;
    let answer: Response;
    try {
      answer = await fetch(place.uploadUrl, {
        body: Readable.toWeb(part.read()) as unknown as ReadableStream,
        duplex: "half",
        headers: place.headers.map((h): [string, string] => [h.name, h.value]),
        method: "PUT",
        signal: io.signal,
      });
      const text = await answer.text();
      // Somebody was faster; completing looks at what lies there.
      if (answer.ok || answer.status === 412) return;
      if (isLast || !mayPass(answer.status))
        throw new Exit(
          EXIT.notRecorded,
          "ARTIFACT_NOT_UPLOADED",
          `The store refused ${part.name} with ${answer.status}: ${text.slice(0, 300)}. If the file changed while it was sent, try again.`,
        );
    } catch (error) {
      if (isLast || !(error instanceof TypeError)) throw error;
    }
    await pause(attempt);
  }
}

/** Downloads to `output`, which appears only when the bytes have the digest. What lies in chunks goes on where it was left. */
export async function download(io: Io, connection: Connection, url: DownloadUrl, output: string): Promise<void> {
  if (url.content !== undefined) {
    await new ChunkedDownload(io, connection, url, output).run();
    return;
  }
  const partial = `${output}.partial`;
  const hash = createHash("sha256");
  const body = await open(io, url.downloadUrl);
  body.on("data", (chunk: Buffer) => hash.update(chunk));
  await pipeline(body, createWriteStream(partial, { flags: "w" }));
  const digest = `sha256:${hash.digest("hex")}`;
  if (digest !== url.digest) {
    unlinkSync(partial);
    throw differs(`The bytes have ${digest}, the record says ${url.digest}. Nothing was kept`);
  }
  renameSync(partial, output);
}

const differs = (what: string): Exit =>
  new Exit(
    EXIT.answerIsNo,
    "DIGEST_MISMATCH",
    `${what}; tell the operator, and check the store with: datapilot verify bucket`,
  );

async function open(io: Io, url: string): Promise<Readable> {
  const answer = await fetch(url, { signal: io.signal });
  if (!answer.ok || answer.body === null)
    throw new Exit(
      EXIT.answerIsNo,
      "NOT_FOUND",
      `The store answered ${answer.status}. The URL holds for ten minutes; ask again.`,
    );
  return Readable.fromWeb(answer.body as never);
}

class ChunkedDownload {
  readonly #io: Io;
  readonly #connection: Connection;
  readonly #url: DownloadUrl;
  readonly #output: string;

  constructor(io: Io, connection: Connection, url: DownloadUrl, output: string) {
    this.#io = io;
    this.#connection = connection;
    this.#url = url;
    this.#output = output;
  }

  async run(): Promise<void> {
    const manifest = await this.#manifest();
    const partial = `${this.#output}.partial`;
    const file = await openFile(partial, constants.O_RDWR | constants.O_CREAT, 0o644);
    try {
      const missing = await this.#missing(partial, manifest);
      const shown = progress(this.#io, "bytes downloaded");
      let bytes = missing.reduce((left, p) => left - lengthOf(manifest, p), manifest.sizeBytes);
      for (const page of pagesOf(missing)) {
        const urls = await this.#urls(page[0] ?? 0, (page.at(-1) ?? 0) - (page[0] ?? 0) + 1);
        await each(page, IN_FLIGHT, async (position) => {
          await this.#chunk(file, manifest, position, urls.get(position));
          shown.at((bytes += lengthOf(manifest, position)), manifest.sizeBytes);
        });
      }
      shown.end();
      await file.truncate(manifest.sizeBytes);
      await file.sync();
    } finally {
      await file.close();
    }
    const whole = await hashFile(partial);
    if (whole !== idOf(manifest.sha256Claimed)) {
      unlinkSync(partial);
      throw new Exit(
        EXIT.answerIsNo,
        "DIGEST_MISMATCH",
        `Each chunk is as recorded, but the whole has ${whole}, and whoever uploaded it claimed ${idOf(manifest.sha256Claimed)}. Nothing was kept; ask them which is right.`,
      );
    }
    renameSync(partial, this.#output);
  }

  /** What it says is believed because its digest was asked for. */
  async #manifest(): Promise<ChunkManifest> {
    const { digest, downloadUrl } = this.#url;
    const parts: Buffer[] = [];
    let length = 0;
    for await (const part of (await open(this.#io, downloadUrl)) as AsyncIterable<Buffer>) {
      length += part.length;
      if (length > MAX_CHUNK_MANIFEST_BYTES) break;
      parts.push(part);
    }
    const bytes = Buffer.concat(parts);
    const found = idOf(sha256Hex(bytes));
    if (found !== digest) throw differs(`The manifest has ${found}, the record says ${digest}. Nothing was kept`);
    return parseChunkManifest(bytes);
  }

  /** Positions of the chunks that an earlier try has not left whole. */
  async #missing(partial: string, manifest: ChunkManifest): Promise<number[]> {
    const { size } = statSync(partial);
    const missing: number[] = [];
    const shown = progress(this.#io, "chunks of an earlier try looked at");
    for (const [position, digest] of manifest.chunks.entries()) {
      const { from, to } = chunkRange(manifest, position);
      if (to > size || (await hashRange(partial, from, to)) !== digest) missing.push(position);
      shown.at(position + 1, manifest.chunks.length);
    }
    shown.end();
    return missing;
  }

  async #urls(firstChunk: number, maxChunks: number): Promise<ReadonlyMap<number, string>> {
    const { artifact, project } = this.#connection;
    const { urls } = await artifact.batchGetDownloadUrls({
      artifacts: [this.#url.artifact],
      firstChunk,
      maxChunks,
      project,
    });
    return new Map((urls[0]?.content?.chunks ?? []).map((c) => [c.position, c.downloadUrl]));
  }

  /** Writes a chunk to its place; what is wrong is fetched again, from an address of its own. */
  async #chunk(file: FileHandle, manifest: ChunkManifest, position: number, given: string | undefined): Promise<void> {
    const expected = manifest.chunks[position];
    const { from, to } = chunkRange(manifest, position);
    let flaw: unknown;
    for (let attempt = 0; attempt < ATTEMPTS && !this.#io.signal.aborted; attempt++) {
      if (attempt > 0) await pause(attempt);
      const url = (attempt === 0 ? given : undefined) ?? (await this.#urls(position, 1)).get(position);
      const hash = createHash("sha256");
      let at = from;
      try {
        for await (const piece of (await open(this.#io, url ?? "")) as AsyncIterable<Buffer>) {
          if (at + piece.length > to) throw differs(`Chunk ${position} is longer than ${to - from} bytes`);
          hash.update(piece);
          for (let done = 0; done < piece.length; )
            done += (await file.write(piece, done, piece.length - done, at + done)).bytesWritten;
          at += piece.length;
        }
      } catch (error) {
        // A full disk, or what this program did wrong, does not pass.
        if (!(error instanceof Exit) && !(error instanceof TypeError)) throw error;
        flaw = error;
        continue;
      }
      const digest = hash.digest("hex");
      if (at === to && digest === expected) return;
      flaw = differs(
        `Chunk ${position} has SHA-256 ${digest}, its manifest says ${expected ?? ""}. Nothing was kept of it`,
      );
    }
    throw flaw ?? this.#io.signal.reason;
  }
}

const lengthOf = (manifest: ChunkManifest, position: number): number => {
  const { from, to } = chunkRange(manifest, position);
  return to - from;
};

async function hashRange(file: string, from: number, to: number): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file, { end: to - 1, highWaterMark: PIECE_BYTES, start: from }), hash);
  return hash.digest("hex");
}

/** Ascending positions in groups that lie close together. */
function pagesOf(positions: readonly number[]): number[][] {
  const pages: number[][] = [];
  for (const position of positions) {
    const page = pages.at(-1);
    if (page?.[0] !== undefined && position < page[0] + DOWNLOAD_PAGE) page.push(position);
    else pages.push([position]);
  }
  return pages;
}
