/** Moves artifact bytes straight between this machine and the store, hashing on both ways. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, lstatSync, readdirSync, renameSync, statSync, unlinkSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { create } from "@bufbuild/protobuf";
import { type Artifact, ArtifactSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import type { DownloadUrl } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import type { Connection } from "./client.ts";
import { UsageError } from "./command.ts";
import { EXIT, Exit, type Io, progress } from "./io.ts";

const BATCH = 500;
const MAX_FILES = 100_000;

export interface LocalFile {
  /** Relative to the path that was given, with `/`. */
  readonly path: string;
  readonly file: string;
  readonly sizeBytes: number;
  readonly digest: string;
}

export interface UploadedFile extends LocalFile {
  /** Id of the artifact's record. */
  readonly record: string;
}

/** Regular files below a path; links are not followed, so that nothing outside is taken. */
function* walk(at: string): Generator<string> {
  const stat = lstatSync(at);
  if (stat.isDirectory()) for (const name of readdirSync(at).toSorted()) yield* walk(join(at, name));
  else if (stat.isFile()) yield at;
}

export async function hashFile(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return `sha256:${hash.digest("hex")}`;
}

export async function hashFiles(io: Io, paths: readonly string[]): Promise<LocalFile[]> {
  const found: LocalFile[] = [];
  const shown = progress(io, "files hashed");
  for (const path of paths) {
    const isFolder = statSync(path).isDirectory();
    for (const file of walk(path)) {
      if (found.length >= MAX_FILES)
        throw new UsageError(`More than ${MAX_FILES} files below ${path}. Pack them, or name fewer.`);
      const name = isFolder ? relative(path, file).replaceAll("\\", "/") : basename(file);
      found.push({ digest: await hashFile(file), file, path: name, sizeBytes: statSync(file).size });
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
export async function uploadFiles(io: Io, connection: Connection, paths: readonly string[]): Promise<UploadedFile[]> {
  return upload(io, connection, await hashFiles(io, paths));
}

export async function upload(io: Io, connection: Connection, files: readonly LocalFile[]): Promise<UploadedFile[]> {
  const { artifact, project } = connection;
  const shown = progress(io, "files uploaded");
  const out: UploadedFile[] = [];
  for (let at = 0; at < files.length; at += BATCH) {
    const batch = files.slice(at, at + BATCH);
    const bodies = batch.map(
      (f): Artifact => create(ArtifactSchema, { digest: f.digest, name: basename(f.path), sizeBytes: f.sizeBytes }),
    );
    // Two files with one content are one artifact.
    const unique = bodies.filter((b, i) => bodies.findIndex((o) => o.digest === b.digest) === i);
    const places = await artifact.batchCreateArtifacts({ artifacts: unique, project });
    for (const [i, place] of places.artifacts.entries()) {
      const body = unique[i];
      const source = batch.find((f) => f.digest === body?.digest);
      if (place.uploadUrl === "" || source === undefined) continue;
      const answer = await fetch(place.uploadUrl, {
        body: Readable.toWeb(createReadStream(source.file)) as unknown as ReadableStream,
        duplex: "half",
        headers: place.headers.map((h): [string, string] => [h.name, h.value]),
        method: "PUT",
      });
      if (!answer.ok && answer.status !== 412)
        throw new Exit(
          EXIT.notRecorded,
          "ARTIFACT_NOT_UPLOADED",
          `The store refused ${source.path} with ${answer.status}: ${(await answer.text()).slice(0, 300)}. If the file changed while it was sent, try again.`,
        );
      shown.at(at + i + 1, files.length);
    }
    const done = await artifact.batchCompleteArtifacts({ artifacts: unique, project });
    const records = new Map(done.responses.map((r, i) => [unique[i]?.digest, r.resource?.record ?? ""]));
    for (const f of batch) out.push({ ...f, record: records.get(f.digest) ?? "" });
  }
  shown.end();
  return out;
}

/** Downloads to `output`, which appears only when the bytes have the digest. */
export async function download(io: Io, url: DownloadUrl, output: string): Promise<void> {
  const answer = await fetch(url.downloadUrl, { signal: io.signal });
  if (!answer.ok || answer.body === null)
    throw new Exit(
      EXIT.answerIsNo,
      "NOT_FOUND",
      `The store answered ${answer.status}. The URL holds for ten minutes; ask again.`,
    );
  const hash = createHash("sha256");
  const partial = `${output}.partial`;
  const body = Readable.fromWeb(answer.body as never);
  body.on("data", (chunk: Buffer) => hash.update(chunk));
  await pipeline(body, createWriteStream(partial, { flags: "w" }));
  const digest = `sha256:${hash.digest("hex")}`;
  if (digest !== url.digest) {
    unlinkSync(partial);
    throw new Exit(
      EXIT.answerIsNo,
      "DIGEST_MISMATCH",
      `The bytes have ${digest}, the record says ${url.digest}. Nothing was kept; tell the operator, and check the store with: datapilot verify bucket`,
    );
  }
  renameSync(partial, output);
}
