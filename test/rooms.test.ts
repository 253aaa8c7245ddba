/** Holds the table of rooms: forbidden imports, cycles, and files that nothing imports. */
import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { parseSync } from "oxc-parser";
import { expect, it } from "vitest";

const PURE = ["std", "merkle", "note", "record", "fold", "policy"];
const SERVER = [...PURE, "gen", "store", "index", "log", "identity", "command", "query", "evidence"];
/** room → rooms that it may import. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  std: [],
  merkle: ["std"],
  note: ["std", "merkle"],
  record: ["std", "merkle", "note", "gen"],
  fold: ["std", "merkle", "record"],
  policy: ["std", "record", "fold", "gen"],
  store: ["std"],
  index: ["std", "merkle", "record", "fold", "note"],
  log: [...PURE, "gen", "store", "index"],
  identity: ["std", "record", "fold"],
  command: [...PURE, "gen", "store", "index", "log", "identity", "query", "evidence"],
  query: [...PURE, "gen", "index", "log", "identity", "store"],
  api: SERVER,
  evidence: [...PURE, "gen", "store", "index", "log"],
  verify: [...PURE, "gen", "store"],
  replicate: [...PURE, "store", "verify"],
  cli: ["std", "merkle", "note", "record", "gen", "verify", "replicate", "store"],
  main: ["cli", "api", "verify", "replicate", ...SERVER],
};

const roomOf = (file: string): string =>
  file.startsWith("gen/") ? "gen" : (file.split("/")[1] ?? "").replace(/\.ts$/, "");
const files = globSync("src/**/*.ts").toSorted();

/** Relative imports of a file, type-only ones included, as paths from the root. */
function importsOf(file: string): string[] {
  const text = readFileSync(file, "utf8");
  const { module, errors } = parseSync(file, text);
  const [error] = errors;
  if (error !== undefined) throw new Error(`${file}: ${error.message}`);
  const requests = [
    ...module.staticImports.map((i) => i.moduleRequest.value),
    ...module.staticExports.flatMap((e) => e.entries.map((x) => x.moduleRequest?.value)),
    ...module.dynamicImports.map((d) => text.slice(d.moduleRequest.start + 1, d.moduleRequest.end - 1)),
    // A worker is imported by its address.
    ...[...text.matchAll(/new URL\("(\.[^"]+\.ts)", import\.meta\.url\)/g)].map((m) => m[1]),
  ];
  return requests.filter((r) => r?.startsWith(".")).map((r) => normalize(join(dirname(file), r ?? "")));
}

const graph = new Map(files.map((f) => [f, importsOf(f)]));

it("reads the whole of src", () => {
  expect(graph.size).toBeGreaterThan(60);
  expect([...graph.keys()].map(roomOf).filter((r) => !(r in ROOMS))).toEqual([]);
});

it("imports only what a room may", () => {
  const forbidden = [...graph].flatMap(([file, targets]) =>
    targets
      .filter((t) => roomOf(t) !== roomOf(file) && !ROOMS[roomOf(file)]?.includes(roomOf(t)))
      .map((t) => `${file} -> ${t}`),
  );
  expect(forbidden).toEqual([]);
});

it("has no cycle", () => {
  const done = new Set<string>();
  const walk = (file: string, path: readonly string[]): void => {
    if (done.has(file)) return;
    expect(path, `cycle: ${[...path, file].join(" -> ")}`).not.toContain(file);
    for (const target of graph.get(file) ?? []) walk(target, [...path, file]);
    done.add(file);
  };
  for (const file of files) walk(file, []);
});

it("has no file that nothing imports", () => {
  const imported = new Set([...graph.values()].flat());
  expect(files.filter((f) => f !== "src/main.ts" && !imported.has(f))).toEqual([]);
});
