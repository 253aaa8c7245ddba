/**
 * One signed request to an S3 store and its whole answer: SigV4 by `@smithy/signature-v4`, connections by undici. Owns the
 * connections; knows nothing of buckets' meaning.
 *
 * - Every request has a deadline and may be aborted. Every answer is read to its end, or its connection is closed, so that a store
 *   in trouble never holds a connection.
 * - Nothing is repeated here: who sends a write again must know what that means.
 * - A request without an answer is a `Silence`. It says whether the request may have reached the store.
 */
import { createHash, createHmac, hash } from "node:crypto";
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
  readonly body?: Uint8Array;
  /** Of the bytes of the body, in hex, when the caller knows it. */
  readonly bodySha256?: string;
  readonly signal?: AbortSignal | undefined;
}

export interface StreamedRequest extends Omit<S3Request, "body" | "bodySha256"> {
  readonly body?: StreamedBody;
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

const sha256Hex = (bytes: Uint8Array): string => hash("sha256", bytes);

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
  readonly #host: string;
  readonly #origin: string;
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
    this.#host = hostHeader(address);
    this.#origin = originOf(address);
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
    const signed = await this.#signed(request);
    return new Promise((resolve, reject) => {
      const exchange = new Exchange(request.signal, this.#attemptMs, resolve, (error) =>
        reject(this.#silence(request, error)),
      );
      this.#agent.dispatch({ ...signed, body: request.body ?? null }, exchange);
    });
  }

  /** The answer with its body as a stream, for objects of any size; a failure of the stream is a Fault. */
  async stream(
    request: StreamedRequest,
  ): Promise<Omit<S3Answer, "body"> & { readonly body: AsyncIterable<Uint8Array> }> {
    const { body, signal } = request;
    try {
      const reply = await this.#agent.request({
        ...(await this.#signed(request)),
        body: body === undefined ? null : Readable.from(body.pieces),
        signal: signal ?? null,
      });
      return { body: this.#pieces(request, reply), headers: headersOf(reply.headers), status: reply.statusCode };
    } catch (error) {
      throw this.#silence(request, error);
    }
  }

  async *#pieces(request: StreamedRequest, reply: Dispatcher.ResponseData): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of reply.body) yield piece as Uint8Array;
    } catch (error) {
      throw new Fault("STORE_UNAVAILABLE", this.#silence(request, error).message, { cause: error });
    }
  }

  /** Where a request goes, with its headers and their signature. */
  async #signed(request: S3Request | StreamedRequest) {
    const { body, method, query = {} } = request;
    const path = encodePath(request.path);
    const search = encodeQuery(query);
    const headers: Record<string, string> = {
      "x-amz-content-sha256": digestOf(request),
      ...request.headers,
      host: this.#host,
    };
    if (body !== undefined)
      headers["content-length"] = String(body instanceof Uint8Array ? body.length : body.sizeBytes);
    const { host: hostname, tls } = this.address;
    const signed = await this.#signer.sign(
      { headers, hostname, method, path, protocol: tls ? "https:" : "http:", query: { ...query } },
      { signingDate: new Date(this.#clock.now()) },
    );
    return {
      headers: signed.headers,
      method,
      origin: this.#origin,
      path: search === "" ? path : `${path}?${search}`,
    };
  }

  #silence({ method, path, signal }: S3Request | StreamedRequest, error: unknown): Silence {
    const code = codeOf(error);
    const mayHaveArrived = !BEFORE_SENDING.has(code);
    const why =
      signal?.aborted === true
        ? "was cancelled"
        : code === "TimeoutError" || code.endsWith("_TIMEOUT")
          ? `had no answer within ${this.#attemptMs} ms`
          : `failed: ${code}`;
    const remedy = /CERT|SSL|EPROTO/.test(code) ? TLS_REMEDY : "check that the store runs and can be reached";
    return new Silence(`${method} ${path} at ${this.#origin} ${why}; ${remedy}`, mayHaveArrived, error);
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
    const origin = this.address.publicOrigin ?? this.#origin;
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

function digestOf(request: S3Request | StreamedRequest): string {
  const { body } = request;
  if (body === undefined) return NOTHING;
  if (!(body instanceof Uint8Array)) return body.sha256;
  return ("bodySha256" in request ? request.bodySha256 : undefined) ?? sha256Hex(body);
}

function headersOf(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    found[name] = Array.isArray(value) ? value.join(", ") : (value ?? "");
  return found;
}

/** One request and its answer, held in memory. Ends once: with the answer, a failure, the caller's signal or its deadline. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #answered: (answer: S3Answer) => void;
  readonly #failed: (error: unknown) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #deadline: NodeJS.Timeout;
  #controller: Dispatcher.DispatchController | undefined;
  /** Why it ended before its answer. */
  #reason: Error | undefined;
  #status = 0;
  #headers: Record<string, string> = {};
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  constructor(
    signal: AbortSignal | undefined,
    attemptMs: number,
    answered: (answer: S3Answer) => void,
    failed: (error: unknown) => void,
  ) {
    this.#answered = answered;
    this.#failed = failed;
    this.#signal = signal;
    this.#deadline = setTimeout(() => this.#cancel(new DOMException("no answer in time", "TimeoutError")), attemptMs);
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (signal?.aborted === true) this.#onAbort();
  }

  readonly #onAbort = (): void => this.#cancel(new DOMException("cancelled", "AbortError"));

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It waited for a connection until then.
    if (this.#reason !== undefined) controller.abort(this.#reason);
  }

  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    this.#status = status;
    this.#headers = headersOf(headers);
  }

  /** The store may send anything, so no more than a limit is kept. */
  onResponseData(_: Dispatcher.DispatchController, piece: Buffer): void {
    this.#length += piece.length;
    if (this.#length > MAX_ANSWER_BYTES) this.#cancel(new Error(`it answers with more than ${MAX_ANSWER_BYTES} bytes`));
    else this.#pieces.push(piece);
  }

  onResponseEnd(): void {
    this.#end();
    const body = new Uint8Array(this.#length);
    let at = 0;
    for (const piece of this.#pieces) {
      body.set(piece, at);
      at += piece.length;
    }
    this.#answered({ body, headers: this.#headers, status: this.#status });
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: Error): void {
    this.#end();
    this.#failed(this.#reason ?? error);
  }

  /** Whoever waits is told at once; the connection, when there is one, is closed. */
  #cancel(reason: Error): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#end();
    this.#failed(reason);
    this.#controller?.abort(reason);
  }

  #end(): void {
    clearTimeout(this.#deadline);
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }
}
