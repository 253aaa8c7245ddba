/** Parts of bodies whose shape the record's check has shown: empty where they are left out. */
import type { Json, JsonObject } from "../record/json.ts";

export const textOf = (value: Json | undefined): string => (typeof value === "string" ? value : "");

export const objects = (value: Json | undefined): readonly JsonObject[] =>
  Array.isArray(value) ? (value as readonly JsonObject[]) : [];
