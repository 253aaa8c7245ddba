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

/** Where the machine is touched: its clock, chance, disks, sockets, threads. All else is given ports (`std/ports.ts`). */
const ADAPTERS = [
  "src/api/forward.ts",
  "src/api/peer-session.ts",
  "src/api/grpc.ts",
  "src/api/listen.ts",
  "src/cli/",
  "src/index/check-worker.ts",
  "src/index/lmdb/",
  "src/index/rebuild.ts",
  "src/log/keys/",
  "src/main.ts",
  "src/main/",
  "src/store/fs/",
  "src/store/s3/",
];
/** Long questions let others have their turn of the event loop. */
const TURNS = ["src/query/backtest.ts", "src/query/lineage.ts"];

const MACHINE_MODULES =
  /^node:(child_process|cluster|dgram|dns|fs|http|http2|https|net|os|process|readline|timers|tls|worker_threads)(\/|$)/;
const MACHINE_GLOBALS =
  /\b(Date\.now|new Date\(\)|Math\.random|performance\.(now|timeOrigin)|set(Timeout|Interval)|fetch\(|process\.(argv|cwd|env|exit|hrtime|on|std)|random(Bytes|FillSync|Int|UUID)|getRandomValues)/;
const TURN = /\bsetImmediate\b/;

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

/** What a file asks of the machine: modules that are more than types, and globals outside comments. */
function machineOf(file: string): string[] {
  const text = readFileSync(file, "utf8");
  const modules = parseSync(file, text).module.staticImports.flatMap(({ entries, moduleRequest: { value } }) =>
    entries.length > 0 && entries.every((e) => e.isType) ? [] : [value],
  );
  const code = text.replaceAll(/\/\*[^]*?\*\/|\/\/.*$/gm, "");
  const [used] = MACHINE_GLOBALS.exec(code) ?? [];
  const turns = TURNS.includes(file) ? [] : (TURN.exec(code) ?? []);
  const asked = modules.filter(
    (m) => MACHINE_MODULES.test(m) && !(TURNS.includes(file) && m === "node:timers/promises"),
  );
  return [...asked, ...(used === undefined ? [] : [used]), ...turns];
}

it("asks the machine for nothing outside of adapters, which ask it for something", () => {
  const asking = files.map((file) => [file, machineOf(file)] as const).filter(([, what]) => what.length > 0);
  const isAdapter = (file: string): boolean => ADAPTERS.some((a) => file.startsWith(a));
  expect(asking.filter(([file]) => !isAdapter(file)).map(([file, what]) => `${file} uses ${what.join(", ")}`)).toEqual(
    [],
  );
  expect(ADAPTERS.filter((a) => !asking.some(([file]) => file.startsWith(a)))).toEqual([]);
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
