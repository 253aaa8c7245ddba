/** The façade of artifacts over a real port: what a client with nothing but HTTP sees. */
import { createHash } from "node:crypto";
import * as http from "node:http";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CreateTokenRequestSchema } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { serveArtifacts } from "../../src/api/artifact-routes.ts";
import { sendFault } from "../../src/api/http-fault.ts";
import { type Listener, listen } from "../../src/api/listen.ts";
import { createMetrics } from "../../src/api/metrics.ts";
import { textOf } from "../../src/command/body.ts";
import { createToken } from "../../src/command/create-token.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { KnownTokens } from "../../src/identity/known-tokens.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { accesses, createWorld, newProject, put, type World } from "../command/world.ts";

let world: World;
let listener: Listener;
let secret = "";
let viewerSecret = "";

beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  await newProject(world, "other");
  const tokenOf = async ({ principal }: Caller): Promise<string> => {
    const request = create(CreateTokenRequestSchema, { principal });
    return (await createToken(world.deps, world.admin, request)).secret;
  };
  secret = await tokenOf(await world.member("fraud", "contributor"));
  viewerSecret = await tokenOf(await world.member("fraud", "viewer"));
  const metrics = createMetrics(() => world.deps.log.health());
  const edge = { deps: world.deps, metrics, publicLog: false, tokens: new KnownTokens() };
  listener = await listen(
    (request, response) => {
      const path = (request.url ?? "").split("?", 1)[0] ?? "";
      serveArtifacts(edge, path, request, response).catch((error: unknown) => sendFault(response, error));
    },
    { host: "127.0.0.1", port: 0 },
  );
});
afterAll(async () => {
  await listener[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: JsonObject;
}

async function call(method: string, path: string, body?: unknown, more: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${listener.port}${path}`, {
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json", ...more },
    method,
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const json = (response.headers.get("content-type") ?? "").includes("json") ? (JSON.parse(text) as JsonObject) : {};
  return { body: json, headers: response.headers, status: response.status };
}

const size = (): number => world.deps.log.index.watermark.size;
const contentOf = (text: string) => {
  const bytes = new TextEncoder().encode(text);
  const hex = createHash("sha256").update(bytes).digest("hex");
  return { bytes, hex, body: { digest: `sha256:${hex}`, size_bytes: bytes.length } };
};
const uploaded = async (text: string) => {
  const content = contentOf(text);
  const { body } = await call("POST", "/projects/fraud/artifacts", content.body);
  await put(world, textOf(body, "upload_url"), content.bytes);
  return content;
};

describe("an artifact", () => {
  it("is declared, put, completed, described and downloaded", async () => {
    const { body, bytes, hex } = contentOf("rows");
    const declared = await call("POST", "/projects/fraud/artifacts", {
      ...body,
      media_type: "text/plain",
      name: "rows.txt",
    });
    expect(declared).toMatchObject({
      body: {
        artifact_id: body.digest,
        expires_at: new Date(world.clock.ms + 600_000).toISOString(),
        headers: { "content-length": "4" },
      },
      status: 200,
    });
    expect(declared.headers.get("datapilot-receipt")).toBeNull();
    const before = size();
    await put(world, textOf(declared.body, "upload_url"), bytes);
    const done = await call("POST", `/projects/fraud/artifacts/${body.digest}/complete`, {
      ...body,
      media_type: "text/plain",
      name: "rows.txt",
    });
    const described = { artifact_id: body.digest, media_type: "text/plain", name: "rows.txt", size_bytes: 4 };
    expect(done).toMatchObject({ body: described, status: 200 });
    expect(done.headers.get("datapilot-receipt")).toBe(`${textOf(done.body, "record")} ${before}`);
    for (const id of [hex, body.digest, encodeURIComponent(body.digest)]) {
      const found = await call("GET", `/projects/fraud/artifacts/${id}`);
      expect(found).toMatchObject({ body: { ...described, log_index: before, project: "fraud" }, status: 200 });
      expect(found.headers.get("datapilot-receipt")).toBe(`${textOf(done.body, "record")} ${before}`);
    }
    const there = await call("GET", `/projects/fraud/artifacts/${hex}/download`);
    expect(there).toMatchObject({
      body: { artifact_id: body.digest, expires_at: new Date(world.clock.ms + 600_000).toISOString(), size_bytes: 4 },
      status: 200,
    });
    expect(there.body["download_url"]).toMatch(/\/blob\//);
    expect(there.headers.get("datapilot-receipt")).toMatch(/^sha256:[0-9a-f]{64} \d+$/);
    expect(accesses(world).at(-1)).toMatchObject({ action: "ACCESS_ACTION_DOWNLOAD" });
    const again = await call("POST", "/projects/fraud/artifacts", body);
    expect(again.body).toMatchObject({ artifact_id: body.digest, existing: described });
    expect(again.body["upload_url"]).toBeUndefined();
  });

  it("is completed without a body, with the length that the store holds", async () => {
    const { body, hex } = await uploaded("more rows");
    const done = await call("POST", `/projects/fraud/artifacts/${hex}/complete`);
    expect(done).toMatchObject({ body: body.size_bytes === 9 ? { size_bytes: 9 } : {}, status: 200 });
  });

  it("is the same when it is completed twice", async () => {
    const { hex } = await uploaded("twice");
    const path = `/projects/fraud/artifacts/${hex}/complete`;
    const [one, other] = [await call("POST", path), await call("POST", path)];
    expect(other.body).toEqual(one.body);
  });
});

describe("content in chunks", () => {
  const parts = ["0123", "4567", "89"].map(contentOf);
  const whole = contentOf("0123456789");
  const manifest = contentOf(
    `{"chunk":4,"chunks":[${parts.map((p) => `"${p.hex}"`).join()}],"sha256_claimed":"${whole.hex}","size":10}`,
  );
  const described = { ...manifest.body, media_type: "application/vnd.datapilot.chunks.v1+json" };
  const path = `/projects/fraud/artifacts/${manifest.hex}`;

  it("is put chunk by chunk, completed when all are there, and had by pages", async () => {
    const send = async (content: typeof whole, body: object): Promise<void> => {
      const answer = await call("POST", "/projects/fraud/artifacts", body);
      await put(world, textOf(answer.body, "upload_url"), content.bytes);
    };
    for (const part of parts.slice(0, 2)) await send(part, { ...part.body, is_chunk: true });
    await send(manifest, described);
    expect(await call("POST", `${path}/complete`, described)).toMatchObject({
      body: {
        metadata: { digest: parts[2]?.body.digest, missing: "1", position: "2" },
        reason: "ARTIFACT_NOT_UPLOADED",
      },
      status: 400,
    });
    const there = await call("POST", "/projects/fraud/artifacts", { ...parts[0]?.body, is_chunk: true });
    expect(there.body).toEqual({ artifact_id: parts[0]?.body.digest, is_stored: true });
    if (parts[2] !== undefined) await send(parts[2], { ...parts[2].body, is_chunk: true });
    expect(await call("POST", `${path}/complete`, described)).toMatchObject({
      body: { artifact_id: manifest.body.digest, media_type: described.media_type },
      status: 200,
    });
    const content = { chunk_bytes: 4, chunk_count: 3, sha256_claimed: whole.body.digest, size_bytes: 10 };
    const page = await call("GET", `${path}/download?first_chunk=1&max_chunks=9`);
    expect(page.body["content"]).toEqual({
      ...content,
      chunks: [1, 2].map((position) => ({
        ...parts[position]?.body,
        download_url: expect.stringMatching(/\/blob\//) as string,
        expires_at: page.body["expires_at"],
        position,
      })),
    });
    expect((await call("GET", `${path}/download`)).body["content"]).toEqual({ ...content, chunks: [] });
  });

  it("says what is wrong with a page", async () => {
    const cases = ["first_chunk=-1", "max_chunks=many", "max_chunks=100000"];
    for (const query of cases)
      expect(await call("GET", `${path}/download?${query}`), query).toMatchObject({
        body: { reason: "REQUEST_INVALID" },
        status: 400,
      });
    const { hex } = contentOf("rows");
    expect(await call("GET", `/projects/fraud/artifacts/${hex}/download?max_chunks=1`)).toMatchObject({
      body: { fields: [{ field: "max_chunks" }] },
      status: 400,
    });
  });
});

describe("what is refused", () => {
  const { body, hex } = contentOf("never uploaded");

  it("has the reason and the status of the RPC's fault", async () => {
    const cases: readonly (readonly [Promise<Answer>, number, string])[] = [
      [call("POST", `/projects/fraud/artifacts/${hex}/complete`, body), 400, "ARTIFACT_NOT_UPLOADED"],
      [call("POST", `/projects/fraud/artifacts/${hex}/complete`), 400, "ARTIFACT_NOT_UPLOADED"],
      [call("GET", `/projects/fraud/artifacts/${hex}`), 404, "NOT_FOUND"],
      [call("GET", `/projects/fraud/artifacts/${hex}/download`), 404, "NOT_FOUND"],
      [call("POST", "/projects/nowhere/artifacts", body), 404, "NOT_FOUND"],
      [call("POST", "/projects/other/artifacts", body), 404, "NOT_FOUND"],
      [call("POST", "/projects/fraud/artifacts", { ...body, digest: "sha256:00" }), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts", { ...body, size_bytes: 6 * 1024 ** 3 }), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts", { ...body, size_bytes: -1 }), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts", { ...body, size_bytes: "4" }), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts", { ...body, unknown: 1 }), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts", { ...body, name: "a\u202eb" }), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts", '{"digest":"a","digest":"b"}'), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts", "[]"), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts"), 400, "REQUEST_INVALID"],
      [call("POST", "/projects/fraud/artifacts", body, { "content-type": "text/plain" }), 400, "REQUEST_INVALID"],
      [
        call("POST", `/projects/fraud/artifacts/${hex}/complete`, { digest: `sha256:${"0".repeat(64)}` }),
        400,
        "REQUEST_INVALID",
      ],
      [call("GET", "/projects/fraud/artifacts/..%2f..%2fetc"), 400, "REQUEST_INVALID"],
      [call("GET", "/projects/fraud/artifacts/%ff"), 400, "REQUEST_INVALID"],
      [call("GET", "/projects/fraud/nothing"), 404, "NOT_FOUND"],
      [call("POST", "/projects/fraud/artifacts", body, { authorization: "Bearer dp_x" }), 401, "TOKEN_INVALID"],
      [call("POST", "/projects/fraud/artifacts", body, { authorization: "" }), 401, "TOKEN_INVALID"],
      [call("POST", "/projects/fraud/artifacts", "x".repeat((1 << 20) + 1)), 413, "LIMIT_EXCEEDED"],
    ];
    for (const [answer, status, reason] of cases) {
      const { body: said, headers, status: got } = await answer;
      expect([got, said["reason"], typeof said["message"]], JSON.stringify(said)).toEqual([status, reason, "string"]);
      expect(Object.keys(said)).toEqual(["fields", "message", "metadata", "reason"]);
      expect(headers.get("cache-control")).toBe("no-store");
    }
  });

  it("names the field", async () => {
    const { body: said } = await call("POST", "/projects/fraud/artifacts", { ...body, sizeBytes: 4 });
    expect(said["fields"]).toEqual([{ description: "is not a field of this request", field: "sizeBytes" }]);
  });

  it("says which method there is", async () => {
    const answer = await call("DELETE", `/projects/fraud/artifacts/${hex}`);
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET"]);
    expect((await call("GET", "/projects/fraud/artifacts")).headers.get("allow")).toBe("POST");
  });

  it("is recorded as a denial, and says whose right is missing", async () => {
    const before = size();
    const answer = await call("POST", "/projects/fraud/artifacts", body, { authorization: `Bearer ${viewerSecret}` });
    expect(answer).toMatchObject({
      body: { metadata: { permission: "artifact.write" }, reason: "PERMISSION_DENIED" },
      status: 403,
    });
    expect(size()).toBe(before + 1);
    expect(accesses(world).at(-1)).toMatchObject({ action: "ACCESS_ACTION_DENIED", reason: "PERMISSION_DENIED" });
  });

  it("leaves the connection to the next request", async () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (method: string, text: string) =>
      new Promise<number>((resolve, reject) => {
        const request = http.request(
          { agent, host: "127.0.0.1", method, path: "/projects/fraud/artifacts", port: listener.port },
          (response) => {
            response.resume();
            response.on("end", () => resolve(response.statusCode ?? 0));
          },
        );
        request.on("error", reject);
        request.end(text);
      });
    expect([await ask("POST", "x".repeat(100_000)), await ask("PUT", "{}"), await ask("POST", "")]).toEqual([
      401, 405, 401,
    ]);
    agent.destroy();
  });
});
