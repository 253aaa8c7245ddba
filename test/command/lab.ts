/** A project at work, for tests of runs, models and lineage: data, environments, runs and what they put out. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Custody, type SchemaFieldSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import {
  Assurance,
  FileRole,
  InputRole,
  Purpose,
  RunBatchSchema,
  RunStatus,
  Tier,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import * as data from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import * as models from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import * as runs from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { batchAppendRunEvents } from "../../src/command/append-run-events.ts";
import { createCode } from "../../src/command/create-code.ts";
import { createDataset } from "../../src/command/create-dataset.ts";
import { createDatasetVersion } from "../../src/command/create-dataset-version.ts";
import { createEnvironment } from "../../src/command/create-environment.ts";
import { createEnvironmentLock } from "../../src/command/create-environment-lock.ts";
import { createModel } from "../../src/command/create-model.ts";
import { createModelVersion } from "../../src/command/create-model-version.ts";
import { createSchema } from "../../src/command/create-schema.ts";
import { finishRun } from "../../src/command/finish-run.ts";
import { startRun } from "../../src/command/start-run.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { World } from "./world.ts";

export const sha = (c: string): string => `sha256:${c.repeat(64)}`;
export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

export interface Run {
  readonly id: string;
  /** Who holds its token. */
  readonly token: Caller;
}

export class Lab {
  readonly world: World;
  readonly caller: Caller;
  readonly project: string;

  constructor(world: World, caller: Caller, project: string) {
    this.world = world;
    this.caller = caller;
    this.project = project;
  }

  async dataset(name: string, text: string, derivedFrom: readonly string[] = [], schema = ""): Promise<Resource> {
    const { caller, project, world } = this;
    const { deps } = world;
    await createDataset(deps, caller, create(data.CreateDatasetRequestSchema, { project, dataset: { name } }));
    const { digest, sizeBytes } = await world.artifact(caller, project, text);
    const files = [{ path: "rows.jsonl", digest, sizeBytes }];
    const version = { custody: Custody.LEDGER, files, rows: text.length };
    const request = { dataset: name, derivedFrom: [...derivedFrom], project, schema, version };
    const made = await createDatasetVersion(deps, caller, create(data.CreateDatasetVersionRequestSchema, request));
    return assertDefined(made.resource, "a version");
  }

  async schema(name: string, fields: readonly MessageInitShape<typeof SchemaFieldSchema>[]): Promise<Resource> {
    const request = { project: this.project, schema: { fields: [...fields], name } };
    const made = await createSchema(this.world.deps, this.caller, create(data.CreateSchemaRequestSchema, request));
    return assertDefined(made.resource, "a schema");
  }

  async lock(name: string, packages = sha("a")): Promise<Resource> {
    const { caller, project } = this;
    const { deps } = this.world;
    await createEnvironment(
      deps,
      caller,
      create(runs.CreateEnvironmentRequestSchema, { environment: { name }, project }),
    );
    const lock = {
      images: [{ digest: sha("b"), name: "registry/py" }],
      lockfiles: [{ digest: sha("c"), path: "uv.lock" }],
      packagesDigest: packages,
    };
    const request = create(runs.CreateEnvironmentLockRequestSchema, { environment: name, lock, project });
    return assertDefined((await createEnvironmentLock(deps, caller, request)).resource, "a lock");
  }

  async code(commit = COMMIT): Promise<Resource> {
    const code = { commit, repository: "https://git.example/fraud" };
    const request = create(runs.CreateCodeRequestSchema, { code, project: this.project });
    return assertDefined((await createCode(this.world.deps, this.caller, request)).resource, "code");
  }

  plan(
    inputs: readonly string[] = [],
    more: MessageInitShape<typeof runs.RunPlanSchema> = {},
    run: MessageInitShape<typeof import("../../gen/ts/animus/datapilot/record/v1/execution_pb.ts").RunSchema> = {},
  ): runs.RunPlan {
    const { $typeName: _, ...rest } = create(runs.RunPlanSchema, more);
    return create(runs.RunPlanSchema, {
      ...rest,
      run: {
        command: ["python", "train.py"],
        inputs: inputs.map((record) => ({ record, role: InputRole.TRAIN })),
        purpose: Purpose.EXPLORATION,
        ...run,
      },
    });
  }

  start(plan: runs.RunPlan, requestId = ""): Promise<runs.StartRunResponse> {
    const request = create(runs.StartRunRequestSchema, { plan, project: this.project, requestId });
    return startRun(this.world.deps, this.caller, request);
  }

  async running(plan: runs.RunPlan = this.plan()): Promise<Run> {
    const started = await this.start(plan);
    return { id: assertDefined(started.run, "a run").record, token: this.world.caller(started.runToken) };
  }

  batch(run: Run, seq: number, batch: MessageInitShape<typeof RunBatchSchema>) {
    const { $typeName: _, ...rest } = create(RunBatchSchema, batch);
    const request = { batches: [{ ...rest, seq }], project: this.project, run: run.id };
    return batchAppendRunEvents(this.world.deps, run.token, create(runs.BatchAppendRunEventsRequestSchema, request));
  }

  /** A running run that put out a file. */
  async output(run: Run, text: string, seq = 0): Promise<{ digest: string; sizeBytes: number; path: string }> {
    const { digest, sizeBytes } = await this.world.artifact(this.caller, this.project, text);
    const path = "model.json";
    await this.batch(run, seq, {
      files: [{ assurance: Assurance.OBSERVED, digest, path, role: FileRole.OUTPUT, sizeBytes }],
    });
    return { digest, path, sizeBytes };
  }

  finish(run: Run, batches: number, status: RunStatus = RunStatus.SUCCEEDED) {
    const finish = { batches, status };
    return finishRun(
      this.world.deps,
      run.token,
      create(runs.FinishRunRequestSchema, { finish, project: this.project, run: run.id }),
    );
  }

  async model(name: string): Promise<void> {
    const model = { intendedUse: "to test", name, tier: Tier.LOW };
    await createModel(
      this.world.deps,
      this.caller,
      create(models.CreateModelRequestSchema, { model, project: this.project }),
    );
  }

  version(
    model: string,
    files: readonly { path: string; digest: string; sizeBytes: number }[],
    producedBy: readonly string[],
    more: MessageInitShape<typeof models.CreateModelVersionRequestSchema> = {},
    caller = this.caller,
  ) {
    const { $typeName: _, ...rest } = create(models.CreateModelVersionRequestSchema, more);
    const request = {
      ...rest,
      model,
      producedBy: [...producedBy],
      project: this.project,
      version: { files: [...files] },
    };
    return createModelVersion(this.world.deps, caller, create(models.CreateModelVersionRequestSchema, request));
  }
}
