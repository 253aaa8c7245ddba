import * as fc from "fast-check";
import { expect, it } from "vitest";
import { formatVkey, type VerifierKey } from "../../src/note/keys.ts";
import { parseTrustPolicy, quorumSatisfied, quorumTime, type TrustPolicy } from "../../src/note/trust-policy.ts";
import { readVector } from "../merkle/model.ts";

interface PolicyVector {
  readonly name: string;
  readonly text: string;
  readonly logs: [string, string | null][];
  readonly witnesses: [string, string, string | null][];
  readonly groups: [string, number, string[]][];
  readonly quorum: string;
  readonly quorums: { witnesses: string[]; satisfied: boolean }[];
  readonly times: { timestamps: Record<string, number>; mirrors: string[]; time: number | null }[];
}

const { invalid, valid } = readVector("note/policies.json") as {
  valid: PolicyVector[];
  invalid: { name: string; text: string; code: string }[];
};
const formatted = (key: VerifierKey): string => formatVkey(key.name, key.algorithm, key.publicKey);

it.each(valid)("reads: $name", ({ groups, logs, quorum, quorums, text, times, witnesses }) => {
  const policy = parseTrustPolicy(text);
  expect(policy.logs.map((l) => [formatted(l.key), l.url ?? null])).toEqual(logs);
  expect(policy.witnesses.map((w) => [w.name, formatted(w.key), w.url ?? null])).toEqual(witnesses);
  expect(policy.groups.map((g) => [g.name, g.threshold, g.members])).toEqual(groups);
  expect(policy.quorum).toBe(quorum);
  for (const { satisfied, witnesses: names } of quorums)
    expect(
      quorumSatisfied(policy, (name) => names.includes(name)),
      names.join(),
    ).toBe(satisfied);
  for (const { mirrors, time, timestamps } of times) {
    expect(
      quorumTime(policy, new Map(Object.entries(timestamps)), new Set(mirrors)) ?? null,
      JSON.stringify(timestamps),
    ).toBe(time);
  }
});

it.each(invalid)("refuses: $name", ({ code, text }) => {
  expect(() => parseTrustPolicy(text)).toThrow(expect.objectContaining({ code }));
});

it("limits what it reads", () => {
  expect(() => parseTrustPolicy(`${"#".repeat(1_048_576)}\nquorum none\n`)).toThrow(
    expect.objectContaining({ code: "policy.malformed" }),
  );
  const [witness] = valid.find((v) => v.name.startsWith("last line"))?.text.split("\n") ?? [];
  const chain = (n: number): string =>
    [
      witness,
      "group g0 any A",
      ...Array.from({ length: n - 2 }, (_, i) => `group g${i + 1} any g${i}`),
      `quorum g${n - 2}`,
    ].join("\n");
  const policy = parseTrustPolicy(chain(512));
  expect(quorumSatisfied(policy, (name) => name === "A")).toBe(true);
  expect(() => parseTrustPolicy(chain(513))).toThrow(expect.objectContaining({ code: "policy.malformed" }));
});

it("takes the smallest time at which the lines so far are enough", () => {
  const key: VerifierKey = { algorithm: 4, id: 0, name: "w", publicKey: new Uint8Array(32) };
  const names = ["A", "B", "C", "D", "E"];
  const line = fc.option(fc.nat(6), { nil: undefined });
  fc.assert(
    fc.property(
      fc.integer({ max: 5, min: 1 }),
      fc.tuple(line, line, line, line, line),
      fc.subarray(names),
      (threshold, lines, mirrors) => {
        const policy: TrustPolicy = {
          groups: [{ members: names, name: "g", threshold }],
          logs: [],
          quorum: "g",
          witnesses: names.map((name) => ({ key, name })),
        };
        const all = names.flatMap((name, i) =>
          lines[i] === undefined ? [] : [{ time: lines[i], timed: lines[i] > 0 && !mirrors.includes(name), name }],
        );
        // By trying every second from 1 on at which some line that states a time stands.
        let expected: number | undefined;
        for (let t = 1; t <= 6 && expected === undefined; t++) {
          const soFar = all.filter((l) => !l.timed || l.time <= t);
          if (soFar.length >= threshold && all.some((l) => l.timed && l.time === t)) expected = t;
        }
        expect(quorumTime(policy, new Map(all.map((l) => [l.name, l.time])), new Set(mirrors))).toBe(expected);
      },
    ),
    { numRuns: 500 },
  );
});
