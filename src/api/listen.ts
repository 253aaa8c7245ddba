/**
 * One port for HTTP/1.1 and HTTP/2: cleartext (HTTP/2 by prior knowledge, RFC 9113 §3.3) or TLS with ALPN, never both.
 *
 * Owns sockets, sessions and their time-outs; knows nothing of what is served.
 *
 * - In cleartext the HTTP/1.1 server owns the listening socket, because a server that never listens does not check its
 *   time-outs. A connection whose first bytes are the HTTP/2 preface goes to the HTTP/2 server before anything is parsed.
 * - A request whose authority is no authority never reaches the handler, and no handler's throw ends the process.
 * - A peer that says nothing, or says its headers slowly, is dropped. Shutting down waits for work in flight, and for nothing else.
 */
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";

/** RFC 9113 §3.4. "PRI" is no method of HTTP/1.1, so three bytes decide. */
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
const PROBE_BYTES = 3;
/** Longer than clients and proxies keep an idle connection: the server must not close first, since a POST is not retried. */
const KEEP_ALIVE_MS = 75_000;
const SESSION_IDLE_MS = 15 * 60_000;
const TCP_KEEP_ALIVE_MS = 60_000;
const CHECK_INTERVAL_MS = 1_000;
const MAX_STREAMS = 1_000;
const STREAM_WINDOW_BYTES = 1 << 20;
const SESSION_WINDOW_BYTES = 1 << 22;
const FIRST_BYTE_TIMEOUT_MS = 10_000;
const GRACE_MS = 5_000;

export type Request = http.IncomingMessage | http2.Http2ServerRequest;
export type Response = http.ServerResponse | http2.Http2ServerResponse;
export type Handler = (request: Request, response: Response) => void;

export interface Tls {
  readonly key: Buffer;
  readonly cert: Buffer;
  /** Trust anchors for client certificates; with it, clients are asked for one. */
  readonly ca?: Buffer;
  /** Refuse clients without a certificate that chains to `ca`. */
  readonly requireClientCert?: boolean;
}

/** A bound port. Disposing of it refuses new work, waits for what is in flight for the grace time, then cuts it off. */
export interface Listener extends AsyncDisposable {
  readonly port: number;
}

export interface ListenOptions {
  /** 0 takes any free port. */
  readonly port: number;
  readonly host: string;
  readonly tls?: Tls;
  /** How long a connection may be silent, or may take for its headers or TLS handshake. 10 s by default. */
  readonly firstByteTimeoutMs?: number;
  /** How long work in flight may go on when the listener is disposed of. 5 s by default. */
  readonly graceMs?: number;
}

interface Connections {
  /** All sockets, as accepted. */
  readonly sockets: Set<Socket>;
  /** Sockets that have not yet brought a request (browsers open such): nothing waits for them. */
  readonly silent: Set<Socket>;
  readonly sessions: Set<http2.ServerHttp2Session>;
  closing: boolean;
}

export async function listen(handler: Handler, options: ListenOptions): Promise<Listener> {
  const connections: Connections = { sockets: new Set(), silent: new Set(), sessions: new Set(), closing: false };
  const guarded = guard(handler, connections);
  const server =
    options.tls === undefined
      ? cleartext(guarded, options, connections)
      : secure(guarded, options, options.tls, connections);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: options.port, host: options.host }, () => {
      server.off("error", reject);
      resolve();
    });
  });
  let closed: Promise<void> | undefined;
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => (closed ??= close(server, connections, options.graceMs ?? GRACE_MS)),
  };
}

function cleartext(handler: Handler, options: ListenOptions, connections: Connections): http.Server {
  const timeoutMs = options.firstByteTimeoutMs ?? FIRST_BYTE_TIMEOUT_MS;
  const h2 = http2.createServer(HTTP2_OPTIONS, handler);
  h2.on("session", (session) => watchSession(session, timeoutMs, connections));
  const h1 = http.createServer({ ...http1Options(timeoutMs), ...SOCKET_OPTIONS }, handler);
  const onHttp1 = h1.listeners("connection") as ((socket: Socket) => void)[];
  h1.removeAllListeners("connection");
  h1.on("connection", (socket: Socket) => {
    watchSocket(socket, connections);
    sniff(socket, timeoutMs, (isHttp2) => {
      if (!isHttp2) {
        for (const listener of onHttp1) listener.call(h1, socket);
        return;
      }
      connections.silent.delete(socket);
      h2.emit("connection", socket);
    });
  });
  return h1;
}

function secure(handler: Handler, options: ListenOptions, tls: Tls, connections: Connections): http2.Http2SecureServer {
  const timeoutMs = options.firstByteTimeoutMs ?? FIRST_BYTE_TIMEOUT_MS;
  const server = http2.createSecureServer(
    {
      ...HTTP2_OPTIONS,
      ...SOCKET_OPTIONS,
      http1Options: http1Options(timeoutMs),
      allowHTTP1: true,
      handshakeTimeout: timeoutMs,
      minVersion: "TLSv1.3",
      key: tls.key,
      cert: tls.cert,
      ...(tls.ca === undefined ? {} : { ca: tls.ca }),
      requestCert: tls.ca !== undefined,
      rejectUnauthorized: tls.requireClientCert === true,
    },
    handler,
  );
  // Both faces of a connection are known only by their remote end.
  const raw = new Map<string, Socket>();
  server.on("connection", (socket: Socket) => {
    watchSocket(socket, connections);
    const remote = remoteOf(socket);
    raw.set(remote, socket);
    socket.once("close", () => raw.delete(remote));
  });
  server.on("secureConnection", (socket) => {
    const face = raw.get(remoteOf(socket));
    if (face !== undefined) connections.silent.delete(face);
    if (socket.alpnProtocol === "h2") return;
    connections.silent.add(socket);
    socket.once("close", () => connections.silent.delete(socket));
  });
  server.on("session", (session) => watchSession(session, timeoutMs, connections));
  return server;
}

const HTTP2_OPTIONS = {
  settings: { maxConcurrentStreams: MAX_STREAMS, initialWindowSize: STREAM_WINDOW_BYTES },
} as const;
const SOCKET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS } as const;

function http1Options(headersTimeoutMs: number): http.ServerOptions {
  return {
    headersTimeout: headersTimeoutMs,
    // A body may stream for as long as its call lives; deadlines belong to the calls.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, headersTimeoutMs),
    keepAliveTimeout: KEEP_ALIVE_MS,
  };
}

function remoteOf(socket: Socket): string {
  return `${socket.remoteAddress ?? ""}|${socket.remotePort ?? ""}`;
}

function watchSocket(socket: Socket, { sockets, silent }: Connections): void {
  sockets.add(socket);
  silent.add(socket);
  socket.once("close", () => {
    sockets.delete(socket);
    silent.delete(socket);
  });
}

function watchSession(session: http2.ServerHttp2Session, timeoutMs: number, { sessions }: Connections): void {
  sessions.add(session);
  const unspoken = setTimeout(() => session.destroy(), timeoutMs);
  session.once("remoteSettings", () => clearTimeout(unspoken));
  session.once("close", () => {
    clearTimeout(unspoken);
    sessions.delete(session);
  });
  session.on("error", () => session.destroy());
  // GOAWAY; streams that are open go on.
  session.setTimeout(SESSION_IDLE_MS, () => session.close());
  session.setLocalWindowSize(SESSION_WINDOW_BYTES);
}

/** Stands between any request and the handler: what arrives here was chosen by an attacker. */
function guard(handler: Handler, connections: Connections): Handler {
  return (request, response) => {
    if (request.httpVersionMajor === 1) {
      connections.silent.delete(request.socket);
      keepReadable(request as http.IncomingMessage, response as http.ServerResponse, connections);
    }
    // connect-node builds a URL from the authority before it catches anything: `POST … HTTP/1.0` without Host would end the process.
    const authority = request instanceof http2.Http2ServerRequest ? request.authority : request.headers.host;
    if (!isAuthority(authority)) {
      refuse(response, 400);
      return;
    }
    try {
      handler(request, response);
    } catch {
      refuse(response, 500);
    }
  };
}

function isAuthority(text: string | undefined): boolean {
  return text !== undefined && text !== "" && URL.canParse(`http://${text}`);
}

function refuse(response: Response, status: number): void {
  if (!response.headersSent) {
    response.statusCode = status;
    if (response instanceof http.ServerResponse) response.setHeader("connection", "close");
  }
  response.end();
}

/**
 * connect-node iterates the request and leaves early on an error, which destroys a request of HTTP/1.1 but neither its socket
 * nor its unread body: the next request on that connection would never be read.
 */
function keepReadable(request: http.IncomingMessage, response: http.ServerResponse, connections: Connections): void {
  request[Symbol.asyncIterator] = () => request.iterator({ destroyOnReturn: false }) as NodeJS.AsyncIterator<Buffer>;
  response.once("finish", () => {
    if (!request.complete) request.resume();
    if (connections.closing) request.socket.destroySoon();
  });
}

/** Reads until the protocol is known, gives the bytes back, and says which it is. The bytes may come singly. */
function sniff(socket: Socket, timeoutMs: number, done: (isHttp2: boolean) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const drop = (): void => void socket.destroy();
  const timer = setTimeout(drop, timeoutMs);
  const onReadable = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const probe = Math.min(seen.length, PROBE_BYTES);
    const isHttp2 = seen.subarray(0, probe).equals(PREFACE.subarray(0, probe));
    if (isHttp2 && probe < PROBE_BYTES) return;
    clearTimeout(timer);
    socket.off("readable", onReadable);
    socket.off("error", drop);
    socket.off("end", drop);
    socket.unshift(seen);
    done(isHttp2);
  };
  socket.on("error", drop);
  socket.on("readable", onReadable);
  socket.once("end", drop);
  socket.once("close", () => clearTimeout(timer));
}

async function close(
  server: http.Server | http2.Http2SecureServer,
  connections: Connections,
  graceMs: number,
): Promise<void> {
  connections.closing = true;
  const { sockets, silent, sessions } = connections;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  for (const socket of silent) socket.destroy();
  for (const session of sessions) session.close(); // GOAWAY; streams in flight finish
  const cut = setTimeout(() => {
    for (const socket of sockets) socket.destroy();
  }, graceMs);
  await closed;
  clearTimeout(cut);
}
