/** The ledger's own two projects: `_ledger`, whose id is the genesis record's, and `_system`. */
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { keys, type ViewReader } from "../fold/view.ts";

export const LEDGER_PROJECT = "_ledger";
export const SYSTEM_PROJECT = "_system";

/** Id of the genesis record: the project of every later `ledger` record. */
export function ledgerOf(reader: ViewReader): RecordId {
  const newest = assertDefined(reader.get("ledger", ""), "a ledger has a genesis").value.record;
  return assertDefined(reader.record(newest), "the newest ledger record is there").record.project ?? newest;
}

/** Id of a project by its name; undefined when there is none. Says nothing about who may see it. */
export const findProject = (reader: ViewReader, name: string): RecordId | undefined =>
  name === LEDGER_PROJECT ? ledgerOf(reader) : reader.get("name", keys.name("-", "project", name))?.value.id;

export function projectName(reader: ViewReader, project: RecordId): string {
  return project === ledgerOf(reader) ? LEDGER_PROJECT : (reader.get("project", project)?.value.name ?? "");
}
