/** Names that people and jobs write: one grammar, ASCII only, so that no two names look alike. */
import { parseRecordId, type RecordId } from "../std/brand.ts";

const PROJECT = /^[a-z][a-z0-9-]{1,62}$/;
const NAME = /^[a-z0-9][a-z0-9._-]{0,127}$/;
const RESERVED = new Set(["_ledger", "_system"]);

/** A project's name, or one of the reserved `_ledger` and `_system`. */
export const parseProjectName = (text: string): string | undefined =>
  PROJECT.test(text) || RESERVED.has(text) ? text : undefined;
export const isReservedProject = (name: string): boolean => RESERVED.has(name);
export const parseName = (text: string): string | undefined => (NAME.test(text) ? text : undefined);

/** What a reference names; every part but the last may be left to the context. */
export type Ref =
  | { readonly type: "id"; readonly id: RecordId }
  | { readonly type: "project"; readonly project: string }
  | {
      readonly type: "named";
      readonly project: string | undefined;
      readonly collection: string | undefined;
      readonly name: string;
      readonly version: number | undefined;
      readonly alias: string | undefined;
    };

const VERSION = /^v?([1-9][0-9]{0,8})$/;

/**
 * Parses `sha256:…`, `projects/fraud`, `projects/fraud/runs/sha256:…`, `projects/fraud/datasets/transactions[/versions/7]`,
 * `fraud/transactions[@v7|@alias]` and `transactions[@v7|@alias]`; undefined for anything else.
 */
export function parseRef(text: string): Ref | undefined {
  const id = parseRecordId(text);
  if (id !== undefined) return { id, type: "id" };
  if (text.startsWith("projects/")) {
    const [, project = "", collection, name = "", versions, number = "", ...rest] = text.split("/");
    if (parseProjectName(project) === undefined || rest.length > 0) return undefined;
    if (collection === undefined) return { project, type: "project" };
    const named = parseRecordId(name);
    // What has no name, such as a run, goes by its id.
    if (parseName(collection) !== undefined && named !== undefined && versions === undefined)
      return { id: named, type: "id" };
    if (parseName(collection) === undefined || parseName(name) === undefined) return undefined;
    if (versions === undefined)
      return { alias: undefined, collection, name, project, type: "named", version: undefined };
    const version = /^[1-9][0-9]{0,8}$/.test(number) ? Number(number) : undefined;
    return versions !== "versions" || version === undefined
      ? undefined
      : { alias: undefined, collection, name, project, type: "named", version };
  }
  const [path = "", selector, ...more] = text.split("@");
  const parts = path.split("/");
  const name = parts.at(-1) ?? "";
  const project = parts.length === 2 ? parts[0] : undefined;
  if (
    more.length > 0 ||
    parts.length > 2 ||
    parseName(name) === undefined ||
    (project !== undefined && parseProjectName(project) === undefined)
  )
    return undefined;
  const version = selector === undefined ? undefined : VERSION.exec(selector)?.[1];
  if (selector !== undefined && version === undefined && parseName(selector) === undefined) return undefined;
  return {
    alias: version === undefined ? selector : undefined,
    collection: undefined,
    name,
    project,
    type: "named",
    version: version === undefined ? undefined : Number(version),
  };
}
