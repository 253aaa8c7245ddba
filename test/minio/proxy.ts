/** A TCP proxy before a store that breaks connections where it is told to, and knows the requests that pass. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export type Break =
  /** Everything passes. */
  | "none"
  /** The request passes whole; its answer is never handed on, and the connection is cut. */
  | "after-request"
  /** Both connections are cut after some bytes of the request. */
  | "in-request"
  /** Both connections are cut after some bytes of the answer. */
  | "in-answer"
  /** Nothing passes, and nothing is said. */
  | "hang";

/** A request of HTTP/1.1 whose head has come; its body, if it has one, has not. */
export interface Passing {
  readonly method: string;
  /** As it was sent, with the query. */
  readonly path: string;
  readonly bodyBytes: number;
}

/** What becomes of one request. */
export type Fate =
  | { readonly kind: "pass" }
  /** The store gets half of the body and then an end; without a body, half of the head. */
  | { readonly kind: "cut-in-request" }
  /** The store gets and answers it; the answer is lost. */
  | { readonly kind: "cut-after-request" }
  /** The store gets half of the body, and the rest once `until` is there. */
  | { readonly kind: "hold"; readonly held: () => void; readonly until: Promise<unknown> }
  /** It passes, and the same bytes are sent to the store again after a while; `answered` hears the second status. */
  | { readonly kind: "replay"; readonly afterMs: number; readonly answered: (status: number) => void };

export interface Proxy extends AsyncDisposable {
  readonly port: number;
  /** Where later connections break, for how many of them; all when absent. */
  breakAt(where: Break, times?: number): void;
  /** Asked about each request that comes while no connection is told to break. */
  rule: ((request: Passing) => Fate) | undefined;
  readonly open: number;
}

/** Bytes of a request or an answer that pass before they are cut: beyond the headers, within a large body. */
const SOME_BYTES = 100_000;
/** A replayed request's answer is not waited for any longer. */
const REPLAY_MS = 20_000;
const PASS: Fate = { kind: "pass" };

export async function startProxy(target: number): Promise<Proxy> {
  let broken: Break = "none";
  let times = Number.POSITIVE_INFINITY;
  const sockets = new Set<Socket>();
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    return socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
  };
  const open = (): Socket => keep(connect(target, "127.0.0.1"));
  const server = createServer((client) => {
    const where = times-- > 0 ? broken : "none";
    const store = open();
    keep(client).on("close", () => store.destroy());
    store.on("close", () => client.destroy());
    if (where === "hang") return;
    if (where === "none") {
      void new Connection(client, store, open, (request) => proxy.rule?.(request) ?? PASS).run();
      return;
    }
    forward(client, store, where === "in-request" ? SOME_BYTES : Number.POSITIVE_INFINITY);
    if (where === "after-request") store.once("data", () => client.destroy());
    else forward(store, client, where === "in-answer" ? SOME_BYTES : Number.POSITIVE_INFINITY);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("assertion failed: a TCP port");
  const proxy: Proxy = {
    breakAt(where, count = Number.POSITIVE_INFINITY) {
      broken = where;
      times = count;
      // What is kept alive was opened under other rules.
      for (const socket of sockets) socket.destroy();
    },
    get open() {
      return sockets.size;
    },
    port: address.port,
    rule: undefined,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}

/** A client's connection and the store's, one request after the other: clients of S3 do not pipeline. */
class Connection {
  readonly #client: Socket;
  readonly #store: Socket;
  readonly #open: () => Socket;
  readonly #fateOf: (request: Passing) => Fate;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(client: Socket, store: Socket, open: () => Socket, fateOf: (request: Passing) => Fate) {
    this.#client = client;
    this.#store = store;
    this.#open = open;
    this.#fateOf = fateOf;
  }

  /** Until either side is gone, or a fate ends it. */
  async run(): Promise<void> {
    const source = this.#client[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    let isLost = false;
    this.#store.on("data", (piece) => {
      if (isLost) this.#end();
      else if (!this.#client.write(piece)) {
        this.#store.pause();
        this.#client.once("drain", () => this.#store.resume());
      }
    });
    try {
      for (;;) {
        const head = await this.#head(source);
        if (head === undefined) return;
        const fate = this.#fateOf(head.request);
        const sizeBytes = head.lengthBytes + head.request.bodyBytes;
        const halfBytes =
          head.request.bodyBytes > 0
            ? head.lengthBytes + Math.floor(head.request.bodyBytes / 2)
            : Math.floor(head.lengthBytes / 2);
        isLost = fate.kind === "cut-after-request";
        const copy: Buffer[] = [];
        const pass = async (upTo: number, from: number): Promise<void> => {
          for (let left = upTo - from; left > 0; ) {
            const piece = await this.#take(source, left);
            if (fate.kind === "replay") copy.push(piece);
            left -= piece.length;
            if (!this.#store.write(piece)) await once(this.#store, "drain");
          }
        };
        if (fate.kind === "cut-in-request" || fate.kind === "hold") {
          await pass(halfBytes, 0);
          if (fate.kind === "cut-in-request") return;
          fate.held();
          await Promise.race([fate.until, once(this.#store, "close")]);
          await pass(sizeBytes, halfBytes);
        } else await pass(sizeBytes, 0);
        if (fate.kind === "replay") void this.#replay(Buffer.concat(copy), fate);
      }
    } catch {
      // Either side went away.
    } finally {
      if (!isLost) this.#end();
    }
  }

  #end(): void {
    this.#client.destroy();
    // What was written before is still delivered.
    this.#store.end();
  }

  async #head(
    source: AsyncIterator<Buffer>,
  ): Promise<{ readonly request: Passing; readonly lengthBytes: number } | undefined> {
    let end = this.#bytes.indexOf("\r\n\r\n");
    while (end < 0) {
      const { done, value } = await source.next();
      if (done === true) return undefined;
      this.#bytes = Buffer.concat([this.#bytes, value]);
      end = this.#bytes.indexOf("\r\n\r\n");
    }
    const text = this.#bytes.subarray(0, end).toString("latin1");
    const [method = "", path = ""] = text.split(" ", 2);
    const bodyBytes = Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? 0);
    return { lengthBytes: end + 4, request: { bodyBytes, method, path } };
  }

  /** The next bytes, as they come, and no more than are asked for. */
  async #take(source: AsyncIterator<Buffer>, atMost: number): Promise<Buffer> {
    if (this.#bytes.length === 0) {
      const { done, value } = await source.next();
      if (done === true) throw new Error("the client went away");
      this.#bytes = value;
    }
    const piece = this.#bytes.subarray(0, atMost);
    this.#bytes = this.#bytes.subarray(piece.length);
    return piece;
  }

  async #replay(bytes: Buffer, { afterMs, answered }: Fate & { readonly kind: "replay" }): Promise<void> {
    await sleep(afterMs);
    const again = this.#open();
    again.write(bytes);
    const late = setTimeout(() => again.destroy(), REPLAY_MS);
    again.once("data", (piece) => {
      answered(Number(/^HTTP\/1\.1 (\d{3})/.exec(piece.toString("latin1"))?.[1] ?? 0));
      again.destroy();
    });
    again.once("close", () => clearTimeout(late));
  }
}

function forward(from: Socket, to: Socket, limit: number): void {
  let passed = 0;
  from.on("data", (piece) => {
    passed += piece.length;
    if (passed > limit) {
      from.destroy();
      to.destroy();
    } else if (!to.write(piece)) {
      from.pause();
      to.once("drain", () => from.resume());
    }
  });
}
