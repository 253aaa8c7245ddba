/**
 * Packs that were damaged at random: never a pass, never a crash, never long. A flaw that nothing notices would be bytes that
 * prove nothing, and a pack has none.
 */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { concat } from "../../src/std/bytes.ts";
import { DEFAULT_LIMITS } from "../../src/verify/limits.ts";
import type { PackReport } from "../../src/verify/pack.ts";
import { verifyProof } from "../../src/verify/proof.ts";
import { agreeing, archiveOf, type Part, partsOf } from "./pack-lab.ts";
import { outcomeOf, readFile, trustOf, verifyBytes } from "./vector-runner.ts";
import type { Given } from "./vectors.ts";

const RUNS = 400;
const GIVEN: Given = { genesis: "genesis", kept: ["kept"], policy: "policy.txt" };
const GOVERNED: Given = { policy: "policy-governed.txt" };
const valid = readFile("valid.dpevidence");
const governed = readFile("governed.dpevidence");

async function outcome(archive: Uint8Array, given: Given): Promise<PackReport> {
  const report = await verifyBytes(archive, given);
  for (const check of report.checks) expect(check.failures.length).toBeLessThanOrEqual(100);
  return report;
}

async function isFound(archive: Uint8Array): Promise<void> {
  expect((await outcome(archive, GIVEN)).verdict).not.toBe("pass");
}

const flipped = (bytes: Uint8Array, at: number, mask: number): Uint8Array => {
  const out = bytes.slice();
  out[at] = (out[at] ?? 0) ^ mask;
  return out;
};

const place = (length: number) => fc.integer({ max: length - 1, min: 0 });
const mask = fc.integer({ max: 255, min: 1 });

describe("an archive", () => {
  it("with any byte changed", async () => {
    await fc.assert(
      fc.asyncProperty(place(valid.length), mask, (at, m) => isFound(flipped(valid, at, m))),
      { numRuns: RUNS },
    );
  });

  it("cut off anywhere, or with something after it", async () => {
    await fc.assert(
      fc.asyncProperty(place(valid.length), (at) => isFound(valid.subarray(0, at))),
      { numRuns: RUNS },
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2_000, minLength: 1 }), (more) => isFound(concat(valid, more))),
      { numRuns: 50 },
    );
  });

  it("of nothing but noise", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 4_000 }), (noise) => isFound(noise)),
      { numRuns: RUNS },
    );
  });

  it("with members twice, gone, or in another order", async () => {
    const parts = partsOf(valid);
    const some = fc.array(fc.constantFrom(...parts), { maxLength: parts.length + 2, minLength: 1 });
    await fc.assert(
      fc.asyncProperty(some, fc.boolean(), async (chosen, agree) => {
        if (chosen.length === parts.length && chosen.every((p, i) => p === parts[i])) return;
        const [first] = chosen;
        await isFound(archiveOf(agree && first?.name === "manifest.json" ? agreeing(chosen) : chosen));
      }),
      { numRuns: RUNS },
    );
  });
});

/** Damage inside a member, with a manifest that agrees: what a carrier without any key can make. */
describe.each([
  { archive: valid, given: GIVEN, name: "a pack" },
  { archive: governed, given: GOVERNED, name: "a pack of a ledger under policy" },
])("$name", ({ archive, given }) => {
  const parts = partsOf(archive);
  const member = fc.integer({ max: parts.length - 1, min: 1 }).filter((i) => (parts[i]?.bytes.length ?? 0) > 0);
  const damaged = (i: number, by: (bytes: Uint8Array) => Uint8Array): Uint8Array =>
    archiveOf(agreeing(parts.map((p, k): Part => (k === i ? { ...p, bytes: by(p.bytes) } : p))));
  const check = async (changed: Uint8Array, i: number): Promise<void> => {
    const report = await outcome(changed, given);
    // An anchor that lost its witness is an anchor that bounds no times: it is offered, never owed.
    if (parts[i]?.name === "history.jsonl") return;
    expect(report.verdict, JSON.stringify(outcomeOf(report))).not.toBe("pass");
  };

  it("with a byte changed in a member", async () => {
    await fc.assert(
      fc.asyncProperty(member, fc.nat(), mask, (i, at, m) =>
        check(
          damaged(i, (b) => flipped(b, at % b.length, m)),
          i,
        ),
      ),
      { numRuns: RUNS },
    );
  });

  it("with lines gone, twice, or swapped", async () => {
    await fc.assert(
      fc.asyncProperty(member, fc.nat(), fc.nat(), fc.constantFrom("cut", "double", "swap"), async (i, a, b, how) => {
        const text = new TextDecoder("latin1").decode(parts[i]?.bytes);
        const lines = text.split(/(?<=\n)/);
        const [x, y] = [a % lines.length, b % lines.length];
        const out = lines.flatMap((line, k) =>
          how === "cut" && k === x
            ? []
            : how === "double" && k === x
              ? [line, line]
              : how === "swap" && (k === x || k === y)
                ? [lines[k === x ? y : x] ?? ""]
                : [line],
        );
        // A signature line that is there twice, or in another place, is the same signature.
        if (out.join("") === text || parts[i]?.name === "checkpoint") return;
        await check(
          damaged(i, () => Uint8Array.from(Buffer.from(out.join(""), "latin1"))),
          i,
        );
      }),
      { numRuns: RUNS },
    );
  });

  it("with a JSON value of another type in a line", async () => {
    const strange = fc.constantFrom("null", "[]", "{}", "0", '""', "true", '{"__proto__":1}', "1e400", "[[[[]]]]");
    const rows = parts.flatMap((p, i) => (p.name.endsWith(".jsonl") || p.name === "manifest.json" ? [i] : []));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...rows), fc.nat(), strange, async (i, at, value) => {
        const text = new TextDecoder().decode(parts[i]?.bytes);
        const values = [...text.matchAll(/"[^"\\]*"(?!:)|\b\d+\b|(?<=^|\n)\{[^\n]*\}/g)];
        const found = values[at % values.length];
        const from = found?.index ?? 0;
        const out = text.slice(0, from) + value + text.slice(from + (found?.[0].length ?? 0));
        if (out === text) return;
        // The manifest that agrees with itself is made by `agreeing`, so its own damage stays as it is.
        const changed = parts.map((p, k) => (k === i ? { ...p, bytes: Buffer.from(out) } : p));
        await check(archiveOf(i === 0 ? changed : agreeing(changed)), i);
      }),
      { numRuns: RUNS },
    );
  });
});

it("a receipt with any byte changed proves nothing else", () => {
  const proof = readFile("receipt.tlog-proof");
  const trust = trustOf({ policy: "policy.txt" });
  const truth = verifyProof(proof, undefined, trust, DEFAULT_LIMITS);
  fc.assert(
    fc.property(place(proof.length), mask, (at, m) => {
      const report = verifyProof(flipped(proof, at, m), undefined, trust, DEFAULT_LIMITS);
      expect(report.verdict).not.toBe("pass");
      expect(report.record === null || report.record === truth.record).toBe(true);
    }),
    { numRuns: RUNS },
  );
});
