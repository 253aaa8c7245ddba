/**
 * Every RPC and the use case or question that answers it. Translates nothing but names: what a method does stands in `command/` and
 * `query/`.
 */
import { type DescFile, type DescService, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl, ServiceImplSpec } from "@connectrpc/connect";
import {
  AccessService,
  file_animus_datapilot_v1_access,
  ProjectService,
} from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { ArtifactService } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { DatasetService, QualityService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { EvidenceService } from "../../gen/ts/animus/datapilot/v1/evidence_pb.ts";
import { ApprovalService, PolicyService } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { LineageService } from "../../gen/ts/animus/datapilot/v1/lineage_pb.ts";
import { ModelService } from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { GetRequest, ListRequest, WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { RetentionService } from "../../gen/ts/animus/datapilot/v1/retention_pb.ts";
import { EnvironmentService, RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { StatusService } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { approve, reject } from "../command/approve.ts";
import { recorded } from "../command/ask.ts";
import { cancelRun } from "../command/cancel-run.ts";
import { batchCompleteArtifacts, completeArtifact } from "../command/complete-artifact.ts";
import type { Deps } from "../command/context.ts";
import { batchCreateArtifacts, createArtifact } from "../command/create-artifact.ts";
import { createCode } from "../command/create-code.ts";
import { createDataset, updateDataset } from "../command/create-dataset.ts";
import { createDatasetVersion } from "../command/create-dataset-version.ts";
import { createEnvironment, updateEnvironment } from "../command/create-environment.ts";
import { createEnvironmentLock } from "../command/create-environment-lock.ts";
import { createExperiment, updateExperiment } from "../command/create-experiment.ts";
import { createModel, updateModel } from "../command/create-model.ts";
import { createModelVersion } from "../command/create-model-version.ts";
import { createPolicy } from "../command/create-policy.ts";
import { createPrincipal, updatePrincipal } from "../command/create-principal.ts";
import { createProject } from "../command/create-project.ts";
import { createRetention } from "../command/create-retention.ts";
import { createRoleBinding } from "../command/create-role-binding.ts";
import { createSchema } from "../command/create-schema.ts";
import { createToken } from "../command/create-token.ts";
import { exportEvidence } from "../command/export-evidence.ts";
import { finishRun } from "../command/finish-run.ts";
import { batchGetDownloadUrls } from "../command/get-download-urls.ts";
import { heartbeat } from "../command/heartbeat.ts";
import { planRun } from "../command/plan-run.ts";
import { recordOperation } from "../command/record-operation.ts";
import { evaluateGate, reportQuality } from "../command/report-quality.ts";
import { setAlias } from "../command/set-alias.ts";
import { startRun } from "../command/start-run.ts";
import { transition } from "../command/transition.ts";
import { updateProject } from "../command/update-project.ts";
import type { Caller } from "../identity/caller.ts";
import { listAliases } from "../query/aliases.ts";
import { getApprovalRequest } from "../query/approval.ts";
import { backtestPolicy } from "../query/backtest.ts";
import { compareDatasetVersions } from "../query/compare-dataset-versions.ts";
import { compareLocks } from "../query/compare-locks.ts";
import { compareModelVersions } from "../query/compare-model-versions.ts";
import { compareRuns } from "../query/compare-runs.ts";
import { compareSchemas } from "../query/compare-schemas.ts";
import { getDossier } from "../query/dossier.ts";
import { getGate } from "../query/gate.ts";
import { getResource } from "../query/get.ts";
import * as ledger from "../query/ledger.ts";
import { diffClosures, findPaths, getImpact, traverse } from "../query/lineage.ts";
import { type Listed, listResources } from "../query/list.ts";
import { listMetricHistory } from "../query/metric-history.ts";
import { evaluatePolicy, listEffectivePolicies } from "../query/policy.ts";
import { getRun } from "../query/run.ts";
import { testAccess } from "../query/test-access.ts";
import { whoAmI } from "../query/who-am-i.ts";
import { type Edge, guard, refuse } from "./guard.ts";
import { appendRunEvents, batchAppend } from "./run-events.ts";

type Method = (caller: Caller, request: never, context: HandlerContext) => unknown;
type Command<I, O> = (deps: Deps, caller: Caller, request: I, signal?: AbortSignal) => O;

export interface Served {
  readonly service: DescService;
  readonly spec: ServiceImplSpec;
  /** For the router of the HTTP port. */
  readonly implementation: Partial<ServiceImpl<DescService>>;
}

export function createServices(edge: Edge): readonly Served[] {
  const { deps } = edge;
  /** Those that only read. */
  const reads = new WeakSet<object>();
  const reading = <M extends object>(method: M): M => {
    reads.add(method);
    return method;
  };
  const call =
    <I, O>(command: Command<I, O>) =>
    (caller: Caller, request: I, context: HandlerContext): O =>
      command(deps, caller, request, context.signal);
  /** A refusal by policy is recorded, and then told as a fault. */
  const write =
    <I>(command: Command<I, Promise<WriteResponse>>) =>
    async (caller: Caller, request: I, context: HandlerContext): Promise<WriteResponse> => {
      const response = await command(deps, caller, request, context.signal);
      refuse(response);
      return response;
    };
  /** A read: who is refused leaves a record. */
  const read = <I extends object, O>(question: Command<I, O | Promise<O>>) =>
    reading((caller: Caller, request: I, context: HandlerContext): Promise<O> => {
      const project = "project" in request && typeof request.project === "string" ? { project: request.project } : {};
      return recorded(deps, caller, project, async () => question(deps, caller, request, context.signal));
    });
  const getOf = (kind: string, collection?: string) =>
    read((d, c, r: GetRequest) =>
      getResource(d, c, r, { kinds: [kind], ...(collection === undefined ? {} : { collection }) }),
    );
  const listOf = (kind: string, more: Partial<Listed> = {}) =>
    read((d, c, r: ListRequest) => listResources(d, c, r, { kinds: [kind], ...more }));

  const table: readonly (readonly [DescService, Readonly<Record<string, Method>>])[] = [
    [
      LedgerService,
      {
        batchGetRecords: read(ledger.batchGetRecords),
        getCheckpoint: read(ledger.getCheckpoint),
        getConsistencyProof: read(ledger.getConsistencyProof),
        getHealth: read(ledger.getHealth),
        getReceipt: read(ledger.getReceipt),
        getRecord: read(ledger.getRecord),
        listRecords: read(ledger.listRecords),
        recordOperation: write(recordOperation),
        watchEntries: reading(call(ledger.watchEntries)),
      },
    ],
    [
      ProjectService,
      {
        createProject: write(createProject),
        getProject: getOf("project"),
        listProjects: listOf("project", { everywhere: true }),
        updateProject: write(updateProject),
      },
    ],
    [
      AccessService,
      {
        createPrincipal: write(createPrincipal),
        createRoleBinding: write(createRoleBinding),
        createToken: call(createToken),
        getPrincipal: getOf("principal"),
        listAccess: listOf("access", { parents: { collection: "artifacts", kinds: [] } }),
        listPrincipals: listOf("principal", { project: "_ledger" }),
        listRoleBindings: listOf("role.binding"),
        listTokens: listOf("token", { project: "_ledger" }),
        testAccess: read(testAccess),
        updatePrincipal: write(updatePrincipal),
        whoAmI: read(whoAmI),
      },
    ],
    [StatusService, { listAliases: read(listAliases), setAlias: write(setAlias), transition: write(transition) }],
    [
      ArtifactService,
      {
        batchCompleteArtifacts: call(batchCompleteArtifacts),
        batchCreateArtifacts: call(batchCreateArtifacts),
        batchGetDownloadUrls: call(batchGetDownloadUrls),
        completeArtifact: call(completeArtifact),
        createArtifact: call(createArtifact),
        getArtifact: getOf("artifact", "artifacts"),
        listArtifacts: listOf("artifact"),
      },
    ],
    [
      DatasetService,
      {
        compareDatasetVersions: read(compareDatasetVersions),
        compareSchemas: read(compareSchemas),
        createDataset: write(createDataset),
        createDatasetVersion: write(createDatasetVersion),
        createSchema: write(createSchema),
        getDataset: getOf("dataset", "datasets"),
        getDatasetVersion: getOf("dataset.version", "datasets"),
        getSchema: getOf("schema", "schemas"),
        listDatasetVersions: listOf("dataset.version", { parents: { collection: "datasets", kinds: ["dataset"] } }),
        listDatasets: listOf("dataset"),
        listSchemas: listOf("schema"),
        updateDataset: write(updateDataset),
      },
    ],
    // A gate that fails is an answer about the data, not a refusal of the report.
    [QualityService, { evaluateGate: call(evaluateGate), getGate: read(getGate), reportQuality: call(reportQuality) }],
    [
      EnvironmentService,
      {
        compareLocks: read(compareLocks),
        createCode: write(createCode),
        createEnvironment: write(createEnvironment),
        createEnvironmentLock: write(createEnvironmentLock),
        getCode: getOf("code", "code"),
        getEnvironment: getOf("environment", "environments"),
        getEnvironmentLock: getOf("environment.lock", "environments"),
        listEnvironmentLocks: listOf("environment.lock", {
          parents: { collection: "environments", kinds: ["environment"] },
        }),
        listEnvironments: listOf("environment"),
        updateEnvironment: write(updateEnvironment),
      },
    ],
    [
      RunService,
      {
        appendRunEvents: (
          caller,
          requests: AsyncIterable<Parameters<typeof appendRunEvents>[2] extends AsyncIterable<infer M> ? M : never>,
          context,
        ) => appendRunEvents(deps, caller, requests, context.signal),
        batchAppendRunEvents: call(batchAppend),
        cancelRun: call(cancelRun),
        compareRuns: read(compareRuns),
        createExperiment: write(createExperiment),
        finishRun: write(finishRun),
        getExperiment: getOf("experiment", "experiments"),
        getRun: read(getRun),
        heartbeat: call(heartbeat),
        listExperiments: listOf("experiment"),
        listMetricHistory: read(listMetricHistory),
        listRuns: listOf("run"),
        planRun: call(planRun),
        updateExperiment: write(updateExperiment),
        startRun: async (caller, request: Parameters<typeof startRun>[2], context) => {
          const response = await startRun(deps, caller, request, context.signal);
          if (response.start === undefined)
            refuse({
              $typeName: "animus.datapilot.v1.WriteResponse",
              also: [],
              approvalRequest: response.approvalRequest,
              decision: response.decision,
              receipt: response.receipt,
            });
          return response;
        },
      },
    ],
    [
      ModelService,
      {
        compareModelVersions: read(compareModelVersions),
        getDossier: call(getDossier),
        createModel: write(createModel),
        createModelVersion: write(createModelVersion),
        getModel: getOf("model", "models"),
        getModelVersion: getOf("model.version", "models"),
        listModelVersions: listOf("model.version", { parents: { collection: "models", kinds: ["model"] } }),
        listModels: listOf("model"),
        updateModel: write(updateModel),
      },
    ],
    [
      PolicyService,
      {
        backtestPolicy: reading(call(backtestPolicy)),
        createPolicy: write(createPolicy),
        evaluatePolicy: read(evaluatePolicy),
        getDecision: getOf("decision", "decisions"),
        getPolicy: getOf("policy", "policies"),
        listDecisions: listOf("decision"),
        listEffectivePolicies: read(listEffectivePolicies),
        listPolicies: listOf("policy"),
      },
    ],
    [
      ApprovalService,
      {
        approve: write(approve),
        getApprovalRequest: read(getApprovalRequest),
        listApprovalRequests: listOf("approval.request", {
          parents: {
            collection: "models",
            kinds: ["model.version", "dataset.version", "environment.lock", "policy", "run"],
          },
        }),
        reject: write(reject),
      },
    ],
    [
      LineageService,
      {
        diffClosures: read(diffClosures),
        findPaths: read(findPaths),
        getImpact: reading(call(getImpact)),
        traverse: reading(call(traverse)),
      },
    ],
    [
      RetentionService,
      {
        createRetention: write(createRetention),
        getRetention: getOf("retention", "retentions"),
        listRetentions: listOf("retention"),
      },
    ],
    [EvidenceService, { exportEvidence: call(exportEvidence) }],
  ];
  return table.map(([service, methods]) => {
    const spec = guard(
      edge,
      service,
      methods as Readonly<Record<string, (caller: Caller, request: unknown, context: HandlerContext) => unknown>>,
      (method) => reads.has(method),
    );
    const implementation = Object.fromEntries(
      Object.values(spec.methods).map((m) => [m.method.localName, m.impl]),
    ) as unknown as Partial<ServiceImpl<DescService>>;
    return { implementation, service, spec };
  });
}

/** What reflection serves: the files of all services and everything that they import. */
export function reflectionDescriptors(): Uint8Array {
  const files = new Map<string, DescFile>();
  const add = (file: DescFile): void => {
    if (files.has(file.name)) return;
    file.dependencies.forEach(add);
    files.set(file.name, file);
  };
  add(file_animus_datapilot_v1_access);
  for (const service of [
    LedgerService,
    StatusService,
    ArtifactService,
    DatasetService,
    RunService,
    ModelService,
    PolicyService,
    LineageService,
    RetentionService,
    EvidenceService,
  ])
    add(service.file);
  const set: MessageInitShape<typeof FileDescriptorSetSchema> = { file: [...files.values()].map((f) => f.proto) };
  return toBinary(FileDescriptorSetSchema, {
    $typeName: "google.protobuf.FileDescriptorSet",
    file: set.file ?? [],
  } as Parameters<typeof toBinary<typeof FileDescriptorSetSchema>>[1]);
}
