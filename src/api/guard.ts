/**
 * What stands before every RPC, on both listeners: who answers it, authentication, unknown fields, a line in the log, a metric, and faults translated. Wraps method
 * implementations, so that no transport can leave it out.
 */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createServiceImplSpec,
  type HandlerContext,
  type ServiceImpl,
  type ServiceImplSpec,
} from "@connectrpc/connect";
import { Outcome } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Deps } from "../command/context.ts";
import type { Caller } from "../identity/caller.ts";
import type { KnownTokens } from "../identity/known-tokens.ts";
import { Fault } from "../std/faults.ts";
import { toConnectError } from "./faults.ts";
import type { Forwarder } from "./forward.ts";
import type { Metrics } from "./metrics.ts";
import { headerOf, peerOf } from "./peer.ts";
import { knownOnly, refuseUnknown } from "./unknown-fields.ts";

export interface Edge {
  readonly deps: Deps;
  readonly metrics: Metrics;
  readonly tokens: KnownTokens;
  /** Whether checkpoints and proofs are answered without a token. */
  readonly publicLog: boolean;
  /** What is not answered here; absent in a process that always leads. */
  readonly forward?: Forwarder;
}

const BEARER = /^Bearer ([A-Za-z0-9_-]{1,200})$/;

/** The caller of a request; throws TOKEN_INVALID, which is counted where it came from. `peer` is the address that the call came from. */
export function callerOf(
  edge: Edge,
  rpc: string,
  headers: { get(name: string): string | null },
  peer: string | undefined,
): Caller {
  const { deps } = edge;
  const address = edge.forward?.addressOf(headers) ?? peer;
  const agent = headers.get("user-agent")?.slice(0, 256);
  const origin = { rpc, ...(address === undefined ? {} : { address }), ...(agent === undefined ? {} : { agent }) };
  const token = BEARER.exec(headers.get("authorization") ?? "")?.[1];
  try {
    if (token === undefined)
      throw new Fault("TOKEN_INVALID", "There is no bearer token. Send the header `Authorization: Bearer <token>`.", {
        cause: "missing",
      });
    using reader = deps.log.index.reader();
    return edge.tokens.authenticate(reader, token, deps.clock.now(), origin);
  } catch (error) {
    if (error instanceof Fault) {
      edge.metrics.denied(error.reason);
      // The leader is asked, and counts it.
      if (edge.forward?.isFollowing !== true)
        deps.denials.countUnauthenticated(typeof error.cause === "string" ? error.cause : error.reason, origin);
    }
    throw error;
  }
}

const refused = (response: WriteResponse): boolean =>
  response.resource === undefined && response.decision?.body.case === "decision";

/** A refusal by policy was recorded as a decision; the caller hears it as a fault that carries it. */
export function refuse(response: WriteResponse): void {
  if (!refused(response)) return;
  const { decision, approvalRequest, receipt } = response;
  const body = decision?.body.case === "decision" ? decision.body.value : undefined;
  if (body === undefined || body.preview || decision === undefined) return;
  const failed = body.policies.flatMap((p) =>
    p.rules
      .filter((r) => r.result === 2 || r.result === 5)
      .map((r) => (r.message === "" ? r.id : `${r.id}: ${r.message.replace(/\.$/, "")}`)),
  );
  const why = failed.slice(0, 5).join("; ");
  const metadata = {
    decision: decision.record,
    log_index: String(decision.logIndex),
    target: body.target,
    ...(receipt === undefined ? {} : { receipt: receipt.record }),
    ...(approvalRequest === undefined ? {} : { approval_request: approvalRequest.record }),
  };
  if (body.outcome === Outcome.DENY)
    throw new Fault(
      "POLICY_DENIED",
      `Policy refuses ${body.target}: ${why}. Rule by rule: datapilot policy explain ${decision.record}`,
      { metadata },
    );
  if (body.outcome === Outcome.ERROR)
    throw new Fault(
      "POLICY_ERROR",
      `A policy could not be evaluated, and what cannot be evaluated does not admit: ${why}. See: datapilot policy explain ${decision.record}`,
      { metadata },
    );
  if (body.outcome === Outcome.REQUIRE_APPROVAL)
    throw new Fault(
      "APPROVAL_REQUIRED",
      `${body.target} waits for approval: ${body.requirements.map((r) => `${r.approval?.quorum ?? 1} of ${r.approval?.groups.join(" or ") ?? ""}`).join("; ")}. An approver sees it with: datapilot approval show ${approvalRequest?.record ?? ""}`,
      { metadata },
    );
}

const PUBLIC = new Set([
  "animus.datapilot.v1.LedgerService/GetCheckpoint",
  "animus.datapilot.v1.LedgerService/GetReceipt",
  "animus.datapilot.v1.LedgerService/GetConsistencyProof",
]);
/** Nobody: what `public_log` opens needs no rights, so nothing reads this caller's. */
const ANYBODY = { name: "", principal: "" } as unknown as Caller;

type AnyMethod = (caller: Caller, request: unknown, context: HandlerContext) => unknown;

/** Makes a service's methods fit to be served. `isRead` says which of them only read, so that a replica may answer them. */
export function guard<S extends DescService>(
  edge: Edge,
  service: S,
  methods: Readonly<Record<string, AnyMethod>>,
  isRead: (method: AnyMethod) => boolean,
): ServiceImplSpec {
  const impl: Record<string, unknown> = {};
  for (const method of service.methods) {
    const run = methods[method.localName];
    if (run === undefined)
      throw new Error(`assertion failed: ${service.typeName}.${method.name} has an implementation`);
    const rpc = `${service.typeName}/${method.name}`;
    const begin = (context: HandlerContext): Caller =>
      edge.publicLog && PUBLIC.has(rpc) && headerOf(context, "authorization") === null
        ? ANYBODY
        : callerOf(edge, rpc, { get: (name) => headerOf(context, name) }, peerOf(context));
    const rule: Rule = { begin, edge, isRead: isRead(run), method, rpc, run };
    impl[method.localName] = method.methodKind === "unary" ? unary(rule) : streaming(rule);
  }
  return createServiceImplSpec(service, impl as ServiceImpl<S>);
}

interface Rule {
  readonly edge: Edge;
  readonly method: DescMethod;
  readonly rpc: string;
  readonly run: AnyMethod;
  readonly isRead: boolean;
  /** Authenticates. */
  readonly begin: Begin;
}

type Begin = (context: HandlerContext) => Caller;

function unary(rule: Rule) {
  const { edge, rpc } = rule;
  return async (request: unknown, context: HandlerContext): Promise<unknown> => {
    const call = new Call(edge, rpc, request);
    try {
      const response = await (edge.forward === undefined
        ? here(rule, call, request, context)
        : hereOrThere(rule, edge.forward, call, request, context));
      call.succeeded(response);
      return response;
    } catch (error) {
      throw call.failed(error);
    }
  };
}

function here({ begin, run }: Rule, call: Call, request: unknown, context: HandlerContext): unknown {
  call.caller = begin(context);
  refuseUnknown(request);
  return run(call.caller, request, context);
}

/** Answers a read that is fresh enough, and as the leader everything; asks the leader otherwise, whoever that is by then. */
async function hereOrThere(
  rule: Rule,
  forward: Forwarder,
  call: Call,
  request: unknown,
  context: HandlerContext,
): Promise<unknown> {
  const { isRead, method } = rule;
  if (!isRead) forward.identify(method, request);
  let untilMs: number | undefined;
  for (;;) {
    try {
      if (isRead ? await forward.isFresh(request, context) : !forward.isFollowing) {
        const response = await here(rule, call, request, context);
        if (isRead) forward.stamp(context.responseHeader);
        return response;
      }
    } catch (error) {
      const asks = forward.mayAsk(error, request, context) || (!isRead && (await forward.isOutdated(error, context)));
      if (!asks) throw error;
    }
    untilMs ??= forward.patientUntil(context);
    const answer = await forward.unary(method, request, context, { isRead, untilMs });
    if (answer !== undefined) return answer;
  }
}

function streaming(rule: Rule) {
  const { edge, isRead, method, rpc } = rule;
  return async function* (request: unknown, context: HandlerContext): AsyncGenerator {
    const call = new Call(edge, rpc, request);
    const { forward } = edge;
    try {
      if (forward !== undefined && (isRead ? !(await forward.isFresh(request, context)) : forward.isFollowing)) {
        yield* forward.stream(method, isStream(request) ? request : once(request), context);
        call.succeeded(undefined);
        return;
      }
      if (isRead) forward?.stamp(context.responseHeader);
      const known = isStream(request) ? knownOnly(request) : request;
      yield* begun(rule, forward, call, known, context);
      call.succeeded(undefined);
    } catch (error) {
      throw call.failed(error);
    }
  };
}

/** A stream from here; from the leader when this process finds before the first message that it cannot answer. */
async function* begun(
  rule: Rule,
  forward: Forwarder | undefined,
  call: Call,
  request: unknown,
  context: HandlerContext,
): AsyncGenerator {
  let isSilent = true;
  try {
    for await (const message of here(rule, call, request, context) as AsyncIterable<unknown>) {
      isSilent = false;
      yield message;
    }
  } catch (error) {
    // Messages that were taken from a client's stream cannot be sent again.
    if (!isSilent || isStream(request) || forward?.mayAsk(error, request, context) !== true) throw error;
    yield* forward.stream(rule.method, once(request), context);
  }
}

async function* once<T>(value: T): AsyncGenerator<T> {
  yield value;
}

const isStream = (request: unknown): request is AsyncIterable<unknown> =>
  typeof request === "object" && request !== null && Symbol.asyncIterator in request;

const MAX_LOGGED = 128;
const logged = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" ? value.slice(0, MAX_LOGGED) : undefined;

/** One call as operators see it: a metric, and a line with who asked for what, where, and where it is in the log. */
class Call {
  caller: Caller | undefined;
  readonly #edge: Edge;
  readonly #rpc: string;
  readonly #request: { readonly project?: unknown; readonly requestId?: unknown };
  readonly #began: number;

  constructor(edge: Edge, rpc: string, request: unknown) {
    this.#edge = edge;
    this.#rpc = rpc;
    this.#request = request as { readonly project?: unknown; readonly requestId?: unknown };
    this.#began = edge.deps.clock.monotonic();
  }

  succeeded(response: unknown): void {
    const { logger } = this.#edge.deps;
    const ms = this.#ended("ok");
    if (logger.isLevelEnabled?.("debug") === false) return;
    const receipt = (response as { receipt?: { logIndex?: number } } | undefined)?.receipt;
    logger.debug({ ...this.#line("ok", ms), log_index: receipt?.logIndex }, "call");
  }

  /** The error that the caller sees; what is internal goes to the log only. */
  failed(error: unknown): ConnectError {
    const shown = toConnectError(error);
    const code = (Code[shown.code] ?? "unknown").toLowerCase();
    const line = {
      ...this.#line(code, this.#ended(code)),
      reason: error instanceof Fault ? error.reason : undefined,
    };
    const isInternal = shown.code === Code.Internal || shown.code === Code.Unknown;
    if (isInternal) this.#edge.deps.logger.error({ ...line, error }, "call failed");
    else this.#edge.deps.logger.info(line, "call refused");
    return shown;
  }

  /** Counts the call; milliseconds that it took. */
  #ended(code: string): number {
    const ms = this.#edge.deps.clock.monotonic() - this.#began;
    this.#edge.metrics.called(this.#rpc, code, ms / 1000);
    return ms;
  }

  #line(code: string, ms: number) {
    return {
      code,
      ms: Math.round(ms * 1000) / 1000,
      principal: this.caller?.name,
      project: logged(this.#request.project),
      request_id: logged(this.#request.requestId),
      rpc: this.#rpc,
    };
  }
}
