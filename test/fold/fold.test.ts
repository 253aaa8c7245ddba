/** What records do to the views, told as small stories. */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { type CommitFacts, itemOf as factItem, factsOf } from "../../src/fold/facts.ts";
import { foldRecord } from "../../src/fold/fold.ts";
import { contentIdentity } from "../../src/fold/identity.ts";
import { keys } from "../../src/fold/view.ts";
import type { ValidItem } from "../../src/record/chain.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { type LedgerRecord, type Link, parseRecord, recordId } from "../../src/record/record.ts";
import { digestOf, type LogIndex, type RecordId, ZERO_DIGEST } from "../../src/std/brand.ts";
import { formatHex, utf8 } from "../../src/std/bytes.ts";
import { NaiveState } from "./naive-state.ts";
import { RecordMaker, writeLog } from "./synthetic-log.ts";

const HEX = "ab".repeat(32);
const TIME = "2026-02-01T00:00:00.000Z";

interface More {
  readonly links?: Readonly<Record<string, RecordId | readonly RecordId[]>>;
  readonly by?: RecordId;
  readonly in?: RecordId;
  readonly request?: string;
}

/** A log that is told record by record. */
class Story {
  readonly state = new NaiveState();
  readonly #maker = new RecordMaker();
  readonly ledger: RecordId;
  readonly system: RecordId;
  readonly project: RecordId;
  readonly ada: RecordId;
  readonly bob: RecordId;

  constructor() {
    this.ledger = this.tell("ledger", {
      default_retention_days: 1,
      keys: [{ possession: HEX, role: "KEY_ROLE_LOG", vkey: "k" }],
      origin: "o",
    });
    this.system = this.tell("project", { name: "_system" });
    this.ada = this.tell(
      "principal",
      { display_name: `personal:sha256:${HEX}`, name: "ada", type: "PRINCIPAL_TYPE_HUMAN" },
      { in: this.ledger },
    );
    this.bob = this.tell(
      "principal",
      { display_name: `personal:sha256:${HEX}`, name: "bob", type: "PRINCIPAL_TYPE_HUMAN" },
      { in: this.ledger },
    );
    this.project = this.tell("project", { name: "fraud" }, { by: this.ada });
  }

  tell(kind: string, body: JsonObject, more: More = {}): RecordId {
    const links = Object.entries(more.links ?? {}).flatMap(([rel, to]): Link[] =>
      typeof to === "string" ? [{ rel, to }] : to.map((id) => ({ rel, to: id })),
    );
    const creates = (kind === "project" || kind === "ledger") && more.in === undefined;
    const made = this.#maker.make({
      body,
      kind,
      links,
      ...(creates ? {} : { project: more.in ?? this.project }),
      ...(more.by === undefined ? {} : { principal: more.by }),
      ...(more.request === undefined ? {} : { requestId: more.request }),
    });
    const index = this.state.size as number as LogIndex;
    this.state.add(itemOf(index, made.id, parseRecord(made.bytes), made.bytes));
    return made.id;
  }

  /** A run with its plan. */
  run(links: More["links"] = {}): RecordId {
    return this.tell("run", { purpose: "PURPOSE_EXPLORATION" }, { by: this.ada, links });
  }

  start(run: RecordId): RecordId {
    return this.tell(
      "run.start",
      { token: { expires_at: TIME, sha256: digestOf(run) } },
      { by: this.ada, links: { run } },
    );
  }

  finish(run: RecordId, status: string): RecordId {
    return this.tell("run.finish", { status: `RUN_STATUS_${status}` }, { by: this.ada, links: { run } });
  }

  decide(
    target: string,
    outcome: string,
    subject: RecordId,
    more: { readonly body?: JsonObject; readonly links?: More["links"] } = {},
  ): RecordId {
    const body = {
      engine: "e",
      evaluated_at: TIME,
      input: { v: 1 },
      input_digest: HEX,
      outcome: `OUTCOME_${outcome}`,
      target,
      tree_size: 1,
      ...more.body,
    };
    return this.tell("decision", body, { links: { subject, ...more.links } });
  }

  move(subject: RecordId, from: string, to: string, severity?: string): RecordId {
    return this.tell(
      "transition",
      { from, reason: "r", to, ...(severity === undefined ? {} : { severity }) },
      { by: this.ada, links: { subject } },
    );
  }

  version(dataset: RecordId, links: More["links"] = {}): RecordId {
    return this.tell(
      "dataset.version",
      { content_digest: `sha256:${HEX}`, custody: "CUSTODY_LEDGER" },
      { by: this.ada, links: { dataset, ...links } },
    );
  }

  policy(name: string, target = "run.start"): RecordId {
    return this.tell("policy", { name, rules: [{ id: "r", message: "m", require: "true" }], target }, { by: this.ada });
  }

  entity(id: RecordId): unknown {
    return this.state.get("entity", id)?.value;
  }
}

function itemOf(index: LogIndex, id: RecordId, record: LedgerRecord, bytes: Uint8Array): ValidItem {
  const entry = { prev: ZERO_DIGEST, project: digestOf(record.project ?? id), record: id, seq: 0 };
  return { entry, entryBytes: new Uint8Array(), index, leaf: new Uint8Array(32), record, recordBytes: bytes };
}

it("knows the ledger, projects, principals and their names", () => {
  const { state, ledger, system, project, ada } = new Story();
  expect(state.get("ledger", "")?.value).toEqual({ record: ledger });
  expect(state.get("project", project)?.value).toEqual({ name: "fraud", revision: project, status: "active" });
  for (const [name, id] of [
    ["_ledger", ledger],
    ["_system", system],
    ["fraud", project],
  ] as const)
    expect(state.get("name", keys.name("-", "project", name))?.value).toEqual({ id });
  expect(state.get("name", keys.name("-", "principal", "ada"))?.value).toEqual({ id: ada });
  expect(state.get("entity", ada)?.value).toEqual({
    kind: "principal",
    name: "ada",
    project: ledger,
    revision: ada,
    status: "active",
  });
});

it("counts the records of a request, and only contiguous ones", () => {
  const story = new Story();
  const first = story.state.size;
  story.tell("dataset", { name: "a" }, { by: story.ada, request: "q" });
  story.tell("dataset", { name: "b" }, { by: story.ada, request: "q" });
  const key = keys.request(story.ada, story.project, "q");
  expect(story.state.get("request", key)?.value).toEqual({ count: 2, first });
  story.tell("dataset", { name: "c" }, { by: story.ada, request: "other" });
  story.tell("dataset", { name: "d" }, { by: story.ada, request: "q" });
  expect(story.state.get("request", key)?.value).toEqual({ count: 2, first });
});

it("numbers versions below their parent, and policies below their name", () => {
  const story = new Story();
  const [a, b] = ["a", "b"].map((name) => story.tell("dataset", { name }, { by: story.ada })) as [RecordId, RecordId];
  const versions = [a, b, a, a].map((dataset) => story.version(dataset));
  expect(versions.map((id) => (story.entity(id) as { ordinal: number }).ordinal)).toEqual([1, 1, 2, 3]);
  expect(story.state.get("nth", keys.nth(a, "dataset.version", 3))?.value).toEqual({ id: versions[3] });
  expect(story.state.get("count", keys.count(a, "dataset.version"))?.value).toEqual({ n: 3 });
  const policies = ["p", "q", "p"].map((name) => story.policy(name));
  expect(story.state.get("nth", keys.nth(keys.series(story.project, "p"), "policy", 2))?.value).toEqual({
    id: policies[2],
  });
});

it("revises an entity and keeps its first name", () => {
  const story = new Story();
  const dataset = story.tell("dataset", { name: "a" }, { by: story.ada });
  const revision = story.tell("dataset", { name: "a" }, { by: story.ada, links: { revises: dataset } });
  expect(story.entity(dataset)).toMatchObject({ name: "a", revision });
  expect(story.entity(revision)).toBeUndefined();
  const renamed = story.tell(
    "project",
    { name: "fraud" },
    { by: story.ada, in: story.project, links: { revises: story.project } },
  );
  expect(story.state.get("project", story.project)?.value).toMatchObject({ name: "fraud", revision: renamed });
  story.tell("dataset", { name: "a" }, { by: story.ada });
  expect(story.state.get("name", keys.name(story.project, "dataset", "a"))?.value).toEqual({ id: dataset });
});

it("follows a run from its plan to its end", () => {
  const story = new Story();
  const run = story.run();
  const status = (): unknown => story.state.get("run", run)?.value.status;
  const decision = story.decide("run.start", "ALLOW", run);
  expect(story.state.get("run", run)?.value).toEqual({ batches: 0, decision, status: "planned" });
  const start = story.start(run);
  expect(story.state.get("token", digestOf(run))?.value).toEqual({
    expires_at: TIME,
    id: start,
    permissions: [],
    principal: story.ada,
    project: story.project,
    run,
  });
  const last = story.tell("run.batch", { seq: 1 }, { by: story.ada, links: { run } });
  expect(story.state.get("run", run)?.value).toEqual({ batches: 1, decision, last, start, status: "running" });
  expect(story.state.get("nth", keys.nth(run, "run.batch", 1))?.value).toEqual({ id: last });
  story.finish(run, "LOST");
  expect([status(), (story.entity(run) as { status: string }).status]).toEqual(["lost", "lost"]);
  const finish = story.finish(run, "SUCCEEDED");
  expect(story.state.get("run", run)?.value).toMatchObject({ finish, status: "succeeded" });
});

it("refuses a run by a decision that was no preview", () => {
  const story = new Story();
  const run = story.run();
  story.decide("run.start", "DENY", run, { body: { preview: true } });
  expect(story.state.get("run", run)?.value.status).toBe("planned");
  story.decide("alias.set", "DENY", run);
  expect(story.state.get("run", run)?.value.status).toBe("planned");
  const decision = story.decide("run.start", "ERROR", run);
  expect(story.state.get("run", run)?.value).toMatchObject({ decision, status: "refused" });
});

it("counts running children once each", () => {
  const story = new Story();
  const parent = story.run();
  const children = [story.run({ parent }), story.run({ parent })] as const;
  const active = (): unknown => story.state.get("children-active", parent)?.value.n;
  children.forEach((child) => story.start(child));
  expect(active()).toBe(2);
  story.start(children[0]);
  story.finish(children[0], "LOST");
  story.finish(children[0], "FAILED");
  expect(active()).toBe(1);
});

function requestApproval(story: Story, subject: RecordId, quorum: number): RecordId {
  story.tell(
    "role.binding",
    { group: { members: [story.ada, story.bob].toSorted(), name: "risk" }, role: "approver" },
    { by: story.ada },
  );
  const decision = story.decide("run.start", "REQUIRE_APPROVAL", subject);
  const requirements = [
    { approval: { groups: ["risk"], meaning: "MEANING_APPROVED", quorum }, policy: decision, rule: "r" },
  ];
  return story.tell(
    "approval.request",
    { action: {}, action_digest: HEX, evidence_digest: HEX, expires_at: TIME, requirements, target: "run.start" },
    { links: { decision, subject } },
  );
}

function vote(story: Story, request: RecordId, by: RecordId, verdict: string, meaning = "APPROVED"): RecordId {
  const signer = { acr: "a", authenticated_at: TIME, printed_name: `personal:sha256:${HEX}` };
  return story.tell(
    "approval",
    { action_digest: HEX, meaning: `MEANING_${meaning}`, signer, statement: "s", verdict: `VERDICT_${verdict}` },
    { by, links: { request } },
  );
}

it("approves with a quorum of distinct members who mean it", () => {
  const story = new Story();
  const run = story.run();
  const request = requestApproval(story, run, 2);
  const status = (): unknown => story.state.get("approval", request)?.value.status;
  expect(story.state.get("run", run)?.value.status).toBe("awaiting_approval");
  vote(story, request, story.ada, "APPROVE");
  vote(story, request, story.ada, "APPROVE");
  vote(story, request, story.bob, "APPROVE", "REVIEWED");
  vote(story, request, story.ledger, "APPROVE");
  expect(status()).toBe("open");
  const deciding = vote(story, request, story.bob, "APPROVE");
  expect(status()).toBe("approved");
  expect(story.entity(request)).toMatchObject({ status: "approved" });
  expect(story.state.get("approval", request)?.value.votes.at(-1)).toEqual({
    id: deciding,
    meaning: "MEANING_APPROVED",
    principal: story.bob,
    verdict: "approve",
  });
  expect(story.state.get("run", run)?.value.status).toBe("awaiting_approval");
});

it("closes a request by one rejection, and a run with it; a withdrawal leaves the plan", () => {
  const story = new Story();
  const [rejected, withdrawn] = [story.run(), story.run()];
  vote(story, requestApproval(story, rejected, 1), story.ada, "REJECT");
  expect(story.state.get("run", rejected)?.value.status).toBe("refused");
  const request = requestApproval(story, withdrawn, 1);
  story.move(request, "open", "withdrawn");
  expect(story.state.get("approval", request)?.value.status).toBe("withdrawn");
  expect(story.state.get("run", withdrawn)?.value.status).toBe("planned");
  vote(story, request, story.ada, "APPROVE");
  expect(story.state.get("approval", request)?.value.status).toBe("withdrawn");
});

it.each([
  ["ALLOW", [], "no_rule"],
  ["ALLOW", ["HOLDS"], "pass"],
  ["ALLOW", ["HOLDS", "FAILS"], "warn"],
  ["REQUIRE_APPROVAL", ["FAILS"], "fail"],
  ["DENY", ["FAILS"], "fail"],
  ["ERROR", ["ERROR"], "error"],
])("gates data: %s with rules %s is %s", (outcome, rules, expected) => {
  const story = new Story();
  const dataset = story.tell("dataset", { name: "a" }, { by: story.ada });
  const version = story.version(dataset);
  const report = story.tell(
    "quality.report",
    { measurements: [{ name: "m", value: 1 }], tool: { name: "t" } },
    { by: story.ada, links: { dataset_version: version } },
  );
  const policies =
    rules.length === 0
      ? {}
      : {
          policies: [
            {
              mode: "POLICY_MODE_ACTIVE",
              record: dataset,
              rules: rules.map((r, i) => ({ id: `r${i}`, message: "m", result: `RULE_OUTCOME_${r}` })),
            },
          ],
        };
  const decision = story.decide("quality.gate", outcome, version, {
    body: policies,
    links: { fact: [report, dataset] },
  });
  expect(story.state.get("gate", version)?.value).toEqual({ at: TIME, decision, outcome: expected, report });
});

it("puts policies into force, and one of a name at a time", () => {
  const story = new Story();
  const [one, two] = [story.policy("fit"), story.policy("fit")];
  const other = story.policy("about");
  const key = keys.policies(story.project, "run.start");
  const inForce = (): unknown => story.state.get("policies", key)?.value.policies;
  story.move(one, "draft", "active");
  story.move(two, "draft", "shadow");
  story.move(other, "draft", "active");
  expect(inForce()).toEqual([
    { id: other, mode: "active", name: "about" },
    { id: one, mode: "active", name: "fit" },
    { id: two, mode: "shadow", name: "fit" },
  ]);
  story.move(two, "shadow", "active");
  expect(inForce()).toEqual([
    { id: other, mode: "active", name: "about" },
    { id: two, mode: "active", name: "fit" },
  ]);
  expect([one, two].map((id) => (story.entity(id) as { status: string }).status)).toEqual(["superseded", "active"]);
  story.move(other, "active", "retired");
  expect(inForce()).toEqual([{ id: two, mode: "active", name: "fit" }]);
});

it("binds roles until they are revoked", () => {
  const story = new Story();
  const binding = story.tell("role.binding", { principal: story.bob, role: "viewer" }, { by: story.ada });
  expect(story.state.get("bindings", story.project)?.value).toEqual({
    bindings: [{ id: binding, principal: story.bob, role: "viewer" }],
  });
  story.move(binding, "active", "revoked");
  expect(story.state.get("bindings", story.project)?.value).toEqual({ bindings: [] });
  expect(story.entity(binding)).toMatchObject({ status: "revoked" });
});

it("spreads taint to what was built, before and after the revocation, and to nothing else", () => {
  const story = new Story();
  const dataset = story.tell("dataset", { name: "a" }, { by: story.ada });
  const model = story.tell("model", { intended_use: "u", name: "m", tier: "TIER_LOW" }, { by: story.ada });
  const root = story.version(dataset);
  const derived = story.version(dataset, { derived_from: root });
  const run = story.run({ input: derived });
  const made = story.tell(
    "model.version",
    { content_digest: `sha256:${HEX}` },
    { by: story.ada, links: { model, produced_by: run } },
  );
  const aside = story.version(dataset);
  const report = story.tell(
    "quality.report",
    { measurements: [{ name: "m", value: 1 }], tool: { name: "t" } },
    { by: story.ada, links: { dataset_version: root } },
  );
  const tainted = (): boolean[] =>
    [root, derived, run, made, aside, report, dataset].map(
      (id) => (story.entity(id) as { tainted?: boolean }).tainted === true,
    );
  story.move(root, "registered", "revoked", "SEVERITY_INFORMS");
  expect(tainted()).toEqual([false, false, false, false, false, false, false]);
  story.move(root, "registered", "revoked", "SEVERITY_INVALIDATES");
  expect(tainted()).toEqual([true, true, true, true, false, false, false]);
  const child = story.tell(
    "model.version",
    { content_digest: `sha256:${HEX}` },
    { by: story.ada, links: { model, parent: made } },
  );
  expect(story.entity(child)).toMatchObject({ tainted: true });
  const useless = story.run({ input: child });
  expect(story.entity(useless)).toMatchObject({ tainted: true });
  expect(story.entity(made)).toMatchObject({ status: "draft" });
});

it("keeps aliases, seals and revoked tokens", () => {
  const story = new Story();
  const model = story.tell("model", { intended_use: "u", name: "m", tier: "TIER_LOW" }, { by: story.ada });
  const version = story.tell("model.version", { content_digest: `sha256:${HEX}` }, { by: story.ada, links: { model } });
  const alias = story.tell(
    "alias",
    { entity: model, name: "production" },
    { by: story.ada, links: { target: version } },
  );
  expect(story.state.get("alias", keys.alias(model, "production"))?.value).toEqual({ id: alias, target: version });
  const seal = story.tell(
    "ledger.seal",
    { heads: HEX, ledger: story.ledger, projects: 2, size: 9, state: HEX, state_version: 1 },
    { in: story.system },
  );
  expect(story.state.get("ledger", "")?.value).toEqual({ record: story.ledger, seal });
  const token = story.tell(
    "token",
    { expires_at: TIME, secret_sha256: HEX },
    { by: story.ada, in: story.ledger, links: { principal: story.bob } },
  );
  expect(story.state.get("token", HEX)?.value).toEqual({
    expires_at: TIME,
    id: token,
    permissions: [],
    principal: story.bob,
  });
});

it("leaves no more than the request of a kind that it does not know", () => {
  const story = new Story();
  const before = story.state.rows.size;
  story.tell("later.kind", { any: 1 }, { by: story.ada });
  expect(story.state.rows.size).toBe(before + 1);
});

it("finds equal content, and tells links of the identity from others", () => {
  const project = `sha256:${HEX}` as RecordId;
  const [a, b] = ["1", "2"].map((d) => `sha256:${d.repeat(64)}` as RecordId) as [RecordId, RecordId];
  const body = { content_digest: `sha256:${HEX}`, custody: "CUSTODY_LEDGER" };
  const key = contentIdentity("dataset.version", project, body, [{ rel: "dataset", to: a }]);
  expect(
    contentIdentity("dataset.version", project, { ...body, rows: 5 }, [
      { rel: "content", to: b },
      { rel: "dataset", to: a },
    ]),
  ).toBe(key);
  expect(contentIdentity("dataset.version", project, body, [{ rel: "dataset", to: b }])).not.toBe(key);
  expect(contentIdentity("run", project, {}, [])).toBeUndefined();
});

it("reads no more of a record than the part that it says", () => {
  const log = writeLog(600, () => 40, 21);
  const state = new NaiveState();
  for (const { items } of log.commits) {
    const facts = JSON.parse(JSON.stringify(factsOf(items))) as CommitFacts;
    for (const [i, item] of items.entries()) {
      expect(foldRecord(state, factItem(facts, i, item.index))).toEqual(foldRecord(state, item));
      state.add(item);
    }
  }
});

const VECTORS = new URL("../vectors/fold/state.json", import.meta.url);

interface Vector {
  readonly record: string;
  readonly state: string;
}

/** To make them again after a new fold version: UPDATE_VECTORS=1. */
it("gives the digests of the vectors", () => {
  if (process.env["UPDATE_VECTORS"] === "1") {
    const story = new Story();
    const dataset = story.tell("dataset", { name: "größe" }, { by: story.ada });
    const version = story.version(dataset);
    const run = story.run({ input: version });
    story.decide("run.start", "ALLOW", run);
    story.start(run);
    story.tell("run.batch", { metrics: [{ key: "auc", value: 0.5 }] }, { by: story.ada, links: { run } });
    story.finish(run, "SUCCEEDED");
    story.move(version, "registered", "revoked", "SEVERITY_INVALIDATES");
    const again = new NaiveState();
    const vectors = story.state.items.map((item): Vector => {
      again.add(item);
      return { record: new TextDecoder().decode(item.recordBytes ?? new Uint8Array()), state: formatHex(again.state) };
    });
    writeFileSync(VECTORS, `${JSON.stringify(vectors, null, 1)}\n`);
  }
  const vectors = JSON.parse(readFileSync(VECTORS, "utf8")) as Vector[];
  const state = new NaiveState();
  expect(formatHex(state.state)).toBe("37b97793409e60080d3dc91b39d2aa1d17d5aa9e11469b4245be8a8e190ea073");
  for (const [i, { record, state: expected }] of vectors.entries()) {
    const bytes = utf8(record);
    const parsed = parseRecord(bytes);
    state.add(itemOf(i as LogIndex, recordId(bytes), parsed, bytes));
    expect(formatHex(state.state)).toBe(expected);
  }
});
