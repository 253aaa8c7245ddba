/** The fields of dataset versions. The list of fields rules; where it was imported from is kept as an artifact. */
import type { SchemaField } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import type { CreateSchemaRequest } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { Fault } from "../std/faults.ts";
import { byContent, draft, link, resolveOptional } from "./admission.ts";
import { childrenOf } from "./arrow-types.ts";
import { bodyOf, checkName, invalid, textOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { checkCount } from "./limits.ts";
import { specOf, write } from "./write.ts";

const MAX_FIELDS = 2_000;
/** A record's JSON is at most 32 deep, two levels for each level of children. */
const MAX_DEPTH = 12;

export const createSchema = (
  deps: Deps,
  caller: Caller,
  request: CreateSchemaRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> =>
  write(
    deps,
    caller,
    specOf(request, "dataset.write"),
    (a) => {
      // Before the body, whose walk has no bound of its own.
      const fields = request.schema?.fields ?? [];
      checkCount("schema.fields", checkFields(fields, "schema.fields", 1), MAX_FIELDS);
      const body = bodyOf("schema", request.schema);
      checkName(textOf(body, "name"));
      const source = resolveOptional(a, request.source, ["artifact"], "source");
      return byContent(a, draft(a, "schema", body, link("source", source)));
    },
    signal,
  );

/** Checks types, children and names; returns how many fields there are in all. */
function checkFields(fields: readonly SchemaField[], at: string, depth: number): number {
  if (depth > MAX_DEPTH) throw invalid(at, `is nested deeper than ${MAX_DEPTH}`);
  const names = new Set<string>();
  let count = fields.length;
  for (const [i, { name, type, children }] of fields.entries()) {
    const path = `${at}[${i}]`;
    if (names.has(name)) throw invalid(path, `has the name ${name}, as another field beside it`);
    names.add(name);
    const takes = childrenOf(type);
    if (takes === undefined) {
      throw new Fault("TYPE_UNKNOWN", `${path} has a type that is none of Arrow's: write it as Arrow prints it`, {
        metadata: { type: type.slice(0, 128) },
        fields: [{ field: `${path}.type`, description: "is not an Arrow logical type" }],
      });
    }
    if (children.length < takes.min || children.length > takes.max) {
      throw invalid(`${path}.children`, `has ${children.length} members, which ${type} does not take`);
    }
    count += checkFields(children, `${path}.children`, depth + 1);
  }
  return count;
}
