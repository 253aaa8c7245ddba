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

it("forgets in generations, and calls moved what it forgot", () => {
  const changes = new Changes(0, 4);
  for (let i = 0; i < 20; i++) changes.note(`k${i}`, i);
  expect(changes.unmoved(["other"], 0)).toBe(false);
  expect(changes.unmoved(["k19"], 19)).toBe(false);
  expect(changes.unmoved(["other"], 19)).toBe(true);
});
