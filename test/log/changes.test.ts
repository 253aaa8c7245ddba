import { expect, it } from "vitest";
import { Changes } from "../../src/log/changes.ts";

it("holds until a row is changed at or above the size that was read", () => {
  const changes = new Changes(10);
  changes.note("a", 10);
  expect(changes.unmoved(["a"], 11)).toBe(true);
  expect(changes.unmoved(["a"], 10)).toBe(false);
  expect(changes.unmoved(["b"], 10)).toBe(true);
  expect(changes.unmoved(["b"], 9)).toBe(false);
});

it("calls moved what changed before it began", () => {
  const changes = new Changes(10);
  expect(changes.unmoved([], 9)).toBe(false);
  expect(changes.unmoved([], 10)).toBe(true);
});

it("says of no row that moved that it did not, however many there are", () => {
  const changes = new Changes(0);
  const rows = 3_000_000;
  for (let i = 0; i < rows; i++) changes.note(`k${i}`, i);
  for (let i = rows - 1_000; i < rows; i++) expect(changes.unmoved([`k${i}`], i)).toBe(false);
  expect(changes.unmoved(["k7"], rows)).toBe(true);
});
