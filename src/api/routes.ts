/**
 * The HTTP port beside RPCs: the tiled log under `/log/` (C2SP tlog-tiles), health and metrics, and the bytes of artifacts on the
 * embedded store, and the façade of artifacts. What is missing is 404 and never cached; what is immutable is cached for long.
 */
import type { IncomingHttpHeaders, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { parseTilePath } from "../merkle/tiles.ts";
import { Fault } from "../std/faults.ts";
import type { FileStore } from "../store/fs/file-store.ts";
import type { UploadSigner } from "../store/fs/upload.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { send, sendFault } from "./http-fault.ts";
import type { Handler, Request, Response } from "./listen.ts";
import type { Metrics } from "./metrics.ts";

export interface RouteParts {
  readonly log: {
    published(): Uint8Array | null;
    /** Bytes of a tile or bundle of the signed tree; null when there is none. */
    tile(path: string): Promise<Uint8Array | null>;
  };
  /** Whether entries may be read without a token. */
  readonly publicLog: boolean;
  /** Whether the bearer of these headers may read entries; throws the Fault to answer. */
  mayReadLog(headers: IncomingHttpHeaders, path: string): void;
  readonly ready: () => boolean;
  readonly metrics: Metrics;
  readonly store: ObjectStore;
  /** Present on the embedded store, which takes uploads itself. */
  readonly embedded:
    | {
        readonly files: FileStore;
        readonly signer: UploadSigner;
        readonly retainUntil: () => number;
        readonly now: () => number;
      }
    | undefined;
  /** What lies below `/projects/`, wherever it is answered. */
  artifacts(path: string, request: Request, response: Response): Promise<void>;
  /** The proof file of a record, for the bearer of these headers; throws the Fault to answer. */
  proof(headers: IncomingHttpHeaders, path: string, record: string): string;
  /** Everything that is not ours. */
  readonly next: Handler;
}

const IMMUTABLE = "max-age=604800, immutable";
const TEXT = "text/plain; charset=utf-8";
const BYTES = "application/octet-stream";
/** Reads and drops a body, so that the connection can serve the next request. */
const discard = (request: Request): void => void (request as Readable).resume();

export function createRoutes(parts: RouteParts): Handler {
  return (request, response) => {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    if (path.startsWith("/projects/")) {
      void parts.artifacts(path, request, response).catch((error: unknown) => sendFault(response, error));
      return;
    }
    const route = path.startsWith("/log/")
      ? serveLog
      : path.startsWith("/blob/")
        ? serveBlob
        : path === "/healthz" || path === "/readyz" || path === "/metrics"
          ? serveHealth
          : undefined;
    if (route === undefined) {
      parts.next(request, response);
      return;
    }
    void route(parts, path, request, response).catch((error: unknown) => sendFault(response, error));
  };
}

async function serveHealth(parts: RouteParts, path: string, _request: Request, response: Response): Promise<void> {
  if (path === "/healthz") send(response, 200, TEXT, "ok\n");
  else if (path === "/readyz")
    send(
      response,
      parts.ready() ? 200 : 503,
      TEXT,
      `${parts.ready() ? "ready" : "not ready"}\nlock: ${parts.store.lock}\n`,
    );
  else send(response, 200, parts.metrics.registry.contentType, await parts.metrics.registry.metrics());
}

async function serveLog(parts: RouteParts, path: string, request: Request, response: Response): Promise<void> {
  const open = { "access-control-allow-origin": "*" };
  if (request.method !== "GET" && request.method !== "HEAD") {
    send(response, 405, TEXT, "only GET\n", { ...open, allow: "GET, HEAD" });
    return;
  }
  const name = path.slice("/log/".length);
  if (name === "checkpoint") {
    const note = parts.log.published();
    if (note === null) send(response, 404, TEXT, "no checkpoint is published yet\n", open);
    else send(response, 200, TEXT, note, { ...open, "cache-control": "max-age=1" });
    return;
  }
  if (name.startsWith("proof/")) {
    const proof = parts.proof(request.headers, path, name.slice("proof/".length));
    send(response, 200, TEXT, proof, open);
    return;
  }
  const tile = parseTilePath(name);
  if (tile?.level === "entries" && !parts.publicLog) parts.mayReadLog(request.headers, path);
  const bytes = tile === undefined ? null : await parts.log.tile(name);
  if (bytes === null) send(response, 404, TEXT, "not found\n", open);
  else
    send(response, 200, BYTES, bytes, {
      ...open,
      "cache-control": tile?.level === "entries" && !parts.publicLog ? "private, max-age=604800, immutable" : IMMUTABLE,
    });
}

/** Uploads and downloads under a signed token; the token says which bytes, and nothing else is trusted. */
async function serveBlob(parts: RouteParts, path: string, request: Request, response: Response): Promise<void> {
  const { embedded } = parts;
  const method = request.method ?? "";
  const claims = embedded?.signer.verify(path.slice("/blob/".length), method, embedded.now());
  if (embedded === undefined || claims === undefined) {
    discard(request);
    throw new Fault("PERMISSION_DENIED", "This address has expired or is for another method. Ask for a new one.");
  }
  if (method === "PUT") {
    const { key, sha256, sizeBytes } = claims;
    if (sha256 === undefined || sizeBytes === undefined)
      throw new Fault("PERMISSION_DENIED", "This address does not say which bytes it takes.");
    if (request.headers["content-length"] !== undefined && request.headers["content-length"] !== String(sizeBytes)) {
      discard(request);
      throw new Fault(
        "DIGEST_MISMATCH",
        `The body has ${request.headers["content-length"]} bytes, ${sizeBytes} were announced. Hash the file again and ask for a new address.`,
      );
    }
    const result = await embedded.files.receive(key, sha256, sizeBytes, request as AsyncIterable<Uint8Array>, {
      retainUntil: embedded.retainUntil(),
    });
    if (result.outcome === "mismatch")
      throw new Fault(
        "DIGEST_MISMATCH",
        `The ${result.field} is ${result.received}, ${result.expected} was announced. Nothing was stored; hash the file again and ask for a new address.`,
      );
    if (result.outcome === "unknown")
      throw new Fault("STORE_UNAVAILABLE", "The store could not say whether the bytes were stored. Send them again.");
    parts.metrics.uploaded(sizeBytes);
    send(response, result.outcome === "created" ? 201 : 200, TEXT, "");
    return;
  }
  const opened = await parts.store.open("ledger", claims.key);
  if (opened === null) throw new Fault("NOT_FOUND", "The bytes are not in the store.");
  (response as ServerResponse).writeHead(200, {
    "cache-control": "private, no-store",
    "content-disposition": `attachment; filename="${(claims.filename ?? "artifact").replaceAll(/[^A-Za-z0-9._-]/g, "_")}"`,
    "content-length": String(opened.sizeBytes),
    "content-type": BYTES,
    "x-content-type-options": "nosniff",
  });
  await pipeline(Readable.from(opened.stream), response as NodeJS.WritableStream);
}
