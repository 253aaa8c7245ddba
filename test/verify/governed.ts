/**
 * A ledger under policy, made by the real commands with fixed keys, and what its operator might make of it afterwards: one record
 * is another, and all that follows fits.
 */
import { create } from "@bufbuild/protobuf";
import { type ApprovalRequest, Meaning } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import * as governance from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { approve } from "../../src/command/approve.ts";
import { transition } from "../../src/command/transition.ts";
import { inputDigest } from "../../src/policy/decision.ts";
import { canonicalBytes } from "../../src/record/canonical.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { type LedgerRecord, parseRecord, recordId, sortLinks } from "../../src/record/record.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { digestOf, type RecordId } from "../../src/std/brand.ts";
import { equalBytes, utf8 } from "../../src/std/bytes.ts";
import { Lab } from "../command/lab.ts";
import { createWorld, newProject, ORIGIN } from "../command/world.ts";
import { archiveOf, type Item, LabLedger, labKey } from "./pack-lab.ts";

export const GOVERNED_KEYS = {
  commit: labKey(`${ORIGIN}/commit`, 1),
  log: labKey(ORIGIN, 1),
  logPq: labKey(ORIGIN, 6),
};

const POLICY: JsonObject = {
  name: "signed",
  rules: [
    { id: "rows", message: "No rows.", otherwise: "OTHERWISE_DENY", require: "input.data[0].rows > 0.0" },
    {
      approval: { groups: ["data-stewards"], meaning: "MEANING_APPROVED", quorum: 2 },
      id: "signed",
      message: "Two sign.",
      otherwise: "OTHERWISE_REQUIRE_APPROVAL",
      require: "false",
      when: 'input.request.to == "approved"',
    },
  ],
  target: "dataset.version.transition",
};

/** A dataset that two persons approve, a run on it, and a model that comes of it; then a seal. */
export async function governedLedger(): Promise<readonly Item[]> {
  await using world = await createWorld({
    approvers: ["ada", "ben"].map((name) => ({ displayName: name, name })),
    keys: GOVERNED_KEYS,
    policies: [POLICY],
  });
  const { deps } = world;
  await newProject(world, "fraud");
  const lab = new Lab(world, await world.member("fraud", "contributor"), "fraud");
  const steward = await world.member("fraud", "steward");
  const version = await lab.dataset("rows", "12");
  const asked = await transition(
    deps,
    steward,
    create(TransitionRequestSchema, { name: version.record, project: "fraud", reason: "a test", to: "approved" }),
  );
  const request = assertDefined(asked.approvalRequest, "a request");
  for (const name of ["ada", "ben"])
    await approve(
      deps,
      world.caller(world.secrets.get(name) ?? ""),
      create(governance.ApproveRequestSchema, {
        actionDigest: (request.body.value as ApprovalRequest).actionDigest,
        meaning: Meaning.APPROVED,
        project: "fraud",
        request: request.record,
        statement: "Seen.",
      }),
    );
  const run = await lab.running(lab.plan([version.record]));
  const file = await lab.output(run, "weights");
  await lab.finish(run, 1);
  await lab.model("scorer");
  await lab.version("scorer", [file], [run.id]);
  const { size } = await deps.log.seal();
  using reader = deps.log.index.reader();
  return Array.from({ length: size }, (_, i): Item => {
    const entry = assertDefined(reader.entry(i), "an entry");
    const record = new Uint8Array(assertDefined(reader.bytes(i), "a record"));
    return { entry: new Uint8Array(entry.entryBytes), id: entry.record, project: digestOf(entry.project), record };
  });
}

/** What a record is instead; undefined for one that stays as it is. Asked until it answers. */
export type Change = (record: LedgerRecord) => Partial<LedgerRecord> | undefined;

/** The ledger with one record changed, and every later record that names it renamed. */
function rewrite(items: readonly Item[], change: Change): LabLedger {
  const ledger = new LabLedger(ORIGIN);
  const renamed = new Map<string, string>();
  let done = false;
  for (const [i, item] of items.entries()) {
    let text = new TextDecoder().decode(item.record);
    for (const [from, to] of renamed) text = text.replaceAll(from, to);
    let record = JSON.parse(text) as LedgerRecord;
    const more = done ? undefined : change(record);
    if (more !== undefined) {
      record = { ...record, ...more };
      done = true;
    }
    if (i === items.length - 1) {
      ledger.seal({ state: record.body["state"] ?? "" });
      break;
    }
    const bytes = canonicalBytes({ ...record, links: sortLinks(record.links) } as unknown as JsonObject);
    parseRecord(bytes);
    if (recordId(bytes) !== item.id) renamed.set(digestOf(item.id), digestOf(recordId(bytes)));
    ledger.append(bytes, digestOf(record.project ?? recordId(bytes)));
  }
  return ledger;
}

function packed(ledger: LabLedger): Uint8Array {
  const records = ledger.items.map((i) => parseRecord(i.record));
  const outside = new Map<string, { id: string; type: string; why: string }>();
  for (const { body, kind } of records) {
    for (const [id] of JSON.stringify(body).matchAll(/personal:sha256:[0-9a-f]{64}/g))
      outside.set(id, { id, type: "personal", why: "not-granted" });
    const { digest } = body;
    if (kind === "artifact" && typeof digest === "string")
      outside.set(digest, { id: digest, type: "artifact", why: "not-included" });
  }
  const root = records.findLastIndex((r) => r.kind === "model.version");
  return archiveOf(
    ledger.pack({
      checkpoint: ledger.note(ledger.size, [GOVERNED_KEYS.log]),
      complete: [...ledger.heads(ledger.size - 1).keys()].map((p) => p as Item["project"]),
      outside: [...outside.values()],
      roots: [ledger.item(root).id],
      size: ledger.size,
    }),
  );
}

const only =
  (kind: string, change: Change): Change =>
  (r) =>
    r.kind === kind ? change(r) : undefined;
const onVersion = (r: LedgerRecord): boolean => r.body["target"] === "dataset.version.transition";
const isApproved = (r: LedgerRecord): boolean => onVersion(r) && r.body["outcome"] === "OUTCOME_ALLOW";
const body =
  (more: JsonObject): Change =>
  (r) => ({ body: { ...r.body, ...more } });
const without =
  (rel: string): Change =>
  (r) =>
    r.actor.method === "init" ? undefined : { links: r.links.filter((l) => l.rel !== rel) };
const inputOf = (r: LedgerRecord): JsonObject => r.body["input"] as JsonObject;

/** Changes by the code of stage 10 that they are found by. */
export function governedLies(items: readonly Item[]): ReadonlyMap<string, Change> {
  const records = items.map((i) => parseRecord(i.record));
  const voter = records.find((r) => r.kind === "approval")?.actor.principal as RecordId;
  return new Map<string, Change>([
    ["decision.order", only("transition", without("decision"))],
    [
      "decision.policy",
      only("decision", (r) =>
        isApproved(r)
          ? {
              body: Object.fromEntries(Object.entries(r.body).filter(([name]) => name !== "policies")),
              links: r.links.filter((l) => l.rel !== "policy"),
            }
          : undefined,
      ),
    ],
    [
      "decision.input",
      only("decision", (r) => {
        if (!isApproved(r)) return undefined;
        const data = (inputOf(r)["data"] as readonly JsonObject[]).map((d) => ({ ...d, rows: 7 }));
        const input = { ...inputOf(r), data };
        return body({ input, input_digest: inputDigest(input) })(r);
      }),
    ],
    [
      "decision.replay",
      only("decision", (r) =>
        r.body["outcome"] === "OUTCOME_REQUIRE_APPROVAL" ? body({ outcome: "OUTCOME_DENY" })(r) : undefined,
      ),
    ],
    ["approval.self", only("approval.request", (r) => ({ actor: { ...r.actor, principal: voter } }))],
    ["approval.count", only("approval", body({ action_digest: "0".repeat(64) }))],
    ["run.unbound", only("run.start", without("decision"))],
    ["run.identity", only("run.batch", (r) => ({ actor: { ...r.actor, method: "token" } }))],
  ]);
}

/** Files by name. */
export async function governedFiles(): Promise<Map<string, Uint8Array>> {
  const items = await governedLedger();
  const truth = rewrite(items, () => undefined);
  for (const [i, item] of items.slice(0, -1).entries())
    if (!equalBytes(truth.item(i).entry, item.entry))
      throw new Error(`assertion failed: entry ${i} is as the log has it`);
  const files = new Map([
    ["governed.dpevidence", packed(truth)],
    ["policy-governed.txt", utf8(`log ${GOVERNED_KEYS.log.vkey}\nquorum none\n`)],
  ]);
  for (const [code, change] of governedLies(items)) files.set(`${code}.dpevidence`, packed(rewrite(items, change)));
  return files;
}
