/** Which inputs a policy applies to: one name of every list that it gives must be met. */
import { isObject, type JsonObject } from "../record/json.ts";
import { type AppliesTo, objects, text } from "./compile.ts";

export function policyApplies(to: AppliesTo, input: JsonObject): boolean {
  return (
    meets(to.datasets, () => names(objects(input["data"]), "name")) &&
    meets(to.models, () => names(one(input, "model"), "name")) &&
    meets(to.environments, () => names([...environments(runsOf(input)), ...one(input, "lock")], "name")) &&
    meets(to.purposes, () => names(runsOf(input), "purpose"))
  );
}

const meets = (wanted: readonly string[], found: () => readonly string[]): boolean =>
  wanted.length === 0 || found().some((name) => wanted.includes(name));

const names = (values: readonly JsonObject[], member: string): string[] => values.map((value) => text(value[member]));

const one = (value: JsonObject, member: string): JsonObject[] => {
  const found = value[member];
  return isObject(found) ? [found] : [];
};

const environments = (runs: readonly JsonObject[]): JsonObject[] => runs.flatMap((run) => one(run, "environment"));

/** The run that is judged, or those that made the model. */
function runsOf(input: JsonObject): JsonObject[] {
  return [...one(input, "run"), ...one(input, "model").flatMap((model) => objects(model["runs"]))];
}
