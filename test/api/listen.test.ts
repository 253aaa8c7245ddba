import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as https from "node:https";
import * as net from "node:net";
import * as tls from "node:tls";
import { createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createConnectTransport } from "@connectrpc/connect-node";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { ConformanceService } from "../../gen/ts/connectrpc/conformance/v1/service_pb.ts";
import { type Handler, type Listener, type ListenOptions, listen } from "../../src/api/listen.ts";
import { createIdentity, type Identity } from "./certificate.ts";

const READ_MAX_BYTES = 1_024;
const UNARY = "/connectrpc.conformance.v1.ConformanceService/Unary";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]();
});

const rpc = connectNodeAdapter({
  routes: (router) => void router.service(ConformanceService, { unary: () => ({}) }),
  readMaxBytes: READ_MAX_BYTES,
}) as Handler;

async function start(handler: Handler = rpc, options: Partial<ListenOptions> = {}): Promise<Listener> {
  const listener = await listen(handler, { port: 0, host: "127.0.0.1", graceMs: 500, ...options });
  open.push(listener);
  return listener;
}

/** Everything a raw peer receives until the server closes. */
function received(socket: net.Socket): Promise<string> {
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  return new Promise((resolve) => socket.once("close", () => resolve(text)));
}

async function connect(port: number): Promise<net.Socket> {
  const socket = net.connect(port, "127.0.0.1");
  await once(socket, "connect");
  return socket;
}

function post(port: number, body: string, agent: http.Agent): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const request = http.request(
      { port, host: "127.0.0.1", method: "POST", path: UNARY, agent, headers },
      (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

describe("one cleartext port", () => {
  it.each(["1.1", "2"] as const)("serves HTTP/%s", async (httpVersion) => {
    const { port } = await start();
    const client = createClient(
      ConformanceService,
      createConnectTransport({ baseUrl: `http://127.0.0.1:${port}`, httpVersion }),
    );
    await expect(client.unary({})).resolves.toBeDefined();
  });

  it.each([
    "POST %s HTTP/1.0\r\n\r\n",
    "POST %s HTTP/1.1\r\nHost: ::::\r\nContent-Length: 0\r\n\r\n",
    "GET %s HTTP/1.0\r\nHost:\r\n\r\n",
  ])("answers 400 to %j and goes on serving", async (text) => {
    const { port } = await start();
    const socket = await connect(port);
    const answer = received(socket);
    socket.write(text.replace("%s", UNARY));
    expect(await answer).toMatch(/^HTTP\/1.1 400 /);
    expect((await post(port, "{}", new http.Agent())).status).toBe(200);
  });

  it("answers 400 to an authority of HTTP/2 that is none", async () => {
    const { port } = await start();
    const session = http2.connect(`http://127.0.0.1:${port}`);
    const stream = session.request({ ":method": "POST", ":path": UNARY, ":authority": "::::" });
    const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    expect(headers[":status"]).toBe(400);
    session.destroy();
  });

  it("answers 500 when a handler throws, and says nothing of why", async () => {
    const { port } = await start(() => {
      throw new Error("hunter2");
    });
    const { status, text } = await post(port, "{}", new http.Agent());
    expect(status).toBe(500);
    expect(text).not.toContain("hunter2");
  });

  it("takes the next request on a connection after one that was too large", async () => {
    const { port } = await start();
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const large = await post(port, JSON.stringify({ requestData: "A".repeat(16 << 20) }), agent);
    expect(large).toMatchObject({ status: 429, text: expect.stringContaining("resource_exhausted") as string });
    const next = await post(port, "{}", agent);
    expect(next.status).toBe(200);
    agent.destroy();
  });

  it("knows HTTP/2 when its preface comes byte by byte", async () => {
    const { port } = await start();
    const socket = await connect(port);
    socket.setNoDelay(true);
    for (const byte of "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
      socket.write(byte);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    const [frame] = (await once(socket, "data")) as [Buffer];
    expect(frame[3], "a SETTINGS frame").toBe(4);
    socket.destroy();
  });

  it("takes a method that begins like the preface for HTTP/1.1", async () => {
    const { port } = await start();
    const socket = await connect(port);
    const answer = received(socket);
    socket.write("PR");
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.write("OPFIND / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    expect(await answer).toMatch(/^HTTP\/1.1 404 /);
  });

  it("serves a client that closes its half after the request", async () => {
    const { port } = await start();
    const socket = await connect(port);
    const answer = received(socket);
    socket.end("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    expect(await answer).toMatch(/^HTTP\/1.1 404 /);
  });

  it("drops a connection that says nothing", async () => {
    const { port } = await start(rpc, { firstByteTimeoutMs: 100 });
    expect(await received(await connect(port))).toBe("");
  });

  it("drops a connection that says the preface and no more", async () => {
    const { port } = await start(rpc, { firstByteTimeoutMs: 100 });
    const socket = await connect(port);
    const closed = received(socket);
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await closed;
  });

  it("answers 408 to headers that come slowly", async () => {
    const { port } = await start(rpc, { firstByteTimeoutMs: 200 });
    const socket = await connect(port);
    const answer = received(socket);
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n");
    expect(await answer).toMatch(/^HTTP\/1.1 408 /);
  });

  it("keeps an idle connection for longer than clients do", async () => {
    const { port } = await start(rpc, { firstByteTimeoutMs: 100 });
    const socket = await connect(port);
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await expect.poll(() => text).toMatch(/keep-alive: timeout=75/i);
    // Longer than any other limit here.
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    text = "";
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await expect.poll(() => text).toMatch(/^HTTP\/1.1 404 /);
    socket.destroy();
  });
});

describe("disposing", () => {
  const slow: Handler = (_, response) => {
    setTimeout(() => response.end("done"), 150);
  };

  it("lets requests of both kinds finish, and waits for nothing else", async () => {
    const listener = await start(slow, { graceMs: 60_000 });
    const silent = await connect(listener.port);
    const halfSaid = await connect(listener.port);
    halfSaid.write("GET / HTT");
    const idle = new http.Agent({ keepAlive: true });
    const one = post(listener.port, "{}", idle);
    const session = http2.connect(`http://127.0.0.1:${listener.port}`);
    const stream = session.request({ ":path": "/" });
    stream.setEncoding("utf8");
    const two = (async () => {
      let text = "";
      for await (const chunk of stream) text += String(chunk);
      return text;
    })();
    await once(session, "remoteSettings");
    await new Promise((resolve) => setTimeout(resolve, 50));
    await listener[Symbol.asyncDispose]();
    expect(await one).toEqual({ status: 200, text: "done" });
    expect(await two).toBe("done");
    silent.destroy();
    halfSaid.destroy();
  });

  it("cuts off after the grace time what does not end", async () => {
    const listener = await start(() => {}, { graceMs: 100 });
    const agent = new http.Agent();
    const one = post(listener.port, "{}", agent);
    const session = http2.connect(`http://127.0.0.1:${listener.port}`);
    session.on("error", () => {});
    const stream = session.request({ ":path": "/" });
    const two = once(stream, "close");
    stream.on("error", () => {});
    await once(session, "remoteSettings");
    await new Promise((resolve) => setTimeout(resolve, 50));
    const refused = expect(one).rejects.toThrow("socket hang up");
    await listener[Symbol.asyncDispose]();
    await listener[Symbol.asyncDispose]();
    await Promise.all([refused, two]);
  });
});

describe("one TLS port", () => {
  let server: Identity;
  let client: Identity;
  beforeAll(() => {
    server = createIdentity("server");
    client = createIdentity("client");
  });

  const get1 = (port: number, options: https.RequestOptions): Promise<string> =>
    new Promise((resolve, reject) => {
      const request = https.get({ port, host: "127.0.0.1", ca: server.cert, agent: false, ...options }, (response) => {
        response.resume();
        response.on("end", () => resolve(`${response.httpVersion} ${response.statusCode ?? 0}`));
      });
      request.on("error", reject);
    });

  const get2 = async (port: number, options: http2.SecureClientSessionOptions): Promise<string> => {
    const session = http2.connect(`https://127.0.0.1:${port}`, { ca: server.cert, ...options });
    try {
      return await new Promise((resolve, reject) => {
        session.on("error", reject);
        const stream = session.request({ ":path": "/" });
        stream.on("error", reject);
        stream.on("response", (headers) => resolve(`2.0 ${headers[":status"] ?? 0}`));
        session.on("close", () => reject(new Error("closed")));
      });
    } finally {
      session.destroy();
    }
  };

  it("serves both versions", async () => {
    const { port } = await start(rpc, { tls: server });
    expect(await get1(port, {})).toBe("1.1 404");
    expect(await get2(port, {})).toBe("2.0 404");
  });

  it("refuses clients without the certificate that it asks for, in both versions", async () => {
    const { port } = await start(rpc, { tls: { ...server, ca: client.cert, requireClientCert: true } });
    expect(await get1(port, client)).toBe("1.1 404");
    expect(await get2(port, client)).toBe("2.0 404");
    await expect(get1(port, {})).rejects.toThrow();
    await expect(get2(port, {})).rejects.toThrow();
    await expect(get1(port, createIdentity("client"))).rejects.toThrow();
  });

  it("drops connections that are silent, before the handshake and after it", async () => {
    const { port } = await start(rpc, { tls: server, firstByteTimeoutMs: 200 });
    const silent = received(await connect(port));
    const shaken = tls.connect({ port, host: "127.0.0.1", ca: server.cert });
    await once(shaken, "secureConnect");
    await Promise.all([silent, received(shaken)]);
  });

  it("does not wait for silent connections when disposed of", async () => {
    const listener = await start(rpc, { tls: server, graceMs: 60_000 });
    const silent = received(await connect(listener.port));
    const socket = tls.connect({ port: listener.port, host: "127.0.0.1", ca: server.cert });
    await once(socket, "secureConnect");
    const shaken = received(socket);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await listener[Symbol.asyncDispose]();
    await Promise.all([silent, shaken]);
  });
});
