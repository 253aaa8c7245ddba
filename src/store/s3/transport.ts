/**
 * One signed request to an S3 store and its whole answer: SigV4 by `@smithy/signature-v4`, connections by undici. Owns the
 * connections; knows nothing of buckets' meaning.
 *
 * - Every request has a deadline and may be aborted. Every answer is read to its end, or its connection is closed, so that a store
 *   in trouble never holds a connection.
 * - Nothing is repeated here: who sends a write again must know what that means.
 * - A request without an answer is a `Silence`. It says whether the request may have reached the store.
 */
import { createHash, createHmac } from "node:crypto";
import { Readable } from "node:stream";
import { SignatureV4 } from "@smithy/signature-v4";
import { Agent, type Dispatcher } from "undici";
import { Fault } from "../../std/faults.ts";
import type { Clock } from "../../std/ports.ts";
import { hostHeader, originOf, type S3Address } from "./address.ts";

/** Below the idle time-out that MinIO is to be run with (10 s), so that this side closes first. */
const KEEP_ALIVE_MS = 4_000;
const CONNECTIONS = 128;
const CONNECT_MS = 5_000;
/** Above MinIO's idle time-out: a PUT may wait so long for the key's lock, which a stalled writer holds. */
export const ATTEMPT_MS = 15_000;
/** Between two pieces of a streamed body. */
const STREAM_IDLE_MS = 30_000;
/** Longest answer that is held in memory; commits have 4 MiB at most. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

export interface S3Credentials {
  readonly accessKey: string;
  readonly secretKey: string;
  readonly sessionToken?: string | undefined;
}

export interface TransportOptions {
  readonly address: S3Address;
  readonly credentials: S3Credentials;
  /** PEM; the system's authorities when absent. */
  readonly ca?: string | undefined;
  readonly clock: Clock;
  /** Deadline of one request; default 15 s. */
  readonly attemptMs?: number | undefined;
}

export interface S3Request {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE";
  /** Bucket and key, not encoded yet. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | StreamedBody;
  /** Of the bytes of the body, in hex, when the caller knows it. */
  readonly bodySha256?: string;
  readonly signal?: AbortSignal | undefined;
}

/** A body that is not held in memory: its digest is signed, so the store takes no other bytes. */
export interface StreamedBody {
  /** Hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly pieces: AsyncIterable<Uint8Array>;
}

export interface S3Answer {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** No answer came. */
export class Silence extends Error {
  override readonly name = "Silence";
  /** False only when the request cannot have reached the store. */
  readonly mayHaveArrived: boolean;
  constructor(message: string, mayHaveArrived: boolean, cause: unknown) {
    super(message, { cause });
    this.mayHaveArrived = mayHaveArrived;
  }
}

/** What fails before a byte of the request is sent. */
const BEFORE_SENDING: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "EPROTO",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "ERR_SSL_PACKET_LENGTH_TOO_LONG",
  "ERR_SSL_WRONG_VERSION_NUMBER",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

const TLS_REMEDY = "if a private authority signed the store's certificate, name it: ?ca=FILE in the store's address";

/** The platform's SHA-256 and HMAC in the form that the signer asks for. */
class NativeSha256 {
  readonly #hash: { update(data: Uint8Array | string): unknown; digest(): Buffer };
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash("sha256") : createHmac("sha256", bytesOf(secret));
  }
  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data));
  }
  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#hash.digest());
  }
  reset(): void {
    throw new Error("assertion failed: a hash is used once");
  }
}

const bytesOf = (data: string | ArrayBuffer | ArrayBufferView): string | Uint8Array =>
  typeof data === "string"
    ? data
    : data instanceof ArrayBuffer
      ? new Uint8Array(data)
      : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

export const sha256Hex = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const NOTHING = sha256Hex(new Uint8Array());

const encode = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
const encodePath = (path: string): string => `/${path.split("/").map(encode).join("/")}`;
const encodeQuery = (query: Readonly<Record<string, string>>): string =>
  Object.entries(query)
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .join("&");

export class S3Transport implements AsyncDisposable {
  readonly address: S3Address;
  readonly #agent: Agent;
  readonly #signer: SignatureV4;
  readonly #clock: Clock;
  readonly #attemptMs: number;

  constructor({ address, attemptMs = ATTEMPT_MS, ca, clock, credentials }: TransportOptions) {
    this.address = address;
    this.#attemptMs = attemptMs;
    this.#clock = clock;
    this.#agent = new Agent({
      bodyTimeout: STREAM_IDLE_MS,
      connect: { timeout: CONNECT_MS, ...(ca === undefined ? {} : { ca }) },
      connections: CONNECTIONS,
      headersTimeout: attemptMs,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
    });
    this.#signer = new SignatureV4({
      credentials: {
        accessKeyId: credentials.accessKey,
        secretAccessKey: credentials.secretKey,
        ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken }),
      },
      region: address.region,
      service: "s3",
      sha256: NativeSha256,
      uriEscapePath: false,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }

  /** The answer, whatever its status; throws a `Silence`. */
  async send(request: S3Request): Promise<S3Answer> {
    const deadline = AbortSignal.timeout(this.#attemptMs);
    const signal = request.signal === undefined ? deadline : AbortSignal.any([request.signal, deadline]);
    const reply = await this.#dispatch(request, signal);
    try {
      return { body: await readBody(reply), headers: headersOf(reply), status: reply.statusCode };
    } catch (error) {
      throw this.#silence(request, error);
    }
  }

  /** The answer with its body as a stream, for objects of any size; a failure of the stream is a Fault. */
  async stream(request: S3Request): Promise<Omit<S3Answer, "body"> & { readonly body: AsyncIterable<Uint8Array> }> {
    const reply = await this.#dispatch(request, request.signal);
    return { body: this.#pieces(request, reply), headers: headersOf(reply), status: reply.statusCode };
  }

  async *#pieces(request: S3Request, reply: Dispatcher.ResponseData): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of reply.body) yield piece as Uint8Array;
    } catch (error) {
      throw new Fault("STORE_UNAVAILABLE", this.#silence(request, error).message, { cause: error });
    }
  }

  async #dispatch(request: S3Request, signal: AbortSignal | undefined): Promise<Dispatcher.ResponseData> {
    const { body, bodySha256, headers = {}, method, path, query = {} } = request;
    const isHeld = body === undefined || body instanceof Uint8Array;
    const sizeBytes = body instanceof Uint8Array ? body.length : body?.sizeBytes;
    const signed = await this.#signer.sign(
      {
        headers: {
          "x-amz-content-sha256": body === undefined ? NOTHING : isHeld ? (bodySha256 ?? sha256Hex(body)) : body.sha256,
          ...headers,
          host: hostHeader(this.address),
          ...(sizeBytes === undefined ? {} : { "content-length": String(sizeBytes) }),
        },
        hostname: this.address.host,
        method,
        path: encodePath(path),
        protocol: this.address.tls ? "https:" : "http:",
        query: { ...query },
      },
      { signingDate: new Date(this.#clock.now()) },
    );
    const search = encodeQuery(query);
    try {
      return await this.#agent.request({
        body: isHeld ? (body ?? null) : Readable.from(body.pieces),
        headers: signed.headers,
        method,
        origin: originOf(this.address),
        path: search === "" ? encodePath(path) : `${encodePath(path)}?${search}`,
        signal: signal ?? null,
      });
    } catch (error) {
      throw this.#silence(request, error);
    }
  }

  #silence({ method, path, signal }: S3Request, error: unknown): Silence {
    const code = codeOf(error);
    const mayHaveArrived = !BEFORE_SENDING.has(code);
    const why =
      signal?.aborted === true
        ? "was cancelled"
        : code === "TimeoutError" || code.endsWith("_TIMEOUT")
          ? `had no answer within ${this.#attemptMs} ms`
          : `failed: ${code}`;
    const remedy = /CERT|SSL|EPROTO/.test(code) ? TLS_REMEDY : "check that the store runs and can be reached";
    return new Silence(`${method} ${path} at ${originOf(this.address)} ${why}; ${remedy}`, mayHaveArrived, error);
  }

  /**
   * An address that anybody may use until it expires, for exactly this request: each of `headers` is signed, and who leaves one
   * out or changes it is refused. What the address does not name is not covered (`deploy/proxy`).
   */
  async presign(
    method: "GET" | "PUT",
    path: string,
    signed: {
      readonly query?: Readonly<Record<string, string>>;
      readonly headers?: Readonly<Record<string, string>>;
      readonly seconds: number;
    },
  ): Promise<string> {
    const { headers = {}, query = {}, seconds } = signed;
    const origin = this.address.publicOrigin ?? originOf(this.address);
    const request = await this.#signer.presign(
      {
        headers: { ...headers, host: new URL(origin).host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD" },
        hostname: new URL(origin).hostname,
        method,
        path: encodePath(path),
        protocol: new URL(origin).protocol,
        query: { ...query },
      },
      {
        expiresIn: seconds,
        hoistableHeaders: new Set(["x-amz-content-sha256"]),
        signableHeaders: new Set([...Object.keys(headers), "host"]),
        signingDate: new Date(this.#clock.now()),
        unhoistableHeaders: new Set(Object.keys(headers)),
      },
    );
    return `${origin}${encodePath(path)}?${encodeQuery(request.query as Record<string, string>)}`;
  }
}

const codeOf = (error: unknown): string => {
  if (!(error instanceof Error)) return "unknown error";
  if ("code" in error && typeof error.code === "string") return error.code;
  return error.name === "Error" ? error.message : error.name;
};

function headersOf({ headers }: Dispatcher.ResponseData): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : (value ?? "")]),
  );
}

/** Reads to the end; the store may send anything, so no more than a limit is kept. */
async function readBody({ body }: Dispatcher.ResponseData): Promise<Uint8Array> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of body as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > MAX_ANSWER_BYTES)
      throw new Fault("STORE_UNAVAILABLE", `the store answers with more than ${MAX_ANSWER_BYTES} bytes`);
    pieces.push(piece);
  }
  return new Uint8Array(Buffer.concat(pieces));
}
