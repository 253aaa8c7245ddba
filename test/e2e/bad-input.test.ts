/**
 * What strangers send, to a real server over each way in: a clear fault with its reason, nothing half written, the denial on record
 * where one belongs there, and no secret in what the server says.
 */
import { readFile } from "node:fs/promises";
import * as http from "node:http";
import * as http2 from "node:http2";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Custody } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import {
  Assurance,
  FileRole,
  InputRole,
  Purpose,
  RunStatus,
  Tier,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { Meaning, Outcome } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { faultOf } from "../../src/api/faults.ts";
import { parseProofFile } from "../../src/note/proof-file.ts";
import { digestOf, initWithVera, type People, Rig, type Services, VIAS } from "./rig.ts";
import { temporaryFolder } from "./server.ts";

const P = "fraud";
const NOWHERE = `sha256:${"0".repeat(64)}`;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let people: People;
let rig: Rig;
let dana = "";
let stranger = "";

beforeAll(async () => {
  folder = await temporaryFolder();
  const dir = join(folder.path, "home");
  people = await initWithVera(dir);
  rig = await Rig.start(dir, people);
  for (const name of [P, "other"]) await rig.project(name);
  dana = await rig.person("dana", P, "contributor", "steward", "policy-author");
  stranger = await rig.person("stan", "other", "contributor");
  await rig.bind("vera", P, "contributor");
});
afterAll(async () => {
  await rig?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

const exploration = (label: string) => ({ run: { command: ["train", label], purpose: Purpose.EXPLORATION } });

/** A running run of Dana's, and clients that hold its token. */
async function running(label: string): Promise<{ id: string; own: Services; token: string }> {
  const { run, runToken } = await rig.as(dana).runs.startRun({ plan: exploration(label), project: P });
  rig.secrets.push(runToken);
  return { id: run?.record ?? "", own: rig.as(runToken), token: runToken };
}

describe.each(VIAS)("over %s", (via) => {
  const tag = via.replaceAll(/\W/g, "");
  let me: Services;
  beforeAll(() => {
    me = rig.as(dana, via);
  });

  it("refuses projects that are not there, in the words for those that are not the caller's", async () => {
    const dataset = { name: "tx" };
    const absent = await rig.refused(() => me.datasets.createDataset({ dataset, project: "nowhere" }), "NOT_FOUND");
    const hidden = await rig.refused(() => me.datasets.createDataset({ dataset, project: "other" }), "NOT_FOUND", {
      grows: 1,
    });
    expect([hidden.message, hidden.metadata]).toEqual([absent.message, absent.metadata]);
    for (const project of ["", "../fraud", "fraud/../other", "FRAUD", "fr\u0430ud", "fraud\u0000", "_ledgeR"])
      await rig.refused(() => me.datasets.getDataset({ name: "tx", project }), "NOT_FOUND");
  });

  it("refuses tokens that are none, and those of others", async () => {
    const { id, token } = await running(`mine-${tag}`);
    const { id: other } = await running(`other-${tag}`);
    const dataset = { dataset: { name: `${tag}-tokens` }, project: P };
    for (const text of ["x", `dp_${"A".repeat(43)}`, token.replace("dpr_", "dp_"), `${dana}x`])
      await rig.refused(() => rig.as(text, via).datasets.createDataset(dataset), "TOKEN_INVALID");
    const theirs = rig.as(stranger, via);
    await rig.refused(() => theirs.datasets.createDataset(dataset), "NOT_FOUND", { grows: 1 });
    await rig.refused(() => theirs.runs.getRun({ name: id, project: P }), "NOT_FOUND", { grows: 1 });
    const own = rig.as(token, via);
    const batch = { batches: [{ seq: 0, metrics: [{ key: "auc", value: 1 }] }], project: P, run: other };
    await rig.refused(() => own.runs.batchAppendRunEvents(batch), "PERMISSION_DENIED", { grows: 1, says: /own token/ });
    await rig.refused(() => own.datasets.createDataset({ ...dataset, project: "other" }), "NOT_FOUND", { grows: 1 });
    await rig.refused(() => own.access.createToken({}), "NOT_FOUND", { grows: 1 });
    // Once its run has ended, a run's token repeats its last reports and does nothing else.
    const finish = { finish: { batches: 0, status: RunStatus.SUCCEEDED }, project: P, run: id };
    await own.runs.finishRun(finish);
    await own.runs.finishRun(finish);
    await rig.refused(() => own.runs.getRun({ name: id, project: P }), "NOT_FOUND", { grows: 1 });
  });

  it("refuses a token that was revoked", async () => {
    const made = await rig.admin.access.createToken({ principal: "stan" });
    rig.secrets.push(made.secret);
    const { resource } = made;
    await rig.admin.status.transition({
      name: resource?.record ?? "",
      project: "_ledger",
      reason: "it was lost",
      to: "revoked",
    });
    await rig.refused(() => rig.as(made.secret, via).access.whoAmI({}), "TOKEN_INVALID");
  });

  it("answers a replay with what was recorded, and refuses another request with its id", async () => {
    const requestId = rig.id();
    const dataset = { name: `${tag}-replayed`, description: "first" };
    const first = await me.datasets.createDataset({ dataset, project: P, requestId });
    const before = await rig.size();
    const again = await me.datasets.createDataset({ dataset, project: P, requestId });
    expect(again.receipt).toMatchObject({ existing: true, record: first.receipt?.record });
    expect(await rig.size()).toBe(before);
    const reused = { grows: 1, says: /new one/ };
    const changed = { ...dataset, description: "second" };
    await rig.refused(
      () => me.datasets.createDataset({ dataset: changed, project: P, requestId }),
      "REQUEST_ID_REUSED",
      reused,
    );
    await rig.refused(
      () => me.runs.startRun({ plan: exploration(tag), project: P, requestId }),
      "REQUEST_ID_REUSED",
      reused,
    );
    for (const bad of ["a b", "x".repeat(129), "a\u0000b", "id\u202e", "é"])
      await rig.refused(() => me.datasets.createDataset({ dataset, project: P, requestId: bad }), "REQUEST_INVALID");
  });

  it("refuses to finish what has not started, or ended", async () => {
    const { run } = await me.runs.planRun({ plan: exploration(`planned-${tag}`), project: P });
    const finish = { finish: { batches: 0, status: RunStatus.SUCCEEDED }, project: P, run: run?.record ?? "" };
    await rig.refused(() => me.runs.finishRun(finish), "PERMISSION_DENIED", { grows: 1 });
    const other = await running(`unfinished-${tag}`);
    const own = rig.as(other.token, via);
    await rig.refused(() => own.runs.finishRun(finish), "PERMISSION_DENIED", { grows: 1 });
    const mine = { ...finish, run: other.id };
    const tooMany = { ...mine, finish: { batches: 1, status: RunStatus.SUCCEEDED } };
    await rig.refused(() => own.runs.finishRun(tooMany), "BATCHES_INCOMPLETE", { grows: 1, says: /deliver/ });
    const lost = { ...mine, finish: { batches: 0, status: RunStatus.LOST } };
    await rig.refused(() => own.runs.finishRun(lost), "REQUEST_INVALID");
    const gap = { batches: [{ seq: 3 }], project: P, run: other.id };
    await rig.refused(() => own.runs.batchAppendRunEvents(gap), "BATCH_GAP", { says: /continue with 0/ });
  });

  it("refuses artifacts that were never uploaded, or are something else", async () => {
    const text = `never uploaded ${tag}`;
    const artifact = { digest: digestOf(text), sizeBytes: text.length };
    await rig.refused(() => me.artifacts.completeArtifact({ artifact, project: P }), "ARTIFACT_NOT_UPLOADED", {
      grows: 1,
      says: /upload/,
    });
    await me.datasets.createDataset({ dataset: { name: `${tag}-absent` }, project: P });
    const files = [{ digest: artifact.digest, path: "rows.jsonl", sizeBytes: text.length }];
    const version = { dataset: `${tag}-absent`, project: P, version: { custody: Custody.LEDGER, files } };
    await rig.refused(() => me.datasets.createDatasetVersion(version), "ARTIFACT_NOT_FOUND", { grows: 1 });
    const wrong = { ...version, version: { ...version.version, contentDigest: NOWHERE } };
    await rig.refused(() => me.datasets.createDatasetVersion(wrong), "DIGEST_MISMATCH", { grows: 1 });
    for (const digest of ["", "sha256:", "sha256:XYZ", NOWHERE.toUpperCase(), `md5:${"0".repeat(32)}`, "0".repeat(64)])
      await rig.refused(
        () => me.artifacts.createArtifact({ artifact: { ...artifact, digest }, project: P }),
        "REQUEST_INVALID",
      );
    // The bytes decide, not the client.
    const { uploadUrl } = await me.artifacts.createArtifact({ artifact, project: P });
    rig.secrets.push(uploadUrl.slice(uploadUrl.lastIndexOf("/") + 1));
    const put = (body: string) => fetch(uploadUrl, { body, method: "PUT" });
    for (const body of [text.replace("never", "NEVER"), `${text}!`, ""]) {
      const answer = await put(body);
      expect([answer.status, ((await answer.json()) as { reason: string }).reason]).toEqual([400, "DIGEST_MISMATCH"]);
    }
    await rig.refused(() => me.artifacts.completeArtifact({ artifact, project: P }), "ARTIFACT_NOT_UPLOADED", {
      grows: 1,
    });
    expect((await put(text)).status).toBe(201);
    const shorter = { ...artifact, sizeBytes: 1 };
    await rig.refused(() => me.artifacts.completeArtifact({ artifact: shorter, project: P }), "DIGEST_MISMATCH", {
      grows: 1,
    });
    await me.artifacts.completeArtifact({ artifact, project: P });
    const elsewhere = uploadUrl.replace(/.$/, (c) => (c === "A" ? "B" : "A"));
    expect((await fetch(elsewhere, { body: text, method: "PUT" })).status).toBe(403);
    expect((await fetch(uploadUrl)).status).toBe(403);
  });

  it("refuses models of runs that have not finished well, and of what no run put out", async () => {
    await me.models.createModel({
      model: { intendedUse: "to be refused", name: `${tag}-model`, tier: Tier.LOW },
      project: P,
    });
    const { id, own } = await running(`model-${tag}`);
    const { digest, sizeBytes } = await rig.artifact(dana, P, `weights ${tag}`);
    const file = { digest, path: "model.bin", sizeBytes };
    const version = { model: `${tag}-model`, producedBy: [id], project: P, version: { files: [file] } };
    await rig.refused(() => me.models.createModelVersion(version), "OUTPUT_NOT_FROM_RUN", { grows: 1 });
    await rig.refused(() => me.models.createModelVersion({ ...version, producedBy: [] }), "PROVENANCE_REQUIRED", {
      grows: 1,
    });
    const planned = await me.runs.planRun({ plan: exploration(`planned-model-${tag}`), project: P });
    const notStarted = { ...version, producedBy: [planned.run?.record ?? ""] };
    await rig.refused(() => me.models.createModelVersion(notStarted), "RUN_NOT_SUCCEEDED", { grows: 1 });
    const output = { ...file, assurance: Assurance.OBSERVED, role: FileRole.OUTPUT };
    await own.runs.batchAppendRunEvents({ batches: [{ files: [output], seq: 0 }], project: P, run: id });
    await own.runs.finishRun({ finish: { batches: 1, status: RunStatus.FAILED }, project: P, run: id });
    await rig.refused(() => me.models.createModelVersion(version), "RUN_NOT_SUCCEEDED", { grows: 1 });
    const { id: unfinished, own: its } = await running(`unfinished-model-${tag}`);
    await its.runs.batchAppendRunEvents({ batches: [{ files: [output], seq: 0 }], project: P, run: unfinished });
    const early = await me.models.createModelVersion({ ...version, producedBy: [unfinished] });
    // A running run may register; what it made is validated only when it ended well.
    await rig.refused(
      () =>
        me.status.transition({
          name: early.resource?.record ?? "",
          project: P,
          reason: "too early",
          to: "validated",
        }),
      "RUN_NOT_SUCCEEDED",
      { grows: 1 },
    );
  });

  it("refuses inputs that are not what is recorded", async () => {
    const version = await rig.version(dana, P, `${tag}-input`);
    const plan = (record: string, observedDigest: string) => ({
      run: { ...exploration(tag).run, inputs: [{ observedDigest, record, role: InputRole.TRAIN }] },
    });
    await rig.refused(() => me.runs.startRun({ plan: plan(version.record, NOWHERE), project: P }), "INPUT_MISMATCH", {
      grows: 1,
    });
    await rig.refused(() => me.runs.startRun({ plan: plan(NOWHERE, NOWHERE), project: P }), "NOT_FOUND");
    await rig.refused(() => me.runs.startRun({ plan: plan("nothing@v9", ""), project: P }), "NOT_FOUND");
  });

  it("refuses policies that do not compile or fail their own tests", async () => {
    const policy = (require: string, more: object = {}) => ({
      policy: { name: `${tag}-p`, rules: [{ id: "r", message: "m", require }], target: "run.start", ...more },
      project: P,
    });
    for (const bad of ["input.run.", "no_such(1)", "1 +", "'a'.matches('(')", "'\u202e' == ''"])
      await rig.refused(
        () => me.policies.createPolicy(policy(bad)),
        bad.includes("\u202e") ? "REQUEST_INVALID" : "POLICY_INVALID",
      );
    await rig.refused(() => me.policies.createPolicy(policy("true", { target: "no.such" })), "POLICY_INVALID");
    const tests = [{ input: { run: { purpose: "exploration" } }, outcome: Outcome.DENY }];
    await rig.refused(() => me.policies.createPolicy(policy("true", { tests })), "POLICY_TEST_FAILED");
  });

  it.each([
    ["bidi", "a\u202eb"],
    ["a homoglyph", "fr\u0430ud"],
    ["traversal", "../etc/passwd"],
    ["NUL", "a\u0000b"],
    ["a second form of one letter", "e\u0301"],
    ["a long one", "a".repeat(129)],
    ["nothing", ""],
  ])("refuses %s in every name", async (_, name) => {
    const asks: readonly (() => Promise<unknown>)[] = [
      () => me.datasets.createDataset({ dataset: { name }, project: P }),
      () => me.datasets.createSchema({ project: P, schema: { fields: [{ name: "a", type: "int64" }], name } }),
      () => me.environments.createEnvironment({ environment: { name }, project: P }),
      () => me.runs.createExperiment({ experiment: { name }, project: P }),
      () => me.models.createModel({ model: { intendedUse: "x", name, tier: Tier.LOW }, project: P }),
      () =>
        me.policies.createPolicy({
          policy: { name, rules: [{ id: "r", message: "m", require: "true" }], target: "run.start" },
          project: P,
        }),
    ];
    for (const ask of asks) await named(ask);
    const admin = rig.as(people.admin, via);
    await named(() => admin.projects.createProject({ project: { name } }));
    await named(() => admin.access.createPrincipal({ principal: { displayName: "x", name, type: 2 } }));
    await named(() => me.status.setAlias({ alias: name, project: P, target: "tx@v1" }), "NOT_FOUND");
  });

  /** A name is refused as a name, or as a text, or as a field that is missing. */
  async function named(ask: () => Promise<unknown>, ...also: readonly string[]): Promise<void> {
    const before = await rig.size();
    const error: unknown = await ask().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const fault = faultOf(error);
    expect([...also, "NAME_INVALID", "REQUEST_INVALID"], String(error)).toContain(fault?.reason);
    expect(await rig.size()).toBe(before);
  }

  it.each([
    ["bidi", "a\u202eb"],
    ["NUL", "a\u0000b"],
    ["a second form of one letter", "e\u0301"],
  ])("refuses %s in every other text", async (_, text) => {
    const batch = (more: object) => ({ batches: [{ seq: 0, ...more }], project: P, run: own.id });
    const own = await running(`text-${tag}-${text.length}`);
    const report = rig.as(own.token, via).runs;
    const run = exploration(tag).run;
    const { digest, sizeBytes } = { digest: NOWHERE, sizeBytes: 1 };
    const asks: readonly (() => Promise<unknown>)[] = [
      () => me.datasets.createDataset({ dataset: { description: text, name: `${tag}-text` }, project: P }),
      () =>
        me.datasets.createDataset({
          dataset: { labels: [{ key: text, value: "x" }], name: `${tag}-text` },
          project: P,
        }),
      () => me.datasets.createSchema({ project: P, schema: { fields: [{ name: text, type: "int64" }], name: "s" } }),
      () => me.artifacts.createArtifact({ artifact: { digest, name: text, sizeBytes }, project: P }),
      () => me.artifacts.createArtifact({ artifact: { digest, mediaType: text, sizeBytes }, project: P }),
      () => me.runs.startRun({ plan: { run: { ...run, command: [text] } }, project: P }),
      () => me.runs.startRun({ plan: { run: { ...run, params: [{ key: text, value: "1" }] } }, project: P }),
      () => me.runs.startRun({ plan: { run: { ...run, ci: { provider: text } } }, project: P }),
      () => me.runs.startRun({ plan: { run: { ...run, ci: { pipelineId: text, provider: "ci" } } }, project: P }),
      () => me.runs.startRun({ plan: { run: { ...run, ref: { kind: "branch", name: text } } }, project: P }),
      () => report.batchAppendRunEvents(batch({ metrics: [{ key: text, value: 1 }] })),
      () => report.batchAppendRunEvents(batch({ events: [{ message: text }] })),
      () =>
        report.batchAppendRunEvents(
          batch({ files: [{ assurance: Assurance.OBSERVED, digest, path: text, role: FileRole.OUTPUT, sizeBytes }] }),
        ),
      () =>
        report.finishRun({ finish: { batches: 0, reason: text, status: RunStatus.FAILED }, project: P, run: own.id }),
      () =>
        report.finishRun({ finish: { batches: 0, signal: text, status: RunStatus.FAILED }, project: P, run: own.id }),
    ];
    for (const [i, ask] of asks.entries()) {
      try {
        await rig.refused(ask, "REQUEST_INVALID");
      } catch (error) {
        throw new Error(`request ${i}: ${(error as Error).message}`, { cause: error });
      }
    }
  });

  it("refuses paths that leave their folder", async () => {
    await me.datasets.createDataset({ dataset: { name: `${tag}-paths` }, project: P });
    for (const path of ["../x", "/etc/passwd", "a/../b", "a//b", "./a", "a\\b", "", "a".repeat(1_025)]) {
      const files = [{ digest: NOWHERE, path, sizeBytes: 1 }];
      const version = { custody: Custody.LEDGER, files };
      await rig.refused(
        () => me.datasets.createDatasetVersion({ dataset: `${tag}-paths`, project: P, version }),
        "REQUEST_INVALID",
      );
    }
  });

  it("refuses bodies that are too large, at each of the limits", async () => {
    const named = (description: string) => () =>
      me.datasets.createDataset({ dataset: { description, name: `${tag}-large` }, project: P });
    await rig.refused(named("x".repeat(16 * 1024 + 1)), "LIMIT_EXCEEDED", { says: /artifact/ });
    const labels = Array.from({ length: 33 }, (_, i) => ({ key: `k${i}`, value: "v" }));
    await rig.refused(
      () => me.datasets.createDataset({ dataset: { labels, name: `${tag}-large` }, project: P }),
      "LIMIT_EXCEEDED",
    );
    const command = Array.from({ length: 100 }, (_, i) => `${i}`.padEnd(16_000, "x"));
    await rig.refused(
      () => me.runs.startRun({ plan: { run: { command, purpose: Purpose.EXPLORATION } }, project: P }),
      "LIMIT_EXCEEDED",
    );
    const before = await rig.size();
    const error: unknown = await named("x".repeat(9 << 20))().catch((thrown: unknown) => thrown);
    expect(ConnectError.from(error).code).toBe(Code.ResourceExhausted);
    expect(await rig.size()).toBe(before);
    // The connection, or a new one, serves the next request.
    expect((await me.access.whoAmI({})).name).toBe("dana");
  });
});

describe("JSON", () => {
  const PATH = "/animus.datapilot.v1.DatasetService/CreateDataset";
  const headers = () => ({ authorization: `Bearer ${dana}`, "content-type": "application/json" });

  interface Said {
    readonly status: number;
    readonly code: string;
    readonly message: string;
    readonly reason: string;
  }
  const said = (status: number, text: string): Said => {
    const error = JSON.parse(text) as { code: string; message: string; details?: { debug?: { reason?: string } }[] };
    const details = JSON.stringify(error.details ?? []);
    const raw = /"value":"([^"]+)"/.exec(details)?.[1] ?? "";
    const reason = /[A-Z_]{6,}/.exec(Buffer.from(raw, "base64").toString("latin1"))?.[0] ?? "";
    return { code: error.code, message: error.message, reason, status };
  };
  const overHttp1 = async (body: string | Uint8Array, more: Record<string, string> = {}): Promise<Said> => {
    const answer = await fetch(`${rig.server.url}${PATH}`, {
      body: Buffer.from(body),
      headers: { ...headers(), ...more },
      method: "POST",
    });
    return said(answer.status, await answer.text());
  };
  const overHttp2 = async (body: string | Uint8Array, more: Record<string, string> = {}): Promise<Said> => {
    const session = http2.connect(rig.server.url);
    try {
      const stream = session.request({ ":method": "POST", ":path": PATH, ...headers(), ...more });
      stream.end(body);
      let status = 0;
      stream.on("response", (h) => (status = h[":status"] ?? 0));
      let text = "";
      for await (const part of stream.setEncoding("utf8")) text += String(part);
      return said(status, text);
    } finally {
      session.close();
    }
  };

  const CASES: readonly (readonly [what: string, body: string | Uint8Array, says: RegExp])[] = [
    ["an unknown field", '{"project":"fraud","datasets":{}}', /no field datasets/],
    ["an unknown field within", '{"project":"fraud","dataset":{"name":"tx","colour":"red"}}', /no field colour/],
    ["a member twice", '{"project":"other","dataset":{"name":"tx"},"project":"fraud"}', /project twice/],
    ["a member twice, once escaped", '{"project":"other","\\u0070roject":"fraud"}', /project twice/],
    ["deep lists", `{"dataset":${"[".repeat(200_000)}`, /deeper than 64/],
    ["deep objects", `${'{"dataset":'.repeat(10_000)}1${"}".repeat(10_000)}`, /deeper than 64/],
    ["a number for a text", '{"project":7}', /not this method's request/],
    ["an unknown enum", '{"dataset":{"name":"tx","classification":"SECRET"}}', /not this method's request/],
    ["a list", "[]", /not this method's request/],
    ["no JSON", "{project:fraud}", /not JSON/],
    ["nothing", "", /not JSON/],
    ["half a surrogate", '{"project":"\\ud800"}', /./],
    ["no UTF-8", Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d), /UTF-8/],
  ];
  it.each(CASES)("refuses %s", async (_, body, says) => {
    const before = await rig.size();
    for (const answer of [await overHttp1(body), await overHttp2(body)]) {
      expect(answer.code, answer.message).toMatch(/^(invalid_argument|not_found)$/);
      expect(answer.message).toMatch(says);
      expect(answer.message.length).toBeLessThan(1_100);
      expect(answer.reason).toMatch(/REQUEST_INVALID|NOT_FOUND/);
    }
    expect(await rig.size()).toBe(before);
  });

  it("refuses what is no JSON by its type, and a bomb", async () => {
    const plain = await fetch(`${rig.server.url}${PATH}`, {
      body: "{}",
      headers: { ...headers(), "content-type": "text/plain" },
      method: "POST",
    });
    expect(plain.status).toBe(415);
    const { gzipSync } = await import("node:zlib");
    const bomb = gzipSync(`{"project":"${"a".repeat(64 << 20)}"}`);
    expect(bomb.length).toBeLessThan(1 << 20);
    for (const send of [overHttp1, overHttp2])
      expect((await send(bomb, { "content-encoding": "gzip" })).code).toBe("resource_exhausted");
    const twice = gzipSync('{"project":"a","project":"b"}');
    expect(await overHttp1(twice, { "content-encoding": "gzip" })).toMatchObject({
      reason: "REQUEST_INVALID",
      status: 400,
    });
  });

  it("counts what was refused", async () => {
    const text = await (await fetch(`${rig.server.url}/metrics`)).text();
    const count = (line: RegExp): number => Number(line.exec(text)?.[1] ?? 0);
    expect(
      count(
        /datapilot_rpc_seconds_count\{rpc="animus.datapilot.v1.DatasetService\/CreateDataset",code="invalid_?argument"\} (\d+)/i,
      ),
    ).toBeGreaterThan(20);
    expect(count(/datapilot_denials_total\{reason="TOKEN_INVALID"\} (\d+)/)).toBeGreaterThan(5);
    expect(count(/datapilot_log_size (\d+)/)).toBe(await rig.size());
    expect(text).not.toMatch(/dpr?_[A-Za-z0-9_-]{43}/);
  });
});

describe("rules", () => {
  it("do not let an author approve his own", async () => {
    const version = await rig.version(people.vera, P, "by-vera");
    await rig.as(dana).datasets.getDatasetVersion({ name: version.record, project: P });
    await rig.policy(dana, P, {
      name: "second-person",
      rules: [
        {
          approval: { groups: ["data-stewards"], meaning: "MEANING_APPROVED", quorum: 1 },
          id: "second",
          message: "Somebody else agrees.",
          otherwise: "OTHERWISE_REQUIRE_APPROVAL",
          require: "false",
          when: 'input.run.purpose == "evaluation"',
        },
      ],
      target: "run.start",
    });
    // Vera may sign evaluations, but not her own.
    const plan = { run: { command: ["evaluate"], purpose: Purpose.EVALUATION } };
    const fault = await rig.refused(
      () => rig.vera.runs.startRun({ plan, project: P, requestId: "veras-own" }),
      "APPROVAL_REQUIRED",
      // The plan and its decision; then the question, which names the plan by its id, and the decision to ask it.
      { grows: 4 },
    );
    const request = fault.metadata["approval_request"] ?? "";
    const { request: asked } = await rig.vera.approvals.getApprovalRequest({ name: request, project: P });
    if (asked?.body.case !== "approvalRequest") throw new Error("assertion failed: a request for approval");
    const { actionDigest } = asked.body.value;
    const vote = { actionDigest, meaning: Meaning.APPROVED, project: P, request, statement: "I agree with myself." };
    await rig.refused(() => rig.vera.approvals.approve(vote), "APPROVER_IS_AUTHOR", { grows: 1 });
    await rig.refused(() => rig.as(dana).approvals.approve(vote), "APPROVER_NOT_ELIGIBLE", { grows: 1 });
  });

  it("do not let a run take data whose gate failed", async () => {
    await rig.policy(dana, P, {
      name: "complete",
      rules: [
        { id: "nulls", message: "Values are missing.", require: 'input.report.measurements["x.null_count"] == 0.0' },
      ],
      target: "quality.gate",
    });
    const version = await rig.version(dana, P, "holed");
    const report = {
      complete: true,
      measurements: [{ column: "x", name: "null_count", value: 3 }],
      tool: { name: "t" },
    };
    await rig.as(dana).quality.reportQuality({
      datasetVersion: version.record,
      project: P,
      report: { ...report, measuredAt: new Date().toISOString() },
    });
    const judged = await rig.as(dana).datasets.getDatasetVersion({ name: version.record, project: P });
    expect(judged.resource?.gate).toBe("fail");
    const plan = {
      run: {
        command: ["train"],
        inputs: [{ record: version.record, role: InputRole.TRAIN }],
        purpose: Purpose.PRODUCTION,
      },
    };
    const fault = await rig.refused(() => rig.as(dana).runs.startRun({ plan, project: P }), "POLICY_DENIED", {
      grows: 2,
      says: /gate/,
    });
    const { resource } = await rig
      .as(dana)
      .policies.getDecision({ name: fault.metadata["decision"] ?? "", project: P });
    expect(resource?.body.value).toMatchObject({ outcome: Outcome.DENY, preview: false });
  });

  it("admit nothing when one of them cannot be evaluated", async () => {
    await rig.project("zero");
    const zed = await rig.person("zed", "zero", "contributor", "policy-author");
    await rig.policy(zed, "zero", {
      name: "divides",
      rules: [{ id: "zero", message: "One is one.", require: "1 / size(input.data) == 1" }],
      target: "run.start",
    });
    await rig.refused(() => rig.as(zed).runs.startRun({ plan: exploration("zero"), project: "zero" }), "POLICY_ERROR", {
      grows: 2,
      says: /policy explain/,
    });
  });
});

describe("the log over HTTP", () => {
  const get = (path: string, more: RequestInit = {}) => fetch(`${rig.server.url}${path}`, more);
  const bearer = (token: string): RequestInit => ({ headers: { authorization: `Bearer ${token}` } });

  it("serves checkpoints and tiles to anybody, entries to who may read them", async () => {
    await expect.poll(async () => (await get("/log/checkpoint")).status).toBe(200);
    const checkpoint = await get("/log/checkpoint");
    expect(checkpoint.headers.get("content-type")).toMatch(/^text\/plain/);
    expect(checkpoint.headers.get("access-control-allow-origin")).toBe("*");
    expect(checkpoint.headers.get("cache-control")).toBe("max-age=1");
    const size = Number((await checkpoint.text()).split("\n")[1]);
    const width = size % 256;
    const tile = size >= 256 ? "tile/0/000" : `tile/0/000.p/${width}`;
    const answer = await get(`/log/${tile}`);
    expect([answer.status, answer.headers.get("content-type"), answer.headers.get("cache-control")]).toEqual([
      200,
      "application/octet-stream",
      "max-age=604800, immutable",
    ]);
    const entries = `/log/${tile.replace("tile/0/", "tile/entries/")}`;
    const refused = await get(entries);
    expect([refused.status, refused.headers.get("cache-control")]).toEqual([401, "no-store"]);
    expect(refused.headers.get("www-authenticate")).toMatch(/^Bearer/);
    expect((await get(entries, bearer(dana))).status).toBe(403);
    const allowed = await get(entries, bearer(people.admin));
    expect([allowed.status, allowed.headers.get("cache-control")]).toEqual([200, "private, max-age=604800, immutable"]);
  });

  it.each([
    "tile/0/999",
    "tile/0/x001/000",
    "tile/0/000.p/257",
    "tile/0/000.p/0",
    "tile/9/000",
    "tile/0/../0/000",
    "..%2f..%2fkeys%2flog.key",
    "tile/0/%00",
    "nothing",
    "",
  ])("has no %j", async (name) => {
    // As it is: fetch would tidy the path.
    const { hostname, port } = new URL(rig.server.url);
    const answer = await new Promise<http.IncomingMessage>((resolve, reject) => {
      http.get({ hostname, path: `/log/${name}`, port }, resolve).on("error", reject);
    });
    answer.resume();
    expect([answer.statusCode, answer.headers["cache-control"]]).toEqual([404, "no-store"]);
  });

  it("takes no changes", async () => {
    const answer = await get("/log/checkpoint", { body: "x", method: "PUT" });
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    const head = await get("/log/checkpoint", { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });

  it("proves a record to who may read it", async () => {
    const { resource } = await rig.as(dana).datasets.createDataset({ dataset: { name: "proven" }, project: P });
    const path = `/log/proof/${resource?.record ?? ""}`;
    expect((await get(path)).status).toBe(401);
    expect((await get(path, bearer(stranger))).status).toBe(404);
    expect((await get("/log/proof/nothing", bearer(dana))).status).toBe(400);
    const answer = await get(path, bearer(dana));
    expect([answer.status, answer.headers.get("cache-control")]).toEqual([200, "no-store"]);
    const proof = parseProofFile(new Uint8Array(await answer.arrayBuffer()));
    expect(proof.index).toBe(resource?.logIndex);
  });
});

describe("denials", () => {
  it("are listed for who audits, and for nobody else", async () => {
    const denials = await rig.denials(P);
    const reasons = new Set(denials.map((d) => d.reason));
    for (const reason of [
      "APPROVER_IS_AUTHOR",
      "ARTIFACT_NOT_FOUND",
      "ARTIFACT_NOT_UPLOADED",
      "BATCHES_INCOMPLETE",
      "DIGEST_MISMATCH",
      "INPUT_MISMATCH",
      "OUTPUT_NOT_FROM_RUN",
      "PERMISSION_DENIED",
      "PROVENANCE_REQUIRED",
      "REQUEST_ID_REUSED",
      "RUN_NOT_SUCCEEDED",
    ])
      expect(reasons).toContain(reason);
    for (const reason of [
      "REQUEST_INVALID",
      "NAME_INVALID",
      "NOT_FOUND",
      "LIMIT_EXCEEDED",
      "BATCH_GAP",
      "POLICY_DENIED",
    ])
      expect(reasons).not.toContain(reason);
    const { principal } = await rig.as(dana).access.whoAmI({});
    expect(denials.filter((d) => d.actor === principal).length).toBeGreaterThan(10);
    expect(denials.every((d) => d.rpc?.startsWith("animus.datapilot.v1."))).toBe(true);
    await rig.refused(() => rig.as(dana).access.listAccess({ project: P }), "PERMISSION_DENIED", { grows: 1 });
    await rig.refused(() => rig.as(stranger).access.listAccess({ project: P }), "NOT_FOUND", { grows: 1 });
  });
});

describe("the gRPC port", () => {
  const call = (path: string, request: Buffer, metadata = new grpc.Metadata()): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const client = new grpc.Client(rig.server.grpc, grpc.credentials.createInsecure());
      const same = (bytes: Buffer): Buffer => bytes;
      client.makeUnaryRequest(path, same, same, request, metadata, (error, answer) => {
        client.close();
        if (error === null) resolve(answer ?? Buffer.alloc(0));
        else reject(new Error(error.message, { cause: error }));
      });
    });

  const CREATE_SCHEMA = "/animus.datapilot.v1.DatasetService/CreateSchema";
  /** The code that a request of Dana's ends with. */
  const codeOf = (path: string, request: Buffer): Promise<grpc.status | undefined> => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${dana}`);
    return call(path, request, metadata).then(
      () => undefined,
      (error: Error) => (error.cause as grpc.ServiceError).code,
    );
  };

  it("refuses fields that it does not know, and bytes that are no message", async () => {
    const before = await rig.size();
    const project = Buffer.from([0x0a, P.length, ...Buffer.from(P)]);
    expect(await codeOf(CREATE_SCHEMA, Buffer.concat([project, Buffer.from([0xa0, 0x38, 0x01])]))).toBe(
      grpc.status.INVALID_ARGUMENT,
    );
    for (const bytes of [[0xff], [0x0a, 0x7f, 0x41], [0x0a, 0x01, 0xff]])
      expect(await codeOf(CREATE_SCHEMA, Buffer.from(bytes))).not.toBeUndefined();
    expect(await rig.size()).toBe(before);
  });

  it("survives a message that nests without end", async () => {
    const before = await rig.size();
    // schema { fields { children { children … } } }
    let field: Buffer = Buffer.alloc(0);
    const length = (n: number): Buffer => {
      const bytes: number[] = [];
      for (; n >= 128; n = Math.floor(n / 128)) bytes.push((n % 128) | 128);
      return Buffer.from([...bytes, n]);
    };
    const nested: Buffer[] = [];
    let size = 0;
    for (let depth = 0; depth < 50_000; depth++) {
      const head = Buffer.concat([Buffer.from([0x22]), length(size)]);
      nested.push(head);
      size += head.length;
    }
    field = Buffer.concat(nested.toReversed());
    const wrap = (tag: number, bytes: Buffer): Buffer =>
      Buffer.concat([Buffer.from([tag]), length(bytes.length), bytes]);
    expect(await codeOf(CREATE_SCHEMA, wrap(0x22, wrap(0x12, field)))).not.toBeUndefined();
    expect(await rig.size()).toBe(before);
    expect((await rig.as(dana).access.whoAmI({})).name).toBe("dana");
  });

  it("says that it serves, and each of its services", async () => {
    const SERVING = Buffer.from([0x08, 0x01]);
    expect(await call("/grpc.health.v1.Health/Check", Buffer.alloc(0))).toEqual(SERVING);
    const name = Buffer.from("animus.datapilot.v1.RunService");
    const asked = Buffer.concat([Buffer.from([0x0a, name.length]), name]);
    expect(await call("/grpc.health.v1.Health/Check", asked)).toEqual(SERVING);
  });

  it("describes its services", async () => {
    const client = new grpc.Client(rig.server.grpc, grpc.credentials.createInsecure());
    const same = (bytes: Buffer): Buffer => bytes;
    const stream = client.makeBidiStreamRequest(
      "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
      same,
      same,
    );
    stream.write(Buffer.from([0x3a, 0x01, 0x2a]));
    const answer = await new Promise<Buffer>((resolve, reject) => {
      stream.once("data", resolve);
      stream.once("error", reject);
    });
    stream.end();
    client.close();
    for (const service of ["AccessService", "ArtifactService", "LedgerService", "RunService"])
      expect(answer.toString("latin1")).toContain(`animus.datapilot.v1.${service}`);
  });
});

describe("what stays behind", () => {
  it("holds no secret in the server's lines", () => {
    const lines = rig.server.lines.join("\n");
    expect(rig.server.lines.length).toBeGreaterThan(100);
    for (const secret of rig.secrets) expect(lines.includes(secret), "a secret stands in the log").toBe(false);
    expect(lines).not.toMatch(/dpr?_[A-Za-z0-9_-]{43}/);
    expect(lines).not.toMatch(/bearer/i);
    expect(lines).not.toContain("call failed");
  });

  it("is sealed at the end, and serves a public log after it", async () => {
    const slow = slowRequest(rig.server.url);
    expect(await rig.server.stop()).toBe(0);
    slow.destroy();
    const dir = join(folder.path, "home");
    rig = await Rig.start(dir, people, ["--public-log"]);
    const size = await rig.size();
    const { resources } = await rig.admin.ledger.listRecords({ newestFirst: true, pageSize: 1 });
    expect(resources[0]).toMatchObject({ kind: "ledger.seal", logIndex: size - 1 });
    await expect.poll(async () => (await fetch(`${rig.server.url}/log/checkpoint`)).status).toBe(200);
    const published = Number((await (await fetch(`${rig.server.url}/log/checkpoint`)).text()).split("\n")[1]);
    expect(published).toBe(size);
    const name = size >= 256 ? "000" : `000.p/${size}`;
    const entries = await fetch(`${rig.server.url}/log/tile/entries/${name}`);
    expect([entries.status, entries.headers.get("cache-control")]).toEqual([200, "max-age=604800, immutable"]);
    const proof = await fetch(`${rig.server.url}/log/proof/${resources[0]?.record ?? ""}`);
    expect(parseProofFile(new Uint8Array(await proof.arrayBuffer())).index).toBe(size - 1);
    expect((await fetch(`${rig.server.url}/log/proof/${NOWHERE}`)).status).toBe(404);
    const genesis = await readFile(join(dir, "trust", "genesis"), "utf8");
    expect((await fetch(`${rig.server.url}/log/proof/${genesis.trim()}`)).status).toBe(200);
  });
});

/** A client that never ends its headers does not keep the server. */
function slowRequest(url: string): http.ClientRequest {
  const request = http.request(`${url}/projects/fraud/artifacts`, { method: "POST" });
  request.on("error", () => undefined);
  request.write("{");
  return request;
}
