/**
 * What a process that follows the log does with calls that it cannot answer itself: it hands them to the leader as they came, with
 * the caller's own credential, and gives back what the leader says.
 *
 * - The leader authenticates and decides anew; nothing is believed because a replica passed it on.
 * - A call is forwarded once. One that was forwarded and meets no leader is refused with NOT_WRITER: there are no loops.
 * - Whether a forwarded write happened is open when the connection breaks: WRITER_LOST, never "failed". The request id answers it
 *   later, and makes a second forward harmless.
 * - No call waits for a leader that is gone: a connection is asked every few seconds whether it lives, and dropped with all calls on
 *   it when another process leads.
 * - A leader that slept, or was cut off, may not know that another one leads: what it refuses it may refuse for what was true
 *   before. So no change is refused before the store told that nobody else wrote; if somebody did, that one is asked.
 * - A read is answered here when the state is as new as the caller asked for (`docs/protocol.md`, Freshness).
 */
import * as http from "node:http";
import * as https from "node:https";
import { pipeline } from "node:stream/promises";
import { type DescMethod, type DescMethodStreaming, type DescMethodUnary, type Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import type { Log } from "../log/log.ts";
import { Fault } from "../std/faults.ts";
import type { Clock } from "../std/ports.ts";
import { faultOf } from "./faults.ts";
import type { Request, Response } from "./listen.ts";
import { headerOf, peerOf } from "./peer.ts";
import { PeerSession } from "./peer-session.ts";

export interface ForwardOptions {
  readonly log: Log;
  /** Address of the leader's HTTP port; undefined when this process leads, or nobody is known to. */
  readonly leaderUrl: () => string | undefined;
  readonly clock: Clock;
  /** How the leader is met over TLS: who may have signed its certificate, and who we are. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
}

/** Set on forwarded calls. */
const FORWARDED = "datapilot-forwarded";
/** Set by callers: `latest`. */
const READ = "datapilot-read";
const MIN_TREE_SIZE = "datapilot-min-tree-size";
/** Set on answers of reads. */
const TREE_SIZE = "datapilot-tree-size";
const LAG_MS = "datapilot-lag-ms";
/** How long a replica waits for a tree size, or for somebody to lead. */
const PATIENCE_MS = 2_000;
const LOOK_MS = 50;
/** Not asked of the transport again, or of one connection only (RFC 9110 §7.6.1). */
const HOP = /^(?:connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|http2-settings|host|:.*)$/;
/** Reasons for which a follower asks the leader: it does not write, or does not know yet. */
const ASK_LEADER = new Set(["AS_OF_AHEAD", "NOT_WRITER", "REPLICA_BEHIND", "TOKEN_INVALID"]);

/** Reasons that do not rest on the state, or leave open what happened. */
const NOT_OF_STATE = new Set([
  "DEADLINE_EXCEEDED",
  "NOT_WRITER",
  "RATE_LIMITED",
  "REQUEST_INVALID",
  "STATE_CHANGED",
  "STORE_UNAVAILABLE",
  "WRITER_LOST",
]);

/** What a call ends with when its connection breaks. */
const SILENCE = new Set([
  Code.Aborted,
  Code.Canceled,
  Code.DeadlineExceeded,
  Code.Internal,
  Code.Unavailable,
  Code.Unknown,
]);
/** How long the leader has for a call whose caller set no deadline. */
const UNARY_MS = 30_000;

const LEADER_LOOK_MS = 500;

interface Connection {
  readonly url: string;
  readonly session: PeerSession;
  readonly transport: Transport;
  /** Aborted when it is dropped. */
  readonly dropped: AbortController;
}

export class Forwarder implements Disposable {
  readonly #options: ForwardOptions;
  #connection: Connection | undefined;

  constructor(options: ForwardOptions) {
    this.#options = options;
  }

  get isFollowing(): boolean {
    return this.#options.log.role === "follower";
  }

  /** Whether a read may be answered from here; waits a little for what is about to come. */
  async isFresh(request: unknown, context: HandlerContext): Promise<boolean> {
    const { log } = this.#options;
    if (headerOf(context, READ) === "latest") {
      if (this.isFollowing) return false;
      await log.confirm(context.signal);
      return true;
    }
    if (!this.isFollowing) return true;
    const { asOf, minTreeSize } = request as { readonly asOf?: unknown; readonly minTreeSize?: unknown };
    const sizes = [asOf, minTreeSize, Number(headerOf(context, MIN_TREE_SIZE) ?? 0)];
    const wanted = Math.max(0, ...sizes.filter((n): n is number => typeof n === "number" && Number.isFinite(n)));
    return log.reached(wanted, PATIENCE_MS, context.signal);
  }

  /** Says how new the state is that a read is answered from. */
  stamp(header: Headers): void {
    const { lagMs, size } = this.#options.log.health();
    header.set(TREE_SIZE, String(size));
    header.set(LAG_MS, String(Math.round(lagMs)));
  }

  /** Whether the leader should be asked instead of answering this error. */
  mayAsk(error: unknown, request: unknown, { requestHeader }: HandlerContext): boolean {
    if (!this.isFollowing || !(error instanceof Fault) || requestHeader.has(FORWARDED)) return false;
    if (error.reason !== "WRITER_LOST") return ASK_LEADER.has(error.reason);
    // It may have been recorded; only with the caller's own id is a repeat the same request.
    const { requestId } = request as { readonly requestId?: unknown };
    return typeof requestId === "string" && requestId !== "";
  }

  /** Whether this refusal of a change is the word of a leader that is none any more. Rejects when nobody can know. */
  async isOutdated(error: unknown, { signal }: HandlerContext): Promise<boolean> {
    const { clock, log } = this.#options;
    if (this.isFollowing || !(error instanceof Fault) || NOT_OF_STATE.has(error.reason)) return false;
    const known = new AbortController();
    const late = clock.sleep(PATIENCE_MS, AbortSignal.any([known.signal, signal])).then(
      () => {
        throw new Fault(
          "STORE_UNAVAILABLE",
          "The store does not answer, so this server cannot know whether it still leads; nothing was recorded. Repeat the request.",
          { retryAfterMs: PATIENCE_MS },
        );
      },
      () => undefined,
    );
    try {
      await Promise.race([log.confirm(), late]);
      return false;
    } catch (fault) {
      if (fault instanceof Fault && fault.reason === "NOT_WRITER") return true;
      throw fault;
    } finally {
      known.abort();
    }
  }

  async unary(method: DescMethod, request: unknown, context: HandlerContext): Promise<Message> {
    const { dropped, transport } = await this.#connect(context.requestHeader, context.signal);
    try {
      const answer = await transport.unary(
        method as DescMethodUnary,
        AbortSignal.any([context.signal, dropped.signal]),
        context.timeoutMs() ?? UNARY_MS,
        passedOn(context),
        request as Message,
      );
      passBack(answer.header, context.responseHeader);
      return answer.message;
    } catch (error) {
      throw told(error);
    }
  }

  async *stream(
    method: DescMethod,
    requests: AsyncIterable<unknown>,
    context: HandlerContext,
  ): AsyncGenerator<Message> {
    const { dropped, transport } = await this.#connect(context.requestHeader, context.signal);
    try {
      const answer = await transport.stream(
        method as DescMethodStreaming,
        AbortSignal.any([context.signal, dropped.signal]),
        context.timeoutMs(),
        passedOn(context),
        requests as AsyncIterable<Message>,
      );
      passBack(answer.header, context.responseHeader);
      for await (const message of answer.message) yield message;
    } catch (error) {
      throw told(error);
    }
  }

  /** Hands a plain HTTP request to the leader, byte for byte. */
  async proxy(request: Request, response: Response): Promise<void> {
    const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !HOP.test(name)));
    const given = new Headers(request.headers[FORWARDED] === undefined ? {} : { [FORWARDED]: "1" });
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const { dropped, url: leader } = await this.#connect(given, gone.signal);
    const url = new URL(request.url ?? "/", leader);
    const client = url.protocol === "https:" ? https : http;
    const asking = client.request(url, {
      ...this.#options.tls,
      headers: { ...headers, [FORWARDED]: "1" },
      method: request.method ?? "GET",
      signal: AbortSignal.any([gone.signal, dropped.signal]),
    });
    const answered = Promise.withResolvers<http.IncomingMessage>();
    asking.once("response", answered.resolve).once("error", answered.reject);
    pipeline(request, asking).catch((error: unknown) => answered.reject(error as Error));
    const answer = await answered.promise.catch((error: unknown) => {
      throw lost(error);
    });
    const kept = Object.fromEntries(Object.entries(answer.headers).filter(([name]) => !HOP.test(name)));
    (response as http.ServerResponse).writeHead(answer.statusCode ?? 502, kept);
    await pipeline(answer, response as NodeJS.WritableStream);
  }

  [Symbol.dispose](): void {
    this.#drop();
  }

  #drop(): void {
    const gone = new Error("the leader is another one now");
    this.#connection?.dropped.abort(gone);
    this.#connection?.session[Symbol.dispose]();
    this.#connection = undefined;
  }

  /** The connection to the leader, for as long as it is the leader. */
  async #connect(header: Headers, signal: AbortSignal): Promise<Connection> {
    const url = await this.#leader(header, signal);
    if (this.#connection?.url === url) return this.#connection;
    this.#drop();
    const session = new PeerSession(url, this.#options.tls ?? {});
    const transport = createConnectTransport({
      baseUrl: url,
      httpVersion: "2",
      sessionManager: session,
      useBinaryFormat: true,
    });
    const connection = { dropped: new AbortController(), session, transport, url };
    this.#connection = connection;
    void this.#watch(connection);
    return connection;
  }

  async #watch(connection: Connection): Promise<void> {
    const { clock, leaderUrl } = this.#options;
    const { signal } = connection.dropped;
    while (!signal.aborted) {
      await clock.sleep(LEADER_LOOK_MS, signal).catch(() => undefined);
      if (!signal.aborted && leaderUrl() !== connection.url) this.#drop();
    }
  }

  /** Where the leader is; waits a little while one gives way to the next. */
  async #leader(header: Headers, signal: AbortSignal): Promise<string> {
    const { clock, leaderUrl } = this.#options;
    const from = clock.monotonic();
    for (;;) {
      const url = leaderUrl();
      if (url !== undefined && !header.has(FORWARDED)) return url;
      if (header.has(FORWARDED) || clock.monotonic() - from >= PATIENCE_MS)
        throw new Fault(
          "NOT_WRITER",
          header.has(FORWARDED)
            ? "The call was forwarded here, and this process does not lead any more. Repeat it."
            : "No server leads at the moment; one takes over within seconds. Repeat the request with the same request id.",
          { retryAfterMs: 1_000 },
        );
      await clock.sleep(LOOK_MS, signal);
    }
  }
}

function passedOn({ requestHeader, values }: HandlerContext): Headers {
  const headers = new Headers({ [FORWARDED]: "1" });
  for (const [name, value] of requestHeader)
    if (name === "authorization" || name === "user-agent" || name.startsWith("datapilot-")) headers.set(name, value);
  const peer = peerOf({ values } as HandlerContext);
  if (peer !== undefined) headers.set("x-forwarded-for", peer);
  return headers;
}

function passBack(from: Headers, to: Headers): void {
  for (const [name, value] of from) if (name.startsWith("datapilot-")) to.set(name, value);
}

const lost = (cause: unknown): Fault =>
  new Fault(
    "WRITER_LOST",
    "The leader does not answer. The change may have been recorded: repeat it with the same request id.",
    { cause, retryAfterMs: 1_000 },
  );

/** What the leader said, or that it said nothing. */
function told(error: unknown): unknown {
  if (!(error instanceof ConnectError)) return error;
  const fault = faultOf(error);
  const isSilence = fault === undefined && SILENCE.has(error.code);
  if (isSilence) return lost(error);
  const copy = new ConnectError(error.rawMessage, error.code);
  copy.details = error.details;
  return copy;
}
