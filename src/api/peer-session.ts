/**
 * The HTTP/2 connection to another server of the ledger: opened when a call needs it, and again after it broke.
 *
 * - What breaks a connection ends the calls on it and nothing else. An error that no listener hears ends the process, and a connection
 *   tells its error after it is known to be dead: so the listener stays on it for as long as it exists.
 * - A host that vanished closes no connection: each is asked every two seconds whether it lives, and is closed when it is silent.
 */
import * as http2 from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";

const PING_MS = 2_000;
const SILENT_MS = 3_000;

/** In the form that a transport asks for. */
export class PeerSession implements Disposable {
  readonly authority: string;
  readonly #options: http2.SecureClientSessionOptions;
  #session: http2.ClientHttp2Session | undefined;

  constructor(url: string, options: http2.SecureClientSessionOptions) {
    this.authority = new URL(url).origin;
    this.#options = options;
  }

  request(
    method: string,
    path: string,
    headers: http2.OutgoingHttpHeaders,
    options: Omit<http2.ClientSessionRequestOptions, "signal">,
  ): Promise<http2.ClientHttp2Stream> {
    return new Promise((resolve) => {
      const stream = this.#open().request({ ...headers, ":method": method, ":path": path }, options);
      // It may break before the caller listens, who then finds it destroyed.
      resolve(stream.on("error", () => undefined));
    });
  }

  /** Pings say whether it lives. */
  notifyResponseByteRead(): void {}

  #open(): http2.ClientHttp2Session {
    const known = this.#session;
    if (known !== undefined && !known.closed && !known.destroyed) return known;
    const session = http2.connect(this.authority, this.#options);
    session.on("error", () => undefined);
    const timer = setInterval(() => askWhetherItLives(session), PING_MS).unref();
    session.once("close", () => clearInterval(timer));
    this.#session = session;
    return session;
  }

  [Symbol.dispose](): void {
    if (this.#session !== undefined) end(this.#session, "the leader is another one now");
  }
}

function askWhetherItLives(session: http2.ClientHttp2Session): void {
  if (session.closed || session.destroyed) return;
  const late = setTimeout(() => end(session, "the leader does not answer"), SILENT_MS).unref();
  session.ping(() => clearTimeout(late));
}

function end(session: http2.ClientHttp2Session, why: string): void {
  if (!session.destroyed) session.destroy(new ConnectError(why, Code.Unavailable), http2.constants.NGHTTP2_CANCEL);
}
