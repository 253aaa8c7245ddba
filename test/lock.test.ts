/** Holds the lock file to what every supported npm installs without scripts. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

interface Locked {
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}
const read = (file: string): Record<string, unknown> =>
  JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
const packages = read("package-lock.json")["packages"] as Record<string, Locked>;

it("names no download address", () => {
  expect(Object.entries(packages).filter(([, p]) => p.resolved !== undefined)).toEqual([]);
});

it("holds every optional dependency that a package names", () => {
  const has = (owner: string, name: string): boolean => {
    for (let at = owner; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
      if (`${at === "" ? "" : `${at}/`}node_modules/${name}` in packages) return true;
      if (at === "") return false;
      if (!at.includes("/node_modules/")) return `node_modules/${name}` in packages;
    }
  };
  const lacking = Object.entries(packages).flatMap(([owner, p]) =>
    Object.keys(p.optionalDependencies ?? {})
      .filter((name) => !has(owner, name))
      .map((name) => `${owner}: ${name}`),
  );
  expect(lacking).toEqual([]);
});

it("pins exact versions", () => {
  const manifest = read("package.json");
  const all = ["dependencies", "devDependencies", "optionalDependencies"].flatMap((k) =>
    Object.entries((manifest[k] ?? {}) as Record<string, string>),
  );
  expect(all.length).toBeGreaterThan(20);
  expect(all.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
});
