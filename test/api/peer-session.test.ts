/** A connection to a server that falls silent, breaks, or is let go ends its calls; the process lives, and the next call finds a new one. */
import { once } from "node:events";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { PeerSession } from "../../src/api/peer-session.ts";
import { type Proxy, startProxy } from "../minio/proxy.ts";

const CALLS = 50;
let server: http2.Http2Server;
let proxy: Proxy;
let session: PeerSession;
const sessions = new Set<http2.ServerHttp2Session>();

beforeEach(async () => {
  server = http2.createServer((_, response) => response.end("here"));
  server.on("session", (s) => sessions.add(s.on("error", () => undefined)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  proxy = await startProxy((server.address() as AddressInfo).port);
  session = new PeerSession(`http://127.0.0.1:${proxy.port}`, {});
});
afterEach(async () => {
  session[Symbol.dispose]();
  await proxy[Symbol.asyncDispose]();
  for (const s of sessions) s.destroy();
  sessions.clear();
  server.close();
});

async function call(): Promise<string> {
  try {
    const stream = await session.request("GET", "/", {}, {});
    stream.setEncoding("utf8").end();
    let text = "";
    for await (const piece of stream) text += piece as string;
    // A stream that is cancelled ends early and without an error.
    return text === "" ? "broken" : text;
  } catch (error) {
    return error instanceof Error ? "broken" : "odd";
  }
}

/** Calls that come while the connection dies, one in each turn of the event loop. */
async function callsAll(): Promise<string[]> {
  const calls: Promise<string>[] = [];
  for (let k = 0; k < CALLS; k++) {
    calls.push(call());
    await new Promise((resolve) => setImmediate(resolve));
  }
  return Promise.all(calls);
}

it("is opened again after it was cut under its calls", async () => {
  // The proxy passes HTTP/1.1 whole, and anything byte by byte when it is to break late.
  proxy.breakAt("in-answer");
  expect(await call()).toBe("here");
  for (let k = 0; k < 3; k++) {
    for (const s of sessions) s.destroy(new Error("cut"), http2.constants.NGHTTP2_INTERNAL_ERROR);
    const calls = callsAll();
    proxy.breakAt("in-answer");
    for (const answer of await calls) expect(["broken", "here"]).toContain(answer);
    await expect.poll(call).toBe("here");
  }
});

it("ends the calls on a server that falls silent", async () => {
  proxy.breakAt("hang");
  expect(await call()).toBe("broken");
  const calls = callsAll();
  proxy.breakAt("in-answer");
  await calls;
  await expect.poll(call).toBe("here");
}, 30_000);

it("ends the calls on a connection that is let go", async () => {
  proxy.breakAt("hang");
  const waiting = call();
  await new Promise((resolve) => setTimeout(resolve, 100));
  session[Symbol.dispose]();
  expect(await waiting).toBe("broken");
});
