/**
 * Records: statements that are named by the SHA-256 of their canonical bytes. Nothing that the sequencer assigns is inside, so a
 * lost race never changes a name; a random salt makes the name a commitment that hides what it names.
 */
import { sha256Hex } from "../merkle/hash.ts";
import { idOf, parseRecordId, type RecordId } from "../std/brand.ts";
import { parseBase64Url } from "../std/bytes.ts";
import { parseTime } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { checkBody } from "./body.ts";
import { canonicalBytes, parseCanonical } from "./canonical.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";

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
const MEMBER = /^[A-Za-z_][A-Za-z0-9_]*$/;
const MEMBERS = new Set(["actor", "body", "kind", "links", "project", "request_id", "salt", "time", "v"]);
const ACTOR_MEMBERS = new Set(["claims", "client_signature", "method", "principal"]);

export const isRequestId = (text: string): boolean => REQUEST_ID.test(text);

const wrong = (detail: string): Violation => new Violation("record.schema", detail);

/** Links in the order of records: by rel, then by target, each once. */
export function sortLinks(links: readonly Link[]): Link[] {
  const sorted = links.toSorted((a, b) => (a.rel < b.rel ? -1 : a.rel > b.rel ? 1 : a.to < b.to ? -1 : a.to > b.to ? 1 : 0));
  return sorted.filter((link, i) => i === 0 || link.rel !== sorted[i - 1]?.rel || link.to !== sorted[i - 1]?.to);
}

export const formatRecord = (record: LedgerRecord): Uint8Array => canonicalBytes(record as unknown as JsonObject);
export const recordId = (bytes: Uint8Array): RecordId => idOf(sha256Hex(bytes));

/** Member names outside of free JSON: the input of decisions, tests of policies and an actor's claims. */
function checkNames(value: Json, free: boolean): void {
  if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) checkNames(item, free);
    return;
  }
  if (!isObject(value)) return;
  for (const name of Object.keys(value)) {
    if (!free && !MEMBER.test(name)) throw new Violation("record.noncanonical", `a member name ${JSON.stringify(name)} is not of letters, digits and _`);
    // `input` is free JSON in decisions and in the tests of policies, and no other kind has such a field.
    checkNames(value[name] as Json, free || name === "input");
  }
}

function checkActor(actor: Json | undefined, kind: string): void {
  if (!isObject(actor)) throw wrong("actor is not an object");
  for (const name of Object.keys(actor)) if (!ACTOR_MEMBERS.has(name)) throw wrong(`actor.${name} is not a member`);
  const { method, principal, claims, client_signature: signature } = actor;
  if (typeof method !== "string" || !(ACTOR_METHODS as readonly string[]).includes(method)) throw wrong("actor.method is not one of " + ACTOR_METHODS.join(", "));
  const anonymous = method === "init" || method === "system" || method === "none";
  if (method === "none" && kind !== "access") throw wrong("only access records have no actor");
  if (anonymous ? principal !== undefined : typeof principal !== "string" || parseRecordId(principal) === undefined) throw wrong(anonymous ? `actor.principal is present for method ${method}` : "actor.principal is not the id of a record");
  if (claims !== undefined && !isObject(claims)) throw wrong("actor.claims is not an object");
  if (claims !== undefined && isObject(claims)) checkFreeNames(claims);
  if (signature !== undefined && !isObject(signature)) throw wrong("actor.client_signature is not an object");
}

function checkFreeNames(value: Json): void {
  if (Array.isArray(value)) value.forEach(checkFreeNames);
  else if (isObject(value))
    for (const [name, item] of Object.entries(value)) {
      if (name.normalize("NFC") !== name || /\p{Cc}/u.test(name)) throw new Violation("record.noncanonical", "a claim's name is not NFC or has control characters");
      checkFreeNames(item);
    }
}

function checkLinks(links: Json | undefined): void {
  if (!Array.isArray(links) || links.length > MAX_LINKS) throw wrong(`links is not a list of up to ${MAX_LINKS}`);
  let rel = "";
  let to = "";
  for (const link of links as readonly Json[]) {
    if (!isObject(link) || Object.keys(link).length !== 2 || typeof link["rel"] !== "string" || typeof link["to"] !== "string" || !REL.test(link["rel"]) || parseRecordId(link["to"]) === undefined) throw wrong("a link is not {rel, to} of a name and a record id");
    if (link["rel"] < rel || (link["rel"] === rel && link["to"] <= to)) throw wrong("links are not ascending and unique by rel and to");
    rel = link["rel"];
    to = link["to"];
  }
}

/** Checks what a record must be apart from being canonical. */
export function checkRecord(value: Json): LedgerRecord {
  if (!isObject(value)) throw wrong("the record is not an object");
  for (const name of Object.keys(value)) if (!MEMBERS.has(name)) throw wrong(`${name} is not a member of records`);
  const { actor, body, kind, links, project, request_id: requestId, salt, time, v } = value;
  if (v !== 1) throw wrong("v is not 1");
  if (typeof kind !== "string" || !KIND.test(kind)) throw wrong("kind is not a kind's name");
  if (!isObject(body)) throw wrong("body is not an object");
  if (typeof requestId !== "string" || !REQUEST_ID.test(requestId)) throw wrong("request_id is not 1 to 128 of letters, digits and . _ : -");
  if (typeof salt !== "string" || salt.length !== 22 || parseBase64Url(salt)?.length !== 16) throw wrong("salt is not 16 bytes of base64url");
  if (typeof time !== "string" || parseTime(time) === undefined) throw wrong("time is not YYYY-MM-DDTHH:MM:SS.mmmZ");
  // Only a record that creates a project may stand without one; a revision of a project stands in it.
  if (project === undefined ? kind !== "ledger" && kind !== "project" : typeof project !== "string" || parseRecordId(project) === undefined) throw wrong("project is not the id of the project's creation record");
  checkActor(actor, kind);
  checkLinks(links);
  checkNames(body, false);
  checkBody(kind, body);
  return value as unknown as LedgerRecord;
}

/** Parses a record's exact bytes. Throws Violations record.noncanonical, record.schema, record.text. */
export const parseRecord = (bytes: Uint8Array): LedgerRecord => checkRecord(parseCanonical(bytes));
