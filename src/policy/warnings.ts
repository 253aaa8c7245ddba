/**
 * Warnings about rules that are admitted and probably do not say what was meant. Two traps:
 * `[].all(…)` is true; `||` and `exists` absorb an error when another operand or element is true.
 */
import type { JsonObject } from "../record/json.ts";
import { objects, text } from "./compile.ts";
import { compileExpression, type Expr, ExpressionError, stringOf } from "./profile.ts";

/** Members whose keys are free: a missing key is an error. */
const OPEN_MAPS = new Set(["claims", "labels", "measurements", "metrics", "params"]);
/** Members that are null when unknown: a member of null is an error. */
const NULLABLE = new Set(["ci", "code", "environment", "lock", "model", "policy", "ref", "report", "run", "schema"]);

type Comprehension = Extract<Expr["exprKind"], { case: "comprehensionExpr" }>["value"];

/** Sentences, each naming the field; none for a policy that cannot be compiled. */
export function policyWarnings(body: JsonObject): string[] {
  return objects(body["rules"]).flatMap((rule, i) => {
    const trees = ["when", "require"].flatMap((field) => {
      const tree = treeOf(text(rule[field]));
      return tree === undefined ? [] : [{ at: `rules[${i}].${field}`, tree }];
    });
    const all = trees.flatMap(({ tree }) => nodes(tree));
    return trees.flatMap(({ at, tree }) => [...emptyTraps(at, tree, all), ...absorbTraps(at, tree, all)]);
  });
}

function treeOf(expression: string): Expr | undefined {
  if (expression === "") return undefined;
  try {
    return compileExpression(expression).tree;
  } catch (error) {
    if (error instanceof ExpressionError) return undefined;
    throw error;
  }
}

function emptyTraps(at: string, tree: Expr, all: readonly Expr[]): string[] {
  const sized = new Set(all.flatMap((expr) => sizedBy(expr)));
  return nodes(tree).flatMap((expr) => {
    const range = isAll(expr) ? pathOf(expr.exprKind.value.iterRange) : undefined;
    if (range === undefined || sized.has(range)) return [];
    return [`${at}: ${range}.all(…) is true when ${range} is empty; add size(${range}) > 0 if it must not be`];
  });
}

function absorbTraps(at: string, tree: Expr, all: readonly Expr[]): string[] {
  const guarded = new Set(all.flatMap((expr) => guardedBy(expr)));
  return nodes(tree).flatMap((expr) => {
    const found = absorbing(expr);
    if (found === undefined) return [];
    const risky = found.parts
      .flatMap(nodes)
      .map(riskOf)
      .find((risk) => risk !== undefined && !guarded.has(risk));
    return risky === undefined
      ? []
      : [
          `${at}: ${found.word} hides the error of ${risky} when it is missing and something else is true; test for it first`,
        ];
  });
}

type All = Expr & { exprKind: { case: "comprehensionExpr"; value: Comprehension } };

const isAll = (expr: Expr): expr is All =>
  expr.exprKind.case === "comprehensionExpr" && stepOf(expr.exprKind.value) === "_&&_";

const stepOf = (value: Comprehension): string | undefined =>
  value.loopStep?.exprKind.case === "callExpr" ? value.loopStep.exprKind.value.function : undefined;

/** `||` with its operands, or `exists` with its condition. */
function absorbing(expr: Expr): { word: string; parts: readonly Expr[] } | undefined {
  const { exprKind: kind } = expr;
  if (kind.case === "callExpr" && kind.value.function === "_||_" && !kind.value.args.some(isAccumulator))
    return { parts: kind.value.args, word: "||" };
  if (kind.case !== "comprehensionExpr" || stepOf(kind.value) !== "_||_" || kind.value.loopStep === undefined)
    return undefined;
  return { parts: [kind.value.loopStep], word: "exists" };
}

const isAccumulator = (expr: Expr): boolean =>
  expr.exprKind.case === "identExpr" && expr.exprKind.value.name.startsWith("@");

/** The range whose size a call asks for. */
function sizedBy(expr: Expr): string[] {
  if (expr.exprKind.case !== "callExpr" || expr.exprKind.value.function !== "size") return [];
  const { target, args } = expr.exprKind.value;
  const path = pathOf(target ?? args[0]);
  return path === undefined ? [] : [path];
}

/** The path of which a test says that it is there: `"k" in m`, `has(m.k)`, `m != null`. */
function guardedBy(expr: Expr): string[] {
  const { exprKind: kind } = expr;
  if (kind.case === "selectExpr" && kind.value.testOnly)
    return listed(pathOf({ ...expr, exprKind: { case: "selectExpr", value: { ...kind.value, testOnly: false } } }));
  if (kind.case !== "callExpr") return [];
  const [a, b] = kind.value.args;
  if (kind.value.function === "@in") {
    const map = pathOf(b);
    const key = stringOf(a);
    return map === undefined || key === undefined ? [] : [`${map}.${key}`];
  }
  if (kind.value.function !== "_!=_" && kind.value.function !== "_==_") return [];
  return isNull(a) ? listed(pathOf(b)) : isNull(b) ? listed(pathOf(a)) : [];
}

const listed = (path: string | undefined): string[] => (path === undefined ? [] : [path]);

const isNull = (expr: Expr | undefined): boolean =>
  expr?.exprKind.case === "constExpr" && expr.exprKind.value.constantKind.case === "nullValue";

/** The path that must be there for this access not to be an error, where the shape of the input does not promise it. */
function riskOf(expr: Expr): string | undefined {
  const path = pathOf(expr);
  if (path === undefined) return undefined;
  const parts = path.split(".");
  const parent = parts.at(-2);
  if (parent === undefined) return undefined;
  if (OPEN_MAPS.has(parent)) return path;
  return NULLABLE.has(parent) ? parts.slice(0, -1).join(".") : undefined;
}

/** Members joined with dots from a variable; undefined for anything else. */
function pathOf(expr: Expr | undefined): string | undefined {
  const kind = expr?.exprKind;
  if (kind?.case === "identExpr") return kind.value.name.startsWith("@") ? undefined : kind.value.name;
  if (kind?.case === "selectExpr" && !kind.value.testOnly) {
    const parent = pathOf(kind.value.operand);
    return parent === undefined ? undefined : `${parent}.${kind.value.field}`;
  }
  if (kind?.case !== "callExpr" || kind.value.function !== "_[_]") return undefined;
  const parent = pathOf(kind.value.args[0]);
  const key = stringOf(kind.value.args[1]);
  return parent === undefined || key === undefined ? undefined : `${parent}.${key}`;
}

/** An expression and all within. */
function nodes(expr: Expr | undefined): Expr[] {
  if (expr === undefined) return [];
  const { exprKind: kind } = expr;
  switch (kind.case) {
    case "selectExpr":
      return [expr, ...nodes(kind.value.operand)];
    case "listExpr":
      return [expr, ...kind.value.elements.flatMap(nodes)];
    case "callExpr":
      return [expr, ...nodes(kind.value.target), ...kind.value.args.flatMap(nodes)];
    case "comprehensionExpr":
      return [expr, ...nodes(kind.value.iterRange), ...nodes(kind.value.loopStep)];
    case "constExpr":
    case "identExpr":
    case "structExpr":
    case undefined:
    default:
      return [expr];
  }
}
