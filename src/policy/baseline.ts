/**
 * The baseline pack: the policies that bind every project from the ledger's first records on. They are ordinary policies, with tests
 * of their own, and are replaced like any other. Rules on CI and on protected references come with verified claims, exceptions with
 * waivers. `solo` is for a ledger of one person: it leaves out what a second person would have to approve.
 *
 * Each rule is written so that what is missing fails: lists are asked for their size, and what may be null is tested first.
 */
import type { Json, JsonObject } from "../record/json.ts";
import type { Target } from "./targets.ts";

export interface BaselineOptions {
  readonly solo: boolean;
}

interface BaselinePolicy {
  readonly name: string;
  readonly target: Target;
  readonly description: string;
  readonly rules: readonly JsonObject[];
  /** Inputs, each with its outcome where nobody has to approve; `approval` where somebody has to. */
  readonly tests: readonly {
    readonly input: JsonObject;
    readonly outcome: "ALLOW" | "DENY";
    readonly approval?: true;
  }[];
}

const deny = (id: string, when: string, require: string, message: string): JsonObject => ({
  id,
  message,
  otherwise: "OTHERWISE_DENY",
  require,
  ...(when === "" ? {} : { when }),
});

const approval = (
  id: string,
  when: string,
  quorum: number,
  group: string,
  meaning: string,
  message: string,
): JsonObject => ({
  approval: { groups: [group], meaning: `MEANING_${meaning}`, quorum },
  id,
  message,
  otherwise: "OTHERWISE_REQUIRE_APPROVAL",
  // Fails until somebody approves.
  require: "false",
  ...(when === "" ? {} : { when }),
});

const PRODUCTION = 'input.run.purpose == "production"';
const TO_APPROVED = 'input.request.to == "approved"';
const TO_VALIDATED = 'input.request.to == "validated"';

const environment = {
  images: [{ digest: "sha256:1", name: "base" }],
  lockfiles: [],
  match: "match",
  status: "approved",
};
const run = {
  code: { dirty: false },
  environment,
  inputs: [{ status: "approved", tainted: false }],
  late: false,
  purpose: "production",
  train_test_overlap_files: 0,
};
const data = [{ gate: { outcome: "pass" }, schema: { fields: ["a"] }, status: "approved", tainted: false }];
const started = { data, preview: false, run };
const model = {
  open_findings: 0,
  runs: [{ evaluations: [{ role: "test" }], purpose: "production" }],
  tainted: false,
  tier: "medium",
};

/** Until a group has a second person nobody could approve, and the only administrator would be locked out. */
const hasSecond = (group: string): string => `"${group}" in input.persons && input.persons["${group}"] >= 2`;
const persons = { "data-stewards": 2, governance: 2 };

const RUN_START: BaselinePolicy = {
  description: "What a run may use, and what work needs that may be released.",
  name: "baseline-run-start",
  rules: [
    deny(
      "inputs-sound",
      "",
      '!input.run.inputs.exists(i, i.status == "revoked" || i.tainted)',
      "An input is revoked, or built from something that was revoked as invalid: take another version.",
    ),
    deny(
      "inputs-approved",
      PRODUCTION,
      'size(input.run.inputs) > 0 && input.run.inputs.all(i, i.status == "approved")',
      "A production run takes approved inputs, and at least one: have each version approved.",
    ),
    deny(
      "gates-passed",
      PRODUCTION,
      'size(input.data) > 0 && input.data.all(d, d.gate.outcome in ["pass", "warn"])',
      "A production run takes data whose quality gate passed: report the quality of each version.",
    ),
    deny(
      "code-clean",
      PRODUCTION,
      "input.run.code != null && !input.run.code.dirty",
      "A production run names its commit, without uncommitted changes: commit and plan again.",
    ),
    deny(
      "lock-approved",
      PRODUCTION,
      'input.run.environment != null && input.run.environment.status == "approved"',
      "A production run takes an approved lock of its environment.",
    ),
    deny(
      "environment-pinned",
      PRODUCTION,
      "input.run.environment != null && size(input.run.environment.images) + size(input.run.environment.lockfiles) > 0",
      "The lock pins neither an image nor a lock file: lock the environment again.",
    ),
    deny(
      "environment-matches",
      `${PRODUCTION} && !input.preview`,
      'input.run.environment != null && input.run.environment.match == "match"',
      "The environment of the run is not, or not wholly, the one that is locked.",
    ),
    deny(
      "no-overlap",
      PRODUCTION,
      "input.run.train_test_overlap_files in [null, 0]",
      "A file is used both to train and to test: split the data again.",
    ),
    {
      ...deny(
        "overlap-known",
        PRODUCTION,
        "input.run.train_test_overlap_files != null",
        "Files are listed in manifests, so whether training and test data overlap is not known.",
      ),
      otherwise: "OTHERWISE_WARN",
    },
    deny("not-late", PRODUCTION, "!input.run.late", "A production run is planned before it happens."),
  ],
  target: "run.start",
  tests: [
    { input: started, outcome: "ALLOW" },
    {
      input: {
        data: [],
        preview: false,
        run: { ...run, code: null, environment: null, inputs: [], purpose: "exploration" },
      },
      outcome: "ALLOW",
    },
    { input: { ...started, run: { ...run, inputs: [] } }, outcome: "DENY" },
    { input: { ...started, run: { ...run, code: { dirty: true } } }, outcome: "DENY" },
    {
      input: {
        data: [],
        preview: false,
        run: { ...run, inputs: [{ status: "approved", tainted: true }], purpose: "exploration" },
      },
      outcome: "DENY",
    },
  ],
};

const DATASET: BaselinePolicy = {
  description: "What a dataset version needs to be approved.",
  name: "baseline-dataset-approval",
  rules: [
    deny(
      "schema-present",
      TO_APPROVED,
      "size(input.data) > 0 && input.data.all(d, d.schema != null)",
      "The version has no schema: register it with one.",
    ),
    deny(
      "gate-passed",
      TO_APPROVED,
      'size(input.data) > 0 && input.data.all(d, d.gate.outcome == "pass")',
      "The quality gate of the version has not passed: report its quality.",
    ),
    approval("steward", TO_APPROVED, 1, "data-stewards", "APPROVED", "A data steward approves the version."),
  ],
  target: "dataset.version.transition",
  tests: [
    { approval: true, input: { data, request: { to: "approved" } }, outcome: "ALLOW" },
    { input: { data: [{ ...data[0], schema: null }], request: { to: "approved" } }, outcome: "DENY" },
    { input: { data: [], request: { to: "revoked" } }, outcome: "ALLOW" },
  ],
};

const LOCK: BaselinePolicy = {
  description: "What the lock of an environment needs to be approved.",
  name: "baseline-environment-approval",
  rules: [
    deny(
      "something-pinned",
      TO_APPROVED,
      "input.lock != null && size(input.lock.images) + size(input.lock.lockfiles) > 0",
      "The lock pins neither an image nor a lock file: lock the environment again.",
    ),
    approval("platform", TO_APPROVED, 1, "platform", "APPROVED", "The platform group approves the lock."),
  ],
  target: "environment.lock.transition",
  tests: [
    { approval: true, input: { lock: environment, request: { to: "approved" } }, outcome: "ALLOW" },
    { input: { lock: { images: [], lockfiles: [] }, request: { to: "approved" } }, outcome: "DENY" },
  ],
};

const MODEL: BaselinePolicy = {
  description: "What a model version needs to be validated, and to be approved.",
  name: "baseline-model-approval",
  rules: [
    deny(
      "runs-production",
      TO_VALIDATED,
      'size(input.model.runs) > 0 && input.model.runs.all(r, r.purpose == "production")',
      "The version was not made by production runs only: make it by one.",
    ),
    deny(
      "tested",
      TO_VALIDATED,
      'input.model.runs.exists(r, r.evaluations.exists(e, e.role == "test"))',
      "No run reports a metric on test data: evaluate the version on a version with role TEST.",
    ),
    deny(
      "not-tainted",
      `${TO_VALIDATED} || ${TO_APPROVED}`,
      "!input.model.tainted",
      "The version is built from something that was revoked as invalid.",
    ),
    deny(
      "no-open-finding",
      TO_APPROVED,
      "input.model.open_findings == 0",
      "A finding on the version is open: close it.",
    ),
    approval(
      "validator",
      TO_VALIDATED,
      1,
      "model-validation",
      "VALIDATED",
      "A member of model validation validates the version.",
    ),
    approval(
      "risk",
      `${TO_APPROVED} && input.model.tier != "high"`,
      1,
      "model-risk",
      "APPROVED",
      "A member of model risk approves the version.",
    ),
    approval(
      "risk-high",
      `${TO_APPROVED} && input.model.tier == "high"`,
      2,
      "model-risk",
      "APPROVED",
      "Two members of model risk approve a version of a model of high tier.",
    ),
  ],
  target: "model.version.transition",
  tests: [
    { approval: true, input: { model, request: { to: "validated" } }, outcome: "ALLOW" },
    { approval: true, input: { model: { ...model, tier: "high" }, request: { to: "approved" } }, outcome: "ALLOW" },
    { input: { model: { ...model, runs: [] }, request: { to: "validated" } }, outcome: "DENY" },
    { input: { model: { ...model, tainted: true }, request: { to: "approved" } }, outcome: "DENY" },
    { input: { model, request: { to: "deprecated" } }, outcome: "ALLOW" },
  ],
};

const ALIAS: BaselinePolicy = {
  description: "What may be called production.",
  name: "baseline-production-alias",
  rules: [
    deny(
      "production-approved",
      'input.request.alias == "production"',
      'input.subject.status == "approved" && (input.model == null || !input.model.tainted) && (size(input.data) == 0 || input.data.all(d, !d.tainted))',
      "Only an approved version that is built from nothing invalid can be production.",
    ),
  ],
  target: "alias.set",
  tests: [
    { input: { data, model, request: { alias: "production" }, subject: { status: "approved" } }, outcome: "ALLOW" },
    { input: { data, model, request: { alias: "production" }, subject: { status: "validated" } }, outcome: "DENY" },
    {
      input: {
        data,
        model: { ...model, tainted: true },
        request: { alias: "production" },
        subject: { status: "approved" },
      },
      outcome: "DENY",
    },
    { input: { data, model, request: { alias: "candidate" }, subject: { status: "draft" } }, outcome: "ALLOW" },
  ],
};

const POLICY: BaselinePolicy = {
  description: "Who agrees that a policy comes into force, or ends.",
  name: "baseline-policy-activation",
  rules: [
    approval(
      "stewards",
      `input.request.to != "shadow" && input.policy.target == "quality.gate" && ${hasSecond("data-stewards")}`,
      1,
      "data-stewards",
      "APPROVED",
      "A data steward approves rules on the quality of data.",
    ),
    approval(
      "governance",
      `input.request.to != "shadow" && input.policy.target != "quality.gate" && ${hasSecond("governance")}`,
      1,
      "governance",
      "APPROVED",
      "A member of governance approves the policy.",
    ),
  ],
  target: "policy.activate",
  tests: [
    {
      approval: true,
      input: { persons, policy: { target: "run.start" }, request: { to: "active" } },
      outcome: "ALLOW",
    },
    { input: { persons, policy: { target: "run.start" }, request: { to: "shadow" } }, outcome: "ALLOW" },
    {
      input: { persons: { governance: 1 }, policy: { target: "run.start" }, request: { to: "active" } },
      outcome: "ALLOW",
    },
  ],
};

const BINDING: BaselinePolicy = {
  description: "Who agrees that somebody gets a role that can change rules, approve, or administer.",
  name: "baseline-privileged-roles",
  rules: [
    approval(
      "governance",
      `!(input.request.role in ["viewer", "consumer", "contributor", "ci"]) && ${hasSecond("governance")}`,
      1,
      "governance",
      "APPROVED",
      "A member of governance approves a privileged role.",
    ),
  ],
  target: "role.binding.grant",
  tests: [
    { approval: true, input: { persons, request: { role: "project-admin" } }, outcome: "ALLOW" },
    { input: { persons, request: { role: "viewer" } }, outcome: "ALLOW" },
    { input: { persons: { governance: 1 }, request: { role: "project-admin" } }, outcome: "ALLOW" },
  ],
};

const LEDGER: BaselinePolicy = {
  description: "Who agrees to a change of the ledger's keys and trust.",
  name: "baseline-ledger-change",
  rules: [
    approval(
      "governance",
      "",
      2,
      "governance",
      "APPROVED",
      "Two members of governance approve a change of the ledger.",
    ),
  ],
  target: "ledger.change",
  tests: [{ approval: true, input: {}, outcome: "ALLOW" }],
};

/** Bodies of the pack's policy records. */
export function baseline({ solo }: BaselineOptions): JsonObject[] {
  return [RUN_START, DATASET, LOCK, MODEL, ALIAS, POLICY, BINDING, LEDGER].flatMap((policy) => {
    const rules = solo ? policy.rules.filter((rule) => rule["approval"] === undefined) : policy.rules;
    if (rules.length === 0) return [];
    const tests = policy.tests.map(
      ({ input, outcome, approval: asks }): Json => ({
        input,
        outcome: `OUTCOME_${!solo && asks === true ? "REQUIRE_APPROVAL" : outcome}`,
      }),
    );
    return [{ description: policy.description, name: policy.name, rules, target: policy.target, tests }];
  });
}
