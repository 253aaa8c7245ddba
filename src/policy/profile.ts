/**
 * Profile `datapilot-cel/v1` of CEL: which expressions a policy may hold, and the programs made of them. Policies are written by
 * people who may be hostile, and are evaluated where everybody waits: an expression is bounded in length, size and nesting before
 * it is parsed and planned, names only functions that give the same on every host, and spends steps of a budget while it runs.
 *
 * - One variable, `input`. Numbers of the input are doubles.
 * - Functions: operators, `size`, `double`, `int`, `timestamp`, `duration`; `contains`, `startsWith`, `endsWith`, `matches` with a
 *   literal pattern; macros `has`, `all`, `exists`, `exists_one`, `filter`, `map`. No getters of dates: they use the time zone of
 *   the host. No conversion to text: engines format numbers differently.
 * - Anything but true or false is an error, and so is a number that is not finite.
 */
import { type CelResult, isCelError, parse, plan } from "@bufbuild/cel";
import type { JsonObject } from "../record/json.ts";
import { Bench, GLOBALS, MATCHED, METHODS, profileEnv, RANGE } from "./functions.ts";
import { celInput, type Evaluation } from "./value.ts";

export const EXPRESSION_LIMITS = {
  chars: 4_096,
  /** Brackets of any kind, before anything is parsed. */
  brackets: 24,
  /** Of the syntax tree, with what macros stand for. */
  nodes: 600,
  depth: 64,
  /** Comprehensions within each other. */
  nesting: 3,
  pattern: 128,
  repetitions: 64,
} as const;

export type Expr = NonNullable<ReturnType<typeof parse>["expr"]>;

/** An expression that the profile does not admit; the message says what to do. */
export class ExpressionError extends Error {
  override readonly name = "ExpressionError";
}

export type Verdict = { readonly value: boolean } | { readonly error: string };

export interface Program {
  /** As parsed, for questions about the rule. */
  readonly tree: Expr;
  readonly text: string;
  /** Where the parts of the tree stand in the text, by their ids. */
  readonly positions: Readonly<Record<string, number>>;
  run(evaluation: Evaluation, input: JsonObject): Verdict;
}

const bench = new Bench();
const env = profileEnv(bench);

const OPENING = "([{";
const CLOSING = ")]}";
const VARIABLE = /^[a-z][A-Za-z0-9_]{0,31}$/;
/** Names that mean something else to some engine. */
const RESERVED = new Set([
  "bool",
  "bytes",
  "double",
  "dyn",
  "duration",
  "google",
  "input",
  "int",
  "list",
  "map",
  "null_type",
  "size",
  "string",
  "timestamp",
  "type",
  "uint",
]);
const DATE_GETTER = /^get[A-Z]/;

/** Nesting of brackets outside of string literals, as far as a scan can tell; never too low for what would be parsed. */
function bracketDepth(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (const char of text) {
    if (OPENING.includes(char)) deepest = Math.max(deepest, ++depth);
    else if (CLOSING.includes(char)) depth = Math.max(0, depth - 1);
  }
  return deepest;
}

/** Compiles an expression; throws ExpressionError. */
export function compileExpression(text: string): Program {
  const { chars, brackets } = EXPRESSION_LIMITS;
  if (text.length > chars) throw new ExpressionError(`is longer than ${chars} characters: split the rule`);
  if (bracketDepth(text) > brackets) throw new ExpressionError(`has brackets more than ${brackets} deep: simplify it`);
  const { positions, tree } = parsed(text);
  new Checker().check(tree);
  const program = plan(env, instrumented(tree));
  return {
    positions,
    text,
    tree,
    run: (evaluation, input) => {
      const result = bench.run(evaluation, () => attempt(() => program({ input: celInput(evaluation, input) })));
      if (evaluation.exhausted) return { error: "the rule takes too many steps for this input" };
      return verdictOf(result);
    },
  };
}

function attempt(work: () => CelResult): CelResult | Error {
  try {
    return work();
  } catch (error) {
    // The engine answers with error values; what it throws is an error of the rule as well, such as a stack that overflowed.
    return error instanceof Error ? error : new Error(String(error));
  }
}

function verdictOf(result: CelResult | Error): Verdict {
  if (typeof result === "boolean") return { value: result };
  if (isCelError(result) || result instanceof Error) return { error: result.message };
  return { error: "the expression gives neither true nor false" };
}

function parsed(text: string): Pick<Program, "positions" | "tree"> {
  let tree: Expr | undefined;
  let positions: Program["positions"];
  try {
    const { expr, sourceInfo } = parse(text);
    tree = expr;
    positions = sourceInfo?.positions ?? {};
  } catch (error) {
    throw new ExpressionError(`is not CEL: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  if (tree === undefined) throw new ExpressionError("is empty");
  return { positions, tree };
}

/** Walks a tree with the variables in scope. */
class Checker {
  #nodes = 0;

  check(tree: Expr): void {
    this.#walk(tree, new Set(["input"]), 1, 0);
  }

  #walk(expr: Expr, scope: ReadonlySet<string>, depth: number, nesting: number): void {
    const { nodes, depth: deepest } = EXPRESSION_LIMITS;
    if (++this.#nodes > nodes) throw new ExpressionError(`has more than ${nodes} parts: split the rule`);
    if (depth > deepest) throw new ExpressionError(`is more than ${deepest} deep: simplify it`);
    const { exprKind: kind } = expr;
    const walk = (inner: Expr | undefined): void => {
      if (inner !== undefined) this.#walk(inner, scope, depth + 1, nesting);
    };
    switch (kind.case) {
      case "identExpr":
        if (!scope.has(kind.value.name))
          throw new ExpressionError(`names ${kind.value.name}: the only variable is input`);
        return;
      case "constExpr":
        return checkConstant(kind.value.constantKind.case);
      case "selectExpr":
        return walk(kind.value.operand);
      case "listExpr":
        if (kind.value.optionalIndices.length > 0)
          throw new ExpressionError("has optional elements, which the profile does not know");
        return kind.value.elements.forEach(walk);
      case "callExpr":
        checkCall(kind.value.function, kind.value.target, kind.value.args);
        walk(kind.value.target);
        return kind.value.args.forEach(walk);
      case "comprehensionExpr":
        return this.#comprehension(kind.value, scope, depth, nesting, walk);
      case "structExpr":
        throw new ExpressionError("makes a message or a map: compare with lists, or write the cases out");
      case undefined:
      default:
        throw new ExpressionError("has a part that the profile does not know");
    }
  }

  #comprehension(
    value: Comprehension,
    scope: ReadonlySet<string>,
    depth: number,
    nesting: number,
    walk: (e: Expr | undefined) => void,
  ): void {
    const { nesting: most } = EXPRESSION_LIMITS;
    if (nesting + 1 > most)
      throw new ExpressionError(`nests more than ${most} of all, exists, exists_one, filter and map: split the rule`);
    const { iterVar } = value;
    if (value.iterVar2 !== "" || !VARIABLE.test(iterVar) || RESERVED.has(iterVar))
      throw new ExpressionError(
        `calls an element ${JSON.stringify(iterVar)}: take another name, of a small letter and letters and digits`,
      );
    walk(value.iterRange);
    walk(value.accuInit);
    const inner = new Set([...scope, iterVar, value.accuVar]);
    for (const part of [value.loopCondition, value.loopStep, value.result])
      if (part !== undefined) this.#walk(part, inner, depth + 1, nesting + 1);
  }
}

type Comprehension = Extract<Expr["exprKind"], { case: "comprehensionExpr" }>["value"];
type Call = Extract<Expr["exprKind"], { case: "callExpr" }>["value"];

function checkConstant(kind: string | undefined): void {
  if (kind === "bytesValue" || kind === "uint64Value")
    throw new ExpressionError("has bytes or an unsigned number, which no value of the input is equal to");
}

function checkCall(name: string, target: Expr | undefined, args: readonly Expr[]): void {
  const all = target === undefined ? args : [target, ...args];
  const arity = (target === undefined ? GLOBALS : METHODS).get(name);
  if (DATE_GETTER.test(name))
    throw new ExpressionError(
      `calls ${name}: getters of dates use the host's time zone; compare timestamps, or use age_days`,
    );
  if (arity === undefined)
    throw new ExpressionError(
      `calls ${target === undefined ? "" : "the method "}${name}, which is not a function of the profile`,
    );
  // Chains of && and || are one call with all operands.
  if (name === "_&&_" || name === "_||_" ? all.length < 2 : all.length !== arity)
    throw new ExpressionError(`calls ${name} with ${all.length} arguments instead of ${arity}`);
  if (name === "matches") checkPattern(args[0]);
}

/** A pattern is compiled here once, so that an evaluation cannot meet one that is wrong or large. */
function checkPattern(expr: Expr | undefined): void {
  const { pattern: longest, repetitions } = EXPRESSION_LIMITS;
  const pattern = stringOf(expr);
  if (pattern === undefined)
    throw new ExpressionError("matches with a pattern that is not a string literal: write the pattern out");
  if (pattern.length > longest)
    throw new ExpressionError(`has a pattern longer than ${longest} characters: shorten it`);
  const counts = [...pattern.matchAll(/\{(\d+)?,?(\d+)?\}/g)];
  if (counts.length > 1 || counts.some((m) => Number(m[1] ?? 0) > repetitions || Number(m[2] ?? 0) > repetitions))
    throw new ExpressionError(
      `has a pattern with more than one counted repetition, or one above ${repetitions}: simplify it`,
    );
  const result = attempt(() => plan(env, parse(`"".matches(${JSON.stringify(pattern)})`))());
  if (typeof result !== "boolean")
    throw new ExpressionError(`has a pattern that is not RE2: ${(result as Error).message}`);
}

export const stringOf = (expr: Expr | undefined): string | undefined =>
  expr?.exprKind.case === "constExpr" && expr.exprKind.value.constantKind.case === "stringValue"
    ? expr.exprKind.value.constantKind.value
    : undefined;

/** The tree as it is planned: ranges and matched texts pass through functions that spend steps. */
function instrumented(expr: Expr): Expr {
  const { exprKind: kind } = expr;
  const inner = (e: Expr | undefined): Expr | undefined => (e === undefined ? undefined : instrumented(e));
  switch (kind.case) {
    case "selectExpr":
      return withKind(expr, {
        case: "selectExpr",
        value: { ...kind.value, operand: inner(kind.value.operand) },
      });
    case "listExpr":
      return withKind(expr, {
        case: "listExpr",
        value: { ...kind.value, elements: kind.value.elements.map(instrumented) },
      });
    case "callExpr": {
      const target = kind.value.function === "matches" ? matched(kind.value) : inner(kind.value.target);
      return withKind(expr, {
        case: "callExpr",
        value: { ...kind.value, args: kind.value.args.map(instrumented), target },
      });
    }
    case "comprehensionExpr": {
      const { value } = kind;
      const parts = {
        accuInit: inner(value.accuInit),
        iterRange: call(expr, RANGE, [instrumented(value.iterRange as Expr)]),
        loopCondition: inner(value.loopCondition),
        loopStep: inner(value.loopStep),
        result: inner(value.result),
      };
      return withKind(expr, { case: "comprehensionExpr", value: { ...value, ...parts } });
    }
    case "constExpr":
    case "identExpr":
    case "structExpr":
    case undefined:
    default:
      return expr;
  }
}

const withKind = (expr: Expr, exprKind: Expr["exprKind"]): Expr => ({ ...expr, exprKind });

const call = (at: Expr, name: string, args: Expr[]): Expr =>
  withKind(at, { case: "callExpr", value: { $typeName: "cel.expr.Expr.Call", args, function: name } });

function matched(value: Call): Expr {
  const pattern = stringOf(value.args[0]) ?? "";
  const cost = pattern.length + (pattern.includes("{") ? EXPRESSION_LIMITS.repetitions : 0);
  const target = value.target as Expr;
  const constant = withKind(target, {
    case: "constExpr",
    value: { $typeName: "cel.expr.Constant", constantKind: { case: "int64Value", value: BigInt(cost) } },
  });
  return call(target, MATCHED, [instrumented(target), constant]);
}
