/**
 * The functions of the CEL profile: which there are, and those of the engine that are replaced because they depend on the host, are
 * lenient, or take time without bound. Each spends steps of the evaluation in hand in proportion to its work.
 *
 * Numbers: what is not finite is an error, so a division by zero is one. Texts become numbers and times only in one form.
 */
import {
  type CelFunc,
  type CelList,
  type CelMap,
  CelScalar,
  type CelValue,
  celEnv,
  celFunc,
  celList,
  celMethod,
  isCelList,
  isCelMap,
  listType,
  objectType,
} from "@bufbuild/cel";
import { TimestampSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { parseTime } from "../std/ports.ts";
import { type Evaluation, lengthOf } from "./value.ts";

/** Stands around the range of each comprehension in a planned program; nobody can write it. */
export const RANGE = "@range";
/** Stands around a text that is matched with a pattern, with what a character of it costs. */
export const MATCHED = "@matched";

/** Functions that a rule may name, with the number of arguments; the target counts. */
export const GLOBALS: ReadonlyMap<string, number> = new Map([
  ["!_", 1],
  ["-_", 1],
  ["@in", 2],
  ["@not_strictly_false", 1],
  ["_!=_", 2],
  ["_%_", 2],
  ["_&&_", 2],
  ["_*_", 2],
  ["_+_", 2],
  ["_-_", 2],
  ["_/_", 2],
  ["_<=_", 2],
  ["_<_", 2],
  ["_==_", 2],
  ["_>=_", 2],
  ["_>_", 2],
  ["_?_:_", 3],
  ["_[_]", 2],
  ["_||_", 2],
  ["double", 1],
  ["duration", 1],
  ["int", 1],
  ["size", 1],
  ["timestamp", 1],
]);

export const METHODS: ReadonlyMap<string, number> = new Map([
  ["contains", 2],
  ["endsWith", 2],
  ["matches", 2],
  ["size", 1],
  ["startsWith", 2],
]);

/** Texts that a rule builds. */
const MAX_TEXT = 64 << 10;
const MAX_LIST = 8_192;
const DECIMAL = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?$/;
const INTEGER = /^-?(?:0|[1-9][0-9]{0,17})$/;

const { BOOL, DOUBLE, DYN, INT, STRING } = CelScalar;
const LIST = listType(DYN);
const TIMESTAMP = objectType(TimestampSchema);

const finite = (n: number): number => {
  if (!Number.isFinite(n)) throw new Error("the result is not a finite number");
  return n;
};

/** The evaluation in hand: the engine has no place of its own for one. Evaluations do not nest and never wait. */
export class Bench {
  #evaluation: Evaluation | undefined;

  run<T>(evaluation: Evaluation, work: () => T): T {
    this.#evaluation = evaluation;
    try {
      return work();
    } finally {
      this.#evaluation = undefined;
    }
  }

  spend(steps: number): void {
    this.#evaluation?.spend(steps);
  }
}

function equals(bench: Bench, a: CelValue, b: CelValue): boolean {
  if (typeof a === "string" && typeof b === "string") {
    bench.spend(1 + (a.length === b.length ? a.length >> 6 : 0));
    return a === b;
  }
  bench.spend(1);
  // oxlint-disable-next-line eqeqeq -- numbers are equal by value, whatever their type
  if (isNumber(a) && isNumber(b)) return a == b;
  if (isCelList(a) && isCelList(b)) {
    if (a.size !== b.size) return false;
    const others = b.values();
    for (const item of a) if (!equals(bench, item, others.next().value as CelValue)) return false;
    return true;
  }
  if (isCelMap(a) && isCelMap(b)) return equalMaps(bench, a, b);
  if (
    typeof a === "object" &&
    a !== null &&
    typeof b === "object" &&
    b !== null &&
    !isCelList(a) &&
    !isCelMap(a) &&
    !isCelList(b) &&
    !isCelMap(b)
  )
    throw new Error("times are compared with < and >");
  return a === b;
}

const isNumber = (value: CelValue): value is number | bigint => typeof value === "number" || typeof value === "bigint";

function equalMaps(bench: Bench, a: CelMap, b: CelMap): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) {
    const other = b.get(key);
    if (other === undefined || !equals(bench, value, other)) return false;
  }
  return true;
}

function listHas(bench: Bench, value: CelValue, list: CelList): boolean {
  for (const item of list) if (equals(bench, value, item)) return true;
  return false;
}

function concat(bench: Bench, a: CelList, b: CelList): CelList {
  const size = lengthOf(a) + lengthOf(b);
  if (size > MAX_LIST) throw new Error(`a list of more than ${MAX_LIST} elements`);
  bench.spend(1 + (size >> 3));
  return celList([...a, ...b]);
}

function joinTexts(bench: Bench, a: string, b: string): string {
  if (a.length + b.length > MAX_TEXT) throw new Error(`a text of more than ${MAX_TEXT} characters`);
  bench.spend(1 + ((a.length + b.length) >> 6));
  return a + b;
}

function searched(bench: Bench, text: string, part: string): void {
  bench.spend(1 + ((text.length * Math.max(1, Math.min(part.length, 256))) >> 8));
}

function countChars(bench: Bench, text: string): bigint {
  bench.spend(1 + (text.length >> 4));
  let n = 0n;
  for (const _ of text) n++;
  return n;
}

function toDouble(text: string): number {
  if (!DECIMAL.test(text)) throw new Error("double() takes decimal numbers only");
  return finite(Number(text));
}

function toInt(text: string): bigint {
  if (!INTEGER.test(text)) throw new Error("int() takes whole decimal numbers only");
  return BigInt(text);
}

function toTimestamp(text: string): ReturnType<typeof timestampFromMs> {
  const ms = parseTime(text);
  if (ms === undefined) throw new Error("timestamp() takes YYYY-MM-DDTHH:MM:SS.mmmZ only");
  return timestampFromMs(ms);
}

function replaced(bench: Bench): CelFunc[] {
  const size = (value: CelList | CelMap): bigint => {
    bench.spend(1);
    return BigInt(value.size);
  };
  const compared = (a: string, b: string): number => {
    bench.spend(1 + (Math.min(a.length, b.length) >> 6));
    return a < b ? -1 : a > b ? 1 : 0;
  };
  return [
    celFunc(RANGE, [DYN], DYN, (range) => {
      bench.spend(1 + (isCelList(range) || isCelMap(range) ? 4 * lengthOf(range) : 0));
      return range;
    }),
    celFunc(MATCHED, [DYN, INT], DYN, (text, cost) => {
      // The engine compiles the pattern each time.
      bench.spend(200 + (typeof text === "string" ? (text.length * Number(cost)) >> 3 : 0));
      return text;
    }),
    celFunc("_==_", [DYN, DYN], BOOL, (a, b) => equals(bench, a, b)),
    celFunc("_!=_", [DYN, DYN], BOOL, (a, b) => !equals(bench, a, b)),
    celFunc("@in", [DYN, LIST], BOOL, (value, list) => listHas(bench, value, list)),
    celFunc("_<_", [STRING, STRING], BOOL, (a, b) => compared(a, b) < 0),
    celFunc("_<=_", [STRING, STRING], BOOL, (a, b) => compared(a, b) <= 0),
    celFunc("_>_", [STRING, STRING], BOOL, (a, b) => compared(a, b) > 0),
    celFunc("_>=_", [STRING, STRING], BOOL, (a, b) => compared(a, b) >= 0),
    celFunc("_+_", [LIST, LIST], LIST, (a, b) => concat(bench, a, b)),
    celFunc("_+_", [STRING, STRING], STRING, (a, b) => joinTexts(bench, a, b)),
    celFunc("_+_", [DOUBLE, DOUBLE], DOUBLE, (a, b) => finite(a + b)),
    celFunc("_-_", [DOUBLE, DOUBLE], DOUBLE, (a, b) => finite(a - b)),
    celFunc("_*_", [DOUBLE, DOUBLE], DOUBLE, (a, b) => finite(a * b)),
    celFunc("_/_", [DOUBLE, DOUBLE], DOUBLE, (a, b) => finite(a / b)),
    celFunc("double", [STRING], DOUBLE, toDouble),
    celFunc("int", [STRING], INT, toInt),
    celFunc("timestamp", [STRING], TIMESTAMP, toTimestamp),
    celFunc("size", [LIST], INT, size),
    celMethod("size", LIST, [], INT, function () {
      return size(this);
    }),
    celFunc("size", [STRING], INT, (text) => countChars(bench, text)),
    celMethod("size", STRING, [], INT, function () {
      return countChars(bench, this);
    }),
    celMethod("contains", STRING, [STRING], BOOL, function (part) {
      searched(bench, this, part);
      return this.includes(part);
    }),
    celMethod("startsWith", STRING, [STRING], BOOL, function (part) {
      bench.spend(1 + (part.length >> 6));
      return this.startsWith(part);
    }),
    celMethod("endsWith", STRING, [STRING], BOOL, function (part) {
      bench.spend(1 + (part.length >> 6));
      return this.endsWith(part);
    }),
  ];
}

/** An environment of the engine whose functions spend from the bench. */
export const profileEnv = (bench: Bench): ReturnType<typeof celEnv> => celEnv({ funcs: replaced(bench) });
