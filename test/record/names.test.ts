import { expect, it } from "vitest";
import { isReservedProject, parseName, parseProjectName, parseRef } from "../../src/record/names.ts";
import { readVector } from "../merkle/model.ts";

interface Texts {
  readonly valid: string[];
  readonly invalid: string[];
}
interface Vectors {
  readonly projects: Texts;
  readonly names: Texts;
  readonly refs: { valid: { text: string; ref: Record<string, unknown> }[]; invalid: string[] };
}

const { names, projects, refs } = readVector("record/names.json") as Vectors;

it("knows names", () => {
  expect(projects.valid.map(parseProjectName)).toEqual(projects.valid);
  expect(projects.invalid.filter((t) => parseProjectName(t) !== undefined)).toEqual([]);
  expect(names.valid.map(parseName)).toEqual(names.valid);
  expect(names.invalid.filter((t) => parseName(t) !== undefined)).toEqual([]);
  expect(projects.valid.filter(isReservedProject)).toEqual(["_ledger", "_system"]);
});

it.each(refs.valid)("reads $text", ({ ref, text }) => {
  const parsed = Object.entries(parseRef(text) ?? {}).map(([k, v]) => [k, v ?? null]);
  expect(Object.fromEntries(parsed)).toEqual(ref);
});

it("refuses what is no reference", () => {
  expect(refs.invalid.filter((t) => parseRef(t) !== undefined)).toEqual([]);
});
