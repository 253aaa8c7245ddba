/**
 * The HTTP port's RPCs: Connect, gRPC and gRPC-Web of connect-node, with JSON bodies read strictly before Connect sees them.
 *
 * A JSON body that names an unknown field, names one twice or is too deep is refused with a fault as every other error has one:
 * Connect alone would drop what it does not know, take the last of two, and name no reason. Messages of streams in JSON are read as
 * strictly.
 */
import { type DescMessage, fromJson, type JsonReadOptions, type JsonValue, type Registry } from "@bufbuild/protobuf";
import { Code, ConnectError, createConnectRouter, createContextValues } from "@connectrpc/connect";
import { readAllBytes, type UniversalHandler, type UniversalServerRequest } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { Fault } from "../std/faults.ts";
import { toConnectError } from "./faults.ts";
import { send } from "./http-fault.ts";
import type { Handler } from "./listen.ts";
import type { Metrics } from "./metrics.ts";
import { PEER } from "./peer.ts";
import type { Served } from "./services.ts";
import { parseStrictJson } from "./strict-json.ts";
import { strictMessages } from "./strict-stream.ts";

export interface RpcOptions {
  readonly services: readonly Pick<Served, "implementation" | "service">[];
  readonly metrics: Pick<Metrics, "called">;
  /** Types that an Any in JSON may hold; none when absent. */
  readonly registry?: Registry;
  readonly readMaxBytes: number;
  readonly maxTimeoutMs: number;
}

const ENVELOPED_JSON = /^application\/(?:connect|grpc|grpc-web)\+json\b/i;
const UNARY_JSON = /^application\/json(?:; ?charset=utf-?8)?$/i;
const COMPRESSIONS = [compressionGzip, compressionBrotli];

export function createRpcHandler(options: RpcOptions): Handler {
  const router = createConnectRouter({
    acceptCompression: COMPRESSIONS,
    jsonOptions: jsonOptionsOf(options),
    maxTimeoutMs: options.maxTimeoutMs,
    readMaxBytes: options.readMaxBytes,
  });
  for (const { service, implementation } of options.services) router.service(service, implementation);
  const handlers = new Map(router.handlers.map((h) => [h.requestPath, h]));
  return (request, response) => {
    const handler = handlers.get((request.url ?? "").split("?", 1)[0] ?? "");
    if (handler === undefined) {
      request.resume();
      send(response, 404, "text/plain; charset=utf-8", "not found\n");
      return;
    }
    const values = createContextValues().set(PEER, request.socket.remoteAddress);
    const call = universalRequestFromNodeRequest(request, response, undefined, values);
    void answer(handler, call, options)
      .then((answered) => universalResponseToNodeResponse(answered, response))
      .catch(() => response.destroy());
  };
}

const jsonOptionsOf = ({ registry }: RpcOptions): Partial<JsonReadOptions> => ({
  ignoreUnknownFields: false,
  ...(registry === undefined ? {} : { registry }),
});

async function answer(handler: UniversalHandler, call: UniversalServerRequest, options: RpcOptions) {
  const type = call.header.get("content-type") ?? "";
  if (ENVELOPED_JSON.test(type)) return handler({ ...call, body: strictBody(call, type, options) });
  if (call.method !== "POST" || handler.method.methodKind !== "unary" || !UNARY_JSON.test(type)) return handler(call);
  let body: JsonValue;
  try {
    body = await readJson(handler.method.input, call, options);
  } catch (error) {
    const shown = toConnectError(error);
    options.metrics.called(
      `${handler.service.typeName}/${handler.method.name}`,
      (Code[shown.code] ?? "unknown").toLowerCase(),
      0,
    );
    const header = new Headers({ "content-type": "application/json" });
    return { body: once(errorToJsonBytes(shown, undefined)), header, status: codeToHttpStatus(shown.code) };
  }
  return handler({ ...call, body });
}

/** The body of a stream in JSON; a fault in it reaches the caller as the protocol tells errors. */
async function* strictBody({ body, header }: UniversalServerRequest, type: string, { readMaxBytes }: RpcOptions) {
  const encoding = header.get(type.startsWith("application/connect") ? "connect-content-encoding" : "grpc-encoding");
  const compression = COMPRESSIONS.find((c) => c.name === encoding);
  try {
    yield* strictMessages(body as AsyncIterable<Uint8Array>, {
      maxBytes: readMaxBytes,
      ...(compression === undefined ? {} : { decompress: (bytes, max) => compression.decompress(bytes, max) }),
    });
  } catch (error) {
    throw error instanceof Fault ? toConnectError(error) : error;
  }
}

async function readJson(input: DescMessage, call: UniversalServerRequest, options: RpcOptions): Promise<JsonValue> {
  const maxBytes = options.readMaxBytes;
  const { body, header } = call;
  const encoding = header.get("content-encoding") ?? "identity";
  const compression = COMPRESSIONS.find((c) => c.name === encoding);
  if (compression === undefined && encoding !== "identity")
    throw new ConnectError(`unknown compression "${encoding}": supported are gzip and br`, Code.Unimplemented);
  let bytes: Uint8Array = await readAllBytes(body as AsyncIterable<Uint8Array>, maxBytes, header.get("content-length"));
  if (compression !== undefined) bytes = await compression.decompress(bytes, maxBytes);
  const json = parseStrictJson(bytes);
  try {
    fromJson(input, json as JsonValue, jsonOptionsOf(options));
  } catch (error) {
    throw malformed(error);
  }
  return json as JsonValue;
}

/** What protobuf says of JSON that is not the message, as a fault. */
function malformed(error: unknown): Fault {
  const said = error instanceof Error ? error.message : "";
  const unknown = /key "([^"]{1,64})" is unknown/.exec(said)?.[1];
  if (unknown === undefined)
    return new Fault("REQUEST_INVALID", `The body is not this method's request: ${said}`, { cause: error });
  return new Fault(
    "REQUEST_INVALID",
    `The request has no field ${unknown}: nothing was read of it. Leave it out, or correct its name.`,
    { cause: error, fields: [{ description: "is not a field of this request", field: unknown }] },
  );
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
