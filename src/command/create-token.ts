/** A token's secret is answered once, to the request that made it; the ledger holds its SHA-256. */
import { create } from "@bufbuild/protobuf";
import { TokenSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import {
  type CreateTokenRequest,
  type CreateTokenResponse,
  CreateTokenResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { bindingsOf, callerPermissions } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { parsePermission, permissionsOfRole } from "../identity/roles.ts";
import { createSecret, TOKEN_DEFAULT_DAYS, TOKEN_MAX_DAYS } from "../identity/token.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { formatTime } from "../std/ports.ts";
import { type Admission, created, draft, link } from "./admission.ts";
import { bodyOf, invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { resolvePrincipal } from "./owner.ts";
import { ledgerSpecOf, perform } from "./write.ts";

const DAY_MS = 86_400_000;

export async function createToken(
  deps: Deps,
  caller: Caller,
  request: CreateTokenRequest,
  signal?: AbortSignal,
): Promise<CreateTokenResponse> {
  const secret = createSecret(deps.random, "token");
  const done = await perform(
    deps,
    caller,
    ledgerSpecOf(request, "principal.write", { secrets: ["secret_sha256"] }),
    (a) => {
      const principal =
        request.principal === "" ? caller.principal : resolvePrincipal(a, request.principal, "principal");
      const permissions = [...new Set(request.permissions)].toSorted();
      const unknown = permissions.find((p) => parsePermission(p) === undefined);
      if (unknown !== undefined) throw invalid("permissions", `has ${unknown.slice(0, 64)}, which is no permission`);
      checkScope(caller, permissions);
      checkRights(a, principal, permissions);
      const days = request.days === 0 ? TOKEN_DEFAULT_DAYS : request.days;
      if (days > TOKEN_MAX_DAYS) throw invalid("days", `is above ${TOKEN_MAX_DAYS}`);
      const body = bodyOf(
        "token",
        create(TokenSchema, {
          secretSha256: secret.sha256,
          permissions,
          expiresAt: formatTime(a.nowMs + days * DAY_MS),
        }),
      );
      return created(draft(a, "token", body, link("principal", principal)));
    },
    signal,
  );
  const resource = done.resource(done.plan.primary);
  const receipt = done.receipt(done.plan.primary);
  return create(CreateTokenResponseSchema, {
    ...(resource === undefined ? {} : { resource }),
    ...(receipt === undefined ? {} : { receipt }),
    secret: done.repeated || request.validateOnly ? "" : secret.text,
  });
}

/** A limited token makes only tokens that are as limited. */
function checkScope(caller: Caller, permissions: readonly string[]): void {
  const limit = caller.permissions;
  if (limit.length === 0) return;
  if (permissions.length > 0 && permissions.every((p) => limit.includes(p))) return;
  throw new Fault("SCOPE_EXCEEDS_ISSUER", "your token is limited: name permissions that it has", {
    metadata: { permissions: limit.join(",") },
  });
}

/**
 * Nobody hands out rights over the ledger that he has not himself. Votes are not among them: whoever administers principals renews
 * the tokens of approvers, and whether a vote counts is for the rules of approval.
 */
function checkRights(a: Admission, principal: RecordId, permissions: readonly string[]): void {
  const own = callerPermissions(a.reader, a.caller, a.project, a.nowMs);
  const given = bindingsOf(a.reader, principal, a.project, a.nowMs)
    .filter((b) => b.group === undefined)
    .flatMap((b) => permissionsOfRole(b.role));
  const asked = permissions.length === 0 ? given : given.filter((p) => permissions.includes(p));
  const beyond = [...new Set(asked.filter((p) => !own.has(p)))].toSorted();
  if (beyond.length === 0) return;
  throw new Fault(
    "SCOPE_EXCEEDS_ISSUER",
    `the token would permit ${beyond.join(", ")} in the ledger, which you may not: ask somebody who may, or name fewer permissions`,
    { metadata: { permissions: beyond.join(",") } },
  );
}
