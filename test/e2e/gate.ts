/** An HTTP proxy before whatever takes bytes: counts requests, hands them on as they came, and holds them back when it is told to. */
import { once } from "node:events";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";

export interface Gate extends AsyncDisposable {
  readonly url: string;
  /** Methods of the requests that passed, oldest first. */
  readonly passed: readonly string[];
  /** Requests that came and were not handed on. */
  readonly held: number;
  /** Where requests go. */
  target(url: string): void;
  /** Breaks the connections of so many requests, in the middle of what they send. */
  cut(count: number): void;
  /** Lets so many more pass, and holds the rest. */
  holdAfter(count: number): void;
  /** Drops what is held, lets all pass, and counts anew. */
  open(): void;
}

export async function openGate(): Promise<Gate> {
  let to = "";
  let left = Number.POSITIVE_INFINITY;
  let passed: string[] = [];
  let cuts = 0;
  const held = new Set<http.ServerResponse>();
  const server = http.createServer((request, response) => {
    if (cuts > 0) {
      cuts--;
      request.once("data", () => request.destroy());
      return;
    }
    if (left-- <= 0) {
      held.add(response);
      return;
    }
    passed.push(request.method ?? "");
    const { host, port } = new URL(to);
    // The address was signed for the host that the client names.
    const { headers, method, url: path } = request;
    const asking = http.request({ headers, host: host.split(":", 1)[0], method, path, port });
    pipeline(request, asking).catch(() => asking.destroy());
    asking.once("error", () => response.destroy());
    asking.once("response", (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      pipeline(answer, response).catch(() => response.destroy());
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    cut(count) {
      cuts = count;
    },
    get held() {
      return held.size;
    },
    holdAfter(count) {
      left = count;
    },
    open() {
      for (const response of held) response.destroy();
      held.clear();
      passed = [];
      left = Number.POSITIVE_INFINITY;
    },
    get passed() {
      return passed;
    },
    target(url) {
      to = url;
    },
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
