/**
 * Page tokens: where a list goes on, at which tree size, and for which question. They need no signature: whoever makes one up
 * sees no more than he may read anyway. An attacker may choose every character.
 */
import { sha256Hex } from "../merkle/hash.ts";
import { canonicalize, parseCanonical } from "../record/canonical.ts";
import { isObject, type Json } from "../record/json.ts";
import { formatBase64Url, parseBase64Url, utf8 } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";

const MAX_TOKEN_CHARACTERS = 512;

export interface PageToken {
  /** Index at which the next page begins. */
  readonly from: number;
  /** Tree size of the whole list. */
  readonly size: number;
}

/** What a list was asked, so that a token of another question is refused. */
export const questionOf = (parts: readonly Json[]): string => sha256Hex(utf8(canonicalize(parts))).slice(0, 16);

export const formatPageToken = ({ from, size }: PageToken, question: string): string =>
  formatBase64Url(utf8(canonicalize({ from, question, size, v: 1 })));

/** Undefined for the empty text; the fault REQUEST_INVALID for what `formatPageToken` did not give for this question. */
export function parsePageToken(text: string, question: string): PageToken | undefined {
  if (text === "") return undefined;
  const bytes = text.length > MAX_TOKEN_CHARACTERS ? undefined : parseBase64Url(text);
  const value = bytes === undefined ? undefined : parse(bytes);
  if (isObject(value) && Object.keys(value).length === 4 && value["v"] === 1 && value["question"] === question) {
    const { from, size } = value;
    if (isCount(from) && isCount(size) && from <= size) return { from, size };
  }
  throw new Fault("REQUEST_INVALID", "page_token is not one of this list: begin without it", {
    fields: [{ field: "page_token", description: "is not of this list" }],
  });
}

const isCount = (value: Json | undefined): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

function parse(bytes: Uint8Array): Json | undefined {
  try {
    return parseCanonical(bytes, { maxBytes: MAX_TOKEN_CHARACTERS, maxDepth: 2 });
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}
