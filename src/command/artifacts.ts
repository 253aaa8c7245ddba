/** Artifacts of a project by their content. */
import { contentIdentity } from "../fold/identity.ts";
import type { RecordId } from "../std/brand.ts";
import type { Admission } from "./admission.ts";

/** The record of the artifact with this content, `sha256:<hex>`; undefined when the project has none. */
export const artifactOf = (a: Admission, digest: string): RecordId | undefined => {
  const key = contentIdentity("artifact", a.project, { digest }, []);
  return key === undefined ? undefined : a.reader.get("content", key)?.value.id;
};
