/** Every vector of packs gives its verdict, and every code of the formats has one. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { edit, outcomeOf, readFile, VECTORS, verifyBytes } from "./vector-runner.ts";
import type { Vector } from "./vectors.ts";
import { vectorFiles, vectors } from "./vectors.ts";

const index = JSON.parse(new TextDecoder().decode(readFile("index.json"))) as { readonly vectors: readonly Vector[] };

it.each(index.vectors)("$name", async ({ edits = [], expect: expected, given, pack }) => {
  const report = await verifyBytes(edit(readFile(pack), edits), given);
  const outcome = outcomeOf(report);
  if (expected.verdict !== "incomplete") return expect(outcome).toEqual(expected);
  expect(outcome).toEqual({ ...expected, skipped: expect.stringContaining(expected.skipped) });
});

/** Codes by stage, as `docs/formats/packs.md` §6 has them; `record.*` stands for those of `records.md`. */
function documented(): string[] {
  const page = readFileSync(new URL("../../docs/formats/packs.md", import.meta.url), "utf8");
  const table = page.slice(page.indexOf("## 6. Stages"), page.indexOf("## 7."));
  return [...table.matchAll(/^\| \d+ \| `(\w+)` \|.*\|(.*)\|$/gm)].flatMap(([, stage, codes]) =>
    [...(codes ?? "").matchAll(/`([\w.*-]+)`/g)].map(([, code]) => `${stage} ${code}`),
  );
}

function write(files: ReadonlyMap<string, Uint8Array>): void {
  rmSync(VECTORS, { force: true, recursive: true });
  mkdirSync(VECTORS, { recursive: true });
  for (const [name, bytes] of files) writeFileSync(new URL(name, VECTORS), bytes);
  writeFileSync(new URL("index.json", VECTORS), `${JSON.stringify({ vectors: vectors() }, null, 1)}\n`);
}

describe("the vectors", () => {
  it("have one for every code that a stage may fail with", () => {
    const tried = new Set(
      index.vectors.flatMap(({ expect: e }) => (e.verdict === "fail" ? [`${e.stage} ${e.code}`] : [])),
    );
    expect(documented().length).toBeGreaterThan(45);
    expect(documented().filter((code) => !tried.has(code))).toEqual([]);
    expect([...tried].filter((code) => !documented().includes(code))).toEqual([]);
  });

  it("are what the lab makes", async () => {
    const files = await vectorFiles();
    if (process.env["WRITE_VECTORS"] !== undefined) write(files);
    expect(index.vectors).toEqual(JSON.parse(JSON.stringify(vectors())));
    for (const [name, bytes] of files) expect(Buffer.compare(readFile(name), bytes), name).toBe(0);
    expect(readdirSync(VECTORS).toSorted()).toEqual([...files.keys(), "index.json"].toSorted());
  });
});
