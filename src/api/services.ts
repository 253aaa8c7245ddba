/**
 * Every RPC and the use case or question that answers it. Translates nothing but names: what a method does stands in `command/` and
 * `query/`.
 */
import { type DescFile, type DescService, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl, ServiceImplSpec } from "@connectrpc/connect";
import { AccessService, file_animus_datapilot_v1_access, ProjectService } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { ArtifactService } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { DatasetService, QualityService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { EvidenceService } from "../../gen/ts/animus/datapilot/v1/evidence_pb.ts";
import { ApprovalService, PolicyService } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { LineageService } from "../../gen/ts/animus/datapilot/v1/lineage_pb.ts";
import { ModelService } from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { EnvironmentService, RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { StatusService } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { appendRunEvents, batchAppend } from "./run-events.ts";
import { approve, reject } from "../command/approve.ts";
import { cancelRun } from "../command/cancel-run.ts";
import { batchCompleteArtifacts, completeArtifact } from "../command/complete-artifact.ts";
import type { Deps } from "../command/context.ts";
import { batchCreateArtifacts, createArtifact } from "../command/create-artifact.ts";
import { createCode } from "../command/create-code.ts";
import { createDataset, updateDataset } from "../command/create-dataset.ts";
import { createDatasetVersion } from "../command/create-dataset-version.ts";
import { createEnvironment, updateEnvironment } from "../command/create-environment.ts";
import { createEnvironmentLock } from "../command/create-environment-lock.ts";
import { createExperiment } from "../command/create-experiment.ts";
import { createModel, updateModel } from "../command/create-model.ts";
import { createModelVersion } from "../command/create-model-version.ts";
import { createPolicy } from "../command/create-policy.ts";
import { createPrincipal } from "../command/create-principal.ts";
import { createProject } from "../command/create-project.ts";
import { createRoleBinding } from "../command/create-role-binding.ts";
import { createSchema } from "../command/create-schema.ts";
import { createToken } from "../command/create-token.ts";
import { downloadUrls } from "../command/download-urls.ts";
import { evaluateGate } from "../command/evaluate-gate.ts";
import { exportEvidence } from "../command/export-evidence.ts";
import { finishRun } from "../command/finish-run.ts";
import { heartbeat } from "../command/heartbeat.ts";
import { planRun } from "../command/plan-run.ts";
import { reportQuality } from "../command/report-quality.ts";
import { setAlias } from "../command/set-alias.ts";
import { startRun } from "../command/start-run.ts";
import { testAccess } from "../command/test-access.ts";
import { transition } from "../command/transition.ts";
import { updateProject } from "../command/update-project.ts";
import { whoAmI } from "../command/who-am-i.ts";
import type { Caller } from "../identity/caller.ts";
import { listAliases } from "../query/aliases.ts";
import { getApprovalRequest } from "../query/approval.ts";
import { backtestPolicy } from "../query/backtest.ts";
import { compareDatasetVersions } from "../query/compare-dataset-versions.ts";
import { compareModelVersions } from "../query/compare-model-versions.ts";
import { compareRuns } from "../query/compare-runs.ts";
import { get } from "../query/get.ts";
import { getGate } from "../query/gate.ts";
import * as ledger from "../query/ledger.ts";
import { diffClosures, findPaths, getImpact, traverse } from "../query/lineage.ts";
import { list } from "../query/list.ts";
import { listMetricHistory } from "../query/metric-history.ts";
import { evaluatePolicy, listEffectivePolicies } from "../query/policy.ts";
import { getRun } from "../query/run.ts";
import { type Edge, guard, refuse } from "./guard.ts";

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
  const getOf = (...kinds: readonly string[]) => call((d, c, r: Parameters<typeof get>[2]) => get(d, c, r, kinds));
  const listOf = (...kinds: readonly string[]) => call((d, c, r: Parameters<typeof list>[2]) => list(d, c, r, kinds));

  const table: readonly (readonly [DescService, Readonly<Record<string, Method>>])[] = [
    [
      LedgerService,
      {
        batchGetRecords: call(ledger.batchGetRecords),
        getCheckpoint: call(ledger.getCheckpoint),
        getConsistencyProof: call(ledger.getConsistencyProof),
        getHealth: call(ledger.getHealth),
        getReceipt: call(ledger.getReceipt),
        getRecord: call(ledger.getRecord),
        listRecords: call(ledger.listRecords),
        watchEntries: call(ledger.watchEntries),
      },
    ],
    [ProjectService, { createProject: write(createProject), getProject: getOf("project"), listProjects: listOf("project"), updateProject: write(updateProject) }],
    [
      AccessService,
      {
        createPrincipal: write(createPrincipal),
        createRoleBinding: write(createRoleBinding),
        createToken: call(createToken),
        getPrincipal: getOf("principal"),
        listAccess: listOf("access"),
        listPrincipals: listOf("principal"),
        listRoleBindings: listOf("role.binding"),
        listTokens: listOf("token"),
        testAccess: call(testAccess),
        whoAmI: call(whoAmI),
      },
    ],
    [StatusService, { listAliases: call(listAliases), setAlias: write(setAlias), transition: write(transition) }],
    [
      ArtifactService,
      {
        batchCompleteArtifacts: call(batchCompleteArtifacts),
        batchCreateArtifacts: call(batchCreateArtifacts),
        batchGetDownloadUrls: call(downloadUrls),
        completeArtifact: call(completeArtifact),
        createArtifact: call(createArtifact),
        getArtifact: getOf("artifact"),
        listArtifacts: listOf("artifact"),
      },
    ],
    [
      DatasetService,
      {
        compareDatasetVersions: call(compareDatasetVersions),
        createDataset: write(createDataset),
        createDatasetVersion: write(createDatasetVersion),
        createSchema: write(createSchema),
        getDataset: getOf("dataset"),
        getDatasetVersion: getOf("dataset.version"),
        getSchema: getOf("schema"),
        listDatasetVersions: listOf("dataset.version"),
        listDatasets: listOf("dataset"),
        listSchemas: listOf("schema"),
        updateDataset: write(updateDataset),
      },
    ],
    // A gate that fails is an answer about the data, not a refusal of the report.
    [QualityService, { evaluateGate: call(evaluateGate), getGate: call(getGate), reportQuality: call(reportQuality) }],
    [
      EnvironmentService,
      {
        createCode: write(createCode),
        createEnvironment: write(createEnvironment),
        createEnvironmentLock: write(createEnvironmentLock),
        getCode: getOf("code"),
        getEnvironment: getOf("environment"),
        getEnvironmentLock: getOf("environment.lock"),
        listEnvironmentLocks: listOf("environment.lock"),
        listEnvironments: listOf("environment"),
        updateEnvironment: write(updateEnvironment),
      },
    ],
    [
      RunService,
      {
        appendRunEvents: (caller, requests: AsyncIterable<Parameters<typeof appendRunEvents>[2] extends AsyncIterable<infer M> ? M : never>, context) => appendRunEvents(deps, caller, requests, context.signal),
        batchAppendRunEvents: call(batchAppend),
        cancelRun: call(cancelRun),
        compareRuns: call(compareRuns),
        createExperiment: write(createExperiment),
        finishRun: write(finishRun),
        getExperiment: getOf("experiment"),
        getRun: call(getRun),
        heartbeat: call(heartbeat),
        listExperiments: listOf("experiment"),
        listMetricHistory: call(listMetricHistory),
        listRuns: listOf("run"),
        planRun: call(planRun),
        startRun: async (caller, request: Parameters<typeof startRun>[2], context) => {
          const response = await startRun(deps, caller, request, context.signal);
          if (response.start === undefined) refuse({ $typeName: "animus.datapilot.v1.WriteResponse", also: [], approvalRequest: response.approvalRequest, decision: response.decision, receipt: response.receipt } as WriteResponse);
          return response;
        },
      },
    ],
    [
      ModelService,
      {
        compareModelVersions: call(compareModelVersions),
        createModel: write(createModel),
        createModelVersion: write(createModelVersion),
        getModel: getOf("model"),
        getModelVersion: getOf("model.version"),
        listModelVersions: listOf("model.version"),
        listModels: listOf("model"),
        updateModel: write(updateModel),
      },
    ],
    [
      PolicyService,
      {
        backtestPolicy: call(backtestPolicy),
        createPolicy: write(createPolicy),
        evaluatePolicy: call(evaluatePolicy),
        getDecision: getOf("decision"),
        getPolicy: getOf("policy"),
        listDecisions: listOf("decision"),
        listEffectivePolicies: call(listEffectivePolicies),
        listPolicies: listOf("policy"),
      },
    ],
    [ApprovalService, { approve: write(approve), getApprovalRequest: call(getApprovalRequest), listApprovalRequests: listOf("approval.request"), reject: write(reject) }],
    [LineageService, { diffClosures: call(diffClosures), findPaths: call(findPaths), getImpact: call(getImpact), traverse: call(traverse) }],
    [EvidenceService, { exportEvidence: call(exportEvidence) }],
  ];
  return table.map(([service, methods]) => {
    const spec = guard(edge, service, methods as Readonly<Record<string, (caller: Caller, request: unknown, context: HandlerContext) => unknown>>);
    const implementation = Object.fromEntries(Object.values(spec.methods).map((m) => [m.method.localName, m.impl])) as unknown as Partial<ServiceImpl<DescService>>;
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
  for (const service of [LedgerService, StatusService, ArtifactService, DatasetService, RunService, ModelService, PolicyService, LineageService, EvidenceService]) add(service.file);
  const set: MessageInitShape<typeof FileDescriptorSetSchema> = { file: [...files.values()].map((f) => f.proto) };
  return toBinary(FileDescriptorSetSchema, { $typeName: "google.protobuf.FileDescriptorSet", file: set.file ?? [] } as Parameters<typeof toBinary<typeof FileDescriptorSetSchema>>[1]);
}
