/** Who the caller is, and which roles he has where. */
import { create } from "@bufbuild/protobuf";
import { type WhoAmIResponse, WhoAmIResponseSchema } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { rolesOf } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { projectName } from "../identity/ledger.ts";
import type { RecordId } from "../std/brand.ts";
import type { Reads } from "./as-of.ts";

export function whoAmI({ log, clock }: Reads, caller: Caller): WhoAmIResponse {
  using reader = log.index.reader();
  const nowMs = clock.now();
  const roles: string[] = [];
  for (const [project] of reader.scan("bindings", "")) {
    const id = project as RecordId;
    const name = projectName(reader, id);
    roles.push(...rolesOf(reader, caller.principal, id, nowMs).map((role) => `${name}/${role}`));
  }
  return create(WhoAmIResponseSchema, {
    principal: caller.principal,
    name: caller.name,
    method: caller.method,
    // A run's token acts for its run, not with the roles of who started it.
    roles: caller.run === undefined ? roles.toSorted() : [],
    permissions: [...caller.permissions],
    expiresAt: caller.expiresAt,
  });
}
