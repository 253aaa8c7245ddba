/**
 * A ledger with people in it, for tests that ask a real server for what it must refuse: an administrator who audits, Vera who signs,
 * and whoever a test needs. `Rig.refused` holds what every refusal is held to.
 */
import { createHash } from "node:crypto";
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { type Client, Code, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { expect } from "vitest";
import { PrincipalType } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { Custody } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { type ApprovalRequest, Meaning, PolicySchema } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { AccessService, ProjectService } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { ArtifactService } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { DatasetService, QualityService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { ApprovalService, PolicyService } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { ModelService } from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { EnvironmentService, RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { StatusService } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { faultOf, type RemoteFault } from "../../src/api/faults.ts";
import { datapilot, grpcTransport, httpTransport, type ServerProcess, startServer } from "./server.ts";

export const VIAS = ["grpc", "http/1.1", "http/2"] as const;
export type Via = (typeof VIAS)[number];

/** Slower than what one principal's denials are recorded one by one at. */
const PACE_MS = 120;

export interface People {
  readonly admin: string;
  readonly vera: string;
}

export interface Services {
  readonly access: Client<typeof AccessService>;
  readonly approvals: Client<typeof ApprovalService>;
  readonly artifacts: Client<typeof ArtifactService>;
  readonly datasets: Client<typeof DatasetService>;
  readonly environments: Client<typeof EnvironmentService>;
  readonly ledger: Client<typeof LedgerService>;
  readonly models: Client<typeof ModelService>;
  readonly policies: Client<typeof PolicyService>;
  readonly projects: Client<typeof ProjectService>;
  readonly quality: Client<typeof QualityService>;
  readonly runs: Client<typeof RunService>;
  readonly status: Client<typeof StatusService>;
}

export interface Expected {
  /** Entries by which the log grows; none when absent. */
  readonly grows?: number;
  /** How many of the ten words of the message matter: what it must say. */
  readonly says?: RegExp;
}

/** `datapilot init` with a second person, who signs what the baseline has signed. */
export async function initWithVera(dir: string): Promise<People> {
  const { code, stderr, stdout } = await datapilot([
    "init",
    "--dir",
    dir,
    "--approver",
    "vera=Vera Lindqvist",
    "--json",
  ]);
  if (code !== 0) throw new Error(`init ended with ${code}: ${stderr}${stdout}`);
  const { tokens } = JSON.parse(stdout) as { tokens: Readonly<Record<string, string>> };
  return { admin: tokens["admin"] ?? "", vera: tokens["vera"] ?? "" };
}

export class Rig implements AsyncDisposable {
  readonly server: ServerProcess;
  readonly people: People;
  /** Every secret that this rig was told. */
  readonly secrets: string[];
  readonly admin: Services;
  readonly vera: Services;
  #made = 0;

  constructor(server: ServerProcess, people: People) {
    this.server = server;
    this.people = people;
    this.secrets = [people.admin, people.vera];
    this.admin = this.as(people.admin);
    this.vera = this.as(people.vera);
  }

  static async start(dir: string, people: People, args: readonly string[] = []): Promise<Rig> {
    const server = await startServer(dir, { args: ["--log-level", "debug", ...args], linesKept: 100_000 });
    return new Rig(server, people);
  }

  transport(token: string, via: Via = "grpc"): Transport {
    if (via === "grpc") return grpcTransport(this.server, token);
    if (via === "http/1.1") return httpTransport(this.server, token);
    const bearer: Interceptor = (next) => (request) => {
      request.header.set("authorization", `Bearer ${token}`);
      return next(request);
    };
    return createConnectTransport({
      baseUrl: this.server.url,
      httpVersion: "2",
      interceptors: [bearer],
      useBinaryFormat: false,
    });
  }

  as(token: string, via: Via = "grpc"): Services {
    const t = this.transport(token, via);
    return {
      access: createClient(AccessService, t),
      approvals: createClient(ApprovalService, t),
      artifacts: createClient(ArtifactService, t),
      datasets: createClient(DatasetService, t),
      environments: createClient(EnvironmentService, t),
      ledger: createClient(LedgerService, t),
      models: createClient(ModelService, t),
      policies: createClient(PolicyService, t),
      projects: createClient(ProjectService, t),
      quality: createClient(QualityService, t),
      runs: createClient(RunService, t),
      status: createClient(StatusService, t),
    };
  }

  async project(name: string): Promise<void> {
    await this.admin.projects.createProject({ project: { name } });
  }

  /** A person with roles in a project; Vera signs what the baseline has signed. */
  async person(name: string, project: string, ...roles: readonly string[]): Promise<string> {
    const { access } = this.admin;
    await access.createPrincipal({
      principal: { displayName: `${name} of ${project}`, name, type: PrincipalType.HUMAN },
    });
    for (const role of roles) await this.bind(name, project, role);
    const { secret } = await access.createToken({ principal: name });
    this.secrets.push(secret);
    return secret;
  }

  bind(principal: string, project: string, role: string): Promise<void> {
    return this.signed(() => this.admin.access.createRoleBinding({ principal, project, role }), project);
  }

  /** Asks for something, and has Vera sign it when it waits. */
  async signed(ask: () => Promise<unknown>, project: string): Promise<void> {
    try {
      await ask();
    } catch (error) {
      const request = faultOf(error)?.metadata["approval_request"];
      if (request === undefined) throw error;
      const { request: asked } = await this.vera.approvals.getApprovalRequest({ name: request, project });
      const body = asked?.body.value as ApprovalRequest;
      const { approval } = body.requirements[0] ?? {};
      await this.vera.approvals.approve({
        actionDigest: body.actionDigest,
        meaning: approval?.meaning ?? Meaning.APPROVED,
        project,
        request,
        statement: "I have looked at it.",
      });
    }
  }

  /** A policy of a project, in force. */
  async policy(token: string, project: string, body: JsonObject): Promise<Resource> {
    const { policies, status } = this.as(token);
    const { resource } = await policies.createPolicy({ policy: fromJson(PolicySchema, body as JsonValue), project });
    if (resource === undefined) throw new Error("assertion failed: a policy is recorded");
    await this.signed(
      () => status.transition({ name: resource.record, project, reason: "for a test", to: "active" }),
      project,
    );
    return resource;
  }

  /** Bytes in the store and their artifact. */
  async artifact(token: string, project: string, text: string) {
    const bytes = new TextEncoder().encode(text);
    const artifact = { digest: digestOf(text), sizeBytes: bytes.length };
    const { artifacts } = this.as(token);
    const { uploadUrl } = await artifacts.createArtifact({ artifact, project });
    if (uploadUrl !== "") expect((await fetch(uploadUrl, { body: bytes, method: "PUT" })).ok).toBe(true);
    await artifacts.completeArtifact({ artifact, project });
    return artifact;
  }

  /** A version of a new dataset, of one file. */
  async version(token: string, project: string, name: string): Promise<Resource> {
    const { datasets } = this.as(token);
    const { digest, sizeBytes } = await this.artifact(token, project, `rows of ${name}`);
    await datasets.createDataset({ dataset: { name }, project });
    const { resource } = await datasets.createDatasetVersion({
      dataset: name,
      project,
      version: { custody: Custody.LEDGER, files: [{ digest, path: "rows.jsonl", sizeBytes }], rows: 1 },
    });
    if (resource === undefined) throw new Error("assertion failed: a version is recorded");
    return resource;
  }

  async size(): Promise<number> {
    return (await this.admin.ledger.getHealth({})).treeSize;
  }

  /** A request id that was not used before. */
  id(): string {
    return `bad-${++this.#made}`;
  }

  /**
   * The fault that `ask` ends in: with this reason, words that say what to do, and nothing in the log but what is recorded of it.
   */
  async refused(ask: () => Promise<unknown>, reason: string, { grows = 0, says }: Expected = {}): Promise<RemoteFault> {
    const before = await this.size();
    let outcome: unknown;
    let error: unknown;
    try {
      outcome = await ask();
    } catch (thrown) {
      error = thrown;
    }
    if (error === undefined) expect.fail(`${reason} was expected, but the answer was ${show(outcome)}`);
    const fault = faultOf(error);
    if (fault === undefined)
      throw new Error(`${reason} was expected, but the error has no reason: ${show(error)}`, { cause: error });
    expect(fault.reason, fault.message).toBe(reason);
    expect(fault.message.length).toBeGreaterThan(15);
    if (says !== undefined) expect(fault.message).toMatch(says);
    expect(fault.code).not.toBe(Code.Internal);
    for (const secret of this.secrets) expect(fault.message).not.toContain(secret);
    expect((await this.size()) - before, `entries after ${reason}: ${fault.message}`).toBe(grows);
    if (grows > 0) await new Promise((resolve) => setTimeout(resolve, PACE_MS));
    return fault;
  }

  /** Bodies of the denials that an auditor sees in a project, newest first. */
  async denials(project: string) {
    const { resources } = await this.admin.access.listAccess({ orderBy: "log_index desc", pageSize: 1_000, project });
    return resources.flatMap((r) => (r.body.case === "access" ? [{ actor: r.actor, ...r.body.value }] : []));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }
}

export const digestOf = (text: string): string => `sha256:${createHash("sha256").update(text).digest("hex")}`;

const show = (value: unknown): string =>
  value instanceof Error
    ? `${value.name} ${value.message}`
    : JSON.stringify(value, (_, v: unknown) => (typeof v === "bigint" ? String(v) : v)).slice(0, 400);
