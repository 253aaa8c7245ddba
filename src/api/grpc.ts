/**
 * The gRPC port: grpc-js serves what a Connect `ServiceImplSpec` implements, at about a quarter of connect-node's CPU a call.
 *
 * - A unary call costs little more than grpc-js itself: the context makes its Headers, its AbortSignal and its values only for
 *   a handler that touches them, and nothing is closed over per call. One header, and the address, it tells without (`peer.ts`).
 * - What a handler throws leaves as `toConnectError` says, with `google.rpc.Status` in `grpc-status-details-bin`.
 * - A deadline over `maxTimeoutMs` is shortened to it. (grpc-js counts it in 32 bits: a year would already have passed.)
 * - The context is an object with getters: wrap it with another object, do not spread it.
 * - What grpc-js 1.14.7 does not offer is taken from its HTTP/2 servers, in `watch` and nowhere else.
 */
import type { EventEmitter } from "node:events";
import type {
  Http2Server,
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
  ServerStreamResponseOptions,
} from "node:http2";
import { constants } from "node:http2";
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import { setImmediate } from "node:timers/promises";
import type { DetailedPeerCertificate } from "node:tls";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type Message,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { anyPack, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextValues,
  type HandlerContext,
  type MethodImplSpec,
  type ServiceImplSpec,
} from "@connectrpc/connect";
import {
  logVerbosity,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerInterceptingCallInterface,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
  type sendUnaryData,
  setLogVerbosity,
} from "@grpc/grpc-js";
import type { ReflectionService } from "@grpc/reflection";
import type { HealthImplementation } from "grpc-health-check";
import { StatusSchema } from "../../gen/ts/google/rpc/status_pb.ts";
import { assert } from "../std/assert.ts";
import { encode } from "./encode.ts";
import { toConnectError } from "./faults.ts";
import type { Listener, Tls } from "./listen.ts";
import { PLAIN_CALL, type PlainCall } from "./peer.ts";

const GRACE_MS = 5_000;
const FIRST_BYTE_TIMEOUT_MS = 10_000;
const MAX_STREAMS = 1_000;
const STREAM_WINDOW_BYTES = 1 << 20;
const SESSION_WINDOW_BYTES = 1 << 22;
const IDLE_MS = 30 * 60_000;
/** Finds peers that are gone without a word, which would hold their streams for ever. */
const KEEP_ALIVE_MS = 60_000;
const KEEP_ALIVE_TIMEOUT_MS = 20_000;
/** A connection without traffic may ping this often, and this many times at once. */
const PING_INTERVAL_MS = 10_000;
const PING_BURST = 20;
/** The answer to a ping: 17 bytes, 39 under TLS. When more was sent since the last one, the connection works and may ping. */
const PING_ANSWER_BYTES = 40;
/** Eight digits are the most that `grpc-timeout` holds. */
const MAX_TIMEOUT_MS = 99_999_999;

export interface GrpcPeer {
  /** Address and port. */
  readonly address: string;
  /** The client's certificate, when it was verified. */
  readonly certificate: DetailedPeerCertificate | undefined;
}

export interface GrpcOptions {
  /** 0 takes any free port. */
  readonly port: number;
  readonly host: string;
  readonly tls?: Tls;
  /** Largest message, also once decompressed. */
  readonly readMaxBytes: number;
  readonly maxTimeoutMs: number;
  /** Serve `grpc.health.v1`; everything is SERVING until `setServing` says otherwise. */
  readonly health?: boolean;
  /** Serve reflection from this `google.protobuf.FileDescriptorSet`. */
  readonly reflection?: Uint8Array;
  /** The values a call starts with; called when a handler first asks for them. */
  readonly contextValues?: (peer: GrpcPeer) => ContextValues;
  /** How long a connection may be silent, or may take for its TLS handshake. 10 s by default. */
  readonly firstByteTimeoutMs?: number;
  /** How long calls in flight may go on when the listener is disposed of. 5 s by default. */
  readonly graceMs?: number;
}

export interface GrpcListener extends Listener {
  /** What health checks answer, for the server and for each service. */
  setServing(ok: boolean): void;
}

export async function listenGrpc(services: readonly ServiceImplSpec[], options: GrpcOptions): Promise<GrpcListener> {
  // grpc-js would print header values that it cannot read, tokens among them.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    "grpc.max_receive_message_length": options.readMaxBytes,
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": MAX_STREAMS,
    "grpc.max_connection_idle_ms": IDLE_MS,
    "grpc.keepalive_time_ms": KEEP_ALIVE_MS,
    "grpc.keepalive_timeout_ms": KEEP_ALIVE_TIMEOUT_MS,
    "grpc.enable_channelz": 0,
  });
  for (const { service, methods } of services) {
    for (const spec of Object.values(methods)) register(server, service, spec, options.contextValues);
  }
  const names = services.map(({ service }) => service.typeName);
  const health = options.health === true ? addHealth(server, names) : undefined;
  if (options.reflection !== undefined) addReflection(server, options.reflection, names);

  const port = await bind(server, options);
  const sockets = watch(server, options);
  let closed: Promise<void> | undefined;
  const setServing = (ok: boolean): void => {
    for (const name of ["", ...names]) health?.setStatus(name, ok ? "SERVING" : "NOT_SERVING");
  };
  return {
    port,
    setServing,
    [Symbol.asyncDispose]: () => {
      if (closed !== undefined) return closed;
      setServing(false);
      closed = close(server, sockets, options.graceMs ?? GRACE_MS);
      return closed;
    },
  };
}

// Methods.

type Values = ((peer: GrpcPeer) => ContextValues) | undefined;
type UnaryCall = ServerUnaryCall<Message, Message>;
type ReadCall = ServerReadableStream<Message, Message>;
type WriteCall = ServerWritableStream<Message, Message>;
type BidiCall = ServerDuplexStream<Message, Message>;
type AnyCall = UnaryCall | ReadCall | WriteCall | BidiCall;
type Respond = sendUnaryData<Message>;
type Kind<K extends MethodImplSpec["kind"]> = Extract<MethodImplSpec, { kind: K }>;

function register(server: Server, service: DescService, spec: MethodImplSpec, values: Values): void {
  const { input, output, name } = spec.method;
  const path = `/${service.typeName}/${name}`;
  const serialize = (message: MessageInitShape<DescMessage>): Buffer => {
    const bytes = encode(output, create(output, message));
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
  // Not a Buffer: the fields of type bytes are views of it, and a Buffer's slice() is no copy.
  const deserialize = ({ buffer, byteOffset, byteLength }: Buffer): Message =>
    fromBinary(input, new Uint8Array(buffer, byteOffset, byteLength));
  const added = (() => {
    switch (spec.kind) {
      case "unary":
        return server.register(
          path,
          (call: UnaryCall, respond: Respond) => void unary(spec, call, respond, values),
          serialize,
          deserialize,
          "unary",
        );
      case "client_streaming":
        return server.register(
          path,
          (call: ReadCall, respond: Respond) => void clientStream(spec, call, respond, values),
          serialize,
          deserialize,
          "clientStream",
        );
      case "server_streaming":
        return server.register(
          path,
          (call: WriteCall) => void serverStream(spec, call, values),
          serialize,
          deserialize,
          "serverStream",
        );
      case "bidi_streaming":
        return server.register(
          path,
          (call: BidiCall) => void bidiStream(spec, call, values),
          serialize,
          deserialize,
          "bidi",
        );
    }
  })();
  assert(added, `${path} is implemented once`);
}

async function unary(spec: Kind<"unary">, call: UnaryCall, respond: Respond, values: Values): Promise<void> {
  const context = new CallContext(spec.method, call, values);
  try {
    const message = await spec.impl(call.request, context);
    context.sendHeader();
    respond(null, message as Message, context.trailer());
  } catch (error) {
    respond(context.fail(error));
  }
}

async function clientStream(
  spec: Kind<"client_streaming">,
  call: ReadCall,
  respond: Respond,
  values: Values,
): Promise<void> {
  const context = new CallContext(spec.method, call, values);
  try {
    const message = await spec.impl(new Incoming(call, context), context);
    context.sendHeader();
    respond(null, message as Message, context.trailer());
  } catch (error) {
    respond(context.fail(error));
  }
}

async function serverStream(spec: Kind<"server_streaming">, call: WriteCall, values: Values): Promise<void> {
  const context = new CallContext(spec.method, call, values);
  try {
    await pump(spec.impl(call.request, context), call, context);
  } catch (error) {
    failStream(call, context, error);
  }
}

async function bidiStream(spec: Kind<"bidi_streaming">, call: BidiCall, values: Values): Promise<void> {
  const context = new CallContext(spec.method, call, values);
  try {
    await pump(spec.impl(new Incoming(call, context), context), call, context);
  } catch (error) {
    failStream(call, context, error);
  }
}

/** Writes what the handler yields as fast as the client takes it; leaving the loop runs the handler's `finally`. */
async function pump(
  messages: AsyncIterable<MessageInitShape<DescMessage>>,
  call: WriteCall | BidiCall,
  context: CallContext,
): Promise<void> {
  for await (const message of messages) {
    if (call.cancelled) return;
    context.sendHeader();
    if (!call.write(message as Message)) await drained(call);
  }
  if (call.cancelled) return;
  context.sendHeader();
  call.end(context.trailer());
}

function failStream(call: WriteCall | BidiCall, context: CallContext, error: unknown): void {
  if (call.cancelled) return;
  // grpc-js sends the status after what is still to be written.
  call.emit("error", context.fail(error));
}

function drained(call: WriteCall | BidiCall): Promise<void> {
  if (call.cancelled) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      call.off("drain", done);
      call.off("cancelled", done);
      resolve();
    };
    call.on("drain", done);
    call.on("cancelled", done);
  });
}

/** What is read of grpc-js's own call behind a stream. */
interface BaseCall {
  readonly stream?: ServerHttp2Stream;
  readonly decoder?: { readonly readState: number };
}

/** The client's messages, read when the handler asks: leaving the loop early leaves the call open for the answer. */
class Incoming implements AsyncIterableIterator<Message> {
  readonly #call: ReadCall | BidiCall;
  readonly #context: CallContext;
  #waiting: PromiseWithResolvers<void> | undefined;

  constructor(call: ReadCall | BidiCall, context: CallContext) {
    this.#call = call;
    this.#context = context;
    const wake = (): void => {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      waiting?.resolve();
    };
    call.on("readable", wake);
    call.on("end", wake);
    call.on("cancelled", wake);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Message, undefined>> {
    for (;;) {
      const value = this.#call.read() as Message | null;
      if (value !== null) return { done: false, value };
      if (this.#call.readableEnded) {
        // A Node client that cancels ends its side first; the reset comes right behind.
        await setImmediate();
        this.#assertWhole();
        return { done: true, value: undefined };
      }
      if (this.#call.cancelled || this.#call.destroyed) throw this.#context.cancelReason();
      this.#waiting ??= Promise.withResolvers();
      await this.#waiting.promise;
    }
  }

  /**
   * grpc-js reports a request that was reset, or that stopped within a message, as one that ended: half an upload must not
   * pass for the whole.
   */
  #assertWhole(): void {
    const { stream, decoder } = (this.#call as unknown as { call: BaseCall }).call;
    assert(stream !== undefined && decoder !== undefined, "grpc-js keeps the HTTP/2 stream and the decoder of a call");
    if (this.#call.cancelled || stream.aborted || stream.rstCode !== constants.NGHTTP2_NO_ERROR)
      throw this.#context.cancelReason();
    if (decoder.readState !== 0) throw new ConnectError("the request ended within a message", Code.InvalidArgument);
  }

  return(): Promise<IteratorResult<Message, undefined>> {
    return Promise.resolve({ done: true, value: undefined });
  }
}

class CallContext implements HandlerContext, PlainCall {
  readonly method: DescMethod;
  // Not #private: code that wraps a context may inherit from it.
  private readonly call: AnyCall;
  private readonly initialValues: Values;
  private controller: AbortController | undefined;
  private request: Headers | undefined;
  private answer: Headers | undefined;
  private trailers: Headers | undefined;
  private ownValues: ContextValues | undefined;
  private isAnswered = false;

  constructor(method: DescMethod, call: AnyCall, initialValues: Values) {
    this.method = method;
    this.call = call;
    this.initialValues = initialValues;
    this.controller = undefined;
    this.request = undefined;
    this.answer = undefined;
    this.trailers = undefined;
    this.ownValues = undefined;
  }

  get [PLAIN_CALL](): PlainCall {
    return this;
  }

  get address(): string {
    return addressOf(this.call);
  }

  header(name: string): string | null {
    const [value, ...more] = this.call.metadata.get(name);
    if (typeof value !== "string" || more.length > 0) return this.requestHeader.get(name);
    return value;
  }

  get service(): DescService {
    return this.method.parent;
  }

  get requestMethod(): string {
    return "POST";
  }

  get protocolName(): string {
    return "grpc";
  }

  get url(): string {
    return `http://${this.call.getHost()}${this.call.getPath()}`;
  }

  /** Aborts when the client cancels and when the deadline passes, unless the call was answered before. */
  get signal(): AbortSignal {
    if (this.controller === undefined) {
      const controller = new AbortController();
      this.controller = controller;
      if (this.call.cancelled) controller.abort(this.cancelReason());
      // grpc-js says so of every call, also when it was answered.
      else
        (this.call as EventEmitter).once("cancelled", () => {
          if (!this.isAnswered) controller.abort(this.cancelReason());
        });
    }
    return this.controller.signal;
  }

  timeoutMs(): number | undefined {
    const deadline = this.deadlineMs();
    return deadline === Number.POSITIVE_INFINITY ? undefined : deadline - Date.now();
  }

  get requestHeader(): Headers {
    this.request ??= toHeaders(this.call.metadata);
    return this.request;
  }

  get responseHeader(): Headers {
    this.answer ??= new Headers();
    return this.answer;
  }

  get responseTrailer(): Headers {
    this.trailers ??= new Headers();
    return this.trailers;
  }

  get values(): ContextValues {
    this.ownValues ??= this.initialValues === undefined ? createContextValues() : this.initialValues(peerOf(this.call));
    return this.ownValues;
  }

  /** Sends the response header once, if the handler set one; grpc-js sends an empty one with the first message. */
  sendHeader(): void {
    if (this.answer === undefined) return;
    this.call.sendMetadata(toMetadata(this.answer));
    this.answer = undefined;
  }

  /** What goes behind the answer, which is all that is left to send. */
  trailer(): Metadata | undefined {
    this.isAnswered = true;
    return this.trailers === undefined ? undefined : toMetadata(this.trailers);
  }

  /** The status that a thrown value becomes; the response header goes first, as it does without an error. */
  fail(error: unknown): StatusObject & Error {
    this.sendHeader();
    return statusOf(toConnectError(error), this.trailer());
  }

  cancelReason(): ConnectError {
    // The timer may run a little before the clock says so.
    return this.deadlineMs() - 2 <= Date.now()
      ? new ConnectError("the deadline passed before the call was done", Code.DeadlineExceeded)
      : new ConnectError("the call was cancelled", Code.Canceled);
  }

  private deadlineMs(): number {
    return Number(this.call.getDeadline());
  }
}

/** Network address of the client. grpc-js reads it once of each call; asking for the peer would read the socket again. */
const addressOf = (call: AnyCall): string =>
  (call as unknown as { readonly call: ServerInterceptingCallInterface }).call.getConnectionInfo().remoteAddress ??
  "unknown";

function peerOf(call: AnyCall): GrpcPeer {
  return {
    address: call.getPeer(),
    get certificate() {
      return call.getAuthContext().sslPeerCertificate as DetailedPeerCertificate | undefined;
    },
  };
}

// Status and metadata.

/** Names that belong to the protocol or to HTTP/2 (RFC 9113 §8.2.2): never taken from a handler. */
const RESERVED = new Set([
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "date",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "user-agent",
]);

const isBinary = (name: string): boolean => name.endsWith("-bin");

function toMetadata(headers: Headers, metadata = new Metadata()): Metadata {
  for (const [name, value] of headers) {
    if (RESERVED.has(name) || name.startsWith("grpc-")) continue;
    if (!isBinary(name)) metadata.add(name, value);
    else for (const part of value.split(",")) metadata.add(name, Buffer.from(part.trim(), "base64"));
  }
  return metadata;
}

function toHeaders(metadata: Metadata): Headers {
  const headers = new Headers();
  for (const [name, values] of Object.entries(metadata.toJSON())) {
    // As Connect writes binary values: base64 without padding.
    for (const value of values)
      headers.append(name, typeof value === "string" ? value : withoutPadding(value.toString("base64")));
  }
  return headers;
}

function statusOf(error: ConnectError, trailer: Metadata | undefined): StatusObject & Error {
  const metadata = trailer ?? new Metadata();
  // What another server said about its own call is not ours to pass on.
  if (!error.isWireError) toMetadata(error.metadata, metadata);
  const message = error.rawMessage.toWellFormed();
  if (error.details.length > 0) {
    const status = create(StatusSchema, {
      code: error.code,
      message,
      details: error.details.map((detail) =>
        "desc" in detail
          ? anyPack(detail.desc, create(detail.desc, detail.value))
          : { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value },
      ),
    });
    metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, status)));
  }
  return { name: "ServerError", message, code: error.code as number, details: message, metadata };
}

// Health and reflection.

/**
 * Both packages read .proto files of their own beside themselves, so they are loaded from where they are installed, not bundled,
 * and only when asked for.
 */
const requireInstalled = createRequire(import.meta.url);

function addHealth(server: Server, names: readonly string[]): HealthImplementation {
  const { HealthImplementation } = requireInstalled("grpc-health-check") as typeof import("grpc-health-check");
  const health = new HealthImplementation(Object.fromEntries(["", ...names].map((name) => [name, "SERVING" as const])));
  health.addToServer(server);
  return health;
}

function addReflection(server: Server, descriptorSet: Uint8Array, names: readonly string[]): void {
  const { ReflectionService } = requireInstalled("@grpc/reflection") as typeof import("@grpc/reflection");
  const fileDescriptorProtos = fromBinary(FileDescriptorSetSchema, descriptorSet).file.map((file) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, file)),
  );
  // The package wants what proto-loader returns and reads only this field of it.
  const loaded: unknown = { descriptors: { fileDescriptorProtos } };
  const descriptors = loaded as ConstructorParameters<typeof ReflectionService>[0];
  const reflection: ReflectionService = new ReflectionService(descriptors, { services: [...names] });
  reflection.addToServer(server);
}

// Sockets and sessions.

async function bind(server: Server, options: GrpcOptions): Promise<number> {
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  const credentials = credentialsFor(options);
  return await new Promise((resolve, reject) => {
    server.bindAsync(`${host}:${options.port}`, credentials, (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
}

function credentialsFor({ tls, firstByteTimeoutMs }: GrpcOptions): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const credentials = ServerCredentials.createSsl(
    tls.ca ?? null,
    [{ private_key: tls.key, cert_chain: tls.cert }],
    tls.ca !== undefined,
  );
  // oxlint-disable-next-line no-underscore-dangle -- createSsl offers none of the settings below
  const settings = credentials._getConstructorOptions();
  assert(settings !== null, "TLS credentials have settings");
  Object.assign(settings, {
    minVersion: "TLSv1.3",
    handshakeTimeout: firstByteTimeoutMs ?? FIRST_BYTE_TIMEOUT_MS,
    rejectUnauthorized: tls.requireClientCert === true,
  });
  return credentials;
}

/**
 * Adds to grpc-js's HTTP/2 servers what its options lack: the deadline's limit, windows for bulk data, peers that never speak,
 * ping floods, and what must be cut off at the end of a shutdown.
 */
function watch(server: Server, options: GrpcOptions): ReadonlySet<Socket> {
  const { http2Servers } = server as unknown as { http2Servers: Map<Http2Server, unknown> };
  assert(http2Servers instanceof Map && http2Servers.size > 0, "grpc-js keeps its HTTP/2 servers in http2Servers");
  const sockets = new Set<Socket>();
  const maxTimeoutMs = Math.min(Math.floor(options.maxTimeoutMs), MAX_TIMEOUT_MS);
  const timeoutMs = options.firstByteTimeoutMs ?? FIRST_BYTE_TIMEOUT_MS;
  for (const http2Server of http2Servers.keys()) {
    http2Server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      socket.setNoDelay(true);
    });
    http2Server.on("session", (session: ServerHttp2Session) => watchSession(session, timeoutMs));
    const inner = http2Server.listeners("stream") as ((
      stream: ServerHttp2Stream,
      headers: IncomingHttpHeaders,
      ...rest: unknown[]
    ) => void)[];
    http2Server.removeAllListeners("stream");
    http2Server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => {
      // grpc-js listens for one error only.
      stream.on("error", ignore);
      if (!admit(stream, headers, maxTimeoutMs)) return;
      for (const listener of inner) listener.call(http2Server, stream, headers, ...rest);
    });
  }
  return sockets;
}

/** Holds a call to the gRPC protocol where grpc-js does not, on the way in and on the way out. */
function admit(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, maxTimeoutMs: number): boolean {
  if (headers[":method"] !== "POST") return refuse(stream, constants.HTTP_STATUS_METHOD_NOT_ALLOWED);
  if (!CONTENT_TYPE.test(headers["content-type"] ?? ""))
    return refuse(stream, constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE);
  const encoding = headers["grpc-encoding"];
  if (encoding === undefined || encoding === "identity") {
    // A message that is marked as compressed all the same then fails to decompress, instead of passing unread.
    headers["grpc-encoding"] = "gzip";
  } else if (encoding !== "gzip" && encoding !== "deflate") {
    stream.respond(UNKNOWN_ENCODING, { endStream: true });
    return false;
  }
  const timeout = headers["grpc-timeout"];
  if (timeout !== undefined) headers["grpc-timeout"] = shorten(String(timeout), maxTimeoutMs);
  stream.respond = respondUnpadded;
  stream.sendTrailers = sendTrailersUnpadded;
  return true;
}

const CONTENT_TYPE = /^application\/grpc(\+proto)?(;|$)/;
const UNKNOWN_ENCODING = {
  ":status": 200,
  "content-type": "application/grpc+proto",
  "grpc-status": Code.Unimplemented,
  "grpc-message": "unknown grpc-encoding",
  "grpc-accept-encoding": "identity,deflate,gzip",
} as const;

function refuse(stream: ServerHttp2Stream, status: number): false {
  stream.respond({ ":status": status }, { endStream: true });
  return false;
}

function respondUnpadded(
  this: ServerHttp2Stream,
  headers: OutgoingHttpHeaders,
  options?: ServerStreamResponseOptions,
): void {
  (Object.getPrototypeOf(this) as ServerHttp2Stream).respond.call(this, unpad(headers), options);
}

function sendTrailersUnpadded(this: ServerHttp2Stream, trailers: OutgoingHttpHeaders): void {
  if (trailers["grpc-status"] === 0) delete trailers["grpc-message"];
  (Object.getPrototypeOf(this) as ServerHttp2Stream).sendTrailers.call(this, unpad(trailers));
}

/** Servers should write binary values without padding (gRPC over HTTP/2, "Custom-Metadata"). */
function unpad(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  for (const name in headers) {
    if (!isBinary(name)) continue;
    const value = headers[name];
    headers[name] = Array.isArray(value) ? value.map(withoutPadding) : withoutPadding(String(value));
  }
  return headers;
}

const withoutPadding = (base64: string): string => base64.replace(/=+$/, "");

const ignore = (): void => {};

function watchSession(session: ServerHttp2Session, timeoutMs: number): void {
  const unspoken = setTimeout(() => session.destroy(), timeoutMs);
  session.once("remoteSettings", () => clearTimeout(unspoken));
  session.once("close", () => clearTimeout(unspoken));
  session.settings({ initialWindowSize: STREAM_WINDOW_BYTES });
  session.setLocalWindowSize(SESSION_WINDOW_BYTES);

  let budget = PING_BURST;
  let pingedAt = performance.now();
  let sentBytes = 0;
  session.on("ping", () => {
    const now = performance.now();
    const sent = session.socket.bytesWritten;
    budget =
      sent - sentBytes > PING_ANSWER_BYTES
        ? PING_BURST
        : Math.min(PING_BURST, budget + (now - pingedAt) / PING_INTERVAL_MS);
    pingedAt = now;
    sentBytes = sent;
    budget -= 1;
    if (budget >= 0 || session.destroyed) return;
    session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, 0, Buffer.from("too_many_pings"));
    session.close();
  });
}

const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** `grpc-timeout` within the limit; what is malformed stays so, and grpc-js refuses it. */
function shorten(timeout: string, maxTimeoutMs: number): string {
  const unitMs = UNIT_MS[timeout.slice(-1)];
  const count = Number(timeout.slice(0, -1));
  return unitMs !== undefined && count * unitMs > maxTimeoutMs ? `${maxTimeoutMs}m` : timeout;
}

async function close(server: Server, sockets: ReadonlySet<Socket>, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  const cut = setTimeout(() => {
    for (const socket of sockets) socket.destroy();
  }, graceMs);
  await closed;
  clearTimeout(cut);
}
