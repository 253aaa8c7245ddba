import { expect, it } from "vitest";
import { Durations } from "../../src/log/durations.ts";

it("forgets a slow store after a minute, so that somebody tries it again", () => {
  let now = 0;
  const durations = new Durations({ monotonic: () => now });
  for (let i = 0; i < 7; i++) durations.note(10);
  expect(durations.p99()).toBe(0);
  durations.note(5_000);
  expect(durations.p99()).toBe(5_000);
  now = 59_999;
  expect(durations.p99()).toBe(5_000);
  now = 60_000;
  expect(durations.p99()).toBe(0);
});

it("looks at the last 128", () => {
  const durations = new Durations({ monotonic: () => 0 });
  durations.note(9_000);
  for (let i = 0; i < 128; i++) durations.note(i);
  expect(durations.p99()).toBe(126);
});
