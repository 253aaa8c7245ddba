/**
 * A person or a service that may act. Its personal values are stored apart first and the record holds their references; what
 * was stored for a request that came to nothing is removed again.
 */
import { create } from "@bufbuild/protobuf";
import { IdentitySchema, type Principal, PrincipalSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import type { CreatePrincipalRequest } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { callerPermissions } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { ledgerOf } from "../identity/ledger.ts";
import { draft, named } from "./admission.ts";
import { bodyOf, checkName, invalid, textOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { isRefusal, ledgerSpecOf, perform, respond } from "./write.ts";

/** Stands for a value that is not stored. */
const UNSTORED = `personal:sha256:${"0".repeat(64)}`;

export async function createPrincipal(
  deps: Deps,
  caller: Caller,
  request: CreatePrincipalRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> {
  const stored: string[] = [];
  const keep = async (value: string): Promise<string> => {
    if (request.validateOnly || !mayCreate(deps, caller)) return UNSTORED;
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
      return named(a, draft(a, "principal", body));
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

function mayCreate(deps: Deps, caller: Caller): boolean {
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
