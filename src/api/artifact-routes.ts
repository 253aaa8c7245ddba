/**
 * Artifacts over plain HTTP (`/projects/{project}/artifacts…`), for clients without generated code. The same commands, permissions
 * and faults as the RPCs; an artifact is named by its content, `sha256:<hex>` or the bare hex. Owns nothing but the translation.
 */
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { type Artifact, ArtifactSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import {
  BatchGetDownloadUrlsRequestSchema,
  type ChunkedContent,
  CompleteArtifactRequestSchema,
  CreateArtifactRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { GetRequestSchema, type Receipt, type Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { recorded } from "../command/ask.ts";
import { completeArtifact } from "../command/complete-artifact.ts";
import { blobKey, createArtifact } from "../command/create-artifact.ts";
import { batchGetDownloadUrls } from "../command/get-download-urls.ts";
import { contentIdentity } from "../fold/identity.ts";
import { notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import { getResource } from "../query/get.ts";
import { isObject, type JsonObject } from "../record/json.ts";
import { parseEitherId, type RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { toConnectError } from "./faults.ts";
import { callerOf, type Edge } from "./guard.ts";
import { send, sendFault, sendJson } from "./http-fault.ts";
import type { Request, Response } from "./listen.ts";
import { parseStrictJson } from "./strict-json.ts";

const MAX_BODY_BYTES = 1 << 20;
const PATH = /^\/projects\/([^/]+)\/artifacts(?:\/([^/]+)(?:\/(complete|download))?)?$/;
/** Record id and log index of what an answer rests on. */
const RECEIPT = "datapilot-receipt";

interface Answer {
  readonly status: number;
  readonly body: JsonObject;
  readonly receipt?: { readonly record: string; readonly logIndex: number } | undefined;
}

interface Call {
  readonly edge: Edge;
  readonly caller: Caller;
  readonly project: string;
  /** The artifact's content, `sha256:<hex>`; empty where the path names none. */
  readonly digest: string;
  readonly request: Request;
  readonly signal: AbortSignal;
}

interface Route {
  readonly method: "GET" | "POST";
  /** Name under which it is authenticated, recorded and counted. */
  readonly rpc: string;
  run(call: Call): Promise<Answer>;
}

const rpc = (method: string): string => `animus.datapilot.v1.ArtifactService/${method}`;

const COLLECTION: Route = { method: "POST", rpc: rpc("CreateArtifact"), run: declare };
const ROUTES: Readonly<Record<string, Route>> = {
  complete: { method: "POST", rpc: rpc("CompleteArtifact"), run: complete },
  download: { method: "GET", rpc: rpc("BatchGetDownloadUrls"), run: download },
  metadata: { method: "GET", rpc: rpc("GetArtifact"), run: metadata },
};

/** Serves every path below `/projects/`. */
export async function serveArtifacts(edge: Edge, path: string, request: Request, response: Response): Promise<void> {
  const began = edge.deps.clock.monotonic();
  const match = PATH.exec(path);
  const [, projectPart = "", artifactPart, action = "metadata"] = match ?? [];
  const route = match === null ? undefined : artifactPart === undefined ? COLLECTION : ROUTES[action];
  if (route === undefined) {
    drop(request);
    sendFault(response, notFound(path.slice(0, 200)));
    return;
  }
  if (request.method !== route.method) {
    drop(request);
    send(response, 405, "text/plain; charset=utf-8", `only ${route.method}\n`, { allow: route.method });
    return;
  }
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  let code = "ok";
  try {
    const caller = callerOf(edge, route.rpc, headersOf(request), request.socket.remoteAddress);
    const project = decoded(projectPart);
    const digest = artifactPart === undefined ? "" : digestOf(decoded(artifactPart));
    const answer = await route.run({ caller, digest, edge, project, request, signal: gone.signal });
    const { receipt } = answer;
    const headers = receipt === undefined ? {} : { [RECEIPT]: `${receipt.record} ${receipt.logIndex}` };
    sendJson(response, answer.status, answer.body, headers);
  } catch (error) {
    drop(request);
    code = (Code[toConnectError(error).code] ?? "unknown").toLowerCase();
    if (code === "internal" || code === "unknown") edge.deps.logger.error({ error, rpc: route.rpc }, "call failed");
    sendFault(response, error);
  } finally {
    edge.metrics.called(route.rpc, code, (edge.deps.clock.monotonic() - began) / 1_000);
  }
}

async function declare({ caller, edge, project, request }: Call): Promise<Answer> {
  const body = await readBody(request);
  const { artifact, requestId } = artifactOf(body);
  const asked = create(CreateArtifactRequestSchema, {
    artifact,
    isChunk: body["is_chunk"] === true,
    project,
    requestId,
  });
  const { existing, expiresAt, headers, isStored, uploadUrl } = await createArtifact(edge.deps, caller, asked);
  return {
    body: {
      artifact_id: artifact.digest,
      ...(existing === undefined && isStored
        ? { is_stored: true }
        : existing === undefined
          ? {
              expires_at: expiresAt,
              headers: Object.fromEntries(headers.map((h) => [h.name, h.value])),
              upload_url: uploadUrl,
            }
          : { existing: bodyOfArtifact(existing) }),
    },
    status: 200,
    ...(existing === undefined ? {} : { receipt: existing }),
  };
}

/** The body may say again what was declared; without one, the length is what the store holds. */
async function complete({ caller, digest, edge, project, request, signal }: Call): Promise<Answer> {
  const body = await readBody(request, { mayBeEmpty: true });
  const named = body["digest"] ?? digest;
  if (typeof named !== "string" || digestOf(named) !== digest)
    throw new Fault("REQUEST_INVALID", "digest names other content than the path: leave it out", {
      fields: [{ description: "differs from the path", field: "digest" }],
    });
  const sizeBytes = body["size_bytes"] ?? (await storedSize(edge, project, digest));
  const { artifact, requestId } = artifactOf({ ...body, digest, size_bytes: sizeBytes });
  const asked = create(CompleteArtifactRequestSchema, { artifact, project, requestId });
  const { receipt, resource } = await completeArtifact(edge.deps, caller, asked, signal);
  return { body: resource === undefined ? {} : bodyOfArtifact(resource), receipt: receiptOf(receipt), status: 200 };
}

async function metadata({ caller, digest, edge, project }: Call): Promise<Answer> {
  const { deps } = edge;
  const { resource } = await recorded(deps, caller, { project }, () => {
    const name = recordOf(edge, project, digest) ?? digest;
    return getResource(deps, caller, create(GetRequestSchema, { name, project }), {
      collection: "artifacts",
      kinds: ["artifact"],
    });
  });
  if (resource === undefined) throw notFound(digest);
  return { body: bodyOfArtifact(resource), receipt: resource, status: 200 };
}

async function download({ caller, digest, edge, project, request, signal }: Call): Promise<Answer> {
  const page = { firstChunk: chunkNumber(request, "first_chunk"), maxChunks: chunkNumber(request, "max_chunks") };
  const asked = create(BatchGetDownloadUrlsRequestSchema, { artifacts: [digest], project, ...page });
  const { receipt, urls } = await batchGetDownloadUrls(edge.deps, caller, asked, signal);
  const [url] = urls;
  if (url === undefined) throw notFound(digest);
  return {
    body: {
      artifact_id: url.digest,
      download_url: url.downloadUrl,
      expires_at: url.expiresAt,
      size_bytes: url.sizeBytes,
      ...(url.content === undefined ? {} : { content: bodyOfContent(url.content) }),
    },
    receipt: receiptOf(receipt),
    status: 200,
  };
}

const bodyOfContent = ({ chunks, ...content }: ChunkedContent): JsonObject => ({
  chunk_bytes: content.chunkBytes,
  chunk_count: content.chunkCount,
  chunks: chunks.map((c) => ({
    digest: c.digest,
    download_url: c.downloadUrl,
    expires_at: c.expiresAt,
    position: c.position,
    size_bytes: c.sizeBytes,
  })),
  sha256_claimed: content.sha256Claimed,
  size_bytes: content.sizeBytes,
  ...(content.readBy === "" ? {} : { read_by: content.readBy, sha256_read: content.sha256Read }),
});

// From a request.

/** A number of the query; 0 when it is not there. */
function chunkNumber(request: Request, name: string): number {
  const text = new URLSearchParams((request.url ?? "").split("?")[1] ?? "").get(name) ?? "0";
  if (/^\d{1,5}$/.test(text)) return Number(text);
  throw new Fault("REQUEST_INVALID", `${name} is to be a number up to 99999`, {
    fields: [{ description: "is not such a number", field: name }],
  });
}

const drop = (request: Request): void => void request.resume();

const headersOf = (request: Request) => ({ get: (name: string) => request.headers[name]?.toString() ?? null });

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (error) {
    throw new Fault("REQUEST_INVALID", "The path is not percent-encoded UTF-8.", { cause: error });
  }
}

/** `sha256:<hex>` of a name in either form. */
function digestOf(text: string): RecordId {
  const digest = parseEitherId(text);
  if (digest !== undefined) return digest;
  throw new Fault("REQUEST_INVALID", "an artifact is named by its content: sha256: and 64 lower-case hex characters", {
    fields: [{ description: "is not a SHA-256", field: "artifact_id" }],
  });
}

async function readBody(request: Request, { mayBeEmpty = false } = {}): Promise<JsonObject> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > MAX_BODY_BYTES)
      throw new Fault(
        "LIMIT_EXCEEDED",
        `The body is longer than ${MAX_BODY_BYTES} bytes: send what describes the file.`,
      );
    parts.push(part);
  }
  if (length === 0 && mayBeEmpty) return {};
  if (!/^application\/json\s*(?:;|$)/i.test(request.headers["content-type"] ?? ""))
    throw new Fault("REQUEST_INVALID", "The body is to be JSON: send it with `Content-Type: application/json`.", {
      fields: [{ description: "is not application/json", field: "content-type" }],
    });
  const body = parseStrictJson(Buffer.concat(parts));
  if (isObject(body)) return body;
  throw new Fault("REQUEST_INVALID", "The body is not a JSON object.");
}

const FIELDS: Readonly<Record<string, "boolean" | "string" | "number">> = {
  digest: "string",
  is_chunk: "boolean",
  media_type: "string",
  name: "string",
  request_id: "string",
  size_bytes: "number",
};

/** The artifact that a body describes; refuses members that it would not record. */
function artifactOf(body: JsonObject): { readonly artifact: Artifact; readonly requestId: string } {
  for (const [name, value] of Object.entries(body)) {
    const type = Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined;
    const field = name.slice(0, 64);
    if (type === undefined)
      throw new Fault("REQUEST_INVALID", `The request has no field ${field}: leave it out, or correct its name.`, {
        fields: [{ description: "is not a field of this request", field }],
      });
    if (typeof value !== type)
      throw new Fault("REQUEST_INVALID", `${field} is to be a ${type}`, {
        fields: [{ description: `is not a ${type}`, field }],
      });
  }
  const text = (name: string): string | undefined => body[name] as string | undefined;
  const digest = text("digest");
  const artifact = create(ArtifactSchema, {
    digest: digest === undefined ? "" : (parseEitherId(digest) ?? digest),
    sizeBytes: Number(body["size_bytes"] ?? 0),
    ...(text("media_type") === undefined ? {} : { mediaType: text("media_type") ?? "" }),
    ...(text("name") === undefined ? {} : { name: text("name") ?? "" }),
  });
  return { artifact, requestId: text("request_id") ?? "" };
}

// From the ledger.

/** Record of the artifact with this content in the project; who may see it is asked by whoever reads it. */
function recordOf({ deps }: Edge, name: string, digest: string): RecordId | undefined {
  using reader = deps.log.index.reader();
  const project = findProject(reader, name);
  const key = project === undefined ? undefined : contentIdentity("artifact", project, { digest }, []);
  return key === undefined ? undefined : reader.get("content", key)?.value.id;
}

/** How many bytes the store holds for the content; 0 when there are none, which is found when they are hashed. */
async function storedSize({ deps }: Edge, name: string, digest: string): Promise<number> {
  const project = projectOf(deps, name);
  const found = project === undefined ? null : await deps.store.head("ledger", blobKey(project, digest));
  return found?.sizeBytes ?? 0;
}

function projectOf({ log }: Edge["deps"], name: string): RecordId | undefined {
  using reader = log.index.reader();
  return findProject(reader, name);
}

const receiptOf = (receipt: Receipt | undefined): Answer["receipt"] => receipt;

function bodyOfArtifact(resource: Resource): JsonObject {
  const body = resource.body.case === "artifact" ? resource.body.value : undefined;
  return {
    artifact_id: body?.digest ?? "",
    log_index: resource.logIndex,
    project: resource.project,
    record: resource.record,
    recorded_at: resource.time,
    size_bytes: body?.sizeBytes ?? 0,
    ...(body?.mediaType === undefined ? {} : { media_type: body.mediaType }),
    ...(body?.name === undefined ? {} : { name: body.name }),
  };
}
