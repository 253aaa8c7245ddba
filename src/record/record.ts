/**
 * Records: statements that are named by the SHA-256 of their canonical bytes. Nothing that the sequencer assigns is inside, so a
 * lost race never changes a name; a random salt makes the name a commitment that hides what it names.
 */
import { sha256Hex } from "../merkle/hash.ts";
import { idOf, parseRecordId, type RecordId } from "../std/brand.ts";
import { parseTime } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { badName, checkBody } from "./body.ts";
import { canonicalBytes, parseCanonical } from "./canonical.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";
import { kindSpec } from "./kinds.ts";
import { isFreeName, isIdentifier } from "./text.ts";

export const ACTOR_METHODS = ["init", "system", "none", "token", "run-token", "oidc", "session", "mtls"] as const;
export type ActorMethod = (typeof ACTOR_METHODS)[number];

export interface Actor {
  readonly method: ActorMethod;
  readonly principal?: RecordId;
  readonly claims?: JsonObject;
}

export interface Link {
  readonly rel: string;
  readonly to: RecordId;
}

export interface LedgerRecord {
  readonly actor: Actor;
  readonly body: JsonObject;
  readonly kind: string;
  readonly links: readonly Link[];
  /** The project's creation record; absent exactly in that record. */
  readonly project?: RecordId;
  readonly request_id: string;
  readonly salt: string;
  readonly time: string;
  readonly v: 1;
}

export const MAX_LINKS = 1024;
const KIND = /^[a-z][a-z0-9_.]{0,63}$/;
const REL = /^[a-z][a-z0-9_]{0,63}$/;
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/;
// 16 bytes: the last of 22 characters carries two bits.
const SALT = /^[A-Za-z0-9_-]{21}[AQgw]$/;
const CLIENT_SIGNATURE = ["key", "method", "request", "signature"] as const;
const METHODS: ReadonlySet<string> = new Set(ACTOR_METHODS);
const MEMBERS = new Set(["actor", "body", "kind", "links", "project", "request_id", "salt", "time", "v"]);
const ACTOR_MEMBERS = new Set(["claims", "client_signature", "method", "principal"]);

export const isRequestId = (text: string): boolean => REQUEST_ID.test(text);

const badMember = (name: string): Violation =>
  new Violation("record.noncanonical", `the member name ${JSON.stringify(name)} is not of letters, digits and _`);
const wrong = (detail: string): Violation => new Violation("record.schema", detail);

const isBefore = (a: Link, b: Link): boolean => a.rel < b.rel || (a.rel === b.rel && a.to < b.to);

/** Links in the order of records: by rel, then by target, each once. */
export function sortLinks(links: readonly Link[]): Link[] {
  if (links.every((link, i) => i === 0 || isBefore(links[i - 1] as Link, link))) return [...links];
  const sorted = links.toSorted((a, b) =>
    a.rel < b.rel ? -1 : a.rel > b.rel ? 1 : a.to < b.to ? -1 : a.to > b.to ? 1 : 0,
  );
  return sorted.filter((link, i) => i === 0 || link.rel !== sorted[i - 1]?.rel || link.to !== sorted[i - 1]?.to);
}

export const formatRecord = (record: LedgerRecord): Uint8Array => canonicalBytes(record as unknown as JsonObject);
export const recordId = (bytes: Uint8Array): RecordId => idOf(sha256Hex(bytes));

function checkActor(actor: Json | undefined, kind: string): void {
  if (!isObject(actor)) throw wrong("actor is not an object");
  for (const name in actor) if (!ACTOR_MEMBERS.has(name)) throw wrong(`actor.${name} is not a member`);
  const { method, principal, claims, client_signature: signature } = actor;
  if (typeof method !== "string" || !METHODS.has(method))
    throw wrong(`actor.method is not one of ${ACTOR_METHODS.join(", ")}`);
  if (method === "none" && kind !== "access") throw wrong("only access records may have no actor");
  if (method === "init" || method === "system" || method === "none") {
    if (principal !== undefined) throw wrong(`actor.principal is present for method ${method}`);
  } else if (typeof principal !== "string" || parseRecordId(principal) === undefined)
    throw wrong("actor.principal is not the id of a record");
  if (claims !== undefined) {
    if (!isObject(claims)) throw wrong("actor.claims is not an object");
    const bad = badName(claims, isFreeName);
    if (bad !== undefined)
      throw new Violation("record.noncanonical", `actor.claims has a member name ${JSON.stringify(bad)}`);
  }
  if (signature !== undefined) checkClientSignature(signature);
}

/** Reserved (`docs/formats/records.md`): its form is held, its meaning is checked where requests are. */
function checkClientSignature(signature: Json): void {
  if (!isObject(signature) || Object.keys(signature).length !== CLIENT_SIGNATURE.length)
    throw wrong("actor.client_signature has other members");
  for (const name of CLIENT_SIGNATURE)
    if (typeof signature[name] !== "string" || signature[name] === "")
      throw wrong(`actor.client_signature.${name} is not a text`);
}

function checkLinks(links: Json | undefined): void {
  if (!Array.isArray(links) || links.length > MAX_LINKS) throw wrong(`links is not a list of up to ${MAX_LINKS}`);
  let rel = "";
  let to = "";
  for (const link of links as readonly Json[]) {
    if (
      !isObject(link) ||
      Object.keys(link).length !== 2 ||
      typeof link["rel"] !== "string" ||
      typeof link["to"] !== "string" ||
      !REL.test(link["rel"]) ||
      parseRecordId(link["to"]) === undefined
    )
      throw wrong("a link is not {rel, to} of a name and a record id");
    if (link["rel"] < rel || (link["rel"] === rel && link["to"] <= to))
      throw wrong("links are not ascending and unique by rel and to");
    rel = link["rel"];
    to = link["to"];
  }
}

/** Checks what a record must be apart from being canonical. */
export function checkRecord(value: Json): LedgerRecord {
  if (!isObject(value)) throw wrong("the record is not an object");
  for (const name in value)
    if (!MEMBERS.has(name)) throw isIdentifier(name) ? wrong(`${name} is not a member of records`) : badMember(name);
  const { actor, body, kind, links, project, request_id: requestId, salt, time, v } = value;
  if (v !== 1) throw wrong("v is not 1");
  if (typeof kind !== "string" || !KIND.test(kind)) throw wrong("kind is not a kind's name");
  if (!isObject(body)) throw wrong("body is not an object");
  if (typeof requestId !== "string" || !REQUEST_ID.test(requestId))
    throw wrong("request_id is not 1 to 128 of letters, digits and . _ : -");
  if (typeof salt !== "string" || !SALT.test(salt)) throw wrong("salt is not 16 bytes of base64url");
  if (typeof time !== "string" || parseTime(time) === undefined) throw wrong("time is not YYYY-MM-DDTHH:MM:SS.mmmZ");
  // Only a record that creates a project may stand without one; a revision of a project stands in it.
  if (
    project === undefined
      ? kind !== "ledger" && kind !== "project"
      : typeof project !== "string" || parseRecordId(project) === undefined
  )
    throw wrong("project is not the id of the project's creation record");
  checkActor(actor, kind);
  checkLinks(links);
  checkBody(kind, body);
  // The fields of a known kind are names already, and its free JSON was checked with them.
  const bad = kindSpec(kind) === undefined ? badName(body, isIdentifier) : undefined;
  if (bad !== undefined) throw badMember(bad);
  return value as unknown as LedgerRecord;
}

/** Parses a record's exact bytes. Throws Violations record.noncanonical, record.schema, record.text. */
export const parseRecord = (bytes: Uint8Array): LedgerRecord => checkRecord(parseCanonical(bytes));
