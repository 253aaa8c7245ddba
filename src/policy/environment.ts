/** How the environment that a run meets compares with the lock that it was planned with. */
import type { JsonObject } from "../record/json.ts";
import { objects, text } from "./compile.ts";

export interface EnvironmentMatch {
  /** match: all that the lock pins was seen as pinned; mismatch: something differs; unknown: something pinned was not seen. */
  readonly match: "match" | "mismatch" | "unknown";
  /** Sentences, ascending. */
  readonly differences: readonly string[];
}

/** Compares a lock's body with an `ObservedEnvironment`; null for none. A lock that pins nothing matches nothing. */
export function environmentMatch(lock: JsonObject, observed: JsonObject | null): EnvironmentMatch {
  const differences: string[] = [];
  let unseen = 0;
  let pinned = 0;
  const compare = (what: string, wanted: readonly string[], seen: string): void => {
    pinned++;
    if (seen === "") unseen++;
    else if (!wanted.includes(seen)) differences.push(`${what} is ${seen}, not ${wanted.join(" or ")}`);
  };
  const given = observed ?? {};
  const images = objects(lock["images"]);
  // A run sees its own image only.
  if (images.length > 0)
    compare(
      "image",
      images.map((i) => text(i["digest"])),
      text(given["image_digest"]),
    );
  const lockfiles = new Map(objects(given["lockfiles"]).map((f) => [text(f["path"]), text(f["digest"])]));
  for (const file of objects(lock["lockfiles"]))
    compare(text(file["path"]), [text(file["digest"])], lockfiles.get(text(file["path"])) ?? "");
  if (text(lock["packages_digest"]) !== "")
    compare("list of packages", [text(lock["packages_digest"])], text(given["packages_digest"]));
  const runtimes = new Map(objects(given["runtimes"]).map((r) => [text(r["name"]), text(r["version"])]));
  for (const runtime of objects(lock["runtimes"]))
    compare(text(runtime["name"]), [text(runtime["version"])], runtimes.get(text(runtime["name"])) ?? "");
  if (differences.length > 0) return { differences: differences.toSorted(), match: "mismatch" };
  return { differences: [], match: unseen > 0 || pinned === 0 ? "unknown" : "match" };
}
