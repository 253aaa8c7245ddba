/**
 * Makes a person or a service that may act, or revises one: its printed name and its identities, never its name or type. Its personal values are stored apart first and the record holds their references; what
 * was stored for a request that came to nothing is removed again. An identity of another system stands for one principal only.
 */
import { create } from "@bufbuild/protobuf";
import {
  type Identity,
  IdentitySchema,
  type Principal,
  PrincipalSchema,
} from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import type { CreatePrincipalRequest, UpdatePrincipalRequest } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { callerPermissions, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { ledgerOf } from "../identity/ledger.ts";
import type { Log } from "../log/log.ts";
import { objects, text } from "../policy/compile.ts";
import { findPrincipal } from "../query/resolve.ts";
import type { JsonObject } from "../record/json.ts";
import { assertDefined } from "../std/assert.ts";
import { Fault } from "../std/faults.ts";
import { type Admission, draft, link, named, type Plan, revised } from "./admission.ts";
import { bodyOf, checkName, invalid, textOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { isRefusal, ledgerSpecOf, perform, respond } from "./write.ts";

const PAGE = 500;

/** Stands for a value that is not stored. */
const UNSTORED = `personal:sha256:${"0".repeat(64)}`;

type Request = CreatePrincipalRequest | UpdatePrincipalRequest;
type PlanOf = (a: Admission, body: JsonObject) => Plan;

export const createPrincipal = (
  deps: Deps,
  caller: Caller,
  request: CreatePrincipalRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> => settle(deps, caller, request, (a, body) => named(a, draft(a, "principal", body)), signal);

export const updatePrincipal = (
  deps: Deps,
  caller: Caller,
  request: UpdatePrincipalRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> => {
  const plan: PlanOf = (a, body) => {
    const id = findPrincipal(a.reader, textOf(body, "name"));
    if (id === undefined) throw notFound("principal");
    // Whether votes are those of persons must not change after they were given.
    if (a.reader.record(id)?.record.body["type"] !== body["type"])
      throw invalid("principal.type", "is not the principal's: make another principal");
    return revised(a, id, request.etag, draft(a, "principal", body, link("revises", id)));
  };
  return settle(deps, caller, request, plan, signal);
};

async function settle(
  deps: Deps,
  caller: Caller,
  request: Request,
  plan: PlanOf,
  signal: AbortSignal | undefined,
): Promise<WriteResponse> {
  const claims = request.principal?.identities ?? [];
  if (claims.length === 0 || !mayWrite(deps, caller)) return record(deps, caller, request, plan, signal);
  return inTurn(deps.log, async () => {
    await checkIdentities(deps, request.principal?.name ?? "", claims, signal);
    return record(deps, caller, request, plan, signal);
  });
}

async function record(
  deps: Deps,
  caller: Caller,
  request: Request,
  plan: PlanOf,
  signal: AbortSignal | undefined,
): Promise<WriteResponse> {
  const stored: string[] = [];
  const keep = async (value: string): Promise<string> => {
    if (request.validateOnly || !mayWrite(deps, caller)) return UNSTORED;
    const reference = await deps.personal.put(value, signal);
    stored.push(reference);
    return reference;
  };
  const discard = async (): Promise<void> => {
    for (const reference of stored) await deps.personal.remove(reference, signal);
  };
  const principal = request.principal === undefined ? undefined : await withReferences(request.principal, keep);
  const done = await perform(
    deps,
    caller,
    ledgerSpecOf(request, "principal.write"),
    (a) => {
      const body = bodyOf("principal", principal);
      checkName(textOf(body, "name"));
      return plan(a, body);
    },
    signal,
  ).catch(async (error: unknown) => {
    // An outcome that is not known may have been recorded: only a refusal leaves nothing that names the values.
    if (isRefusal(error)) await discard();
    throw error;
  });
  if (done.repeated || done.plan.existing !== undefined) await discard();
  return respond(done);
}

const turns = new WeakMap<Log, Promise<unknown>>();

/** What one request claims, the next one must see; no view can guard it, because values are not in the records. */
function inTurn<T>(log: Log, work: () => Promise<T>): Promise<T> {
  const mine = (turns.get(log) ?? Promise.resolve()).then(work);
  turns.set(
    log,
    mine.catch(() => undefined),
  );
  return mine;
}

/** Throws IDENTITY_TAKEN when another principal has one of the identities, in force or not. */
async function checkIdentities(
  { log, personal }: Deps,
  name: string,
  claims: readonly Identity[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const { body, index } of principals(log)) {
    if (body["name"] === name) continue;
    for (const identity of objects(body["identities"])) {
      const claim = claims.find((c) => c.issuer === identity["issuer"] && c.claim === identity["claim"]);
      if (claim === undefined || (await personal.get(text(identity["value"]), signal)) !== claim.value) continue;
      throw new Fault("IDENTITY_TAKEN", `another principal is that ${claim.claim} of ${claim.issuer}: use it`, {
        metadata: { log_index: String(index), principal: text(body["name"]) },
      });
    }
  }
}

/** Bodies of all principals. */
function principals({ index }: Log): { readonly body: JsonObject; readonly index: number }[] {
  using reader = index.reader();
  const found = [];
  for (let from = 0; ; ) {
    const page = reader.list({ from, kinds: ["principal"], limit: PAGE });
    for (const at of page) {
      const entry = assertDefined(reader.entry(at), "a listed entry is there");
      const { record } = assertDefined(reader.record(entry.record), "a listed record is there");
      found.push({ body: record.body, index: at });
    }
    if (page.length < PAGE) return found;
    from = (page.at(-1) ?? 0) + 1;
  }
}

function mayWrite(deps: Deps, caller: Caller): boolean {
  using reader = deps.log.index.reader();
  return callerPermissions(reader, caller, ledgerOf(reader), deps.clock.now()).has("principal.write");
}

async function withReferences(plain: Principal, keep: (value: string) => Promise<string>): Promise<Principal> {
  checkName(plain.name);
  if (plain.displayName === "") throw invalid("principal.display_name", "is missing");
  if (plain.identities.some((i) => i.value === "")) throw invalid("principal.identities.value", "is missing");
  const { type, name } = plain;
  const identities = [];
  for (const { issuer, claim, value } of plain.identities) {
    identities.push(create(IdentitySchema, { issuer, claim, value: await keep(value) }));
  }
  return create(PrincipalSchema, { type, name, displayName: await keep(plain.displayName), identities });
}
