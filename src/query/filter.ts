/**
 * Filters of lists: `field = value` terms joined by AND, a subset of AIP-160. A value is a word or a text in double quotes. An
 * attacker may choose every character.
 */
import type { Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { JsonObject } from "../record/json.ts";
import { Fault } from "../std/faults.ts";

export interface Term {
  readonly field: string;
  readonly value: string;
}

const MAX_FILTER_CHARACTERS = 1_024;
const TERM = /^\s*([a-z_]{1,32})\s*=\s*(?:"([^"\\]{0,256})"|([A-Za-z0-9._:@/-]{1,256}))\s*/;
const FIELDS = ["status", "name", "outcome", "target", "action"];

const wrong = (description: string): Fault =>
  new Fault("REQUEST_INVALID", `filter ${description}`, { fields: [{ field: "filter", description }] });

/** The terms of a filter; `fields` are those of it. The fault REQUEST_INVALID for anything that is not of the subset. */
export function parseFilter(text: string, fields: readonly string[] = FIELDS): Term[] {
  if (text.length > MAX_FILTER_CHARACTERS) throw wrong(`is longer than ${MAX_FILTER_CHARACTERS} characters`);
  if (text.trim() === "") return [];
  const terms: Term[] = [];
  let rest = text;
  for (;;) {
    const match = TERM.exec(rest);
    if (match === null) throw wrong("is not of terms such as status = approved, joined by AND");
    const [whole, field = "", quoted, word = ""] = match;
    if (!fields.includes(field)) throw wrong(`knows the fields ${fields.join(", ")}, not ${field}`);
    terms.push({ field, value: quoted ?? word });
    rest = rest.slice(whole.length);
    if (rest === "") return terms;
    if (!rest.startsWith("AND ")) throw wrong("joins terms by AND only");
    rest = rest.slice(4);
  }
}

/** Whether a resource with this body fulfils all terms. Names are the whole resource name, or its last word. */
export function matches(terms: readonly Term[], resource: Resource, body: JsonObject): boolean {
  return terms.every(({ field, value }) => {
    switch (field) {
      case "status":
        return resource.status === value.toLowerCase();
      case "name":
        return resource.name === value || body["name"] === value;
      case "outcome":
        return enumWord(body["outcome"], "OUTCOME_") === value.toLowerCase();
      case "action":
        return enumWord(body["action"], "ACCESS_ACTION_") === value.toLowerCase();
      case "target":
        return body["target"] === value;
      default:
        return false;
    }
  });
}

/** `OUTCOME_REQUIRE_APPROVAL` as callers write it, `require_approval`. */
const enumWord = (value: unknown, prefix: string): string | undefined =>
  typeof value === "string" && value.startsWith(prefix) ? value.slice(prefix.length).toLowerCase() : undefined;
