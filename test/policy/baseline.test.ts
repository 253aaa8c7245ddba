import { describe, expect, test } from "vitest";
import { baseline } from "../../src/policy/baseline.ts";
import { assertPolicy, compilePolicy, evaluate } from "../../src/policy/engine.ts";
import { checkBody } from "../../src/record/body.ts";
import type { Json, JsonObject } from "../../src/record/json.ts";
import { id } from "./bodies.ts";

const pinned = {
  has_sbom: false,
  images: [],
  lockfiles: [{ digest: "sha256:1", path: "a" }],
  match: "match",
  name: "e",
  record: id(5),
  status: "approved",
};
const used = { kind: "dataset.version", record: id(6), role: "train", status: "approved", tainted: false };
const version = {
  gate: { at: null, decision: null, outcome: "pass" },
  name: "d",
  schema: { classes: [], fields: ["a"] },
  status: "approved",
  tainted: false,
};
const run = {
  code: { commit: "1", dirty: false, repository: "r" },
  environment: pinned,
  evaluations: [{ role: "test" }],
  inputs: [used],
  late: false,
  purpose: "production",
  train_test_overlap_files: 0,
};
const model = { name: "m", open_findings: 0, runs: [run], status: "approved", tainted: false, tier: "low" };

/** An input on which everything holds; `to` and the like are set per case. */
const sound = (request: JsonObject): JsonObject => ({
  actor: { principal: id(1) },
  approvals: [],
  data: [version],
  lock: pinned,
  model,
  persons: { "data-stewards": 2, governance: 2 },
  policy: { target: "run.start" },
  preview: false,
  request: { alias: null, from: null, role: null, to: null, ...request },
  run,
  subject: { authors: [], status: "approved" },
});

/** A copy with the value at a path of names and indexes replaced. */
function changed(value: Json, path: string, to: Json): Json {
  const [head, ...rest] = path.split(".");
  if (head === undefined || head === "") return to;
  if (Array.isArray(value))
    return (value as readonly Json[]).map((item, i) => (String(i) === head ? changed(item, rest.join("."), to) : item));
  const object = value as JsonObject;
  return { ...object, [head]: changed(object[head] as Json, rest.join("."), to) };
}

const pack = new Map(baseline({ solo: false }).map((body) => [body["target"], body]));

function resultOf(target: string, rule: string, input: JsonObject): string | undefined {
  const body = pack.get(target);
  if (body === undefined) throw new Error(`no policy for ${target}`);
  return evaluate([{ body, mode: "active", record: id(9) }], input).policies[0]?.rules.find((r) => r.id === rule)
    ?.result;
}

const approved = { to: "approved" };
const validated = { to: "validated" };
/** Target, rule, request, and changes under each of which the rule fails. */
const DENIALS: readonly [string, string, JsonObject, readonly [string, Json][]][] = [
  [
    "run.start",
    "inputs-sound",
    {},
    [
      ["run.inputs.0.status", "revoked"],
      ["run.inputs.0.tainted", true],
    ],
  ],
  [
    "run.start",
    "inputs-approved",
    {},
    [
      ["run.inputs", []],
      ["run.inputs.0.status", "registered"],
      ["run.inputs.0.status", null],
      ["run.inputs", [used, { ...used, status: "deprecated" }]],
    ],
  ],
  [
    "run.start",
    "gates-passed",
    {},
    [
      ["data", []],
      ["data.0.gate.outcome", "fail"],
      ["data.0.gate.outcome", "error"],
      ["data.0.gate.outcome", "no_rule"],
      ["data.0.gate.outcome", "not_evaluated"],
    ],
  ],
  [
    "run.start",
    "code-clean",
    {},
    [
      ["run.code", null],
      ["run.code.dirty", true],
    ],
  ],
  [
    "run.start",
    "lock-approved",
    {},
    [
      ["run.environment", null],
      ["run.environment.status", "registered"],
    ],
  ],
  [
    "run.start",
    "environment-pinned",
    {},
    [
      ["run.environment", null],
      ["run.environment.lockfiles", []],
    ],
  ],
  [
    "run.start",
    "environment-matches",
    {},
    [
      ["run.environment", null],
      ["run.environment.match", "mismatch"],
      ["run.environment.match", "unknown"],
    ],
  ],
  ["run.start", "no-overlap", {}, [["run.train_test_overlap_files", 1]]],
  ["run.start", "overlap-known", {}, [["run.train_test_overlap_files", null]]],
  ["run.start", "not-late", {}, [["run.late", true]]],
  [
    "dataset.version.transition",
    "schema-present",
    approved,
    [
      ["data", []],
      ["data.0.schema", null],
    ],
  ],
  [
    "dataset.version.transition",
    "gate-passed",
    approved,
    [
      ["data", []],
      ["data.0.gate.outcome", "warn"],
      ["data.0.gate.outcome", "not_evaluated"],
    ],
  ],
  [
    "environment.lock.transition",
    "something-pinned",
    approved,
    [
      ["lock", null],
      ["lock.lockfiles", []],
    ],
  ],
  [
    "model.version.transition",
    "runs-production",
    validated,
    [
      ["model.runs", []],
      ["model.runs.0.purpose", "exploration"],
    ],
  ],
  [
    "model.version.transition",
    "tested",
    validated,
    [
      ["model.runs", []],
      ["model.runs.0.evaluations", []],
      ["model.runs.0.evaluations.0.role", "train"],
    ],
  ],
  ["model.version.transition", "not-tainted", validated, [["model.tainted", true]]],
  ["model.version.transition", "not-tainted", approved, [["model.tainted", true]]],
  ["model.version.transition", "no-open-finding", approved, [["model.open_findings", 1]]],
  [
    "alias.set",
    "production-approved",
    { alias: "production" },
    [
      ["subject.status", "validated"],
      ["subject.status", null],
      ["model.tainted", true],
      ["data.0.tainted", true],
    ],
  ],
];

describe("denials", () => {
  test.each(DENIALS)("%s %s", (target, rule, request, failures) => {
    const input = sound(request);
    expect(resultOf(target, rule, input)).toBe("HOLDS");
    for (const [path, to] of failures)
      expect(resultOf(target, rule, changed(input, path, to) as JsonObject), path).toBe("FAILS");
  });

  test("every rule that is not an approval is among them", () => {
    const tested = new Set(DENIALS.map(([target, rule]) => `${target} ${rule}`));
    const all = [...pack.values()].flatMap((body) =>
      (body["rules"] as readonly JsonObject[])
        .filter((r) => r["approval"] === undefined)
        .map((r) => `${body["target"] as string} ${r["id"] as string}`),
    );
    expect([...tested].toSorted()).toEqual(all.toSorted());
  });

  test.each([
    ["run.start", {}, "run", null],
    ["model.version.transition", validated, "model", null],
    ["policy.activate", { to: "active" }, "policy", null],
  ] as const)("%s without what is judged is an error", (target, request, path, to) => {
    const body = pack.get(target) as JsonObject;
    expect(
      evaluate([{ body, mode: "active", record: id(9) }], changed(sound(request), path, to) as JsonObject).outcome,
    ).toBe("ERROR");
  });

  test("do not apply to other purposes and changes", () => {
    for (const rule of ["inputs-approved", "code-clean", "not-late"])
      expect(resultOf("run.start", rule, changed(sound({}), "run.purpose", "exploration") as JsonObject)).toBe(
        "SKIPPED",
      );
    expect(resultOf("run.start", "environment-matches", changed(sound({}), "preview", true) as JsonObject)).toBe(
      "SKIPPED",
    );
    expect(resultOf("dataset.version.transition", "schema-present", sound({ to: "revoked" }))).toBe("SKIPPED");
    expect(resultOf("alias.set", "production-approved", sound({ alias: "candidate" }))).toBe("SKIPPED");
  });
});

describe("approvals", () => {
  test.each([
    ["dataset.version.transition", approved, "", null, "data-stewards", "approved", 1],
    ["environment.lock.transition", approved, "", null, "platform", "approved", 1],
    ["model.version.transition", validated, "", null, "model-validation", "validated", 1],
    ["model.version.transition", approved, "", null, "model-risk", "approved", 1],
    ["model.version.transition", approved, "model.tier", "high", "model-risk", "approved", 2],
    ["policy.activate", { to: "active" }, "", null, "governance", "approved", 1],
    ["policy.activate", { to: "retired" }, "policy.target", "quality.gate", "data-stewards", "approved", 1],
    ["role.binding.grant", { role: "approver" }, "", null, "governance", "approved", 1],
    ["role.binding.grant", { role: "unheard-of" }, "", null, "governance", "approved", 1],
    ["role.binding.grant", {}, "", null, "governance", "approved", 1],
    ["ledger.change", {}, "", null, "governance", "approved", 2],
  ] as const)("%s asks", (target, request, path, to, group, meaning, quorum) => {
    const base = sound(request);
    const input = path === "" ? base : (changed(base, path, to) as JsonObject);
    const judge = (approvals: readonly JsonObject[]) =>
      evaluate([{ body: pack.get(target) as JsonObject, mode: "active", record: id(9) }], { ...input, approvals });
    expect(judge([])).toMatchObject({
      outcome: "REQUIRE_APPROVAL",
      requirements: [{ approval: { groups: [group], meaning, quorum } }],
    });
    const votes = (n: number, more: JsonObject = {}) =>
      Array.from({ length: n }, (_, i): JsonObject => ({ groups: [group], meaning, principal: id(100 + i), ...more }));
    expect(judge(votes(quorum)).outcome).toBe("ALLOW");
    expect(judge(votes(quorum - 1)).outcome).toBe("REQUIRE_APPROVAL");
    expect(judge(votes(quorum, { groups: ["others"] })).outcome).toBe("REQUIRE_APPROVAL");
    expect(judge(votes(quorum, { meaning: "reviewed" })).outcome).toBe("REQUIRE_APPROVAL");
  });

  test.each([
    ["policy.activate", { to: "shadow" }],
    ["role.binding.grant", { role: "viewer" }],
    ["model.version.transition", { to: "deprecated" }],
    ["dataset.version.transition", { to: "revoked" }],
  ] as const)("%s %j asks nobody", (target, request) => {
    expect(
      evaluate([{ body: pack.get(target) as JsonObject, mode: "active", record: id(9) }], sound(request)).outcome,
    ).toBe("ALLOW");
  });
});

describe.each([true, false])("pack, solo %s", (solo) => {
  test("passes its own tests and is made of bodies of records", () => {
    for (const body of baseline({ solo })) {
      assertPolicy(body);
      checkBody("policy", body);
      expect(compilePolicy(body).rules.length).toBeGreaterThan(0);
      expect((body["tests"] as readonly Json[]).length).toBeGreaterThan(0);
      const outcomes = new Set((body["tests"] as readonly JsonObject[]).map((t) => t["outcome"]));
      if (solo) expect(outcomes.has("OUTCOME_REQUIRE_APPROVAL")).toBe(false);
    }
  });
});
