/** Handing calls on: to a leader that is there, to none, and to one that takes the connection and never answers. */

import { once } from "node:events";
import * as http2 from "node:http2";
import { createServer, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { create, type DescMethod } from "@bufbuild/protobuf";
import { createContextValues, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterEach, describe, expect, it } from "vitest";
import { AccessService } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { DatasetService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import {
  GetHealthRequestSchema,
  type GetHealthResponse,
  GetHealthResponseSchema,
  LedgerService,
} from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { faultOf, toConnectError } from "../../src/api/faults.ts";
import { Forwarder } from "../../src/api/forward.ts";
import { formatForwardedFor, parseForwardedFor } from "../../src/api/peer.ts";
import type { Log } from "../../src/log/log.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { parseVkey } from "../../src/note/keys.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { Fault } from "../../src/std/faults.ts";
import { ORIGIN, seededRandom, testKeys } from "../log/world.ts";
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
  const forwarder = new Forwarder({ clock: machineClock, leaderUrl, log: { role } as Log, random: seededRandom(1) });
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

/** A server that leads, or says that it does not any more. */
async function serverThat(answer: (context: HandlerContext) => GetHealthResponse): Promise<string> {
  const server = http2.createServer(
    connectNodeAdapter({
      routes: (router) =>
        router.service(LedgerService, {
          getHealth: (_, context) => {
            try {
              return answer(context);
            } catch (error) {
              throw toConnectError(error);
            }
          },
        }),
    }),
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  open.push(() => server.close());
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

it("asks the next leader when one steps down before it came to the call, within the caller's deadline", async () => {
  const steppedDown = await serverThat(() => {
    throw new Fault("NOT_WRITER", "nothing was recorded");
  });
  const next = await serverThat(() => create(GetHealthResponseSchema, { treeSize: 7 }));
  let leader = steppedDown;
  setTimeout(() => {
    leader = next;
  }, 300);
  const patient = { ...contextOf(), timeoutMs: () => 10_000 } as HandlerContext;
  expect(await forwarderTo(() => leader).unary(METHOD, REQUEST, patient)).toMatchObject({ treeSize: 7 });
  const hurried = { ...contextOf(), timeoutMs: () => 3_000 } as HandlerContext;
  const refused = await forwarderTo(() => steppedDown)
    .unary(METHOD, REQUEST, hurried)
    .catch((error: unknown) => error);
  expect(faultOf(refused)).toMatchObject({ reason: "NOT_WRITER" });
});

it("asks again about what may be recorded only under a request id, or for a read", async () => {
  let calls = 0;
  const unsure = await serverThat(() => {
    calls++;
    if (calls % 2 === 1) throw new Fault("WRITER_LOST", "it may be recorded");
    return create(GetHealthResponseSchema, { treeSize: 7 });
  });
  const forwarder = forwarderTo(() => unsure);
  const patient = { ...contextOf(), timeoutMs: () => 10_000 } as HandlerContext;
  const lost = await forwarder.unary(METHOD, REQUEST, patient).catch((error: unknown) => error);
  expect(faultOf(lost)).toMatchObject({ reason: "WRITER_LOST" });
  calls = 0;
  expect(await forwarder.unary(METHOD, REQUEST, patient, { isRead: true })).toMatchObject({ treeSize: 7 });
  calls = 0;
  const named = Object.assign(create(GetHealthRequestSchema), { requestId: "r" });
  expect(await forwarder.unary(METHOD, named, patient)).toMatchObject({ treeSize: 7 });
});

it("outlives a connection that it dropped", async () => {
  const leader = await serverThat(() => create(GetHealthResponseSchema, { treeSize: 7 }));
  const forwarder = forwarderTo(() => leader);
  await forwarder.unary(METHOD, REQUEST, contextOf());
  forwarder[Symbol.dispose]();
  // A ping of what is gone would come after two seconds, and end the process.
  await sleep(2_500);
  expect(await forwarder.unary(METHOD, REQUEST, contextOf())).toMatchObject({ treeSize: 7 });
});

it("does the call itself when it has begun to lead", async () => {
  const log = { role: "follower" };
  const forwarder = new Forwarder({
    clock: machineClock,
    leaderUrl: () => undefined,
    log: log as Log,
    random: seededRandom(1),
  });
  open.push(() => forwarder[Symbol.dispose]());
  setTimeout(() => {
    log.role = "leader";
  }, 100);
  expect(await forwarder.unary(METHOD, REQUEST, contextOf())).toBeUndefined();
});

it("answers no read from a smaller tree than the caller has seen, also when it believes to lead", async () => {
  let writes = 0;
  const log = {
    confirm: () => {
      writes++;
      return Promise.reject(new Fault("NOT_WRITER", "another process writes"));
    },
    health: () => ({ size: 5 }),
    role: "leader",
  };
  const forwarder = new Forwarder({
    clock: machineClock,
    leaderUrl: () => undefined,
    log: log as unknown as Log,
    random: seededRandom(1),
  });
  expect(await forwarder.isFresh({ minTreeSize: 5 }, contextOf())).toBe(true);
  expect(writes).toBe(0);
  for (const [request, header] of [
    [{ minTreeSize: 6 }, contextOf()],
    [{ asOf: 6 }, contextOf()],
    [{}, contextOf({ "datapilot-min-tree-size": "6" })],
    [{}, contextOf({ "datapilot-read": "latest" })],
  ] as const)
    await expect(forwarder.isFresh(request, header)).rejects.toMatchObject({ reason: "NOT_WRITER" });
});

it("gives a write an id where it has none, but where its answer holds a secret", () => {
  const forwarder = forwarderTo(() => undefined);
  const identified = (method: DescMethod, requestId: string): string => {
    const request = create(method.input, { requestId }) as unknown as { requestId: string };
    forwarder.identify(method, request);
    return request.requestId;
  };
  expect(identified(DatasetService.method.createDataset, "")).toMatch(/^made:[0-9a-f]{32}$/);
  expect(identified(DatasetService.method.createDataset, "mine")).toBe("mine");
  expect(identified(AccessService.method.createToken, "")).toBe("");
  expect(identified(RunService.method.startRun, "")).toBe("");
});

describe("whose call it is", () => {
  const key = assertDefined(parseVkey(testKeys.commit.vkey), "a key");
  const nowMs = Date.parse("2026-11-23T08:00:00.000Z");
  const by = { keys: [key], nowMs, origin: ORIGIN, verifier: nativeVerifier };
  const said = formatForwardedFor("192.0.2.7", "Bearer dp_one", { key: testKeys.commit, nowMs, origin: ORIGIN });

  it("is taken from a server of this ledger, for the credential that came along, for some minutes", () => {
    expect(parseForwardedFor(said, "Bearer dp_one", by)).toBe("192.0.2.7");
    expect(parseForwardedFor(said, "Bearer dp_one", { ...by, nowMs: nowMs + 240_000 })).toBe("192.0.2.7");
    const v6 = formatForwardedFor("2001:db8::1", null, { key: testKeys.commit, nowMs, origin: ORIGIN });
    expect(parseForwardedFor(v6, null, by)).toBe("2001:db8::1");
  });

  it.each([
    ["another credential", said, "Bearer dp_two", by],
    ["no credential", said, null, by],
    ["another hour", said, "Bearer dp_one", { ...by, nowMs: nowMs + 3_600_000 }],
    ["another ledger", said, "Bearer dp_one", { ...by, origin: "other/0a1b2c3d" }],
    ["a key that is not in force", said, "Bearer dp_one", { ...by, keys: [] }],
    ["another address", said.replace("192.0.2.7", "192.0.2.8"), "Bearer dp_one", by],
    ["what a client writes", "192.0.2.8", "Bearer dp_one", by],
    ["nothing", null, "Bearer dp_one", by],
  ])("is not taken from %s", (_, header, credential, from) => {
    expect(parseForwardedFor(header, credential, from)).toBeUndefined();
  });
});

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

it("lets a change be refused only when nobody else has written, and by nobody while the store does not tell", async () => {
  const refusal = new Fault("BATCH_GAP", "batch 6 would leave a gap");
  const leaderThat = (confirm: () => Promise<void>): Forwarder => {
    const log = { confirm, role: "leader" } as unknown as Log;
    const forwarder = new Forwarder({ clock: machineClock, leaderUrl: () => undefined, log, random: seededRandom(1) });
    open.push(() => forwarder[Symbol.dispose]());
    return forwarder;
  };
  const alone = leaderThat(() => Promise.resolve());
  expect(await alone.isOutdated(refusal, contextOf())).toBe(false);
  const replaced = leaderThat(() => Promise.reject(new Fault("NOT_WRITER", "another process writes")));
  expect(await replaced.isOutdated(refusal, contextOf())).toBe(true);
  expect(await replaced.isOutdated(new Fault("RATE_LIMITED", "later"), contextOf())).toBe(false);
  expect(await replaced.isOutdated(new TypeError("a bug"), contextOf())).toBe(false);
  const unsure = leaderThat(() => new Promise(() => undefined));
  await expect(unsure.isOutdated(refusal, contextOf())).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  expect(await forwarderTo(() => undefined).isOutdated(refusal, contextOf())).toBe(false);
});
