/**
 * Whether a principal has a permission in a project, and by which binding; also in the past, where bindings end by the time of
 * the last record of that tree. Everybody may ask about himself, who binds roles or audits about all.
 */
import { create } from "@bufbuild/protobuf";
import {
  type TestAccessRequest,
  type TestAccessResponse,
  TestAccessResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { authorise, callerPermissions, notFound, permissionsOf } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import { parsePermission } from "../identity/roles.ts";
import type { IndexReader } from "../index/index.ts";
import { Fault } from "../std/faults.ts";
import { parseTime } from "../std/ports.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findPrincipal } from "./resolve.ts";

export function testAccess(reads: Reads, caller: Caller, request: TestAccessRequest): TestAccessResponse {
  const permission = parsePermission(request.permission);
  if (permission === undefined) {
    throw new Fault("REQUEST_INVALID", "permission is none of this server's", {
      fields: [{ field: "permission", description: "is not a permission" }],
    });
  }
  using reader = readerAsOf(reads, request.asOf);
  const project = findProject(reader, request.project);
  if (project === undefined) throw notFound("project");
  const principal = request.principal === "" ? caller.principal : findPrincipal(reader, request.principal);
  checkMayAsk(reads, caller, request.project, principal === caller.principal);
  if (principal === undefined) throw notFound("principal");
  const nowMs = request.asOf === 0 ? reads.clock.now() : timeOfLast(reader);
  const grant = permissionsOf(reader, principal, project, nowMs).get(permission);
  return create(TestAccessResponseSchema, {
    allowed: grant !== undefined,
    binding: grant?.binding ?? "",
    role: grant?.role ?? "",
    treeSize: reader.size,
  });
}

function checkMayAsk(reads: Reads, caller: Caller, name: string, isSelf: boolean): void {
  using now = reads.log.index.reader();
  const project = findProject(now, name);
  if (project === undefined) throw notFound("project");
  const nowMs = reads.clock.now();
  const grants = callerPermissions(now, caller, project, nowMs);
  if (grants.has("binding.write") || grants.has("audit")) return;
  authorise(now, caller, project, isSelf ? "read" : "audit", nowMs);
}

function timeOfLast(reader: IndexReader): number {
  const entry = reader.entry(reader.size - 1);
  return parseTime((entry === undefined ? undefined : reader.record(entry.record)?.record.time) ?? "") ?? 0;
}
