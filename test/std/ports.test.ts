import * as fc from "fast-check";
import { expect, it } from "vitest";
import { formatTime, parseTime } from "../../src/std/ports.ts";

/** The form that is written again as it was read. */
function plainly(text: string): number | undefined {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/.test(text)) return undefined;
  const ms = Date.parse(text);
  return !Number.isNaN(ms) && formatTime(ms) === text ? ms : undefined;
}

it("reads the same whatever was read before", () => {
  const near = fc.integer({ max: 180_000, min: -180_000 });
  const base = fc.constantFrom(0, -1, Date.parse("2026-02-28T23:59:00.000Z"), Date.parse("0001-01-01T00:00:30.000Z"));
  const right = fc.tuple(base, near).map(([at, ms]) => formatTime(at + ms));
  const wrong = fc
    .tuple(right, fc.nat({ max: 30 }), fc.constantFrom("0", "2", "6", "9", ":", "Z", " ", "-", "", "00"))
    .map(([text, at, by]) => text.slice(0, at) + by + text.slice(at + 1));
  fc.assert(
    fc.property(fc.array(fc.oneof(right, wrong), { maxLength: 30, minLength: 2 }), (texts) => {
      for (const text of texts) expect(parseTime(text), text).toBe(plainly(text));
    }),
    { numRuns: 500 },
  );
});

it.each([
  "2026-02-29T00:00:00.000Z",
  "2026-01-31T24:00:00.000Z",
  "2026-01-31T23:59:60.000Z",
  "2026-01-31T23:60:00.000Z",
  "2026-1-31T23:00:00.000Z",
])("refuses %s", (text) => {
  expect(parseTime("2026-01-31T23:59:59.999Z")).toBeDefined();
  expect(parseTime(text)).toBeUndefined();
});
