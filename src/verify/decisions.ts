/**
 * Stage 10: whether policy admitted what was admitted. Decisions say what they rest on and in an order that can be; what needed a
 * decision has one that allows it; votes are by distinct persons, none an author; runs are bound to their plans.
 *
 * Relies on the stages before it for digests, form and links. What a pack does not hold is skipped, never passed.
 */
import { isObject, type Json, type JsonObject } from "../record/json.ts";
import type { LedgerRecord } from "../record/record.ts";
import type { RecordId } from "../std/brand.ts";
import { judgeAgain } from "./judge-again.ts";
import type { Manifest } from "./manifest.ts";
import type { PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

/** A record that is in the pack. */
interface Held {
  readonly id: RecordId;
  readonly index: number;
  readonly record: LedgerRecord;
}

export function checkDecisions(records: readonly PackRecord[], manifest: Manifest, stage: Stage): void {
  const pack = new Pack(records);
  for (const held of pack.held()) {
    switch (held.record.kind) {
      case "decision":
        checkDecision(held, pack, stage);
        break;
      case "approval":
        checkVote(held, pack, stage);
        break;
      case "alias":
      case "run.start":
      case "transition":
        checkEffect(held, pack, stage);
        break;
      case "run.batch":
      case "run.finish":
        checkReport(held, pack, stage);
        break;
      default:
    }
  }
  judgeAgain(records, manifest, stage);
}

class Pack {
  readonly #held: readonly Held[];
  readonly #byId: ReadonlyMap<string, Held>;
  /** Index of the first record that somebody asked for; the ledger's own records are all in a pack. */
  readonly firstByPrincipal: number;
  readonly #linked = new Map<string, { readonly rel: string; readonly held: Held }[]>();

  constructor(records: readonly PackRecord[]) {
    this.#held = records.flatMap(({ entry, index, record }) =>
      record === undefined ? [] : [{ id: entry.record, index, record }],
    );
    this.firstByPrincipal =
      this.#held.find((held) => held.record.actor.principal !== undefined)?.index ?? Number.POSITIVE_INFINITY;
    this.#byId = new Map(this.#held.map((held) => [held.id, held]));
    for (const held of this.#held)
      for (const { rel, to } of held.record.links) {
        const list = this.#linked.get(to);
        if (list === undefined) this.#linked.set(to, [{ held, rel }]);
        else list.push({ held, rel });
      }
  }

  held(): readonly Held[] {
    return this.#held;
  }

  get(id: RecordId | undefined): Held | undefined {
    return id === undefined ? undefined : this.#byId.get(id);
  }

  /** The records that link to `id`, ascending by index. */
  linking(id: RecordId, rel: string): readonly Held[] {
    return (this.#linked.get(id) ?? []).flatMap((l) => (l.rel === rel ? [l.held] : []));
  }
}

const linksOf = (record: LedgerRecord, rel: string): RecordId[] =>
  record.links.flatMap((link) => (link.rel === rel ? [link.to] : []));
const linkOf = (record: LedgerRecord, rel: string): RecordId | undefined => linksOf(record, rel)[0];
const rowsOf = (value: Json | undefined): readonly JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : []);
const textOf = (value: Json | undefined): string => (typeof value === "string" ? value : "");
const quote = (value: Json | undefined): string => JSON.stringify(value ?? null);

/** What a decision says of itself: its moment, and the policies that it names. */
function checkDecision({ id, index, record }: Held, pack: Pack, stage: Stage): void {
  const { body } = record;
  const size = body["tree_size"] ?? 0;
  if (typeof size !== "number" || size > index)
    stage.fail("decision.order", id, `was made on the state after ${quote(size)} entries, and is entry ${index}`);
  const named = rowsOf(body["policies"]).map((p) => textOf(p["record"]));
  if (new Set(named).size !== named.length) stage.fail("decision.policy", id, "names a policy twice");
  const linked = linksOf(record, "policy");
  if (named.toSorted().join() !== linked.toSorted().join())
    stage.fail("decision.policy", id, "the policies that it names are not those that it links to");
  for (const policy of linked) {
    const held = pack.get(policy);
    if (held !== undefined && held.record.kind !== "policy")
      stage.fail("decision.policy", id, `${policy} is no policy`);
  }
}

/** The policy target that an effect needs a decision on; undefined for one that needs none. */
function targetOf({ record }: Held, pack: Pack): string | undefined {
  if (record.kind === "run.start") return "run.start";
  if (record.kind === "alias") return "alias.set";
  const kind = pack.get(linkOf(record, "subject"))?.record.kind ?? "";
  if (kind === "policy") return "policy.activate";
  return DECIDED.has(kind) ? `${kind}.transition` : undefined;
}

const DECIDED: ReadonlySet<string> = new Set(["dataset.version", "environment.lock", "model.version"]);

/** What changed something rests on a decision that allows it, made of the same subject and in the same group of records. */
function checkEffect(effect: Held, pack: Pack, stage: Stage): void {
  const { id, record } = effect;
  const code = record.kind === "run.start" ? "run.unbound" : "decision.order";
  const target = targetOf(effect, pack);
  const decisionId = linkOf(record, "decision");
  // The baseline came with the ledger, before anybody could ask for anything.
  const first = record.actor.method === "init" && effect.index < pack.firstByPrincipal;
  if (target === undefined || (decisionId === undefined && first)) return;
  if (decisionId === undefined) return stage.fail(code, id, `rests on no decision on ${target}`);
  const decision = pack.get(decisionId);
  if (decision === undefined) return stage.skip(`${id}: its decision ${decisionId} is not in the pack`);
  const { body } = decision.record;
  const said = textOf(body["outcome"]);
  if (decision.record.kind !== "decision" || body["preview"] === true || said !== "OUTCOME_ALLOW")
    stage.fail(code, id, `its decision ${decisionId} does not allow it: ${quote(said)}`);
  if (body["target"] !== target)
    stage.fail(code, id, `its decision ${decisionId} is on ${quote(body["target"])}, not on ${target}`);
  const subject = linkOf(record, SUBJECT_LINK[record.kind] ?? "subject");
  if (subject !== undefined && !linksOf(decision.record, "subject").includes(subject))
    stage.fail(code, id, `its decision ${decisionId} is about something else`);
  const effects = pack.linking(decisionId, "decision").filter((h) => EFFECTS.has(h.record.kind));
  if (effects.length > 1) stage.fail(code, id, `its decision ${decisionId} is that of something else, too`);
  if (record.kind === "transition" || record.kind === "alias") checkRequest(effect, decision, pack, stage);
}

const EFFECTS: ReadonlySet<string> = new Set(["alias", "run.start", "transition"]);
const SUBJECT_LINK: Readonly<Record<string, string>> = { alias: "target", "run.start": "run", transition: "subject" };

/** What the request of a decision said is what was done. */
function checkRequest(effect: Held, decision: Held, pack: Pack, stage: Stage): void {
  const input = isObject(decision.record.body["input"]) ? decision.record.body["input"] : {};
  const request = isObject(input["request"]) ? input["request"] : {};
  const { body, kind } = effect.record;
  const fields = kind === "alias" ? ([["alias", "name"]] as const) : ([["to", "to"]] as const);
  for (const [asked, done] of fields)
    if (request[asked] !== undefined && request[asked] !== body[done])
      stage.fail(
        "decision.order",
        effect.id,
        `its decision was on ${asked} ${quote(request[asked])}, it does ${quote(body[done])}`,
      );
  checkApprovals(effect, decision, stage, pack);
}

/** Where approvals were asked for, the votes that count are here, distinct, and as many as asked. */
function checkApprovals(effect: Held, decision: Held, stage: Stage, pack: Pack): void {
  const votes = linksOf(decision.record, "approval");
  if (votes.length === 0) return;
  const held = votes.flatMap((vote) => pack.get(vote) ?? []);
  if (held.length < votes.length) return stage.skip(`${effect.id}: a vote for it is not in the pack`);
  const requests = new Set(held.map((vote) => linkOf(vote.record, "request")));
  for (const requestId of requests) {
    const request = pack.get(requestId);
    if (request === undefined) {
      stage.skip(`${effect.id}: the request for its approval is not in the pack`);
      continue;
    }
    for (const requirement of rowsOf(request.record.body["requirements"])) {
      const rule = isObject(requirement["approval"]) ? requirement["approval"] : {};
      const persons = new Set(
        held
          .filter((v) => v.record.body["verdict"] === "VERDICT_APPROVE" && v.record.body["meaning"] === rule["meaning"])
          .map((v) => v.record.actor.principal),
      );
      const quorum = typeof rule["quorum"] === "number" ? rule["quorum"] : 1;
      if (persons.size < quorum)
        stage.fail(
          "approval.count",
          effect.id,
          `rule ${quote(requirement["rule"])} asks for ${quorum} persons, ${persons.size} approved`,
        );
    }
  }
}

/** A vote is by a person who is no author, has not voted before, and saw what is asked. */
function checkVote({ id, record }: Held, pack: Pack, stage: Stage): void {
  const request = pack.get(linkOf(record, "request"));
  if (request === undefined) return stage.skip(`${id}: the request that it votes on is not in the pack`);
  const { principal } = record.actor;
  if (record.body["action_digest"] !== request.record.body["action_digest"])
    stage.fail("approval.count", id, "is a vote on another action than the request's");
  const person = pack.get(principal);
  if (person !== undefined && person.record.body["type"] !== "PRINCIPAL_TYPE_HUMAN")
    stage.fail("approval.count", id, "is by a principal that is no person");
  const earlier = pack.linking(request.id, "request").filter((v) => v.record.kind === "approval");
  if (earlier.some((v) => v.id !== id && v.record.actor.principal === principal))
    stage.fail("approval.count", id, "the same person votes twice");
  if (principal !== undefined && authorsOf(request, pack).has(principal))
    stage.fail("approval.self", id, "is by an author of what it approves, or by who asked for it");
}

/** Who asked, who wrote the subjects and revised them, and who ran the runs that made them. */
function authorsOf(request: Held, pack: Pack): Set<RecordId> {
  const authors = new Set<RecordId>();
  const add = (held: Held | undefined): void => {
    if (held?.record.actor.principal !== undefined) authors.add(held.record.actor.principal);
  };
  add(request);
  for (const id of linksOf(request.record, "subject")) {
    const subject = pack.get(id);
    add(subject);
    for (const revision of pack.linking(id, "revises")) if (revision.index < request.index) add(revision);
    if (subject === undefined) continue;
    for (const run of linksOf(subject.record, "produced_by")) {
      add(pack.get(run));
      pack.linking(run, "run").forEach(add);
    }
  }
  return authors;
}

/** What a run reports comes from who started it, after its start. */
function checkReport({ id, index, record }: Held, pack: Pack, stage: Stage): void {
  const runId = linkOf(record, "run");
  if (runId === undefined) return;
  const start = pack.linking(runId, "run").find((h) => h.record.kind === "run.start");
  if (start === undefined) {
    // A run that was never started cannot report; a start that is outside of the pack cannot be seen.
    return stage.skip(`${id}: the start of its run is not in the pack`);
  }
  if (start.index > index) stage.fail("run.unbound", id, "reports of a run before its start");
  const { actor } = record;
  if (actor.method === "system") return;
  if (actor.method !== "run-token" || actor.principal !== start.record.actor.principal)
    stage.fail("run.identity", id, "is not by the token of the run's start");
}
