/**
 * What a new ledger needs beside its genesis: one administrator with a token, the policies of the baseline in force, and the
 * groups that they name. Written by the actor `init` in two groups, because a binding holds the id of its principal: persons
 * and policies, then bindings and tokens. Done again, it does what is lacking, and nothing after the second.
 *
 * The administrator operates the ledger and its access, writes its policies and audits; he works in no project that nobody
 * gives him. Where policies ask for approval, nobody alone can change who approves: `approvers` names the persons of the groups
 * now, and without any the administrator is their only member.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  GroupSchema,
  PrincipalSchema,
  PrincipalType,
  RoleBindingSchema,
  TokenSchema,
} from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { TransitionSchema } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import type { ViewReader } from "../fold/view.ts";
import type { Role } from "../identity/roles.ts";
import { createSecret, TOKEN_DEFAULT_DAYS } from "../identity/token.ts";
import type { Log } from "../log/log.ts";
import type { Draft, DraftLink, DraftRef } from "../log/submission.ts";
import { findPrincipal } from "../query/resolve.ts";
import { isObject, type JsonObject } from "../record/json.ts";
import type { Kind } from "../record/kinds.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { formatTime, type Random } from "../std/ports.ts";
import { bodyOf, checkName } from "./body.ts";
import type { PersonalStore } from "./personal.ts";

const DAY_MS = 86_400_000;
const REQUEST_ID = "init-bootstrap";
const HUMAN = PrincipalType.HUMAN;
const ADMIN_ROLES: readonly Role[] = ["operator", "project-admin", "policy-author", "auditor"];

export interface Person {
  readonly name: string;
  /** Printed name, a personal value. */
  readonly displayName: string;
}

export interface BootstrapOptions {
  readonly admin: Person;
  /** Further persons, members of every group that the policies name. */
  readonly approvers?: readonly Person[];
  /** Bodies of the policies to put into force: the baseline, or its part without approvals. */
  readonly policies: readonly JsonObject[];
  /** Life of the tokens. */
  readonly tokenDays?: number;
  readonly signal?: AbortSignal;
}

export interface Bootstrapped {
  /** Secrets by the name of the person; empty when the ledger has an administrator already. */
  readonly secrets: ReadonlyMap<string, string>;
}

interface Parts {
  readonly log: Log;
  readonly personal: PersonalStore;
  readonly random: Random;
}

export async function bootstrap(parts: Parts, options: BootstrapOptions): Promise<Bootstrapped> {
  const people = [options.admin, ...(options.approvers ?? [])];
  for (const { name } of people) checkName(name);
  await enrol(parts, people, options);
  return { secrets: await empower(parts, people, options) };
}

/** Persons and policies. */
async function enrol({ log, personal }: Parts, people: readonly Person[], options: BootstrapOptions): Promise<void> {
  const { policies, signal } = options;
  const isDone = (reader: ViewReader): boolean => findPrincipal(reader, options.admin.name) !== undefined;
  if (ask(log, isDone)) return;
  const references: string[] = [];
  for (const { displayName } of people) references.push(await personal.put(displayName, signal));
  await log.submit({
    admit(reader) {
      const group = new Group(log.genesis);
      if (isDone(reader)) return { drafts: [], value: undefined };
      people.forEach(({ name }, i) => {
        const displayName = references[i] ?? "";
        group.add("principal", bodyOf("principal", create(PrincipalSchema, { type: HUMAN, name, displayName })));
      });
      for (const policy of policies) {
        const subject = group.add("policy", policy);
        const body = bodyOf(
          "transition",
          create(TransitionSchema, { from: "draft", to: "active", reason: "baseline" }),
        );
        group.add("transition", body, [{ rel: "subject", to: subject }]);
      }
      return { drafts: group.drafts, value: undefined };
    },
    project: log.genesis,
    lane: "control",
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Bindings, groups and tokens; the secrets when this made them. */
async function empower(
  { log, random }: Parts,
  people: readonly Person[],
  { admin, policies, tokenDays = TOKEN_DEFAULT_DAYS, signal }: BootstrapOptions,
): Promise<ReadonlyMap<string, string>> {
  const secrets = new Map(people.map(({ name }) => [name, createSecret(random, "token")]));
  const { committed } = await log.submit({
    admit(reader, nowMs) {
      const group = new Group(log.genesis);
      if (reader.get("bindings", log.genesis) !== undefined) return { drafts: [], value: undefined };
      const expiresAt = formatTime(nowMs + tokenDays * DAY_MS);
      const idOf = ({ name }: Person): RecordId => assertDefined(findPrincipal(reader, name), `${name} was enrolled`);
      for (const role of ADMIN_ROLES) group.bind({ role, principal: idOf(admin) });
      const approvers = people.length > 1 ? people.slice(1) : people;
      const members = approvers.map(idOf);
      for (const name of groupsNamedBy(policies)) {
        group.bind({ role: "approver", group: create(GroupSchema, { name, members }) });
      }
      for (const person of people) {
        const secretSha256 = assertDefined(secrets.get(person.name), "each person has a secret").sha256;
        group.add("token", bodyOf("token", create(TokenSchema, { secretSha256, expiresAt })), [
          { rel: "principal", to: idOf(person) },
        ]);
      }
      return { drafts: group.drafts, value: undefined };
    },
    project: log.genesis,
    lane: "control",
    ...(signal === undefined ? {} : { signal }),
  });
  return new Map(committed === null ? [] : [...secrets].map(([name, { text }]) => [name, text]));
}

class Group {
  readonly drafts: Draft[] = [];
  readonly #project: RecordId;

  constructor(project: RecordId) {
    this.#project = project;
  }

  add(kind: Kind, body: JsonObject, links: readonly DraftLink[] = []): DraftRef {
    this.drafts.push({ kind, project: this.#project, actor: { method: "init" }, body, links, requestId: REQUEST_ID });
    return `$${this.drafts.length - 1}`;
  }

  bind(binding: MessageInitShape<typeof RoleBindingSchema>): void {
    this.add("role.binding", bodyOf("role.binding", create(RoleBindingSchema, binding)));
  }
}

function ask<T>(log: Log, question: (reader: ViewReader) => T): T {
  using reader = log.index.reader();
  return question(reader);
}

/** Names of the groups whose members the policies ask to approve, ascending. */
export function groupsNamedBy(policies: readonly JsonObject[]): string[] {
  const names = new Set<string>();
  for (const policy of policies) {
    for (const rule of Array.isArray(policy["rules"]) ? (policy["rules"] as readonly JsonObject[]) : []) {
      const approval = rule["approval"];
      const groups = isObject(approval) ? approval["groups"] : undefined;
      for (const name of Array.isArray(groups) ? (groups as readonly string[]) : []) names.add(name);
    }
  }
  return [...names].toSorted();
}
