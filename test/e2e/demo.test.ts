/** The main job as the README promises it: `datapilot demo` on real processes, and what it leaves is what others script against. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { datapilot, startServer, temporaryFolder } from "./server.ts";

const RECORDS = fileURLToPath(new URL("../../docs/formats/records.md", import.meta.url));

/** By kind, what each link may name; undefined for anything. Read from the table of the format's document. */
function linksTable(): ReadonlyMap<string, ReadonlyMap<string, readonly string[] | undefined>> {
  const rows = [...readFileSync(RECORDS, "utf8").matchAll(/^\| `([a-z.]+)` \| `[A-Za-z]+` \| (.+) \|$/gm)];
  const kinds = new Set(rows.map((r) => r[1] ?? ""));
  const named = (text: string): string[] => text.split(/[ ,]+/).filter((word) => kinds.has(word));
  return new Map(
    rows.map(([, kind = "", cell = ""]) => {
      const links = cell.split(";").flatMap((part): [string, readonly string[] | undefined][] => {
        const [rels = "", target] = part.split("→");
        return [...rels.matchAll(/`([a-z_]+)`/g)].map(([, rel = ""]) => {
          const targets = named(target ?? rel.replace("_", "."));
          return [rel, targets.length === 0 ? undefined : targets];
        });
      });
      return [kind, new Map(links)];
    }),
  );
}

interface Stored {
  readonly kind: string;
  readonly links: readonly { readonly rel: string; readonly to: string }[];
}

/** The records of a home, by their ids. */
function recordsIn(dir: string): ReadonlyMap<string, Stored> {
  const root = join(dir, "ledger", "records", "sha256");
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((f) => f.isFile());
  return new Map(
    files.map((f) => [`sha256:${f.name}`, JSON.parse(readFileSync(join(f.parentPath, f.name), "utf8")) as Stored]),
  );
}

it("tells the story, finds three lies, and leaves a ledger that verifies", async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "demo");
  const told = await datapilot(["demo", "--dir", dir]);
  expect(told.code, told.stdout + told.stderr).toBe(0);
  for (const part of [
    "REFUSED",
    "DENIED APPROVER_IS_AUTHOR",
    "1 flip",
    "record.digest",
    "record.missing",
    "consistency.mismatch",
  ]) {
    expect(told.stdout).toContain(part);
  }
  expect(told.stdout).toContain("accuracy 0.977, recall_adelie 0.976, recall_chinstrap 0.944, recall_gentoo 1.000");

  const trust = ["log.vkey", "log-pq.vkey", "commit.vkey", "policy.txt", "genesis", "kept-checkpoint"];
  for (const left of [
    "ledger",
    "head",
    "personal",
    "index",
    "keys",
    "demo.dpevidence",
    ...trust.map((t) => `trust/${t}`),
  ]) {
    expect(existsSync(join(dir, left)), left).toBe(true);
  }
  // What it suggests at the end is what a reader types next, as it stands there.
  const suggested = [...told.stdout.matchAll(/^ {2}datapilot (.+)$/gm)].map((m) => (m[1] ?? "").split(" "));
  expect(suggested.map((args) => args.slice(0, 2).join(" "))).toEqual([
    "verify pack",
    "verify bucket",
    "verify receipt",
    "server --dir",
  ]);
  for (const args of suggested.slice(0, -1)) {
    const checked = await datapilot([...args, "--json"]);
    expect(checked.code, `${args.join(" ")}: ${checked.stdout}${checked.stderr}`).toBe(0);
    expect(JSON.parse(checked.stdout)).toMatchObject({ verdict: args[1] === "bucket" ? "COMPLETE" : "pass" });
  }
  await using server = await startServer(suggested.at(-1)?.[2] ?? "");
  expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
  expect(await server.stop()).toBe(0);
  expect(readFileSync(join(dir, "trust", "genesis"), "utf8")).toMatch(/^sha256:[0-9a-f]{64}\n$/);

  const table = linksTable();
  const records = recordsIn(dir);
  expect(new Set([...records.values()].map((r) => r.kind)).size).toBeGreaterThan(20);
  for (const { kind, links } of records.values()) {
    for (const { rel, to } of links) {
      expect([...(table.get(kind)?.keys() ?? [])], `links of a ${kind}`).toContain(rel);
      const targets = table.get(kind)?.get(rel);
      const target = records.get(to)?.kind ?? "";
      if (targets !== undefined) expect(targets, `${rel} of a ${kind}`).toContain(target);
    }
    // What was decided names its decision.
    if (links.some((l) => l.rel === "via")) expect(links.map((l) => l.rel)).toContain("decision");
  }

  const again = await datapilot(["demo", "--dir", dir]);
  expect(again.code).toBe(64);
  expect(again.stderr).toContain("is not empty");
});
