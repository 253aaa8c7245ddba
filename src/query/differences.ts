/** Two sets of values side by side: what is not equal, by path. */
import { create } from "@bufbuild/protobuf";
import { type Difference, DifferenceSchema } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { canonicalize } from "../record/canonical.ts";
import type { Json, JsonObject } from "../record/json.ts";
import { objects, textOf } from "./json-parts.ts";
import type { Facts } from "./run-facts.ts";

export function differences(left: Facts, right: Facts): Difference[] {
  const paths = [...new Set([...left.keys(), ...right.keys()])].toSorted();
  return paths.flatMap((path) => {
    const one = left.get(path) ?? "";
    const other = right.get(path) ?? "";
    return one === other ? [] : [create(DifferenceSchema, { path, left: one, right: other })];
  });
}

/** Files of a version by path. Of files that a manifest lists, the digest of the manifest says whether any differs. */
export function fileFacts(body: JsonObject, prefix: string): Map<string, string> {
  const facts = new Map<string, string>();
  for (const { path, digest, size_bytes: size } of objects(body["files"]))
    facts.set(`${prefix}${textOf(path)}`, canonicalize({ digest: digest ?? "", size_bytes: size ?? 0 }));
  if (facts.size === 0 && typeof body["content_digest"] === "string")
    facts.set("content_digest", canonicalize(body["content_digest"]));
  return facts;
}

/** Fields of a schema by path, those of structs and lists below their own. */
export function fieldFacts(schema: JsonObject): Map<string, string> {
  const facts = new Map<string, string>();
  const put = (fields: Json | undefined, at: string): void => {
    for (const field of objects(fields)) {
      const path = `${at}${textOf(field["name"])}`;
      const shown: JsonObject = {
        classes: field["classes"] ?? [],
        nullable: field["nullable"] === true,
        type: field["type"] ?? "",
      };
      facts.set(path, canonicalize(shown));
      put(field["children"], `${path}.`);
    }
  };
  put(schema["fields"], "");
  return facts;
}
