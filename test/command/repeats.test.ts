/**
 * What was recorded under a request id is answered again, whatever happened since: clocks that were set, names and aliases that mean
 * something else, policies that would refuse it, rights that were taken away, values and bytes that were erased.
 */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PrincipalSchema, PrincipalType, ProjectSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { Custody } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { RunStatus } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { Meaning } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import * as access from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import * as artifacts from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import * as data from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import * as governance from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import * as models from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { Receipt, WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import * as runs from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import * as status from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { batchAppendRunEvents } from "../../src/command/append-run-events.ts";
import { approve } from "../../src/command/approve.ts";
import { textOf } from "../../src/command/body.ts";
import { createDataset } from "../../src/command/create-dataset.ts";
import { createDatasetVersion } from "../../src/command/create-dataset-version.ts";
import { createModel } from "../../src/command/create-model.ts";
import { createPolicy } from "../../src/command/create-policy.ts";
import { createPrincipal } from "../../src/command/create-principal.ts";
import { createProject } from "../../src/command/create-project.ts";
import { createRoleBinding } from "../../src/command/create-role-binding.ts";
import { createToken } from "../../src/command/create-token.ts";
import { finishRun } from "../../src/command/finish-run.ts";
import { batchGetDownloadUrls } from "../../src/command/get-download-urls.ts";
import { formatManifest } from "../../src/command/manifest.ts";
import { setAlias } from "../../src/command/set-alias.ts";
import { startRun } from "../../src/command/start-run.ts";
import { transition } from "../../src/command/transition.ts";
import type { Caller } from "../../src/identity/caller.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { Lab } from "./lab.ts";
import { createWorld, moveStatus, newProject, refused, type World } from "./world.ts";

const HOUR_MS = 3_600_000;

/** Who asks authenticates anew each time, as the edge does. */
type Ask = () => Promise<Receipt | undefined>;

let world: World;
let lab: Lab;
let steward: Caller;
const asks = new Map<string, Ask>();
const first = new Map<string, Receipt>();

const again = (caller: Caller): Caller => ({ ...caller, authenticatedAtMs: world.clock.ms });
const person = (name: string): Caller => world.caller(assertDefined(world.secrets.get(name), name));
const size = (): number => world.deps.log.index.watermark.size;
const receiptOf = async (answer: Promise<WriteResponse>): Promise<Receipt | undefined> => (await answer).receipt;

const signed = (target: string): JsonObject => ({
  name: target.replaceAll(".", "-"),
  rules: [
    {
      approval: { groups: ["data-stewards"], meaning: "MEANING_APPROVED", quorum: 1 },
      id: "signed",
      message: "Somebody signs.",
      otherwise: "OTHERWISE_REQUIRE_APPROVAL",
      require: "false",
    },
  ],
  target,
});

beforeAll(async () => {
  world = await createWorld({
    approvers: [{ displayName: "Ada the approver", name: "ada" }],
    policies: [signed("dataset.version.transition")],
  });
  await newProject(world, "fraud");
  lab = new Lab(world, await world.member("fraud", "contributor"), "fraud");
  steward = await world.member("fraud", "steward");
  const { deps } = world;
  const project = "fraud";
  const me = (): Caller => again(lab.caller);
  const root = (): Caller => again(world.admin);

  const one = await lab.dataset("rows", "one");
  const two = await lab.dataset("rows", "two");
  const held = await world.artifact(lab.caller, project, "bytes");
  asks.set("a dataset", () =>
    receiptOf(
      createDataset(
        deps,
        me(),
        create(data.CreateDatasetRequestSchema, { dataset: { name: "x" }, project, requestId: "r-dataset" }),
      ),
    ),
  );
  asks.set("a version", () =>
    receiptOf(
      createDatasetVersion(
        deps,
        me(),
        create(data.CreateDatasetVersionRequestSchema, {
          dataset: "rows",
          project,
          requestId: "r-version",
          version: {
            custody: Custody.LEDGER,
            files: [{ digest: held.digest, path: "a", sizeBytes: held.sizeBytes }],
            rows: 3,
          },
        }),
      ),
    ),
  );
  asks.set("a model", () =>
    receiptOf(
      createModel(
        deps,
        me(),
        create(models.CreateModelRequestSchema, {
          model: { intendedUse: "to test", name: "m", tier: 1 },
          project,
          requestId: "r-model",
        }),
      ),
    ),
  );
  asks.set("an alias", () =>
    receiptOf(
      setAlias(
        deps,
        me(),
        create(status.SetAliasRequestSchema, { alias: "best", project, requestId: "r-alias", target: one.record }),
      ),
    ),
  );
  asks.set("a run of what an alias names", async () => {
    const plan = create(runs.RunPlanSchema, {
      run: {
        ci: { initiator: "someone@example.org", provider: "ci" },
        command: ["train"],
        inputs: [{ record: "rows@best", role: 1 }],
        purpose: 1,
      },
    });
    return (await startRun(deps, me(), create(runs.StartRunRequestSchema, { plan, project, requestId: "r-run" })))
      .receipt;
  });
  asks.set("a move that waits", () =>
    receiptOf(
      transition(
        deps,
        again(steward),
        create(status.TransitionRequestSchema, {
          name: two.record,
          project,
          reason: "a test",
          requestId: "r-move",
          to: "approved",
        }),
      ),
    ),
  );
  let digest = "";
  let request = "";
  asks.set("a vote", () =>
    receiptOf(
      approve(
        deps,
        person("ada"),
        create(governance.ApproveRequestSchema, {
          actionDigest: digest,
          meaning: Meaning.APPROVED,
          project,
          request,
          requestId: "r-vote",
          statement: "I have looked at it.",
        }),
      ),
    ),
  );
  const run = await lab.running();
  asks.set("a report", async () => {
    const batches = [{ metrics: [{ key: "loss", step: 1, value: 0.5 }], seq: 0 }];
    const asked = create(runs.BatchAppendRunEventsRequestSchema, {
      batches,
      project,
      requestId: "r-report",
      run: run.id,
    });
    return (await batchAppendRunEvents(deps, again(run.token), asked)).written.receipt(0);
  });
  asks.set("an end", () =>
    receiptOf(
      finishRun(
        deps,
        again(run.token),
        create(runs.FinishRunRequestSchema, {
          finish: { batches: 1, status: RunStatus.SUCCEEDED },
          project,
          requestId: "r-finish",
          run: run.id,
        }),
      ),
    ),
  );
  asks.set("addresses", async () => {
    const asked = create(artifacts.BatchGetDownloadUrlsRequestSchema, {
      artifacts: [held.record],
      project,
      requestId: "r-urls",
    });
    return (await batchGetDownloadUrls(deps, me(), asked)).receipt;
  });
  asks.set("a person", () => {
    const principal = create(PrincipalSchema, { displayName: "Bea", name: "bea", type: PrincipalType.HUMAN });
    return receiptOf(
      createPrincipal(
        deps,
        root(),
        create(access.CreatePrincipalRequestSchema, { principal, requestId: "r-principal" }),
      ),
    );
  });
  asks.set("a token", async () => {
    const asked = create(access.CreateTokenRequestSchema, { days: 3, principal: "bea", requestId: "r-token" });
    return (await createToken(deps, root(), asked)).receipt;
  });
  asks.set("a role", () =>
    receiptOf(
      createRoleBinding(
        deps,
        root(),
        create(access.CreateRoleBindingRequestSchema, {
          principal: "bea",
          project,
          requestId: "r-role",
          role: "viewer",
        }),
      ),
    ),
  );
  asks.set("a project", () =>
    receiptOf(
      createProject(
        deps,
        root(),
        create(access.CreateProjectRequestSchema, {
          project: create(ProjectSchema, { name: "new" }),
          requestId: "r-project",
        }),
      ),
    ),
  );
  for (const [name, ask] of asks) {
    first.set(name, assertDefined(await ask(), name));
    if (name !== "a move that waits") continue;
    using reader = deps.log.index.reader();
    const [waiting] = reader.list({ kinds: ["approval.request"], limit: 10 });
    request = assertDefined(reader.entry(assertDefined(waiting, "a request")), "an entry").record;
    digest = textOf(assertDefined(reader.record(request as RecordId), "a record").record.body, "action_digest");
  }
});
afterAll(() => world[Symbol.asyncDispose]());

/** In this order, and none is undone. */
const SINCE: readonly (readonly [string, () => Promise<unknown> | void])[] = [
  ["nothing", () => undefined],
  ["the clock was set back by ten minutes", () => void (world.clock.ms -= HOUR_MS / 6)],
  ["the clock was set back by a day", () => void (world.clock.ms -= 24 * HOUR_MS)],
  ["the clock went on by two days", () => void (world.clock.ms += 48 * HOUR_MS)],
  [
    "the alias names something else",
    () =>
      setAlias(
        world.deps,
        again(lab.caller),
        create(status.SetAliasRequestSchema, { alias: "best", project: "fraud", target: "rows@v2" }),
      ),
  ],
  [
    "a policy refuses such a thing",
    async () => {
      for (const target of ["run.start", "alias.set", "artifact.download"]) {
        const policy = {
          name: `no-${target.replace(".", "-")}`,
          rules: [{ id: "no", message: "No.", require: "false" }],
          target,
        };
        const author = await world.member("fraud", "policy-author");
        const made = await createPolicy(
          world.deps,
          author,
          create(governance.CreatePolicyRequestSchema, { policy, project: "fraud" }),
        );
        await moveStatus(world, assertDefined(made.resource, "a policy").record as RecordId, "draft", "active");
      }
    },
  ],
  [
    "the voter's name was erased",
    async () => {
      using reader = world.deps.log.index.reader();
      for (const kind of ["principal", "approval"] as const)
        for (const at of reader.list({ kinds: [kind], limit: 100 })) {
          const { body } = assertDefined(
            reader.record(assertDefined(reader.entry(at), "an entry").record),
            "a record",
          ).record;
          const name =
            kind === "principal" ? textOf(body, "display_name") : textOf(body["signer"] as JsonObject, "printed_name");
          await world.deps.personal.remove(name);
        }
    },
  ],
];

describe.each(SINCE)("since then: %s", (name, happen) => {
  it("answers every request as before", async () => {
    await happen();
    const before = size();
    for (const [what, ask] of asks) {
      const answer = await ask().catch((error: unknown) => {
        throw new Error(`${what}, ${name}: ${String(error)}`, { cause: error });
      });
      expect(answer, what).toMatchObject({ existing: true, logIndex: first.get(what)?.logIndex });
    }
    expect(size()).toBe(before);
  });
});

it("tells who may not ask any more where it was recorded", async () => {
  const leaver = await world.member("fraud");
  const bound = await createRoleBinding(
    world.deps,
    again(world.admin),
    create(access.CreateRoleBindingRequestSchema, { principal: leaver.name, project: "fraud", role: "contributor" }),
  );
  const ask = (requestId: string) =>
    createDataset(
      world.deps,
      again(leaver),
      create(data.CreateDatasetRequestSchema, { dataset: { name: "left" }, project: "fraud", requestId }),
    );
  const { receipt } = await ask("r-left");
  await moveStatus(world, assertDefined(bound.resource, "a binding").record as RecordId, "active", "revoked");
  const told = await refused(() => ask("r-left"), "NOT_FOUND");
  expect(told.metadata).toMatchObject({ recorded_index: String(receipt?.logIndex) });
  expect((await refused(() => ask("r-other"), "NOT_FOUND")).metadata).not.toHaveProperty("recorded_index");
});

it("tells where it was recorded when what it names is gone", async () => {
  const { caller } = lab;
  const held = await world.artifact(caller, "fraud", "rows of a manifest");
  const bytes = formatManifest([{ digest: held.digest, path: "a", sizeBytes: held.sizeBytes }]);
  const manifest = await world.artifact(caller, "fraud", new TextDecoder().decode(bytes));
  const ask = (deps = world.deps) =>
    createDatasetVersion(
      deps,
      again(caller),
      create(data.CreateDatasetVersionRequestSchema, {
        dataset: "rows",
        manifest: manifest.record,
        project: "fraud",
        requestId: "r-manifest",
        version: { custody: Custody.LEDGER },
      }),
    );
  const { receipt } = await ask();
  // Erased, with what is asked of its bytes.
  const erased = new Proxy(world.deps.store, {
    get: (store, name) =>
      name === "head" || name === "open"
        ? () => Promise.resolve(null)
        : (Reflect.get(store, name) as (...given: unknown[]) => unknown).bind(store),
  });
  const told = await refused(() => ask({ ...world.deps, store: erased }), "ERASED");
  expect(told.metadata).toMatchObject({ recorded_index: String(receipt?.logIndex) });
});
