/**
 * The input as the CEL engine sees it: lists and maps that wrap JSON without copying it, and the evaluation that they belong to.
 * Owns two things that the engine lacks: a meter, so that an evaluation ends, and a note of what was read, so that a result can
 * be explained.
 *
 * A meter that ran out stays so: whatever value the engine makes of the error, the evaluation counts as ERROR. The engine's own
 * maps say that a key with the value null is absent; these say, as CEL does, that it is there.
 */
import type { CelList, CelMap, CelValue } from "@bufbuild/cel";
import type { Json, JsonObject } from "../record/json.ts";

/** Distinct values that are noted for one rule. */
const MAX_NOTED = 32;

export class Evaluation {
  #left: number;
  #noted = new Map<string, Json>();

  constructor(steps: number) {
    this.#left = steps;
  }

  get exhausted(): boolean {
    return this.#left < 0;
  }

  get left(): number {
    return this.#left;
  }

  /** Takes steps of the budget; throws, which the engine makes an error value of, when there are none left. */
  spend(steps: number): void {
    this.#left -= steps;
    if (this.#left < 0) throw new Error("the rule takes too many steps for this input");
  }

  note(path: string, value: Json): void {
    if (this.#noted.size < MAX_NOTED) this.#noted.set(path, value);
  }

  /** What was read since the last call. */
  takeNoted(): ReadonlyMap<string, Json> {
    const noted = this.#noted;
    if (noted.size > 0) this.#noted = new Map();
    return noted;
  }
}

// The engine recognises its collections by these registered symbols.
const LIST = Symbol.for("@bufbuild/cel/list");
const MAP = Symbol.for("@bufbuild/cel/map");
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

const pathOf = (parent: string, key: string): string => {
  if (!NAME.test(key)) return `${parent}[${JSON.stringify(key)}]`;
  return parent === "" ? key : `${parent}.${key}`;
};

function wrap(evaluation: Evaluation, path: string, value: Json): CelValue {
  if (typeof value !== "object" || value === null) return value;
  const wrapped = Array.isArray(value)
    ? new JsonList(evaluation, path, value as readonly Json[])
    : new JsonMap(evaluation, path, value as JsonObject);
  return wrapped as unknown as CelValue;
}

class JsonList {
  readonly [LIST] = {};
  readonly #evaluation: Evaluation;
  readonly #path: string;
  readonly #items: readonly Json[];
  #wrapped: CelValue[] | undefined;

  constructor(evaluation: Evaluation, path: string, items: readonly Json[]) {
    this.#evaluation = evaluation;
    this.#path = path;
    this.#items = items;
  }

  get size(): number {
    this.#evaluation.note(this.#path, this.#items);
    return this.#items.length;
  }

  /** The size, without a note that it was read. */
  get length(): number {
    return this.#items.length;
  }

  get(index: number): CelValue | undefined {
    if (!Number.isInteger(index) || index < 0 || index >= this.#items.length) return undefined;
    const item = this.#items[index] as Json;
    if (typeof item !== "object" || item === null) this.#evaluation.note(`${this.#path}[${index}]`, item);
    return wrap(this.#evaluation, `${this.#path}[${index}]`, item);
  }

  values(): IterableIterator<CelValue> {
    const first = this.#items[0];
    // The members of objects are noted when they are read.
    if (typeof first !== "object" || first === null) this.#evaluation.note(this.#path, this.#items);
    this.#wrapped ??= this.#items.map((item, i) => wrap(this.#evaluation, `${this.#path}[${i}]`, item));
    return this.#wrapped.values();
  }

  [Symbol.iterator](): IterableIterator<CelValue> {
    return this.values();
  }
}

class JsonMap {
  readonly [MAP] = {};
  readonly #evaluation: Evaluation;
  readonly #path: string;
  readonly #members: JsonObject;
  readonly #wrapped = new Map<string, CelValue>();

  constructor(evaluation: Evaluation, path: string, members: JsonObject) {
    this.#evaluation = evaluation;
    this.#path = path;
    this.#members = members;
  }

  get size(): number {
    this.#evaluation.note(this.#path, this.#members);
    return this.length;
  }

  get length(): number {
    return Object.keys(this.#members).length;
  }

  get(key: unknown): CelValue | undefined {
    if (typeof key !== "string" || !Object.hasOwn(this.#members, key)) return undefined;
    const value = this.#members[key] as Json;
    if (typeof value !== "object" || value === null) {
      this.#evaluation.note(pathOf(this.#path, key), value);
      return value;
    }
    let wrapped = this.#wrapped.get(key);
    if (wrapped === undefined) {
      wrapped = wrap(this.#evaluation, pathOf(this.#path, key), value);
      this.#wrapped.set(key, wrapped);
    }
    return wrapped;
  }

  has(key: unknown): boolean {
    const there = typeof key === "string" && Object.hasOwn(this.#members, key);
    if (there) this.#evaluation.note(pathOf(this.#path, key), this.#members[key] as Json);
    else this.#evaluation.note(this.#path, this.#members);
    return there;
  }

  /** Ascending, so that the order is the canonical one whatever the host makes of keys like numbers. */
  keys(): IterableIterator<string> {
    this.#evaluation.note(this.#path, this.#members);
    return Object.keys(this.#members).toSorted().values();
  }

  *entries(): IterableIterator<[string, CelValue]> {
    for (const key of this.keys()) yield [key, this.get(key) as CelValue];
  }

  *values(): IterableIterator<CelValue> {
    for (const [, value] of this.entries()) yield value;
  }

  forEach(callback: (value: CelValue, key: string, map: unknown) => void): void {
    for (const [key, value] of this.entries()) callback(value, key, this);
  }

  [Symbol.iterator](): IterableIterator<[string, CelValue]> {
    return this.entries();
  }
}

/** The input for one evaluation. */
export const celInput = (evaluation: Evaluation, input: JsonObject): CelMap =>
  new JsonMap(evaluation, "", input) as unknown as CelMap;

/** Number of elements of any list or map of the engine. */
export const lengthOf = (value: CelList | CelMap): number =>
  value instanceof JsonList || value instanceof JsonMap ? value.length : value.size;

// Control characters and bidirectional controls: a record's text holds none, and JSON escapes only the first 32.
// oxlint-disable-next-line no-control-regex
const HOSTILE = /[\u0000-\u001F\u007F-\u009F\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069\uD800-\uDFFF]/g;
// oxlint-disable-next-line no-control-regex
const NOT_ASCII = /[^\u0000-\u007F]/g;
const PLAIN = /^[ -~]*$/;
const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** Text of anything that a record's text field takes, at most `limit` UTF-16 units. */
export function shownText(text: string, limit: number): string {
  if (PLAIN.test(text)) return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`;
  let safe = text.replaceAll(HOSTILE, escape);
  if (safe.normalize("NFC") !== safe) safe = safe.replaceAll(NOT_ASCII, escape);
  return safe.length <= limit ? safe : `${safe.slice(0, limit - 1)}…`;
}
