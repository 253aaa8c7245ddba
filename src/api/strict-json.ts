/**
 * JSON from strangers: what `JSON.parse` would take in silence is refused. Owns what a request body in JSON may look like.
 *
 * - No member twice in one object: two readers of such a text may see two different requests.
 * - No deeper than `MAX_DEPTH`: what walks the value afterwards does so by recursion.
 */

import type { Json } from "../record/json.ts";
import { parseUtf8 } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";

const MAX_DEPTH = 64;

const invalid = (message: string): Fault => new Fault("REQUEST_INVALID", message);

/** The value of a JSON text in UTF-8, or the fault REQUEST_INVALID. */
export function parseStrictJson(bytes: Uint8Array): Json {
  const text = parseUtf8(bytes);
  if (text === undefined) throw invalid("The body is not UTF-8: send JSON in UTF-8, without a byte order mark.");
  checkMembers(text);
  try {
    return JSON.parse(text) as Json;
  } catch (error) {
    // V8's message quotes the text, which may hold anything.
    throw new Fault("REQUEST_INVALID", "The body is not JSON: send one JSON document.", { cause: error });
  }
}

/** In one pass, before the text is known to be JSON: what is none may come through, and is refused by the parser. */
function checkMembers(text: string): void {
  const open: (Set<string> | undefined)[] = [];
  /** The string before this place. */
  let last = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      const end = endOfString(text, i);
      last = text.slice(i, end + 1);
      i = end;
    } else if (c === "{" || c === "[") {
      open.push(c === "{" ? new Set() : undefined);
      if (open.length > MAX_DEPTH)
        throw invalid(`The body is deeper than ${MAX_DEPTH} levels: no request is. Send it flatter.`);
    } else if (c === "}" || c === "]") open.pop();
    else if (c === ":") checkMember(open.at(-1), nameOf(last));
  }
}

function checkMember(members: Set<string> | undefined, name: string | undefined): void {
  if (members === undefined || name === undefined) return;
  if (members.has(name))
    throw new Fault("REQUEST_INVALID", `The body names ${name.slice(0, 64)} twice in one object: name it once.`, {
      fields: [{ description: "stands twice in one object", field: name }],
    });
  members.add(name);
}

/** Place of the quote that ends the string which begins at `start`, or of the text's end. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === '"') return i;
  }
  return text.length;
}

/** The text that a JSON string stands for: escapes are one more way to write the same name. */
function nameOf(token: string): string | undefined {
  if (!token.startsWith('"')) return undefined;
  if (!token.includes("\\")) return token.slice(1, -1);
  try {
    return JSON.parse(token) as string;
  } catch {
    return undefined;
  }
}
