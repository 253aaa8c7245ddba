/**
 * Back-test: what a candidate would have decided on the inputs that were decided on. The inputs are the stored ones, so nothing is
 * derived again; the candidate takes the place of the versions of its name, and the other policies of each decision stay.
 *
 * An input that lacks what the candidate asks for is not evaluable: counted, and no flip.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type BacktestPolicyRequest,
  type BacktestPolicyResponse,
  BacktestPolicyResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import type { Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { authorise, mayRead, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject, ledgerOf } from "../identity/ledger.ts";
import type { IndexReader } from "../index/index.ts";
import { evaluate, PolicyCache } from "../policy/engine.ts";
import { type Judgement, OUTCOMES, type Outcome, type PolicyInForce } from "../policy/judgement.ts";
import { isObject, type JsonObject } from "../record/json.ts";
import type { LedgerRecord } from "../record/record.ts";
import { assertDefined } from "../std/assert.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findVisible } from "./get.ts";
import { findResource } from "./resource.ts";
import { OUTCOME, rulesOf } from "./rule-results.ts";

const PAGE = 200;
/** Versions shown for one flip. */
const MAX_BUILT = 100;
/** Records that a walk from one subject looks at. */
const MAX_WALK = 10_000;
const BUILT_FROM: ReadonlySet<string> = new Set(["derived_from", "input", "parent", "produced_by"]);

/** Flips in log order, then the totals. Decisions of `_ledger` stand for those of every project that the caller reads. */
export async function* backtestPolicy(
  reads: Reads,
  caller: Caller,
  request: BacktestPolicyRequest,
  signal?: AbortSignal,
): AsyncGenerator<BacktestPolicyResponse> {
  const size = readSize(reads, request.toIndex);
  const test = prepare(reads, caller, request, size);
  const totals = { evaluated: 0, flips: 0, notEvaluable: 0 };
  for (let from = request.fromIndex; from < size; ) {
    signal?.throwIfAborted();
    const { next, results } = testPage(reads, caller, test, from, size);
    for (const { flip, evaluable } of results) {
      if (evaluable) totals.evaluated++;
      else totals.notEvaluable++;
      if (flip === undefined) continue;
      totals.flips++;
      yield create(BacktestPolicyResponseSchema, flip);
    }
    from = next;
    // Others wait for the same thread.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  yield create(BacktestPolicyResponseSchema, { totals });
}

function readSize(reads: Reads, toIndex: number): TreeSize {
  using reader = readerAsOf(reads, toIndex);
  return reader.size;
}

interface Version {
  readonly id: RecordId;
  readonly project: RecordId;
  readonly body: JsonObject;
}

interface Test {
  readonly candidate: Version;
  readonly against: Version | undefined;
  /** Absent for all that the caller reads. */
  readonly project: RecordId | undefined;
  readonly ledger: RecordId;
  readonly cache: PolicyCache;
}

function prepare(reads: Reads, caller: Caller, request: BacktestPolicyRequest, size: TreeSize): Test {
  using now = reads.log.index.reader();
  const project = findProject(now, request.project);
  if (project === undefined) throw notFound("project");
  authorise(now, caller, project, "read", reads.clock.now());
  if (request.fromIndex > size) {
    throw new Fault("REQUEST_INVALID", "from_index is above the end of the range", {
      fields: [{ description: "is above to_index", field: "from_index" }],
    });
  }
  const version = (name: string): Version => {
    const wanted = { collection: "policies", kinds: ["policy"] };
    const id = findVisible(reads, now, caller, { name, project: request.project }, wanted);
    const { record } = assertDefined(now.record(id), "a resolved record is there");
    return { body: record.body, id, project: record.project ?? project };
  };
  const candidate = version(request.candidate);
  const against = request.against === "" ? undefined : version(request.against);
  if (against !== undefined && against.body["target"] !== candidate.body["target"]) {
    throw new Fault("REQUEST_INVALID", "against is a policy of another target", {
      fields: [{ description: "is of another target", field: "against" }],
    });
  }
  const ledger = ledgerOf(now);
  return { against, cache: new PolicyCache(), candidate, ledger, project: project === ledger ? undefined : project };
}

interface Result {
  readonly evaluable: boolean;
  readonly flip?: MessageInitShape<typeof BacktestPolicyResponseSchema>;
}

/** One page at a time, so that no reader is held while the client reads. */
function testPage(
  reads: Reads,
  caller: Caller,
  test: Test,
  from: number,
  size: TreeSize,
): { readonly next: number; readonly results: readonly Result[] } {
  using reader = reads.log.index.reader(size);
  const query = { from, kinds: ["decision"], limit: PAGE };
  const indexes = reader.list(test.project === undefined ? query : { ...query, project: test.project });
  const results = indexes.flatMap((index) => testOne(reads, caller, test, reader, index) ?? []);
  const last = indexes.at(-1);
  return { next: last === undefined || indexes.length < PAGE ? size : last + 1, results };
}

function testOne(reads: Reads, caller: Caller, test: Test, reader: IndexReader, index: LogIndex): Result | undefined {
  const entry = assertDefined(reader.entry(index), "a listed entry is there");
  const { record } = assertDefined(reader.record(entry.record), "a listed record is there");
  const { input, preview, target } = record.body;
  if (target !== test.candidate.body["target"] || preview === true || !isObject(input)) return undefined;
  const nowMs = reads.clock.now();
  if (test.project === undefined && !mayRead(reader, caller, entry.project, nowMs)) return undefined;
  const others = othersOf(reader, test, record);
  const would = judge(test, test.candidate, others, input);
  const was =
    test.against === undefined ? outcomeWord(record.body["outcome"]) : judge(test, test.against, others, input).outcome;
  if (was === undefined || (would.outcome === "ERROR" && was !== "ERROR")) return { evaluable: false };
  if (would.outcome === was) return { evaluable: true };
  const decision = findResource(reader, entry.record);
  return {
    evaluable: true,
    flip: {
      builtSince: builtSince(reads, caller, reader, record, index),
      ...(decision === undefined ? {} : { decision }),
      rules: rulesOf(would.policies.filter((p) => p.record === test.candidate.id)).filter(
        (r) => r.message !== "" || r.seen.length > 0,
      ),
      was: OUTCOME[was],
      wouldBe: OUTCOME[would.outcome],
    },
  };
}

const outcomeWord = (value: unknown): Outcome | undefined => OUTCOMES.find((word) => `OUTCOME_${word}` === value);

const judge = (test: Test, version: Version, others: readonly PolicyInForce[], input: JsonObject): Judgement =>
  evaluate(
    [...others, { body: version.body, ledger: version.project === test.ledger, mode: "active", record: version.id }],
    input,
    { cache: test.cache },
  );

/** The active policies of a decision but those whose place the candidate takes. */
function othersOf(reader: IndexReader, { candidate, ledger }: Test, record: LedgerRecord): PolicyInForce[] {
  const { policies } = record.body;
  const rows = Array.isArray(policies) ? (policies as readonly JsonObject[]) : [];
  return rows.flatMap(({ mode, record: id }) => {
    const found = mode === "POLICY_MODE_ACTIVE" ? reader.record(id as RecordId)?.record : undefined;
    if (found === undefined) return [];
    if (found.project === candidate.project && found.body["name"] === candidate.body["name"]) return [];
    return [{ body: found.body, ledger: found.project === ledger, mode: "active" as const, record: id as RecordId }];
  });
}

/** Model versions that were decided about, and those that were built since on what was. */
function builtSince(
  reads: Reads,
  caller: Caller,
  reader: IndexReader,
  record: LedgerRecord,
  decidedAt: LogIndex,
): Resource[] {
  const subjects = new Set<RecordId>(record.links.flatMap((l) => (l.rel === "subject" ? [l.to] : [])));
  const seen = new Set(subjects);
  const built: Resource[] = [];
  const nowMs = reads.clock.now();
  for (const id of seen) {
    if (seen.size > MAX_WALK || built.length >= MAX_BUILT) break;
    for (const dependent of reader.dependents(id)) if (BUILT_FROM.has(dependent.rel)) seen.add(dependent.id);
    const entity = reader.get("entity", id)?.value;
    const index = reader.indexOf(id) ?? 0;
    if (entity?.kind !== "model.version" || (index <= decidedAt && !subjects.has(id))) continue;
    if (!mayRead(reader, caller, entity.project, nowMs)) continue;
    const resource = findResource(reader, id);
    if (resource !== undefined) built.push(resource);
  }
  return built;
}
