/** A TCP proxy before a store that breaks connections where it is told to. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

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

export interface Proxy extends AsyncDisposable {
  readonly port: number;
  /** Where later connections break, for how many of them; all when absent. */
  breakAt(where: Break, times?: number): void;
  readonly open: number;
}

/** Bytes of a request or an answer that pass before they are cut: beyond the headers, within a large body. */
const SOME_BYTES = 100_000;

export async function startProxy(target: number): Promise<Proxy> {
  let broken: Break = "none";
  let times = Number.POSITIVE_INFINITY;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const where = times-- > 0 ? broken : "none";
    const store = connect(target, "127.0.0.1");
    for (const [socket, other] of [
      [client, store],
      [store, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    if (where === "hang") return;
    forward(client, store, where === "in-request" ? SOME_BYTES : Number.POSITIVE_INFINITY);
    if (where === "after-request") store.once("data", () => client.destroy());
    else forward(store, client, where === "in-answer" ? SOME_BYTES : Number.POSITIVE_INFINITY);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("assertion failed: a TCP port");
  return {
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
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
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
