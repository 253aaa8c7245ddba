/**
 * The plain scenario: clients that create projects and datasets whose names collide, repeat what was answered, and ask for seals.
 * Submissions are the smallest that have guards: no command, no caller.
 */
import { keys as viewKeys } from "../../src/fold/view.ts";
import type { Log, Outcome } from "../../src/log/log.ts";
import type { ValidItem } from "../../src/record/chain.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { LogIndex, RecordId } from "../../src/std/brand.ts";
import { Fault } from "../../src/std/faults.ts";
import { createDataset, createProject } from "../log/world.ts";
import type { Acknowledgement } from "./history.ts";
import { hold } from "./invariants.ts";
import type { Client, Scenario, Work } from "./scenario.ts";

export interface DatasetOptions {
  readonly clients: number;
  /** Of each client. */
  readonly requests: number;
}

const PROJECTS = ["fraud", "risk", "churn"];
const NAMES = 12;

/** The newest checkpoint that covers an entry; a client that repeats a request is told it like one that asks first. */
const acknowledge = (log: Log, id: RecordId, index: LogIndex): Acknowledgement => ({ id, receipt: log.receipt(index) });

const committed = (log: Log, outcome: Outcome<unknown>): Acknowledgement[] =>
  (outcome.committed?.records ?? []).map(({ id, index }) => acknowledge(log, id, index));

const systemOf = (log: Log): RecordId => assertDefined(log.index.reader().entry(1), "entry 1").record;

async function projectOf(log: Log, name: string): Promise<RecordId> {
  await log.submit(createProject(name, systemOf(log)));
  return assertDefined(log.index.reader().get("name", `-/project/${name}`), name).value.id;
}

/** Creates a dataset; repeated, it gives what was recorded first. */
const dataset =
  (request: string, project: string, name: string, withinMs?: number): Work =>
  async ({ log, process }) => {
    const id = await projectOf(log, project);
    const submission = {
      ...createDataset(id, name, request),
      ...(withinMs === undefined ? {} : { deadlineMs: process.clock.now() + withinMs }),
    };
    const outcome = await log.submit(submission);
    if (outcome.value === "created") return committed(log, outcome);
    const row = log.index.reader().get("request", viewKeys.request(undefined, id, request));
    const first = assertDefined(row, "an earlier outcome").value.first as LogIndex;
    return [acknowledge(log, assertDefined(log.index.reader().entry(first), "its entry").record, first)];
  };

const project =
  (name: string): Work =>
  async ({ log }) =>
    committed(log, await log.submit(createProject(name, systemOf(log))));

const seal: Work = async ({ log }) => {
  try {
    await log.seal();
    return [];
  } catch (error) {
    // Closing, or another writer: the seal may stand, or not.
    if (error instanceof Fault) throw error;
    throw new Fault("WRITER_LOST", `no seal: ${String(error)}`, { cause: error });
  }
};

export function datasets({ clients, requests }: DatasetOptions): Scenario {
  async function work(client: Client, who: number): Promise<void> {
    const { scheduler } = client;
    let last: { readonly request: string; readonly work: Work } | undefined;
    for (let k = 0; k < requests; k++) {
      const request = `c${who}-${k}`;
      const kind = scheduler.random();
      const patient = scheduler.chance(0.7);
      if (kind < 0.1) await client.ask(`seal-for-${request}`, false, seal);
      else if (kind < 0.2) await client.ask(`create-${request}`, patient, project(request));
      else if (kind < 0.3 && last !== undefined) await client.ask(last.request, true, last.work);
      else {
        const where = PROJECTS[scheduler.below(PROJECTS.length)] ?? "";
        const within = scheduler.chance(0.15) ? scheduler.between(50, 5_000) : undefined;
        const create = dataset(request, where, `n${scheduler.below(NAMES)}`, within);
        if (await client.ask(request, patient, create)) last = { request, work: create };
      }
      if (scheduler.chance(0.4)) await scheduler.sleep(undefined, scheduler.below(3_000), undefined, "client idles");
    }
  }

  return {
    clients: (client) => Array.from({ length: clients }, (_, who) => () => work(client, who)),
    holdGuards: holdNames,
    lastChange: () => dataset("last-change", "fraud", "last"),
    largestGroup: 1,
  };
}

/** A name is given once. */
export function holdNames(items: readonly ValidItem[]): void {
  const names = new Map<string, number>();
  for (const { entry, index, record } of items) {
    if (record?.kind !== "dataset" && record?.kind !== "project") continue;
    const owner = record.kind === "project" ? "-" : entry.project;
    const name = `${owner} ${JSON.stringify(record.body["name"])}`;
    const before = names.get(name);
    hold("I9", before === undefined, `the name ${name} was given at ${before} and again at ${index}`);
    names.set(name, index);
  }
}
