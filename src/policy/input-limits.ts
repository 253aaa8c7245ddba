/**
 * What an input may be, whoever made it: JSON with finite numbers, within bounds on which the budget of evaluations relies.
 * An input outside of them makes every rule an ERROR.
 */
import { canonicalBytes } from "../record/canonical.ts";
import { isObject, type Json, type JsonObject } from "../record/json.ts";

export const INPUT_LIMITS = {
  /** Of canonical JSON. */
  bytes: 256 << 10,
  depth: 24,
  /** Characters of one text. */
  text: 16 << 10,
  /** Elements of one list or map. */
  elements: 8_192,
} as const;

class Flaw extends Error {}

class Measure {
  /** At least the length of the canonical JSON; a character takes up to six bytes. */
  bytes = 0;

  walk(value: Json | undefined, depth: number): void {
    const { depth: deepest, text, elements } = INPUT_LIMITS;
    if (depth > deepest) throw new Flaw(`the input is more than ${deepest} deep`);
    switch (typeof value) {
      case "boolean":
        this.bytes += 5;
        return;
      case "number":
        if (!Number.isFinite(value)) throw new Flaw("the input has a number that is not finite");
        this.bytes += 25;
        return;
      case "string":
        if (value.length > text) throw new Flaw(`the input has a text of more than ${text} characters`);
        this.bytes += 2 + 6 * value.length;
        return;
      case "object":
        break;
      case "bigint":
      case "function":
      case "symbol":
      case "undefined":
      default:
        throw new Flaw(`the input has a value that is not JSON: ${typeof value}`);
    }
    if (value === null) {
      this.bytes += 4;
      return;
    }
    const names = Array.isArray(value) ? undefined : Object.keys(value);
    const n = names?.length ?? (value as readonly Json[]).length;
    if (n > elements) throw new Flaw(`the input has a list or map of more than ${elements} elements`);
    this.bytes += 2 + n;
    if (names === undefined) for (const item of value as readonly Json[]) this.walk(item, depth + 1);
    else
      for (const name of names) {
        this.bytes += 3 + 6 * name.length;
        this.walk((value as JsonObject)[name], depth + 1);
      }
  }
}

/** What is wrong with an input; undefined for nothing. */
export function inputFlaw(input: JsonObject): string | undefined {
  if (!isObject(input)) return "the input is not an object";
  const measure = new Measure();
  try {
    measure.walk(input, 1);
  } catch (error) {
    if (error instanceof Flaw) return error.message;
    throw error;
  }
  if (measure.bytes <= INPUT_LIMITS.bytes || canonicalBytes(input).length <= INPUT_LIMITS.bytes) return undefined;
  return `the input is more than ${INPUT_LIMITS.bytes} bytes of JSON`;
}
