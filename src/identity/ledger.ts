/** The ledger's own two projects: `_ledger`, whose id is the genesis record's, and `_system`. */

import { keys, type ViewReader } from "../fold/view.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";

export const LEDGER_PROJECT = "_ledger";
export const SYSTEM_PROJECT = "_system";

/** Id of a project by its name; undefined when there is none. Says nothing about who may see it. */
export const findProject = (reader: ViewReader, name: string): RecordId | undefined =>
  reader.get("name", keys.name("-", "project", name))?.value.id;

/** Id of the genesis record: the project of every later `ledger` record. */
export const ledgerOf = (reader: ViewReader): RecordId =>
  assertDefined(findProject(reader, LEDGER_PROJECT), "a ledger has a genesis");

export const projectName = (reader: ViewReader, project: RecordId): string =>
  reader.get("project", project)?.value.name ?? "";
