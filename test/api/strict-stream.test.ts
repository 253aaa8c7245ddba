/** Streams in JSON say no more than unary requests may, by whatever protocol, and pass through unchanged when they are right. */
import { gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ConformanceService } from "../../gen/ts/connectrpc/conformance/v1/service_pb.ts";
import { type Listener, listen } from "../../src/api/listen.ts";
import { createRpcHandler } from "../../src/api/rpc.ts";
import { strictMessages } from "../../src/api/strict-stream.ts";

const MAX_BYTES = 1_024;

function envelope(message: string | Uint8Array, flags = 0): Buffer {
  const body = Buffer.from(message as string);
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

let listener: Listener;
let messages = 0;

beforeAll(async () => {
  const handler = createRpcHandler({
    maxTimeoutMs: 10_000,
    metrics: { called() {} },
    readMaxBytes: MAX_BYTES,
    services: [
      {
        implementation: {
          async clientStream(requests: AsyncIterable<unknown>) {
            for await (const _ of requests) messages++;
            return {};
          },
        },
        service: ConformanceService,
      },
    ] as never,
  });
  listener = await listen(handler, { graceMs: 500, host: "127.0.0.1", port: 0 });
});
afterAll(() => listener[Symbol.asyncDispose]());

interface Answer {
  readonly read: number;
  readonly said: string;
}

async function send(type: string, body: Uint8Array, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  messages = 0;
  const answer = await fetch(
    `http://127.0.0.1:${listener.port}/connectrpc.conformance.v1.ConformanceService/ClientStream`,
    { body: Buffer.from(body), headers: { "content-type": type, ...headers }, method: "POST" },
  );
  return { read: messages, said: `${await answer.text()} ${answer.headers.get("grpc-status") ?? ""}` };
}

const GOOD = '{"responseDefinition":{"responseData":"aGk="}}';
const TWICE = '{"requestData":"YQ==","requestData":"Yg=="}';
const DEEP = `{"requestData":${"[".repeat(70)}${"]".repeat(70)}}`;

describe.each([
  ["application/connect+json", "connect-content-encoding", /"code":"invalid_argument"/],
  ["application/grpc-web+json", "grpc-encoding", /grpc-status: ?3|\s3$/],
] as const)("%s", (type, encoding, refused) => {
  it("takes what is right, and gives it on", async () => {
    const answer = await send(type, Buffer.concat([envelope(GOOD), envelope("{}"), envelope(GOOD)]));
    expect(answer.said).not.toMatch(refused);
    expect(answer.read).toBe(3);
  });

  it.each([
    ["a member that stands twice", TWICE, /requestData twice/],
    ["the same, once escaped", '{"requestData":"YQ==","\\u0072equestData":"Yg=="}', /requestData twice/],
    ["what is too deep", DEEP, /deeper than 64/],
  ])("refuses %s, in the second message as in the first", async (_, message, says) => {
    for (const before of [[], [envelope(GOOD)]]) {
      const { read, said } = await send(type, Buffer.concat([...before, envelope(message)]));
      expect(said).toMatch(refused);
      expect(decodeURIComponent(said)).toMatch(says);
      expect(read).toBe(before.length);
    }
  });

  it("reads what is compressed, and leaves a bomb to the protocol", async () => {
    const compressed = (text: string): Buffer => envelope(gzipSync(text), 1);
    expect((await send(type, compressed(GOOD), { [encoding]: "gzip" })).read).toBe(1);
    const twice = await send(type, compressed(TWICE), { [encoding]: "gzip" });
    expect(twice).toMatchObject({ read: 0, said: expect.stringMatching(refused) as string });
    const bomb = await send(type, compressed(`{"requestData":"${"A".repeat(1 << 20)}"}`), { [encoding]: "gzip" });
    expect(bomb.read).toBe(0);
    expect(bomb.said).toMatch(/resource_exhausted|grpc-status: ?8|\s8$/);
  });

  it("refuses a length above the limit without reading on", async () => {
    const head = Buffer.from([0, 0xff, 0xff, 0xff, 0xff]);
    const { read, said } = await send(type, Buffer.concat([head, Buffer.from(TWICE)]));
    expect(read).toBe(0);
    expect(said).toMatch(/resource_exhausted|invalid_argument|grpc-status: ?[38]|\s[38]$/);
  });
});

it("passes on exactly the bytes that came, however they were cut", async () => {
  const stream = fc.array(fc.oneof(fc.constant(envelope(GOOD)), fc.constant(envelope("{}"))), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(stream, fc.array(fc.nat(60)), fc.uint8Array({ maxLength: 7 }), async (envelopes, cuts, rest) => {
      // A rest that is no whole envelope: the protocol says so.
      const whole = Buffer.concat([...envelopes, rest.length >= 5 ? new Uint8Array() : rest]);
      async function* pieces(): AsyncGenerator<Uint8Array> {
        let at = 0;
        for (const cut of [...cuts, whole.length]) {
          await Promise.resolve();
          yield whole.subarray(at, (at = Math.min(whole.length, at + cut)));
        }
      }
      const passed: Uint8Array[] = [];
      for await (const piece of strictMessages(pieces(), { maxBytes: MAX_BYTES })) passed.push(piece);
      expect(Buffer.concat(passed).equals(whole)).toBe(true);
    }),
  );
});
