import { once } from "node:events";
import * as http2 from "node:http2";
import * as net from "node:net";
import {
  create,
  type DescMessage,
  fromBinary,
  type Message,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  createContextKey,
  createContextValues,
  createServiceImplSpec,
  type HandlerContext,
  type ServiceImpl,
} from "@connectrpc/connect";
import { ChannelCredentials, Client, compressionAlgorithms, Metadata, type ServiceError } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import {
  BidiStreamRequestSchema,
  BidiStreamResponseSchema,
  ClientStreamRequestSchema,
  ClientStreamResponseSchema,
  ConformanceService,
  file_connectrpc_conformance_v1_service,
  ServerStreamRequestSchema,
  ServerStreamResponseSchema,
  UnaryRequestSchema,
  type UnaryResponse,
  UnaryResponseSchema,
} from "../../gen/ts/connectrpc/conformance/v1/service_pb.ts";
import { faultOf } from "../../src/api/faults.ts";
import { type GrpcListener, type GrpcOptions, listenGrpc } from "../../src/api/grpc.ts";
import { headerOf, peerOf } from "../../src/api/peer.ts";
import { Fault } from "../../src/std/faults.ts";
import { createIdentity } from "./certificate.ts";

type Impl = Partial<ServiceImpl<typeof ConformanceService>>;

const PATH = `/${ConformanceService.typeName}`;
const READ_MAX_BYTES = 64 << 10;

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

async function start(impl: Impl, options: Partial<GrpcOptions> = {}): Promise<GrpcListener> {
  const spec = createServiceImplSpec<typeof ConformanceService>(ConformanceService, impl);
  const listener = await listenGrpc([spec], {
    port: 0,
    host: "127.0.0.1",
    readMaxBytes: READ_MAX_BYTES,
    maxTimeoutMs: 60_000,
    graceMs: 300,
    ...options,
  });
  open.push(listener);
  return listener;
}

function clientOf({ port }: GrpcListener, credentials = ChannelCredentials.createInsecure(), options = {}): Client {
  const client = new Client(`127.0.0.1:${port}`, credentials, options);
  open.push({
    [Symbol.asyncDispose]: async () => {
      client.close();
    },
  });
  return client;
}

const encode =
  (desc: DescMessage) =>
  (message: Message): Buffer =>
    Buffer.from(toBinary(desc, message));

interface Answer {
  readonly error?: ServiceError;
  readonly response?: UnaryResponse;
  readonly header: Metadata;
  readonly trailer: Metadata;
}

function unary(
  client: Client,
  request: MessageInitShape<typeof UnaryRequestSchema> = {},
  metadata = new Metadata(),
  options: { deadline?: number } = {},
): Promise<Answer> {
  return new Promise((resolve) => {
    let header = new Metadata();
    let trailer = new Metadata();
    let result: Partial<Answer> = {};
    const call = client.makeUnaryRequest(
      `${PATH}/Unary`,
      encode(UnaryRequestSchema),
      (bytes) => fromBinary(UnaryResponseSchema, new Uint8Array(bytes)),
      create(UnaryRequestSchema, request),
      metadata,
      options,
      (error, response) => {
        result = error === null ? { response: response as UnaryResponse } : { error };
      },
    );
    call.on("metadata", (received: Metadata) => {
      header = received;
    });
    call.on("status", (status: { metadata: Metadata }) => {
      trailer = status.metadata;
      setImmediate(() => resolve({ ...result, header, trailer }));
    });
  });
}

const bidi = (client: Client, metadata = new Metadata(), options = {}) =>
  client.makeBidiStreamRequest(
    `${PATH}/BidiStream`,
    encode(BidiStreamRequestSchema),
    (bytes) => fromBinary(BidiStreamResponseSchema, new Uint8Array(bytes)),
    metadata,
    options,
  );

const serverStream = (client: Client) =>
  client.makeServerStreamRequest(
    `${PATH}/ServerStream`,
    encode(ServerStreamRequestSchema),
    (bytes) => fromBinary(ServerStreamResponseSchema, new Uint8Array(bytes)),
    create(ServerStreamRequestSchema, {}),
  );

describe("unary", () => {
  it("passes metadata both ways, binary and repeated", async () => {
    const listener = await start({
      unary: (_, context) => {
        context.responseHeader.set("x-echo", context.requestHeader.get("x-ask") ?? "");
        context.responseHeader.set("x-echo-bin", context.requestHeader.get("x-ask-bin") ?? "");
        context.responseTrailer.append("x-end", "one");
        context.responseTrailer.append("x-end", "two");
        // What belongs to the protocol is not a handler's.
        context.responseHeader.set("connection", "close");
        context.responseHeader.set("grpc-status", "13");
        return {};
      },
    });
    const metadata = new Metadata();
    metadata.add("x-ask", "a");
    metadata.add("x-ask", "b");
    metadata.set("x-ask-bin", Buffer.from([0, 255, 1]));
    const { header, trailer, error } = await unary(clientOf(listener), {}, metadata);
    expect(error).toBeUndefined();
    expect(header.get("x-echo")).toEqual(["a, b"]);
    expect(header.get("x-echo-bin")).toEqual([Buffer.from([0, 255, 1])]);
    expect(trailer.get("x-end")).toEqual(["one, two"]);
  });

  it("describes the call", async () => {
    let seen: Partial<HandlerContext> = {};
    const listener = await start({
      unary: (_, context) => {
        const { protocolName, requestMethod, url, method, service } = context;
        seen = { protocolName, requestMethod, url, method, service };
        return {};
      },
    });
    await unary(clientOf(listener));
    expect(seen).toMatchObject({
      protocolName: "grpc",
      requestMethod: "POST",
      url: `http://127.0.0.1:${listener.port}${PATH}/Unary`,
    });
    expect(seen.method?.name).toBe("Unary");
    expect(seen.service?.typeName).toBe(ConformanceService.typeName);
  });

  it("starts each call with the values of its peer, made when asked for", async () => {
    const key = createContextKey("nobody");
    const seen: string[] = [];
    let made = 0;
    const listener = await start(
      {
        unary: (request, context) => {
          if (request.requestData.length > 0) seen.push(context.values.get(key), context.values.get(key));
          return {};
        },
      },
      {
        contextValues: ({ address }) => {
          made++;
          return createContextValues().set(key, address);
        },
      },
    );
    const client = clientOf(listener);
    await unary(client);
    expect(made).toBe(0);
    await unary(client, { requestData: new Uint8Array(1) });
    expect(made).toBe(1);
    expect(seen[0]).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(seen[1]).toBe(seen[0]);
  });

  it("sends a fault with its details, which the client reads back", async () => {
    const listener = await start({
      unary: () => {
        throw new Fault("ETAG_MISMATCH", "read it again — then retry\n100%", {
          metadata: { etag: "7" },
          retryAfterMs: 20,
        });
      },
    });
    const { error } = await unary(clientOf(listener));
    expect(error?.details).toBe("read it again — then retry\n100%");
    expect(faultOf(error)).toEqual({
      reason: "ETAG_MISMATCH",
      code: Code.Aborted,
      message: "read it again — then retry\n100%",
      metadata: { etag: "7" },
      fields: [],
      retryAfterMs: 20,
    });
  });

  it("leaks nothing of a bug", async () => {
    const listener = await start({ unary: () => Promise.reject(new Error("hunter2")) });
    const { error } = await unary(clientOf(listener));
    expect(error?.code).toBe(Code.Internal);
    expect(JSON.stringify([error, error?.metadata.toJSON()])).not.toContain("hunter2");
  });

  it("sends half a surrogate pair as something", async () => {
    const listener = await start({
      unary: () => {
        throw new ConnectError("\ud800", Code.NotFound);
      },
    });
    expect((await unary(clientOf(listener))).error).toMatchObject({ code: Code.NotFound, details: "\ufffd" });
  });

  it("does not pass on what another server said about its own call", async () => {
    const listener = await start({
      unary: () => {
        const error = new ConnectError("elsewhere", Code.Unavailable, { "x-inside": "hunter2" });
        error.isWireError = true;
        throw error;
      },
    });
    const { error, trailer } = await unary(clientOf(listener));
    expect(error?.code).toBe(Code.Unavailable);
    expect(trailer.get("x-inside")).toEqual([]);
  });

  it("writes trailers as the protocol asks: no message without an error, no padding", async () => {
    const listener = await start({
      unary: (_, context) => {
        context.responseTrailer.set("x-end-bin", "AA");
        return {};
      },
    });
    const session = http2.connect(`http://127.0.0.1:${listener.port}`);
    const headers = { ":method": "POST", ":path": `${PATH}/Unary`, "content-type": "application/grpc", te: "trailers" };
    const stream = session.request(headers);
    stream.resume();
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
    const [trailers] = (await once(stream, "trailers")) as [http2.IncomingHttpHeaders];
    expect({ ...trailers }).toMatchObject({ "grpc-status": "0", "x-end-bin": "AA" });
    expect(trailers["grpc-message"]).toBeUndefined();
    session.destroy();
  });

  it("answers UNIMPLEMENTED where there is nothing", async () => {
    const listener = await start({});
    expect((await unary(clientOf(listener))).error?.code).toBe(Code.Unimplemented);
  });

  it("reads gzip, and limits what comes out of it", async () => {
    const listener = await start({ unary: ({ requestData }) => ({ payload: { data: requestData.slice(0, 3) } }) });
    const client = clientOf(listener, undefined, { "grpc.default_compression_algorithm": compressionAlgorithms.gzip });
    const small = await unary(client, { requestData: new Uint8Array(1_000).fill(7) });
    expect(small.response?.payload?.data).toEqual(new Uint8Array([7, 7, 7]));
    const large = await unary(client, { requestData: new Uint8Array(READ_MAX_BYTES + 1) });
    expect(large.error?.code).toBe(Code.ResourceExhausted);
  });

  it("refuses a message over the limit, and serves the next", async () => {
    const listener = await start({ unary: () => ({}) });
    const client = clientOf(listener);
    const large = await unary(client, { requestData: new Uint8Array(1 << 20) });
    expect(large.error?.code).toBe(Code.ResourceExhausted);
    expect((await unary(client)).error).toBeUndefined();
  });
});

it("gives a handler bytes that are no Buffer", async () => {
  let seen: Uint8Array | undefined;
  const listener = await start({
    unary: ({ requestData }) => {
      seen = requestData;
      return {};
    },
  });
  await unary(clientOf(listener), { requestData: new Uint8Array([1]) });
  expect(Buffer.isBuffer(seen)).toBe(false);
});

describe("deadlines and cancellation", () => {
  it("ends a call at its deadline and tells the handler", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const listener = await start({
      unary: (_, { signal }) =>
        new Promise((done) => {
          signal.addEventListener("abort", () => {
            resolve(signal.reason);
            done({});
          });
        }),
    });
    // The server's deadline, not the client's: no client gives up here.
    const session = http2.connect(`http://127.0.0.1:${listener.port}`);
    const stream = session.request({
      ":method": "POST",
      ":path": `${PATH}/Unary`,
      "content-type": "application/grpc",
      te: "trailers",
      "grpc-timeout": "50m",
    });
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
    const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    expect(headers["grpc-status"]).toBe(String(Code.DeadlineExceeded));
    expect(await promise).toMatchObject({ code: Code.DeadlineExceeded });
    session.destroy();
  });

  it.each(["99999999H", "31536000S"])("shortens %s to the longest deadline", async (timeout) => {
    let timeoutMs: number | undefined;
    const listener = await start({
      unary: (_, context) => {
        timeoutMs = context.timeoutMs();
        return {};
      },
    });
    const metadata = new Metadata();
    metadata.set("grpc-timeout", timeout);
    expect((await unary(clientOf(listener), {}, metadata)).error).toBeUndefined();
    expect(timeoutMs).toBeGreaterThan(59_000);
    expect(timeoutMs).toBeLessThanOrEqual(60_000);
  });

  it("knows no deadline where none was asked for", async () => {
    let timeoutMs: number | undefined = 1;
    const listener = await start({
      unary: (_, context) => {
        timeoutMs = context.timeoutMs();
        return {};
      },
    });
    await unary(clientOf(listener));
    expect(timeoutMs).toBeUndefined();
  });

  it("tells a handler that its client has gone, and ends its stream", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    let left = false;
    const listener = await start({
      async *serverStream(_, { signal }) {
        signal.addEventListener("abort", () => resolve(signal.reason));
        try {
          for (;;) yield { payload: { data: new Uint8Array(1_000) } };
        } finally {
          left = true;
        }
      },
    });
    const call = serverStream(clientOf(listener));
    call.on("error", () => {});
    await once(call, "data");
    call.cancel();
    expect(await promise).toMatchObject({ code: Code.Canceled });
    await expect.poll(() => left).toBe(true);
  });

  it("leaves the signal of a call alone that was answered", async () => {
    let signal: AbortSignal | undefined;
    const listener = await start({
      unary: (_, context) => {
        signal = context.signal;
        return {};
      },
    });
    const client = clientOf(listener);
    await unary(client);
    await unary(client);
    expect(signal?.aborted).toBe(false);
  });

  it("tells single headers and the address without making Headers", async () => {
    const seen: unknown[] = [];
    const listener = await start({
      unary: (_, context) => {
        seen.push(headerOf(context, "x-one"), headerOf(context, "x-two"), headerOf(context, "x-none"));
        seen.push(headerOf(context, "x-one-bin"), peerOf(context));
        seen.push(context.requestHeader.get("x-two"), context.requestHeader.get("x-one-bin"));
        return {};
      },
    });
    const metadata = new Metadata();
    metadata.set("x-one", "1");
    metadata.add("x-two", "1");
    metadata.add("x-two", "2");
    metadata.set("x-one-bin", Buffer.from([1]));
    expect((await unary(clientOf(listener), {}, metadata)).error).toBeUndefined();
    expect(seen).toEqual(["1", "1, 2", null, "AQ", "127.0.0.1", "1, 2", "AQ"]);
  });

  it("ends a handler that waits for the next message", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const listener = await start({
      async *bidiStream(requests) {
        try {
          for await (const _ of requests) yield {};
        } catch (error) {
          resolve(error);
          throw error;
        }
      },
    });
    const call = bidi(clientOf(listener));
    call.on("error", () => {});
    call.write(create(BidiStreamRequestSchema, {}));
    await once(call, "data");
    call.cancel();
    expect(await promise).toMatchObject({ code: Code.Canceled });
  });
});

describe("streams", () => {
  it("answers message by message", async () => {
    const listener = await start({
      async *bidiStream(requests, context) {
        context.responseTrailer.set("x-end", "yes");
        for await (const { requestData } of requests) yield { payload: { data: requestData } };
      },
    });
    const call = bidi(clientOf(listener));
    const status = once(call, "status") as Promise<[{ metadata: Metadata }]>;
    for (let i = 0; i < 100; i++) {
      call.write(create(BidiStreamRequestSchema, { requestData: new Uint8Array([i]) }));
      const [response] = (await once(call, "data")) as [{ payload: { data: Uint8Array } }];
      expect(response.payload.data).toEqual(new Uint8Array([i]));
    }
    call.end();
    call.resume();
    expect((await status)[0].metadata.get("x-end")).toEqual(["yes"]);
  });

  it("may answer before the client has ended", async () => {
    const listener = await start({
      async *bidiStream(requests) {
        for await (const _ of requests) break;
        yield { payload: { data: new Uint8Array([1]) } };
      },
    });
    const call = bidi(clientOf(listener));
    const status = once(call, "status") as Promise<[{ code: number }]>;
    call.write(create(BidiStreamRequestSchema, {}));
    await once(call, "data");
    call.resume();
    expect((await status)[0].code).toBe(0);
  });

  it("collects what a client streams", async () => {
    const listener = await start({
      async clientStream(requests) {
        let sizeBytes = 0;
        for await (const { requestData } of requests) sizeBytes += requestData.length;
        return { payload: { data: new Uint8Array([sizeBytes / 1_000]) } };
      },
    });
    const result = await new Promise((resolve, reject) => {
      const call = clientOf(listener).makeClientStreamRequest(
        `${PATH}/ClientStream`,
        encode(ClientStreamRequestSchema),
        (bytes) => fromBinary(ClientStreamResponseSchema, new Uint8Array(bytes)),
        (error, response) => (error === null ? resolve(response?.payload?.data) : reject(error)),
      );
      for (let i = 0; i < 50; i++)
        call.write(create(ClientStreamRequestSchema, { requestData: new Uint8Array(1_000) }));
      call.end();
    });
    expect(result).toEqual(new Uint8Array([50]));
  });

  it("sends what was yielded before the fault", async () => {
    const listener = await start({
      async *serverStream() {
        yield {};
        yield {};
        throw new Fault("STATE_CHANGED", "read again");
      },
    });
    const call = serverStream(clientOf(listener));
    let count = 0;
    call.on("data", () => count++);
    const [error] = (await once(call, "error")) as [ServiceError];
    expect(count).toBe(2);
    expect(faultOf(error)?.reason).toBe("STATE_CHANGED");
  });

  it("stops asking a handler for more than the client takes", async () => {
    let yielded = 0;
    const listener = await start({
      async *serverStream() {
        for (; yielded < 10_000; yielded++) yield { payload: { data: new Uint8Array(10_000) } };
      },
    });
    const session = http2.connect(`http://127.0.0.1:${listener.port}`);
    const stream = session.request({
      ":method": "POST",
      ":path": `${PATH}/ServerStream`,
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.pause();
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
    await expect.poll(() => yielded).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(yielded).toBeLessThan(1_000);
    let sizeBytes = 0;
    for await (const chunk of stream) sizeBytes += (chunk as Buffer).length;
    expect(sizeBytes).toBeGreaterThan(100_000_000);
    session.destroy();
  });

  it("stops reading from a client when the handler takes no more", async () => {
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let received = 0;
    const listener = await start({
      async clientStream(requests) {
        await released;
        for await (const _ of requests) received++;
        return {};
      },
    });
    let sent = 0;
    const done = new Promise((resolve, reject) => {
      const call = clientOf(listener).makeClientStreamRequest(
        `${PATH}/ClientStream`,
        encode(ClientStreamRequestSchema),
        (bytes) => fromBinary(ClientStreamResponseSchema, new Uint8Array(bytes)),
        (error, response) => (error === null ? resolve(response) : reject(error)),
      );
      void (async () => {
        for (; sent < 1_000; sent++) {
          const more = call.write(create(ClientStreamRequestSchema, { requestData: new Uint8Array(20_000) }));
          if (!more) await once(call, "drain");
        }
        call.end();
      })();
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(sent).toBeLessThan(500);
    release();
    await done;
    expect(received).toBe(1_000);
  });
});

describe("health and reflection", () => {
  const raw = (client: Client, path: string, request: Buffer): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const call = client.makeBidiStreamRequest(
        path,
        (b: Buffer) => b,
        (b) => b,
        new Metadata(),
      );
      call.on("data", resolve);
      call.on("error", reject);
      call.write(request);
      call.end();
    });

  it("answers health checks as it is told", async () => {
    const listener = await start({}, { health: true });
    const client = clientOf(listener);
    const check = (): Promise<Buffer> => raw(client, "/grpc.health.v1.Health/Check", Buffer.alloc(0));
    // HealthCheckResponse{status}: 1 is SERVING, 2 is NOT_SERVING.
    expect(await check()).toEqual(Buffer.from([8, 1]));
    listener.setServing(false);
    expect(await check()).toEqual(Buffer.from([8, 2]));
    listener.setServing(true);
    expect(await check()).toEqual(Buffer.from([8, 1]));
  });

  it.each(["v1", "v1alpha"])("reflects from descriptors, %s", async (version) => {
    const file = [
      ...new Set([file_connectrpc_conformance_v1_service, ...file_connectrpc_conformance_v1_service.dependencies]),
    ].map((f) => f.proto);
    const listener = await start(
      {},
      { reflection: toBinary(FileDescriptorSetSchema, create(FileDescriptorSetSchema, { file })) },
    );
    const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
    const field = (number: number, text: string): Buffer =>
      Buffer.concat([Buffer.from([(number << 3) | 2, text.length]), Buffer.from(text)]);
    const client = clientOf(listener);
    expect(String(await raw(client, path, field(7, "*")))).toContain(ConformanceService.typeName);
    expect(String(await raw(client, path, field(4, ConformanceService.typeName)))).toContain("IdempotentUnary");
  });
});

describe("connections", () => {
  it("asks for certificates, and shows the handler whose it was", async () => {
    const server = createIdentity("server");
    const client = createIdentity("client");
    let subject: unknown;
    const listener = await start(
      {
        unary: (_, context) => {
          void context.values;
          return {};
        },
      },
      {
        tls: { ...server, ca: client.cert, requireClientCert: true },
        contextValues: ({ certificate }) => {
          subject = certificate?.subject.CN;
          return createContextValues();
        },
      },
    );
    const known = clientOf(listener, ChannelCredentials.createSsl(server.cert, client.key, client.cert));
    expect((await unary(known)).error).toBeUndefined();
    expect(subject).toBe("client");
    const unknown = clientOf(listener, ChannelCredentials.createSsl(server.cert));
    expect((await unary(unknown, {}, undefined, { deadline: Date.now() + 2_000 })).error).toBeDefined();
  });

  it("drops connections that are silent", async () => {
    const { port } = await start({}, { firstByteTimeoutMs: 100 });
    const socket = net.connect(port, "127.0.0.1");
    socket.resume();
    await once(socket, "close");
  });

  it("survives what is not gRPC", async () => {
    const listener = await start({ unary: () => ({}) });
    const socket = net.connect(listener.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.resume();
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await once(socket, "close");
    const session = http2.connect(`http://127.0.0.1:${listener.port}`);
    for (const [headers, status] of [
      [{ ":method": "GET" }, 405],
      [{ ":method": "POST", "content-type": "application/json" }, 415],
      [{ ":method": "POST", "content-type": "application/grpc-web" }, 415],
    ] as const) {
      const stream = session.request({ ":path": `${PATH}/Unary`, ...headers });
      stream.end();
      const [response] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
      expect(response[":status"]).toBe(status);
    }
    session.destroy();
    expect((await unary(clientOf(listener))).error).toBeUndefined();
  });

  it("sends away a peer that pings without purpose, and not one that works", async () => {
    const listener = await start({ unary: () => ({}) });
    const idle = http2.connect(`http://127.0.0.1:${listener.port}`);
    idle.on("error", () => {});
    const goaway = new Promise<number>((resolve) => idle.on("goaway", resolve));
    await once(idle, "connect");
    const ping = (session: http2.ClientHttp2Session): Promise<void> =>
      new Promise((resolve) => session.ping((error) => error === null && resolve()));
    let pings = 0;
    void (async () => {
      for (; pings < 1_000; pings++) await ping(idle);
    })();
    expect(await goaway).toBe(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    expect(pings).toBeLessThan(30);

    const busy = http2.connect(`http://127.0.0.1:${listener.port}`);
    await once(busy, "connect");
    for (let i = 0; i < 60; i++) {
      const stream = busy.request({
        ":method": "POST",
        ":path": `${PATH}/Unary`,
        "content-type": "application/grpc",
        te: "trailers",
      });
      stream.resume();
      stream.end(Buffer.from([0, 0, 0, 0, 0]));
      await Promise.all([once(stream, "end"), ping(busy)]);
    }
    expect(busy.destroyed).toBe(false);
    busy.destroy();
  });

  it("lets calls finish when disposed of, and cuts off the rest", async () => {
    const begun = Promise.withResolvers<void>();
    const listener = await start({
      unary() {
        begun.resolve();
        return new Promise((resolve) => setTimeout(() => resolve({}), 100));
      },
      async *serverStream() {
        yield {};
        await new Promise(() => {});
      },
    });
    const client = clientOf(listener);
    const stuck = serverStream(client);
    await once(stuck, "data");
    const failed = once(stuck, "error");
    const finishing = unary(client);
    await begun.promise;
    await listener[Symbol.asyncDispose]();
    expect((await finishing).error).toBeUndefined();
    await failed;
  });

  it("refuses a port that is taken", async () => {
    const { port } = await start({});
    await expect(start({}, { port })).rejects.toThrow("EADDRINUSE");
  });
});
