/** The kinds of records that this version knows, each with the message that is its body. */
import type { DescMessage } from "@bufbuild/protobuf";
import * as access from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import * as data from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import * as execution from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import * as governance from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";

export interface KindSpec {
  readonly kind: string;
  readonly schema: DescMessage;
  /** Case of `animus.datapilot.v1.Resource.body`. */
  readonly resourceField: string;
}

const SCHEMAS = {
  access: access.AccessSchema,
  alias: governance.AliasSchema,
  approval: governance.ApprovalSchema,
  "approval.request": governance.ApprovalRequestSchema,
  artifact: data.ArtifactSchema,
  code: execution.CodeSchema,
  dataset: data.DatasetSchema,
  "dataset.version": data.DatasetVersionSchema,
  decision: governance.DecisionSchema,
  environment: execution.EnvironmentSchema,
  "environment.lock": execution.EnvironmentLockSchema,
  "evidence.export": access.EvidenceExportSchema,
  experiment: execution.ExperimentSchema,
  ledger: access.LedgerSchema,
  "ledger.seal": access.LedgerSealSchema,
  model: execution.ModelSchema,
  "model.version": execution.ModelVersionSchema,
  operation: access.OperationSchema,
  policy: governance.PolicySchema,
  principal: access.PrincipalSchema,
  project: access.ProjectSchema,
  "quality.report": data.QualityReportSchema,
  retention: access.RetentionSchema,
  "role.binding": access.RoleBindingSchema,
  run: execution.RunSchema,
  "run.batch": execution.RunBatchSchema,
  "run.finish": execution.RunFinishSchema,
  "run.start": execution.RunStartSchema,
  schema: data.SchemaSchema,
  token: access.TokenSchema,
  transition: governance.TransitionSchema,
} as const satisfies Readonly<Record<string, DescMessage>>;

export type Kind = keyof typeof SCHEMAS;

const fieldOf = (kind: string): string =>
  kind === "project" ? "projectBody" : kind.replaceAll(/\.([a-z])/g, (_, c: string) => c.toUpperCase());

export const KINDS = Object.fromEntries(
  Object.entries(SCHEMAS).map(([kind, schema]) => [kind, { kind, resourceField: fieldOf(kind), schema }]),
) as unknown as Readonly<Record<Kind, KindSpec>>;

/** Undefined for a kind that this version does not know. */
export const kindSpec = (kind: string): KindSpec | undefined =>
  Object.hasOwn(KINDS, kind) ? KINDS[kind as Kind] : undefined;
