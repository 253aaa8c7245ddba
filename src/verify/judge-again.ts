/**
 * Stage 10, decisions made again, in three levels that prove more and more: the stored rules on the stored input give the stored
 * results; the facts give the input; no policy that was in force was left out. What cannot be tried is skipped, with a count.
 */
import type { ViewReader } from "../fold/view.ts";
import { text } from "../policy/compile.ts";
import { type Fact, factReader } from "../policy/fact-reader.ts";
import { policiesInForce } from "../policy/in-force.ts";
import { deriveAgain, policiesLeftOut, type Replay, replayDecision, type StoredPolicy } from "../policy/replay.ts";
import { parseTarget } from "../policy/targets.ts";
import { digestOf, type LogIndex, type RecordId } from "../std/brand.ts";
import type { Manifest } from "./manifest.ts";
import type { PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

export function judgeAgain(records: readonly PackRecord[], manifest: Manifest, stage: Stage): void {
  const facts = records.flatMap(({ entry, index, record }): Fact[] =>
    record === undefined ? [] : [{ id: entry.record, index: index as LogIndex, record }],
  );
  const held = new Map(facts.map((fact) => [fact.id as string, fact]));
  const genesis = records[0]?.entry.record;
  const chains = new Chains(records, facts, held, manifest);
  const levels = {
    derived: new Level("derived again from its facts"),
    inForce: new Level("compared with the policies in force"),
    replayed: new Level("replayed"),
  };
  for (const { id, index, record } of facts) {
    if (record.kind !== "decision") continue;
    const linked = record.links.flatMap(({ to }) => held.get(to) ?? []);
    const policies = linked
      .filter((fact) => fact.record.kind === "policy")
      .map(
        (fact): StoredPolicy => ({ body: fact.record.body, ledger: fact.record.project === genesis, record: fact.id }),
      );
    levels.replayed.take(id, stage, replayDecision(record.body, policies));
    levels.derived.take(id, stage, deriveAgain(record.body, record.links, factReader(linked)));
    levels.inForce.take(id, stage, comparePolicies({ id, index, record }, genesis, chains));
  }
  for (const level of Object.values(levels)) level.report(stage);
}

function comparePolicies({ index, record }: Fact, genesis: RecordId | undefined, chains: Chains): Replay {
  const target = parseTarget(text(record.body["target"]));
  const { project } = record;
  if (target === undefined || project === undefined || genesis === undefined)
    return { findings: [], skipped: "its target is of another profile" };
  const flaw = chains.flaw(project) ?? chains.flaw(genesis);
  if (flaw !== undefined) return { findings: [], skipped: flaw };
  const size = record.body["tree_size"];
  // A state after the decision itself is found out by its order.
  const before = Math.min(typeof size === "number" ? size : 0, index);
  const reader = chains.policies(project, genesis, before);
  return { findings: policiesLeftOut(record.body, policiesInForce(reader, target, project, genesis)) };
}

/** What became of a level over all decisions. */
class Level {
  readonly #what: string;
  #tried = 0;
  #skipped = 0;
  #first = "";

  constructor(what: string) {
    this.#what = what;
  }

  take(id: RecordId, stage: Stage, { findings, skipped }: Replay): void {
    this.#tried++;
    for (const { code, detail } of findings) stage.fail(code, id, detail);
    if (skipped === undefined) return;
    this.#skipped++;
    if (this.#first === "") this.#first = `${id}: ${skipped}`;
  }

  report(stage: Stage): void {
    if (this.#skipped > 0)
      stage.skip(`${this.#skipped} of ${this.#tried} decisions could not be ${this.#what}; first ${this.#first}`);
  }
}

/** Policies and their moves, of projects that are wholly here. */
class Chains {
  readonly #records: readonly PackRecord[];
  readonly #moves: readonly Fact[];
  readonly #complete: ReadonlySet<string>;
  readonly #flaws = new Map<RecordId, string | undefined>();
  readonly #readers = new Map<string, ViewReader>();

  constructor(
    records: readonly PackRecord[],
    facts: readonly Fact[],
    held: ReadonlyMap<string, Fact>,
    manifest: Manifest,
  ) {
    this.#records = records;
    this.#complete = manifest.complete;
    this.#moves = facts.filter(({ record }) => {
      if (record.kind === "policy") return true;
      if (record.kind !== "transition") return false;
      return record.links.some((l) => l.rel === "subject" && held.get(l.to)?.record.kind === "policy");
    });
  }

  /** Why the policies of a project cannot be known. */
  flaw(project: RecordId): string | undefined {
    if (this.#flaws.has(project)) return this.#flaws.get(project);
    const digest = digestOf(project);
    const lacking = this.#records.find((r) => r.entry.project === digest && r.record === undefined);
    const flaw = !this.#complete.has(digest)
      ? `project ${project} is not complete in the pack`
      : lacking === undefined
        ? undefined
        : `${lacking.entry.record} of project ${project} is not in the pack`;
    this.#flaws.set(project, flaw);
    return flaw;
  }

  /** The state of the policies of both before an index. */
  policies(project: RecordId, ledger: RecordId, before: number): ViewReader {
    const moves = this.#moves.filter(
      (fact) => fact.index < before && (fact.record.project === project || fact.record.project === ledger),
    );
    // Policies change seldom: the same moves serve many decisions.
    const key = `${project}/${moves.length}`;
    const found = this.#readers.get(key);
    if (found !== undefined) return found;
    const reader = factReader(moves);
    this.#readers.set(key, reader);
    return reader;
  }
}
