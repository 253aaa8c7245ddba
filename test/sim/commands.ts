/**
 * The scenario of a server below its edge: people and services who ask for what the real commands do, at the same time, against
 * each other. Datasets with one name; votes that are given twice, and by more people than are needed; a role that is taken away
 * while it is used; runs that report and are ended twice.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { PrincipalSchema, PrincipalType, ProjectSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { Custody } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { Purpose, RunStatus } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { type ApprovalRequest, Meaning } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import * as access from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import * as data from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { ApproveRequestSchema } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import type { Receipt, Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import * as runs from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { batchAppendRunEvents } from "../../src/command/append-run-events.ts";
import { approve } from "../../src/command/approve.ts";
import { bootstrap } from "../../src/command/bootstrap.ts";
import type { Deps } from "../../src/command/context.ts";
import { createDataset } from "../../src/command/create-dataset.ts";
import { createDatasetVersion } from "../../src/command/create-dataset-version.ts";
import { createPrincipal } from "../../src/command/create-principal.ts";
import { createProject } from "../../src/command/create-project.ts";
import { createRoleBinding } from "../../src/command/create-role-binding.ts";
import { createToken } from "../../src/command/create-token.ts";
import { Denials } from "../../src/command/denials.ts";
import { finishRun } from "../../src/command/finish-run.ts";
import { createPersonalStore } from "../../src/command/personal.ts";
import { startRun } from "../../src/command/start-run.ts";
import { transition } from "../../src/command/transition.ts";
import { authenticate } from "../../src/identity/authenticate.ts";
import type { Caller } from "../../src/identity/caller.ts";
import type { Log } from "../../src/log/log.ts";
import type { ValidItem } from "../../src/record/chain.ts";
import type { JsonObject } from "../../src/record/json.ts";
import type { LedgerRecord } from "../../src/record/record.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { LogIndex, RecordId, TreeSize } from "../../src/std/brand.ts";
import { parseHex } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { quietLogger } from "../log/world.ts";
import { holdNames } from "./datasets.ts";
import type { Acknowledgement } from "./history.ts";
import { hold } from "./invariants.ts";
import { type Client, GaveUp, type Scenario, type Service } from "./scenario.ts";

const PROJECT = "fraud";
const APPROVERS = ["ada", "ben", "cleo"];
const QUORUM = 2;
const NAMES = 4;
const FILE = { digest: `sha256:${"a".repeat(64)}`, path: "rows.jsonl", sizeBytes: 9, uri: "https://data.example/rows" };

/** Two signatures before a version of a dataset moves. */
const POLICY: JsonObject = {
  name: "two-sign",
  rules: [
    {
      approval: { groups: ["data-stewards"], meaning: "MEANING_APPROVED", quorum: QUORUM },
      id: "signed",
      message: "Two people sign.",
      otherwise: "OTHERWISE_REQUIRE_APPROVAL",
      require: "false",
    },
  ],
  target: "dataset.version.transition",
};

/** The parts that commands are given, one set for each log. */
const dependencies = new WeakMap<Log, Deps>();

function depsOf({ log, process: { clock, random }, store }: Service): Deps {
  const known = dependencies.get(log);
  if (known !== undefined) return known;
  const noUrls = (): never => {
    throw new Error("no bytes are put in this scenario");
  };
  const personal = createPersonalStore(store, random);
  const logger = quietLogger;
  const deps: Deps = {
    clock,
    denials: new Denials({ clock, log, logger, personal, random }),
    log,
    logger,
    personal,
    random,
    store,
    uploads: { get: noUrls, put: noUrls },
  };
  dependencies.set(log, deps);
  return deps;
}

/** As the edge does it. A process that does not know a token yet, or a token that has ended, is no answer to the request. */
function callerOf({ log, process }: Service, secret: string): Caller {
  try {
    using reader = log.index.reader();
    return authenticate(reader, secret, process.clock.now(), { address: "192.0.2.7", agent: "sim/1", rpc: "sim" });
  } catch (error) {
    if (error instanceof Fault) throw new GaveUp(error.message);
    throw error;
  }
}

function acknowledgedBy(receipt: Receipt | undefined): Acknowledgement[] {
  if (receipt === undefined) return [];
  const { checkpoint, entry, inclusionProof, leafHash, logIndex, record, treeSize } = receipt;
  const hash = (hex: string): Uint8Array => assertDefined(parseHex(hex), "a hash");
  return [
    {
      id: record as RecordId,
      receipt: {
        checkpoint,
        entry,
        index: logIndex as LogIndex,
        leafHash: hash(leafHash),
        proof: inclusionProof.map(hash),
        size: treeSize as TreeSize,
      },
    },
  ];
}

interface Waiting {
  readonly request: Resource;
  readonly digest: string;
}

interface Member {
  readonly secret: string;
  readonly bindings: readonly string[];
}

class Team {
  secrets: ReadonlyMap<string, string> = new Map();
  readonly contributors: Member[] = [];
  steward: Member | undefined;
  /** Versions that were made, and requests for approval that were opened. */
  readonly versions: string[] = [];
  readonly waiting: Waiting[] = [];

  secretOf(name: string): string {
    return assertDefined(this.secrets.get(name), `the secret of ${name}`);
  }

  async enrol(service: Service): Promise<void> {
    const deps = depsOf(service);
    const people = [...APPROVERS].map((name) => ({ displayName: `${name} the approver`, name }));
    const admin = { displayName: "Root of All", name: "root" };
    ({ secrets: this.secrets } = await bootstrap(deps, { admin, approvers: people, policies: [POLICY] }));
    const root = callerOf(service, this.secretOf("root"));
    const project = create(ProjectSchema, { name: PROJECT });
    await createProject(deps, root, create(access.CreateProjectRequestSchema, { project }));
    const member = async (name: string, role: string): Promise<Member> => {
      const principal = create(PrincipalSchema, { displayName: name, name, type: PrincipalType.SERVICE });
      await createPrincipal(deps, root, create(access.CreatePrincipalRequestSchema, { principal }));
      const asked = create(access.CreateRoleBindingRequestSchema, { principal: name, project: PROJECT, role });
      const { resource } = await createRoleBinding(deps, root, asked);
      const { secret } = await createToken(deps, root, create(access.CreateTokenRequestSchema, { principal: name }));
      return { bindings: [assertDefined(resource, "a binding").record], secret };
    };
    for (const name of ["mia", "noah", "olga"]) this.contributors.push(await member(name, "contributor"));
    this.steward = await member("sten", "steward");
  }
}

type Ask = Pick<Client, "ask" | "scheduler">;

/** Makes datasets whose names collide, and versions of them. */
async function contribute({ ask, scheduler }: Ask, team: Team, who: number, requests: number): Promise<void> {
  const { secret } = assertDefined(team.contributors[who], "a contributor");
  for (let k = 0; k < requests; k++) {
    const name = `set-${scheduler.below(NAMES)}`;
    const requestId = `contribute-${who}-${k}`;
    await ask(requestId, true, async (service) => {
      const request = create(data.CreateDatasetRequestSchema, {
        dataset: { description: requestId, name },
        project: PROJECT,
        requestId,
      });
      return acknowledgedBy((await createDataset(depsOf(service), callerOf(service, secret), request)).receipt);
    });
    await ask(`version-${who}-${k}`, true, async (service) => {
      const version = { custody: Custody.EXTERNAL, files: [FILE], rows: 100 * who + k };
      const request = create(data.CreateDatasetVersionRequestSchema, {
        dataset: name,
        project: PROJECT,
        requestId: `version-${who}-${k}`,
        version,
      });
      const made = await createDatasetVersion(depsOf(service), callerOf(service, secret), request);
      if (made.resource !== undefined) team.versions.push(made.resource.record);
      return acknowledgedBy(made.receipt);
    });
  }
}

const moving = (name: string, to: string, requestId: string) =>
  create(TransitionRequestSchema, { name, project: PROJECT, reason: "the simulation", requestId, to });

/** Asks that versions be approved, as they come. */
async function steward({ ask, scheduler }: Ask, team: Team, requests: number): Promise<void> {
  const { secret } = assertDefined(team.steward, "a steward");
  for (let k = 0, waits = 0; k < requests && waits < 100; waits++) {
    const version = team.versions[k];
    if (version === undefined) {
      await scheduler.sleep(undefined, 400, undefined, "nothing to approve");
      continue;
    }
    const requestId = `approve-${k++}`;
    await ask(requestId, true, async (service) => {
      const asked = await transition(
        depsOf(service),
        callerOf(service, secret),
        moving(version, "approved", requestId),
      );
      const { approvalRequest: request } = asked;
      if (request !== undefined)
        team.waiting.push({ digest: (request.body.value as ApprovalRequest).actionDigest, request });
      return acknowledgedBy(asked.receipt);
    });
  }
}

/** Votes on whatever waits, twice each time. */
async function votes({ ask, scheduler }: Ask, team: Team, name: string, requests: number): Promise<void> {
  const secret = team.secretOf(name);
  for (let k = 0, waits = 0; k < requests && waits < 100; waits++) {
    const waiting = team.waiting[k];
    if (waiting === undefined) {
      await scheduler.sleep(undefined, 500, undefined, "nothing to vote on");
      continue;
    }
    k++;
    const vote = (which: string): Promise<boolean> => {
      const requestId = `vote-${name}-${k}-${which}`;
      return ask(requestId, true, async (service) => {
        const request = create(ApproveRequestSchema, {
          actionDigest: waiting.digest,
          meaning: Meaning.APPROVED,
          project: PROJECT,
          request: waiting.request.record,
          requestId,
          statement: "I have looked at it.",
        });
        return acknowledgedBy((await approve(depsOf(service), callerOf(service, secret), request)).receipt);
      });
    };
    await Promise.all([vote("once"), vote("twice")]);
  }
}

/** Takes the last contributor's role away while it is used. */
async function revoke({ ask, scheduler }: Ask, team: Team): Promise<void> {
  await scheduler.sleep(undefined, scheduler.between(300, 4_000), undefined, "revocation");
  const [binding = ""] = assertDefined(team.contributors.at(-1), "a contributor").bindings;
  await ask("revoke", true, async (service) => {
    const root = callerOf(service, team.secretOf("root"));
    return acknowledgedBy((await transition(depsOf(service), root, moving(binding, "revoked", "revoke"))).receipt);
  });
}

/** A run that reports, and that two ends are said of at the same time. */
async function train({ ask }: Ask, team: Team, which: number): Promise<void> {
  const { secret } = assertDefined(team.contributors[0], "a contributor");
  let run: string | undefined;
  let token = "";
  await ask(`start-${which}`, true, async (service) => {
    const plan: MessageInitShape<typeof runs.RunPlanSchema> = {
      run: { command: ["train", String(which)], purpose: Purpose.EXPLORATION },
    };
    const request = create(runs.StartRunRequestSchema, { plan, project: PROJECT, requestId: `start-${which}` });
    const started = await startRun(depsOf(service), callerOf(service, secret), request);
    run = started.run?.record;
    token = started.runToken;
    return acknowledgedBy(started.receipt);
  });
  // The token is told once: who did not hear it starts another run.
  if (run === undefined || token === "") return;
  const id = run;
  let reported = 0;
  for (let seq = 0; seq < 2; seq++) {
    const requestId = `report-${which}-${seq}`;
    const isHeard = await ask(requestId, true, async (service) => {
      const batches = [{ metrics: [{ key: "loss", step: seq, value: 1 / (1 + seq) }], seq }];
      const request = create(runs.BatchAppendRunEventsRequestSchema, { batches, project: PROJECT, requestId, run: id });
      const { written } = await batchAppendRunEvents(depsOf(service), callerOf(service, token), request);
      return acknowledgedBy(written.receipt(0));
    });
    if (!isHeard) break;
    reported++;
  }
  const end = (status: RunStatus): Promise<boolean> => {
    const requestId = `finish-${which}-${status}`;
    return ask(requestId, true, async (service) => {
      const finish = { batches: reported, status };
      const request = create(runs.FinishRunRequestSchema, { finish, project: PROJECT, requestId, run: id });
      return acknowledgedBy((await finishRun(depsOf(service), callerOf(service, token), request)).receipt);
    });
  };
  await Promise.all([end(RunStatus.SUCCEEDED), end(RunStatus.FAILED)]);
}

export function commands(requests: number): Scenario {
  const team = new Team();
  return {
    clients(client) {
      const asking: Ask = { ask: (...given) => client.ask(...given), scheduler: client.scheduler };
      return [
        ...team.contributors.map((_, who) => () => contribute(asking, team, who, requests)),
        () => steward(asking, team, requests),
        ...APPROVERS.map((name) => () => votes(asking, team, name, requests)),
        () => revoke(asking, team),
        ...[0, 1].map((which) => () => train(asking, team, which)),
      ];
    },
    holdGuards(items) {
      holdNames(items);
      holdVotes(items);
      holdRoles(items);
      holdRuns(items);
    },
    largestGroup: 16,
    lastChange: () => async (service) => {
      const { secret } = assertDefined(team.contributors[0], "a contributor");
      const request = create(data.CreateDatasetRequestSchema, { dataset: { name: "last" }, project: PROJECT });
      return acknowledgedBy((await createDataset(depsOf(service), callerOf(service, secret), request)).receipt);
    },
    prepare: (service) => team.enrol(service),
  };
}

const targetOf = (record: LedgerRecord, rel: string): RecordId | undefined =>
  record.links.find((l) => l.rel === rel)?.to;

/** One vote a person, none after the request was carried out, and it was carried out once and with its quorum. */
function holdVotes(items: readonly ValidItem[]): void {
  const votesOn = new Map<string, Set<string>>();
  const moved = new Map<string, number>();
  for (const { index, record } of items) {
    const request = record?.kind === "approval" ? targetOf(record, "request") : undefined;
    if (record !== null && request !== undefined) {
      const voters = votesOn.get(request) ?? new Set();
      const who = record.actor.principal ?? "";
      hold("I9", !voters.has(who), `entry ${index} is the second vote of ${who}`);
      hold("I9", voters.size < QUORUM, `entry ${index} is a vote after the quorum`);
      votesOn.set(request, voters.add(who));
    }
    if (record?.kind !== "transition" || record.body["to"] !== "approved") continue;
    const subject = targetOf(record, "subject") ?? "";
    hold("I9", !moved.has(subject), `${subject} was approved at ${moved.get(subject)} and again at ${index}`);
    moved.set(subject, index);
    const signed = record.links.filter((l) => l.rel === "approval").length;
    hold("I9", signed >= QUORUM, `entry ${index} approves with ${signed} votes`);
  }
}

/** Nobody writes with a role that was taken away before. */
function holdRoles(items: readonly ValidItem[]): void {
  const holders = new Map<RecordId, string>();
  const revoked = new Set<string>();
  for (const { entry, index, record } of items) {
    if (record === null) continue;
    const { principal } = record.actor;
    const mayNot = principal !== undefined && revoked.has(principal) && record.kind.startsWith("dataset");
    hold("I9", !mayNot, `entry ${index} was written by ${principal}, whose role was revoked`);
    const bound = record.kind === "role.binding" ? targetOf(record, "principal") : undefined;
    if (bound !== undefined) holders.set(entry.record, bound);
    const subject = targetOf(record, "subject");
    const holder = subject === undefined ? undefined : holders.get(subject);
    if (record.kind === "transition" && record.body["to"] === "revoked" && holder !== undefined) revoked.add(holder);
  }
}

/** A run ends once, and reports in order and before that. */
function holdRuns(items: readonly ValidItem[]): void {
  const ended = new Set<string>();
  const reported = new Map<string, number>();
  for (const { index, record } of items) {
    const run = record === null ? undefined : targetOf(record, "run");
    if (record === null || run === undefined) continue;
    if (record.kind === "run.batch" || record.kind === "run.finish")
      hold("I9", !ended.has(run), `entry ${index} is a ${record.kind} of a run that had ended`);
    if (record.kind === "run.finish") ended.add(run);
    if (record.kind === "run.batch") {
      const next = reported.get(run) ?? 0;
      const seq = Number(record.body["seq"] ?? 0);
      hold("I9", seq === next, `entry ${index} is batch ${seq} of its run, and ${next} is the next`);
      reported.set(run, next + 1);
    }
  }
}
