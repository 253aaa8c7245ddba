/** Handing calls on: to a leader that is there, to none, and to one that takes the connection and never answers. */

import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { create, type DescMethod } from "@bufbuild/protobuf";
import { createContextValues, type HandlerContext } from "@connectrpc/connect";
import { afterEach, expect, it } from "vitest";
import { GetHealthRequestSchema, LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { Forwarder } from "../../src/api/forward.ts";
import type { Log } from "../../src/log/log.ts";
import { Fault } from "../../src/std/faults.ts";
import { machineClock } from "../store/machine.ts";

const METHOD: DescMethod = LedgerService.method.getHealth;
const REQUEST = create(GetHealthRequestSchema);

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

function contextOf(headers: Record<string, string> = {}): HandlerContext {
  return {
    requestHeader: new Headers(headers),
    responseHeader: new Headers(),
    signal: new AbortController().signal,
    timeoutMs: () => undefined,
    values: createContextValues(),
  } as unknown as HandlerContext;
}

function forwarderTo(leaderUrl: () => string | undefined, role: "follower" | "leader" = "follower"): Forwarder {
  const forwarder = new Forwarder({ clock: machineClock, leaderUrl, log: { role } as Log });
  open.push(() => forwarder[Symbol.dispose]());
  return forwarder;
}

/** Takes connections and says nothing. */
async function silence(): Promise<string> {
  const sockets = new Set<{ destroy(): void }>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  open.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

it("waits a little for a leader, and says when there is none", async () => {
  await expect(forwarderTo(() => undefined).unary(METHOD, REQUEST, contextOf())).rejects.toMatchObject({
    reason: "NOT_WRITER",
  });
});

it("does not hand on what was handed on", async () => {
  const asked: string[] = [];
  const forwarder = forwarderTo(() => {
    asked.push("leader");
    return "http://127.0.0.1:1";
  });
  const forwarded = contextOf({ "datapilot-forwarded": "1" });
  await expect(forwarder.unary(METHOD, REQUEST, forwarded)).rejects.toMatchObject({ reason: "NOT_WRITER" });
  expect(forwarder.mayAsk(new Fault("NOT_WRITER", "no"), REQUEST, forwarded)).toBe(false);
});

it("leaves open what became of a call when nobody answers", async () => {
  await expect(forwarderTo(() => "http://127.0.0.1:1").unary(METHOD, REQUEST, contextOf())).rejects.toMatchObject({
    reason: "WRITER_LOST",
  });
});

it("gives up on a leader that never answers, when another one leads or it answers no ping", async () => {
  const silent = await silence();
  let leader: string | undefined = silent;
  const forwarder = forwarderTo(() => leader);
  const waiting = forwarder.unary(METHOD, REQUEST, contextOf());
  setTimeout(() => {
    leader = "http://127.0.0.1:1";
  }, 200);
  await expect(waiting).rejects.toMatchObject({ reason: "WRITER_LOST" });
});

it("asks the leader for what a follower cannot know, and repeats what may have happened only under the caller's id", () => {
  const follower = forwarderTo(() => undefined);
  const context = contextOf();
  for (const reason of ["AS_OF_AHEAD", "NOT_WRITER", "REPLICA_BEHIND", "TOKEN_INVALID"] as const)
    expect(follower.mayAsk(new Fault(reason, "x"), REQUEST, context)).toBe(true);
  for (const reason of ["NOT_FOUND", "PERMISSION_DENIED", "STATE_CHANGED"] as const)
    expect(follower.mayAsk(new Fault(reason, "x"), REQUEST, context)).toBe(false);
  const lost = new Fault("WRITER_LOST", "x");
  expect(follower.mayAsk(lost, { requestId: "r" }, context)).toBe(true);
  expect(follower.mayAsk(lost, { requestId: "" }, context)).toBe(false);
  expect(forwarderTo(() => undefined, "leader").mayAsk(lost, { requestId: "r" }, context)).toBe(false);
});
