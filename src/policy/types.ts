/**
 * What can be told of an expression before there is an input: that a part of it is an error wherever it is reached, because its
 * constants make one (`1 / 0`) or because no values of its types have such an operation (`size(x) + "a"`), and that the whole can
 * be neither true nor false. Asked when a policy is made, never when one is judged: what was recorded keeps its meaning.
 *
 * The engine itself says which types an operation takes: it is tried on a sample of each. What comes from the input may be any
 * JSON, so most of what can go wrong is found late; then the rule is an ERROR, and admits nothing.
 */
import { type CelResult, type CelValue, celType, isCelError, parse, plan } from "@bufbuild/cel";
import { Bench, profileEnv } from "./functions.ts";
import type { Expr, Program } from "./profile.ts";

type Type = "bool" | "double" | "duration" | "int" | "list" | "map" | "null" | "string" | "timestamp";
type Types = ReadonlySet<Type>;

const SAMPLES: Readonly<Record<Type, string>> = {
  bool: "true",
  double: "1.5",
  duration: 'duration("1s")',
  int: "1",
  list: "[1]",
  map: '{"a": 1}',
  null: "null",
  string: '"1"',
  timestamp: 'timestamp("2026-01-01T00:00:00.000Z")',
};
const ANY: Types = new Set(Object.keys(SAMPLES) as Type[]);
/** Of the input. */
const JSON_TYPES: Types = new Set<Type>(["bool", "double", "list", "map", "null", "string"]);
const BOOL: Types = new Set<Type>(["bool"]);
const WORDS: Readonly<Partial<Record<Type, string>>> = {
  bool: "true or false",
  double: "a number",
  int: "a whole number",
  list: "a list",
  map: "an object",
  null: "null",
  string: "a text",
};
/** Types of the engine that have another name there. */
const NAMES: Readonly<Record<string, Type>> = {
  "google.protobuf.Duration": "duration",
  "google.protobuf.Timestamp": "timestamp",
  null_type: "null",
};
/** What the engine says when it has no operation for the types, and what the profile says. */
const MISMATCH = /^(?:found no matching overload|times are compared)/;
/** Of what fails on the sample, because it takes certain texts only. */
const RESULTS: Readonly<Record<string, Type>> = { duration: "duration", timestamp: "timestamp" };

const SHOWN_CHARS = 32;

const env = profileEnv(new Bench());

/** An error of the engine, returned or thrown, or a value. */
function run(expr: Expr): CelResult | Error {
  try {
    return plan(env, expr)();
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

const typeOf = (value: CelValue): Types => {
  const { name } = celType(value);
  const type = NAMES[name] ?? (name as Type);
  return ANY.has(type) ? new Set([type]) : ANY;
};

const samples = new Map<Type, Expr>();
function sampleOf(type: Type): Expr {
  const made = samples.get(type) ?? parse(SAMPLES[type]).expr;
  samples.set(type, made);
  return made;
}

type Call = Extract<Expr["exprKind"], { case: "callExpr" }>["value"];

const probed = new Map<string, Types>();

/** What an operation gives for operands of these types, the target first; empty when there is no such operation. */
function probe({ function: name, target }: Call, types: readonly Type[]): Types {
  const key = `${target === undefined ? "" : "."}${name} ${types.join(" ")}`;
  let found = probed.get(key);
  if (found === undefined) {
    const operands = types.map(sampleOf);
    const [first, ...rest] = operands;
    const value: Call = {
      $typeName: "cel.expr.Expr.Call",
      args: target === undefined ? operands : rest,
      function: name,
      ...(target === undefined || first === undefined ? {} : { target: first }),
    };
    const result = run({ ...sampleOf("null"), exprKind: { case: "callExpr", value } });
    if (!isCelError(result) && !(result instanceof Error)) found = typeOf(result);
    else if (MISMATCH.test(result.message)) found = new Set();
    else found = RESULTS[name] === undefined ? ANY : new Set([RESULTS[name]]);
    probed.set(key, found);
  }
  return found;
}

const union = (...sets: readonly Types[]): Types => new Set(sets.flatMap((s) => [...s]));
const wordsOf = (types: Types): string =>
  types.size >= JSON_TYPES.size ? "any value" : [...types].map((t) => WORDS[t] ?? `a ${t}`).join(" or ");
/** `_+_` is written `+`. */
const written = (name: string): string => name.replaceAll(/^@|_/g, "").replace("[]", "an index");

class Flaw extends Error {
  readonly expr: Expr;

  constructor(expr: Expr, message: string) {
    super(message);
    this.expr = expr;
  }
}

interface Known {
  readonly types: Types;
  /** Whether the value is the same for every input. */
  readonly constant: boolean;
}

type Scope = ReadonlyMap<string, Types>;

/** Throws a Flaw. */
function know(expr: Expr, scope: Scope): Known {
  const { exprKind: kind } = expr;
  switch (kind.case) {
    case "constExpr":
      return { constant: true, types: typeOf(run(expr) as CelValue) };
    case "identExpr":
      return { constant: false, types: scope.get(kind.value.name) ?? ANY };
    case "selectExpr": {
      const operand = know(kind.value.operand as Expr, scope);
      if (kind.value.testOnly) return { constant: false, types: BOOL };
      const { types } = operand;
      if (!types.has("map") && !types.has("timestamp") && !types.has("duration"))
        throw new Flaw(expr, `${wordsOf(types)} has no member ${kind.value.field}`);
      return { constant: false, types: types.size === 1 && types.has("map") ? JSON_TYPES : ANY };
    }
    case "listExpr": {
      const items = kind.value.elements.map((e) => know(e, scope));
      return { constant: items.every((i) => i.constant), types: new Set(["list"]) };
    }
    case "callExpr": {
      const operands = [...(kind.value.target === undefined ? [] : [kind.value.target]), ...kind.value.args];
      const known = operands.map((o) => know(o, scope));
      const types = resultOf(
        expr,
        kind.value,
        known.map((k) => k.types),
      );
      return known.every((k) => k.constant) ? folded(expr) : { constant: false, types };
    }
    case "comprehensionExpr":
      return { constant: false, types: comprehended(expr, kind.value, scope) };
    case "structExpr":
    case undefined:
    default:
      return { constant: false, types: ANY };
  }
}

/** The value of what holds no variable. */
function folded(expr: Expr): Known {
  const result = run(expr);
  if (isCelError(result) || result instanceof Error) throw new Flaw(expr, result.message);
  return { constant: true, types: typeOf(result) };
}

function resultOf(expr: Expr, call: Call, operands: readonly Types[]): Types {
  const { function: name } = call;
  const [first = ANY, second = ANY, third = ANY] = operands;
  const lacks = (types: Types, needed: readonly Type[]): boolean => !needed.some((t) => types.has(t));
  switch (name) {
    case "_&&_":
    case "_||_":
    case "_?_:_": {
      const asked = name === "_?_:_" ? [first] : operands;
      const wrong = asked.find((types) => lacks(types, ["bool"]));
      if (wrong !== undefined)
        throw new Flaw(expr, `${written(name)} takes true or false, and is given ${wordsOf(wrong)}`);
      return name === "_?_:_" ? union(second, third) : BOOL;
    }
    case "@not_strictly_false":
      return BOOL;
    case "_[_]": {
      // The engine takes true and false for places.
      const asList = first.has("list") && !lacks(second, ["int", "double", "bool"]);
      const asMap = first.has("map") && second.has("string");
      if (!asList && !asMap) throw new Flaw(expr, `${wordsOf(first)} has no elements by ${wordsOf(second)}`);
      return asList ? ANY : JSON_TYPES;
    }
    default: {
      const combinations =
        operands.length === 1
          ? [...first].map((a) => [a])
          : [...first].flatMap((a) => [...second].map((b): Type[] => [a, b]));
      const types = union(...combinations.map((c) => probe(call, c)));
      if (types.size === 0)
        throw new Flaw(expr, `${written(name)} does not take ${operands.map(wordsOf).join(" with ")}`);
      return types;
    }
  }
}

type Comprehension = Extract<Expr["exprKind"], { case: "comprehensionExpr" }>["value"];

function comprehended(expr: Expr, value: Comprehension, scope: Scope): Types {
  const range = know(value.iterRange as Expr, scope).types;
  if (!range.has("list") && !range.has("map")) throw new Flaw(expr, `${wordsOf(range)} has no elements to go through`);
  const before = know(value.accuInit as Expr, scope).types;
  const inner = new Map([...scope, [value.iterVar, ANY], [value.accuVar, ANY]]);
  know(value.loopCondition as Expr, inner);
  const after = know(value.loopStep as Expr, inner).types;
  return know(value.result as Expr, new Map([...scope, [value.accuVar, union(before, after)]])).types;
}

/** What is wrong with an expression whatever the input is, and where; undefined when nothing is. */
export function typeFlaw({ positions, text, tree }: Program): string | undefined {
  try {
    const { types } = know(tree, new Map<string, Types>([["input", new Set<Type>(["map"])]]));
    return types.has("bool") ? undefined : `gives ${wordsOf(types)}, and never true or false`;
  } catch (error) {
    if (!(error instanceof Flaw)) throw error;
    const at = startOf(error.expr, positions);
    if (at === undefined) return `is an error for every input: ${error.message}`;
    const rest = text.slice(at);
    const shown = rest.length > SHOWN_CHARS ? `${rest.slice(0, SHOWN_CHARS)}…` : rest;
    return `is an error at character ${at + 1} (${JSON.stringify(shown)}) for every input: ${error.message}`;
  }
}

/** Where the first part of an expression stands. An operator's own place is behind its left side. */
function startOf(expr: Expr, positions: Program["positions"]): number | undefined {
  const { exprKind: kind } = expr;
  const parts =
    kind.case === "callExpr"
      ? [...(kind.value.target === undefined ? [] : [kind.value.target]), ...kind.value.args]
      : kind.case === "selectExpr" && kind.value.operand !== undefined
        ? [kind.value.operand]
        : kind.case === "comprehensionExpr" && kind.value.iterRange !== undefined
          ? [kind.value.iterRange]
          : [];
  const places = [positions[String(expr.id)], ...parts.map((p) => startOf(p, positions))];
  const known = places.filter((p) => p !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}
