/**
 * What a process that follows the log does with calls that it cannot answer itself: it hands them to the leader as they came, with
 * the caller's own credential, and gives back what the leader says.
 *
 * - The leader authenticates and decides anew; nothing is believed because a replica passed it on.
 * - A call that was forwarded and meets no leader is refused with NOT_WRITER: there are no loops. Who forwarded it asks the next
 *   leader, for as long as the caller waits.
 * - So is what waited in the queue of a leader that steps down, and what may have been committed by one. Every write has a request
 *   id, the caller's or one that is made here, under which the next leader answers what was recorded and does what was not.
 * - What stays open at the end is told as WRITER_LOST, never as "failed".
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
import { nativeVerifier } from "../log/native-verifier.ts";
import type { NoteSigner } from "../note/signatures.ts";
import { formatHex } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import type { Clock, Random } from "../std/ports.ts";
import { faultOf } from "./faults.ts";
import type { Request, Response } from "./listen.ts";
import { FORWARDED_FOR, formatForwardedFor, headerOf, parseForwardedFor, peerOf } from "./peer.ts";
import { PeerSession } from "./peer-session.ts";

export interface ForwardOptions {
  readonly log: Log;
  /** Address of the leader's HTTP port; undefined when this process leads, or nobody is known to. */
  readonly leaderUrl: () => string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  /** Signs whose calls are handed on; without one the leader takes them for this server's own. */
  readonly key?: NoteSigner | undefined;
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
const COMMIT_TIME = "datapilot-commit-time";
/** How long a replica waits for a tree size, and for somebody to lead when the caller set no deadline. */
const PATIENCE_MS = 2_000;
/** How long somebody is waited for to lead: a lease that falls silent, and a takeover. */
const MAX_PATIENCE_MS = 20_000;
/** What is left of the caller's deadline to tell him of it. */
const TELLING_MS = 100;
const LOOK_MS = 50;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 1_000;
/** Not asked of the transport again, or of one connection only (RFC 9110 §7.6.1). */
const HOP = /^(?:connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|http2-settings|host|:.*)$/;
/** Reasons for which a follower asks the leader: it does not write, or does not know yet. */
const ASK_LEADER = new Set(["AS_OF_AHEAD", "NOT_WRITER", "REPLICA_BEHIND", "TOKEN_INVALID"]);
/** Members of answers that are told once: a repeat comes without them. */
const TOLD_ONCE = new Set(["run_token", "secret"]);

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
    const { asOf, minTreeSize } = request as { readonly asOf?: unknown; readonly minTreeSize?: unknown };
    const sizes = [asOf, minTreeSize, Number(headerOf(context, MIN_TREE_SIZE) ?? 0)];
    const wanted = Math.max(0, ...sizes.filter((n): n is number => typeof n === "number" && Number.isFinite(n)));
    if (this.isFollowing) return log.reached(wanted, PATIENCE_MS, context.signal);
    // Somebody was answered from a larger tree: another process may have written, and this one not have noticed.
    if (wanted > 0 && wanted > log.health().size) await log.confirm(context.signal);
    return true;
  }

  /**
   * Gives a write a request id where the caller gave none, so that whoever leads next can tell what became of it. Not where the
   * answer holds a secret, which a repeat does not give again: there the caller had better ask anew.
   */
  identify(method: DescMethod, request: unknown): void {
    const named = request as { requestId?: unknown };
    if (named.requestId !== "" || method.output.fields.some((f) => TOLD_ONCE.has(f.name))) return;
    named.requestId = `made:${formatHex(this.#options.random.bytes(16))}`;
  }

  /** The address that a server of this ledger says a call came from. */
  addressOf(headers: { get(name: string): string | null }): string | undefined {
    const said = headers.get(FORWARDED_FOR);
    if (said === null) return undefined;
    const { clock, log } = this.#options;
    return parseForwardedFor(said, headers.get("authorization"), {
      keys: log.commitKeys(),
      nowMs: clock.now(),
      origin: log.origin,
      verifier: nativeVerifier,
    });
  }

  /** Says how new the state is that a read is answered from. */
  stamp(header: Headers): void {
    const { committedAt, lagMs, size } = this.#options.log.health();
    header.set(TREE_SIZE, String(size));
    header.set(COMMIT_TIME, committedAt);
    header.set(LAG_MS, String(Math.round(lagMs)));
  }

  /** Whether the leader should be asked instead of answering this error. */
  mayAsk(error: unknown, request: unknown, { requestHeader }: HandlerContext): boolean {
    if (!this.isFollowing || !(error instanceof Fault) || requestHeader.has(FORWARDED)) return false;
    // It may have been recorded; only under an id is a repeat the same request.
    return ASK_LEADER.has(error.reason) || (error.reason === "WRITER_LOST" && hasId(request));
  }

  /** Whether this refusal of a change is the word of a leader that is none any more. Rejects when nobody can know. */
  async isOutdated(refusal: unknown, { signal }: HandlerContext): Promise<boolean> {
    const { clock, log } = this.#options;
    if (this.isFollowing || !(refusal instanceof Fault) || NOT_OF_STATE.has(refusal.reason)) return false;
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

  /** Until when somebody who leads is looked for, by the monotonic clock. */
  patientUntil(context: HandlerContext): number {
    const timeoutMs = context.timeoutMs();
    const patienceMs = timeoutMs === undefined ? PATIENCE_MS : Math.min(timeoutMs - TELLING_MS, MAX_PATIENCE_MS);
    return this.#options.clock.monotonic() + patienceMs;
  }

  /** What the leader answers, and when that one steps down the next; undefined when this process leads by then. */
  async unary(
    method: DescMethod,
    request: unknown,
    context: HandlerContext,
    { isRead = false, untilMs = this.patientUntil(context) } = {},
  ): Promise<Message | undefined> {
    const { clock } = this.#options;
    for (let attempt = 0; ; attempt++) {
      const connection = await this.#connect(context.requestHeader, context.signal, untilMs);
      if (connection === undefined) return undefined;
      try {
        return await this.#ask(connection, method, request, context);
      } catch (error) {
        const fault = told(error);
        const pauseMs = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
        const again = mayAskAgain(fault, isRead || hasId(request)) && clock.monotonic() + pauseMs < untilMs;
        if (!again || context.signal.aborted) throw fault;
        await clock.sleep(pauseMs, context.signal);
      }
    }
  }

  async #ask(
    { dropped, transport }: Connection,
    method: DescMethod,
    request: unknown,
    context: HandlerContext,
  ): Promise<Message> {
    const answer = await transport.unary(
      method as DescMethodUnary,
      AbortSignal.any([context.signal, dropped.signal]),
      context.timeoutMs() ?? UNARY_MS,
      this.#passedOn(context),
      request as Message,
    );
    passBack(answer.header, context.responseHeader);
    return answer.message;
  }

  async *stream(
    method: DescMethod,
    requests: AsyncIterable<unknown>,
    context: HandlerContext,
  ): AsyncGenerator<Message> {
    const { dropped, transport } = await this.#connectElsewhere(context.requestHeader, context.signal);
    try {
      const answer = await transport.stream(
        method as DescMethodStreaming,
        AbortSignal.any([context.signal, dropped.signal]),
        context.timeoutMs(),
        this.#passedOn(context),
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
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => !HOP.test(name) && name !== FORWARDED_FOR),
    );
    const given = new Headers(request.headers[FORWARDED] === undefined ? {} : { [FORWARDED]: "1" });
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const { dropped, url: leader } = await this.#connectElsewhere(given, gone.signal);
    const said = this.#vouch(request.socket.remoteAddress, request.headers.authorization ?? null);
    const url = new URL(request.url ?? "/", leader);
    const client = url.protocol === "https:" ? https : http;
    const asking = client.request(url, {
      ...this.#options.tls,
      headers: { ...headers, [FORWARDED]: "1", ...(said === undefined ? {} : { [FORWARDED_FOR]: said }) },
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

  /** What goes along with a call: the caller's credential, and where he is as far as this server can vouch for it. */
  #passedOn(context: HandlerContext): Headers {
    const { requestHeader } = context;
    const headers = new Headers({ [FORWARDED]: "1" });
    for (const [name, value] of requestHeader)
      if (name === "authorization" || name === "user-agent" || name.startsWith("datapilot-")) headers.set(name, value);
    headers.delete(FORWARDED_FOR);
    const said = this.#vouch(peerOf(context), requestHeader.get("authorization"));
    if (said !== undefined) headers.set(FORWARDED_FOR, said);
    return headers;
  }

  #vouch(address: string | undefined, credential: string | null): string | undefined {
    const { clock, key, log } = this.#options;
    if (address === undefined || key === undefined) return undefined;
    return formatForwardedFor(address, credential, { key, nowMs: clock.now(), origin: log.origin });
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

  /** The connection to a leader that is another process. */
  async #connectElsewhere(header: Headers, signal: AbortSignal): Promise<Connection> {
    const connection = await this.#connect(header, signal, this.#options.clock.monotonic() + PATIENCE_MS);
    if (connection !== undefined) return connection;
    throw new Fault("NOT_WRITER", "This server began to lead while the call was on its way. Repeat it.", {
      retryAfterMs: 0,
    });
  }

  /** The connection to the leader, for as long as it is the leader; undefined when this process is. */
  async #connect(header: Headers, signal: AbortSignal, untilMs: number): Promise<Connection | undefined> {
    const url = await this.#leader(header, signal, untilMs);
    if (url === undefined) return undefined;
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

  /** Where the leader is; waits while one gives way to the next. Undefined when this process leads. */
  async #leader(header: Headers, signal: AbortSignal, untilMs: number): Promise<string | undefined> {
    const { clock, leaderUrl } = this.#options;
    for (;;) {
      if (!this.isFollowing) return undefined;
      const url = leaderUrl();
      if (url !== undefined && !header.has(FORWARDED)) return url;
      if (header.has(FORWARDED) || clock.monotonic() >= untilMs)
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

const hasId = (request: unknown): boolean => {
  const { requestId } = request as { readonly requestId?: unknown };
  return typeof requestId === "string" && requestId !== "";
};

/** Whether another leader may be asked after this answer: nothing was recorded, or asking again cannot record it twice. */
function mayAskAgain(error: unknown, isHarmless: boolean): boolean {
  const reason = error instanceof Fault ? error.reason : faultOf(error)?.reason;
  return reason === "NOT_WRITER" || (reason === "WRITER_LOST" && isHarmless);
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
