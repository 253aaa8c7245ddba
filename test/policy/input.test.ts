import { describe, expect, test } from "vitest";
import { decisionBody, evidenceDigest } from "../../src/policy/decision.ts";
import { evaluate } from "../../src/policy/engine.ts";
import { pendingId, withDrafts } from "../../src/policy/fact-reader.ts";
import { deriveInput, type InputQuestion } from "../../src/policy/input.ts";
import { deriveAgain } from "../../src/policy/replay.ts";
import type { Target } from "../../src/policy/targets.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { type Link, sortLinks } from "../../src/record/record.ts";
import type { RecordId, TreeSize } from "../../src/std/brand.ts";
import { formatTime } from "../../src/std/ports.ts";
import { type Scene, START_MS, scene } from "./records.ts";

const NOW = formatTime(START_MS + 3 * 86_400_000);

const question = (s: Scene, target: Target, subject: RecordId, more: Partial<InputQuestion> = {}): InputQuestion => ({
  actor: { auth_age_s: 5, groups: [], principal: s.author, roles: ["contributor"], type: "human" },
  now: NOW,
  preview: false,
  request: { to: "approved" },
  subject,
  target,
  tree_size: s.log.facts.length as TreeSize,
  ...more,
});

const member = (value: unknown, ...path: readonly (string | number)[]): unknown =>
  path.reduce((v, name) => (v as Record<string, unknown>)[name], value);

describe("shape", () => {
  const s = scene();

  test("of a run", () => {
    const { input } = deriveInput(question(s, "run.start", s.run), s.log.reader);
    expect(Object.keys(input).toSorted()).toEqual([
      "actor",
      "approvals",
      "data",
      "lock",
      "model",
      "now",
      "persons",
      "policy",
      "preview",
      "project",
      "report",
      "request",
      "run",
      "subject",
      "target",
      "tree_size",
      "v",
    ]);
    expect(input["project"]).toEqual({ labels: { team: "risk" }, name: "fraud", status: "active" });
    expect(input["request"]).toEqual({
      alias: null,
      from: null,
      member: null,
      observed: null,
      reason: null,
      role: null,
      roots: [],
      to: "approved",
    });
    expect(input["actor"]).toEqual({
      auth_age_s: 5,
      claims: {},
      groups: [],
      issuer: null,
      principal: s.author,
      roles: ["contributor"],
      subject: null,
      type: "human",
    });
    expect(input["run"]).toMatchObject({
      ci: null,
      code: { commit: "c".repeat(40), dirty: false, repository: "r" },
      environment: { has_sbom: false, lockfiles: [], match: "match", name: "fit", record: s.lock, status: "approved" },
      evaluations: [{ dataset_version: s.holdout, key: "accuracy", role: "test", slice: null, value: 0.977 }],
      late: false,
      metrics: { loss: 2 },
      outputs: [{ assurance: "verified", digest: `sha256:${"d".repeat(64)}`, path: "d" }],
      params: { seed: "3", trees: "25" },
      purpose: "production",
      record: s.run,
      ref: null,
      retry_of: null,
      status: "succeeded",
      train_test_overlap_files: 1,
    });
    expect(input["data"]).toMatchObject([
      {
        age_days: 2,
        classification: "confidential",
        custody: "ledger",
        gate: { outcome: "pass" },
        name: "transactions",
        ordinal: 2,
        parents: [s.first],
        project: "fraud",
        restrictions: ["eu"],
        role: "train",
        rows: 333,
        schema: { classes: ["pii"], fields: ["a", "a.b"] },
        status: "approved",
        tainted: false,
      },
      { gate: { at: null, decision: null, outcome: "not_evaluated" }, ordinal: 3, role: "test", status: "registered" },
    ]);
  });

  test("of a model", () => {
    const { input } = deriveInput(question(s, "model.version.transition", s.modelVersion), s.log.reader);
    expect(input["model"]).toMatchObject({
      aliases: ["candidate"],
      name: "scorer",
      open_findings: 0,
      ordinal: 1,
      runs: [{ record: s.run }],
      status: "draft",
      tainted: false,
      tier: "high",
    });
    expect(input["subject"]).toEqual({
      authors: [s.author],
      kind: "model.version",
      labels: {},
      name: "scorer",
      record: s.modelVersion,
      status: "draft",
    });
    expect(input["data"]).toHaveLength(2);
    expect(input["run"]).toBeNull();
  });

  test("of a gate", () => {
    const { input } = deriveInput(question(s, "quality.gate", s.version), s.log.reader);
    expect(input["report"]).toEqual({
      complete: true,
      measurements: { "Sex.nulls": 0, rows: 333 },
      sample_fraction: 1,
      tool: "demo",
    });
    expect(deriveInput(question(s, "dataset.version.transition", s.version), s.log.reader).input["report"]).toBeNull();
  });

  test("of an approval", () => {
    const s = scene();
    const decision = s.log.add(
      "decision",
      { evaluated_at: NOW, input: {}, outcome: "OUTCOME_REQUIRE_APPROVAL", target: "dataset.version.transition" },
      { subject: s.holdout },
    );
    const requirement = {
      approval: { groups: ["data-stewards"], meaning: "MEANING_APPROVED", quorum: 1 },
      policy: s.first,
      rule: "steward",
    };
    const request = s.log.add(
      "approval.request",
      {
        action: {},
        action_digest: "a",
        evidence_digest: "e",
        expires_at: NOW,
        requirements: [requirement],
        target: "dataset.version.transition",
      },
      { decision, subject: s.holdout },
    );
    const vote = (by: RecordId, verdict: string) =>
      s.log.add(
        "approval",
        { action_digest: "a", meaning: "MEANING_APPROVED", statement: "s", verdict },
        { request, subject: s.holdout },
        { by },
      );
    const approvals = [vote(s.steward, "VERDICT_APPROVE"), vote(s.author, "VERDICT_REJECT")];
    const asked = question(s, "dataset.version.transition", s.holdout, { approvals });
    const { input, facts } = deriveInput(asked, s.log.reader);
    expect(input["approvals"]).toEqual([
      { groups: ["data-stewards"], meaning: "approved", principal: s.steward, requirement: "steward" },
    ]);
    expect(deriveInput(asked, s.log.only(facts)).input["approvals"]).toEqual(input["approvals"]);
  });
});

/** A decision as the writer records it, and the links of its record. */
function decide(
  s: Scene,
  target: Target,
  subject: RecordId,
  more: Partial<InputQuestion> = {},
): { body: JsonObject; links: Link[]; facts: readonly RecordId[] } {
  const { input, facts } = deriveInput(question(s, target, subject, more), s.log.reader);
  const judgement = evaluate([], input);
  const links = [
    { rel: "subject", to: subject },
    ...facts.map((to) => ({ rel: "fact", to })),
    ...(more.approvals ?? []).map((to) => ({ rel: "approval", to })),
  ];
  return {
    body: decisionBody({ input, judgement, preview: input["preview"] === true, target }),
    facts,
    links: sortLinks(links),
  };
}

describe("facts alone", () => {
  test.each(["run", "version", "holdout", "lock", "modelVersion", "dataset"] as const)(
    "give the input of a %s again",
    (name) => {
      const s = scene();
      const { body, links, facts } = decide(s, "alias.set", s[name]);
      expect(deriveAgain(body, links, s.log.only(facts))).toEqual({ findings: [] });
      expect(facts).not.toContain(
        s.log.facts.find((f) => f.record.kind === "run.batch" && f.record.body["seq"] === 2)?.id,
      );
    },
  );

  test("give taint again, with the path to what was revoked", () => {
    const s = scene();
    const revocation = s.log.add(
      "transition",
      { from: "registered", reason: "r", severity: "SEVERITY_INVALIDATES", to: "revoked" },
      { subject: s.first },
      { by: s.steward },
    );
    const { body, links, facts } = decide(s, "model.version.transition", s.modelVersion);
    expect(member(body, "input", "model", "tainted")).toBe(true);
    expect(member(body, "input", "run")).toBeNull();
    expect(facts).toEqual(expect.arrayContaining([revocation, s.first, s.version, s.run]));
    expect(deriveAgain(body, links, s.log.only(facts))).toEqual({ findings: [] });
  });

  test("find what was invented", () => {
    const s = scene();
    const { body, links, facts } = decide(s, "run.start", s.run);
    const reader = s.log.only(facts);
    const run = member(body, "input", "run") as JsonObject;
    const lied = (part: JsonObject): JsonObject => ({ ...body, input: { ...(body["input"] as JsonObject), ...part } });
    expect(deriveAgain(lied({ run: { ...run, purpose: "exploration" } }), links, reader).findings).toEqual([
      { code: "decision.input", detail: "run of the input is not what the facts give" },
    ]);
    expect(deriveAgain(lied({ extra: 1 }), links, reader).findings).toHaveLength(1);
    expect(
      deriveAgain(lied({ actor: null, request: 7, subject: { record: s.run } }), links, reader).findings.length,
    ).toBeGreaterThan(0);
    expect(deriveAgain(lied({ subject: { record: s.version } }), links, reader).findings).toHaveLength(1);
    // What the requester said is not read from records.
    expect(
      deriveAgain(
        lied({ request: { ...(member(body, "input", "request") as JsonObject), reason: "other" } }),
        links,
        reader,
      ).findings,
    ).toEqual([]);
    // A fact that is not there makes it undecidable.
    expect(deriveAgain(body, links, s.log.only(facts.filter((f) => f !== s.lock))).skipped).toContain(s.lock);
    // A transition that is left out of the facts changes what they give.
    const fewer = links.filter((link) => s.log.fact(link.to).record.kind !== "transition");
    expect(deriveAgain(body, fewer, s.log.only(fewer.map((l) => l.to))).findings).toHaveLength(2);
  });
});

describe("drafts of the same group", () => {
  test("are judged before they have an id", () => {
    const s = scene();
    const { record } = s.log.fact(s.run);
    const base = s.log.reader;
    const { pending, reader } = withDrafts(
      base,
      [
        {
          actor: record.actor,
          body: record.body,
          kind: "run",
          links: record.links,
          project: s.log.project as RecordId,
        },
      ],
      NOW,
    );
    expect(pending).toEqual([pendingId(0)]);
    expect(reader.size).toBe(base.size);
    const asked = question(s, "run.start", pendingId(0), { pending: new Set(pending), preview: true });
    const { input, facts } = deriveInput(asked, reader);
    expect(input).toMatchObject({
      run: { environment: { match: "unknown" }, record: null, status: "planned" },
      subject: { record: null, status: "planned" },
    });
    expect(facts).not.toContain(pendingId(0));
    // Who makes the input again knows the id, and shows it as null too.
    const planned = s.log.add(
      "run",
      record.body,
      { code: record.links.find((l) => l.rel === "code")?.to, environment: s.lock, input: [s.version, s.holdout] },
      { by: s.author },
    );
    const body = decisionBody({ input, judgement: evaluate([], input), preview: true, target: "run.start" });
    const links = [...facts.map((to) => ({ rel: "fact", to })), { rel: "subject", to: planned }];
    expect(deriveAgain(body, links, s.log.only([...facts, planned]))).toEqual({ findings: [] });
  });
});

describe("evidence", () => {
  test("does not move with time, asker, votes or the wait for them", () => {
    const s = scene();
    const digest = (more: Partial<InputQuestion> = {}, subject = s.run) =>
      evidenceDigest(deriveInput(question(s, "run.start", subject, more), s.log.reader).input);
    const before = digest();
    expect(
      digest({
        actor: { groups: [], principal: s.steward, roles: [], type: null },
        now: formatTime(START_MS + 30 * 86_400_000),
        tree_size: 9_999 as TreeSize,
      }),
    ).toBe(before);
    expect(digest({ request: { to: "deprecated" } })).not.toBe(before);
    const run = s.log.add("run", { purpose: "PURPOSE_PRODUCTION" }, {}, { by: s.author });
    const planned = digest({}, run);
    const decision = s.log.add(
      "decision",
      { evaluated_at: NOW, input: {}, outcome: "OUTCOME_REQUIRE_APPROVAL", target: "run.start" },
      { subject: run },
    );
    s.log.add("approval.request", { action: {}, requirements: [], target: "run.start" }, { decision, subject: run });
    const { input, facts } = deriveInput(question(s, "run.start", run), s.log.reader);
    expect(member(input, "run", "status")).toBe("awaiting_approval");
    expect(member(deriveInput(question(s, "run.start", run), s.log.only(facts)).input, "run", "status")).toBe(
      "awaiting_approval",
    );
    expect(digest({}, run)).toBe(planned);
    s.log.add(
      "transition",
      { from: "approved", reason: "r", to: "deprecated" },
      { subject: s.version },
      { by: s.steward },
    );
    expect(digest()).not.toBe(before);
  });
});
