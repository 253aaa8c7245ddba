/** Which policies bind a project, and what a policy would decide. Neither leaves a record. */
import { create } from "@bufbuild/protobuf";
import {
  type EvaluatePolicyRequest,
  type EvaluatePolicyResponse,
  EvaluatePolicyResponseSchema,
  type ListEffectivePoliciesRequest,
} from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { type ListResponse, ListResponseSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { authorise, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject, ledgerOf } from "../identity/ledger.ts";
import { assertPolicy, evaluate, policyWarnings } from "../policy/engine.ts";
import { policiesInForce } from "../policy/in-force.ts";
import { parseTarget, TARGETS } from "../policy/targets.ts";
import { bodyFromMessage } from "../record/body.ts";
import type { JsonObject } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findResource } from "./resource.ts";
import { OUTCOME, rulesOf } from "./rule-results.ts";

/** The ledger's first, in the order of their names; shadow ones too, as their status says. */
export function listEffectivePolicies(
  reads: Reads,
  caller: Caller,
  request: ListEffectivePoliciesRequest,
): ListResponse {
  const targets = request.target === "" ? TARGETS : [parseTarget(request.target)].filter((t) => t !== undefined);
  if (targets.length === 0) throw wrong("target", `is none of ${TARGETS.join(", ")}`);
  using reader = readerAsOf(reads, request.asOf);
  using now = reads.log.index.reader();
  const project = findProject(now, request.project);
  if (project === undefined) throw notFound("project");
  authorise(now, caller, project, "read", reads.clock.now());
  const resources = targets
    .flatMap((target) => policiesInForce(reader, target, project, ledgerOf(reader)))
    .flatMap(({ record }) => findResource(reader, record) ?? []);
  return create(ListResponseSchema, { resources, treeSize: reader.size });
}

const CANDIDATE = `sha256:${"0".repeat(64)}` as RecordId;

/**
 * Everybody may try a policy that he wrote: its own tests, and an input when he gives one. Throws POLICY_INVALID, and
 * POLICY_TEST_FAILED with every test that fails.
 */
export function evaluatePolicy(_reads: Reads, _caller: Caller, request: EvaluatePolicyRequest): EvaluatePolicyResponse {
  const body = policyBody(request);
  assertPolicy(body);
  const warnings = policyWarnings(body);
  if (request.input === undefined) return create(EvaluatePolicyResponseSchema, { warnings });
  const judgement = evaluate([{ body, mode: "active", record: CANDIDATE }], request.input);
  return create(EvaluatePolicyResponseSchema, {
    outcome: OUTCOME[judgement.outcome],
    rules: rulesOf(judgement.policies),
    warnings,
  });
}

function policyBody({ policy }: EvaluatePolicyRequest): JsonObject {
  if (policy === undefined) throw wrong("policy", "is missing");
  try {
    return bodyFromMessage("policy", policy);
  } catch (error) {
    if (error instanceof Violation) throw wrong("policy", error.message);
    throw error;
  }
}

const wrong = (field: string, description: string): Fault =>
  new Fault("REQUEST_INVALID", `${field} ${description}`, { fields: [{ description, field }] });
