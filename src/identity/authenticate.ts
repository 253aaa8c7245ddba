/**
 * Authentication: a bearer token becomes a caller, or the fault TOKEN_INVALID. The message never says which of the reasons it
 * was; the reason goes to the record of the denial.
 *
 * Time: a secret is found by its SHA-256, an index lookup whose duration says something about a digest but nothing about a
 * secret; the digest itself is compared in constant time, so that a lookup that matches a prefix only is no oracle.
 */
import { timingSafeEqual } from "node:crypto";
import type { ViewReader } from "../fold/view.ts";
import { isObject } from "../record/json.ts";
import type { Digest, RecordId } from "../std/brand.ts";
import { utf8 } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { parseTime } from "../std/ports.ts";
import { runTokenPermissions } from "./authorise.ts";
import type { Caller, Origin } from "./caller.ts";
import { parseSecret, secretDigest } from "./token.ts";

export type TokenFlaw = "malformed" | "unknown" | "revoked" | "expired" | "disabled" | "run_ended";

const invalid = (flaw: TokenFlaw): Fault =>
  new Fault("TOKEN_INVALID", "the token is not valid: ask an administrator for a new one", { cause: flaw });

/** Who holds a token, as far as the state says: what is left to ask is the time. */
export interface Holder {
  readonly caller: Omit<Caller, keyof Origin | "authenticatedAtMs">;
  readonly expiresMs: number;
}

/** Who holds this token now. Throws the fault TOKEN_INVALID, whose cause, a `TokenFlaw`, never reaches the caller. */
export function authenticate(reader: ViewReader, token: string, nowMs: number, origin: Origin): Caller {
  const method = parseSecret(token);
  if (method === undefined) throw invalid("malformed");
  return callerAt(holderOf(reader, method, secretDigest(token), nowMs), nowMs, origin);
}

export const callerAt = ({ caller }: Holder, nowMs: number, origin: Origin): Caller => ({
  ...caller,
  authenticatedAtMs: nowMs,
  ...origin,
});

/** The holder of the secret with this digest, in the order in which flaws are told. */
export function holderOf(reader: ViewReader, method: Caller["method"], digest: Digest, nowMs: number): Holder {
  const row = reader.get("token", digest)?.value;
  if (row === undefined) throw invalid("unknown");
  if ((row.run !== undefined) !== (method === "run-token")) throw invalid("unknown");
  if (!holdsDigest(reader, row.id, digest)) throw invalid("unknown");
  if (reader.get("entity", row.id)?.value.status === "revoked") throw invalid("revoked");
  const expiresMs = parseTime(row.expires_at);
  if (expiresMs === undefined || nowMs >= expiresMs) throw invalid("expired");
  const principal = reader.get("entity", row.principal)?.value;
  if (principal === undefined || principal.status === "disabled") throw invalid("disabled");
  if (row.run !== undefined && runTokenPermissions(reader, row.run).length === 0) throw invalid("run_ended");
  const body = reader.record(principal.revision)?.record.body;
  return {
    caller: {
      principal: row.principal,
      name: principal.name ?? "",
      method,
      type: body?.["type"] === "PRINCIPAL_TYPE_HUMAN" ? "human" : "service",
      token: row.id,
      permissions: row.permissions,
      ...(row.run === undefined ? {} : { run: row.run }),
      ...(row.project === undefined ? {} : { runProject: row.project }),
      expiresAt: row.expires_at,
    },
    expiresMs,
  };
}

function holdsDigest(reader: ViewReader, id: RecordId, digest: string): boolean {
  const body = reader.record(id)?.record.body;
  const run = body?.["token"];
  const stored = isObject(run) ? run["sha256"] : body?.["secret_sha256"];
  if (typeof stored !== "string") return false;
  const a = utf8(stored);
  const b = utf8(digest);
  return a.length === b.length && timingSafeEqual(a, b);
}
