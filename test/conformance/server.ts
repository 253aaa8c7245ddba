/**
 * The server under test of the official conformance suite: `node server.ts http|grpc`. Reads a ServerCompatRequest from
 * standard input, says on standard output where it listens, and serves until it is told to end.
 */
import { readSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { create, createRegistry, type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { ConnectError, createServiceImplSpec, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import {
  type ServerCompatRequest,
  ServerCompatRequestSchema,
  ServerCompatResponseSchema,
} from "../../gen/ts/connectrpc/conformance/v1/server_compat_pb.ts";
import {
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  type ConformancePayload_RequestInfo,
  ConformancePayload_RequestInfoSchema,
  ConformanceService,
  file_connectrpc_conformance_v1_service,
  type Header,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  type StreamResponseDefinition,
  UnaryRequestSchema,
  type UnaryResponseDefinition,
  type Error as WireError,
} from "../../gen/ts/connectrpc/conformance/v1/service_pb.ts";
import { listenGrpc } from "../../src/api/grpc.ts";
import { type Listener, listen, type Tls } from "../../src/api/listen.ts";
import { createRpcHandler } from "../../src/api/rpc.ts";

type Received = readonly [DescMessage, Message];

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function infoOf(context: HandlerContext, received: readonly Received[]): ConformancePayload_RequestInfo {
  const query = context.requestMethod === "GET" ? [...new URL(context.url).searchParams] : [];
  const timeoutMs = context.timeoutMs();
  return create(ConformancePayload_RequestInfoSchema, {
    requestHeaders: [...context.requestHeader].map(([name, value]) => ({ name, value: [value] })),
    ...(timeoutMs === undefined ? {} : { timeoutMs: BigInt(Math.max(0, Math.round(timeoutMs))) }),
    requests: received.map(([desc, message]) => anyPack(desc, message)),
    ...(query.length === 0
      ? {}
      : { connectGetInfo: { queryParams: query.map(([name, value]) => ({ name, value: [value] })) } }),
  });
}

function errorOf(error: WireError, info: ConformancePayload_RequestInfo | undefined): ConnectError {
  const result = new ConnectError(error.message ?? "", error.code as number);
  result.details = [
    ...error.details.map(({ typeUrl, value }) => ({ type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value })),
    ...(info === undefined ? [] : [{ desc: ConformancePayload_RequestInfoSchema, value: info }]),
  ];
  return result;
}

function put(headers: Headers, list: readonly Header[] | undefined): void {
  for (const { name, value } of list ?? []) for (const v of value) headers.append(name, v);
}

async function unary(
  definition: UnaryResponseDefinition | undefined,
  context: HandlerContext,
  received: readonly Received[],
) {
  const requestInfo = infoOf(context, received);
  put(context.responseHeader, definition?.responseHeaders);
  put(context.responseTrailer, definition?.responseTrailers);
  if (definition?.responseDelayMs) await sleep(definition.responseDelayMs);
  if (definition?.response.case === "error") throw errorOf(definition.response.value, requestInfo);
  return {
    payload: {
      requestInfo,
      ...(definition?.response.case === "responseData" ? { data: definition.response.value } : {}),
    },
  };
}

const implementation: Partial<ServiceImpl<typeof ConformanceService>> = {
  unary: (request, context) => unary(request.responseDefinition, context, [[UnaryRequestSchema, request]]),
  idempotentUnary: (request, context) =>
    unary(request.responseDefinition, context, [[IdempotentUnaryRequestSchema, request]]),

  async clientStream(requests, context) {
    const received: Received[] = [];
    let definition: UnaryResponseDefinition | undefined;
    for await (const request of requests) {
      if (received.length === 0) definition = request.responseDefinition;
      received.push([ClientStreamRequestSchema, request]);
    }
    return unary(definition, context, received);
  },

  async *serverStream(request, context) {
    const definition = request.responseDefinition;
    let info: ConformancePayload_RequestInfo | undefined = infoOf(context, [[ServerStreamRequestSchema, request]]);
    put(context.responseHeader, definition?.responseHeaders);
    put(context.responseTrailer, definition?.responseTrailers);
    for (const data of definition?.responseData ?? []) {
      if (definition?.responseDelayMs) await sleep(definition.responseDelayMs);
      yield { payload: { data, ...(info === undefined ? {} : { requestInfo: info }) } };
      info = undefined;
    }
    if (definition?.error) throw errorOf(definition.error, info);
  },

  async *bidiStream(requests, context) {
    let definition: StreamResponseDefinition | undefined;
    let received: Received[] = [];
    let first = true;
    let fullDuplex = false;
    let sent = 0;
    const respond = async (data: Uint8Array<ArrayBuffer>, requestInfo: ConformancePayload_RequestInfo | undefined) => {
      if (definition?.responseDelayMs) await sleep(definition.responseDelayMs);
      sent++;
      return { payload: { data, ...(requestInfo === undefined ? {} : { requestInfo }) } };
    };
    for await (const request of requests) {
      if (first) {
        first = false;
        definition = request.responseDefinition;
        fullDuplex = request.fullDuplex;
        put(context.responseHeader, definition?.responseHeaders);
        put(context.responseTrailer, definition?.responseTrailers);
      }
      received.push([BidiStreamRequestSchema, request]);
      if (!fullDuplex) continue;
      const data = definition?.responseData[sent];
      if (data === undefined) break;
      const info =
        sent === 0
          ? infoOf(context, received)
          : create(ConformancePayload_RequestInfoSchema, { requests: received.map(([d, m]) => anyPack(d, m)) });
      yield await respond(data as Uint8Array<ArrayBuffer>, info);
      received = [];
    }
    for (const data of definition?.responseData.slice(sent) ?? []) {
      yield await respond(data as Uint8Array<ArrayBuffer>, sent === 0 ? infoOf(context, received) : undefined);
    }
    if (definition?.error) throw errorOf(definition.error, sent === 0 ? infoOf(context, received) : undefined);
  },
};

function read(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; ) {
    const count = readSync(0, bytes, at, sizeBytes - at, null);
    if (count === 0) throw new Error("standard input ended early");
    at += count;
  }
  return bytes;
}

function tlsOf(request: ServerCompatRequest): { tls?: Tls } {
  if (!request.useTls || request.serverCreds === undefined) return {};
  const client =
    request.clientTlsCert.length === 0 ? {} : { ca: Buffer.from(request.clientTlsCert), requireClientCert: true };
  return { tls: { key: Buffer.from(request.serverCreds.key), cert: Buffer.from(request.serverCreds.cert), ...client } };
}

async function start(kind: string | undefined, request: ServerCompatRequest): Promise<Listener> {
  const readMaxBytes = request.messageReceiveLimit || 0xffff_ffff;
  const where = { port: 0, host: "127.0.0.1", ...tlsOf(request) };
  switch (kind) {
    case "http": {
      return listen(
        createRpcHandler({
          maxTimeoutMs: 86_400_000,
          metrics: { called: () => undefined },
          readMaxBytes,
          registry: createRegistry(file_connectrpc_conformance_v1_service),
          services: [{ implementation, service: ConformanceService }],
        }),
        where,
      );
    }
    case "grpc":
      return listenGrpc([createServiceImplSpec<typeof ConformanceService>(ConformanceService, implementation)], {
        ...where,
        readMaxBytes,
        maxTimeoutMs: 86_400_000,
      });
    case undefined:
    default:
      throw new Error(`which listener? ${kind ?? "none"} is neither http nor grpc`);
  }
}

const request = fromBinary(ServerCompatRequestSchema, read(read(4).readUInt32BE(0)));
const listener = await start(parseArgs({ allowPositionals: true }).positionals[0], request);
const response = create(ServerCompatResponseSchema, {
  host: "127.0.0.1",
  port: listener.port,
  ...(request.serverCreds === undefined ? {} : { pemCert: request.serverCreds.cert }),
});
const bytes = toBinary(ServerCompatResponseSchema, response);
const length = Buffer.alloc(4);
length.writeUInt32BE(bytes.length);
writeSync(1, Buffer.concat([length, bytes]));
process.once("SIGTERM", () => process.exit(0));
