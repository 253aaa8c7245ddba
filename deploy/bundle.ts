/**
 * Bundles the program into `dist/datapilot.js` and each worker beside it.
 *
 * `lmdb` stays outside: it loads a native binding by path. The first line of the program runs it on the Node of
 * `node_modules`, whatever Node started it.
 */
import { chmodSync, existsSync, globSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { basename } from "node:path";
import { type BuildOptions, build } from "esbuild";

const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
const workers = globSync("src/**/*-worker.ts");
const shared = {
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  // What may not be bundled, and what may be absent.
  external: ["lmdb", "vega-datasets", "ml-random-forest"],
  define: { __DATAPILOT_VERSION__: JSON.stringify(version) },
  logLevel: "warning",
  sourcemap: false,
  legalComments: "none",
} satisfies BuildOptions;
const requireBanner = `import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);`;

await build({
  ...shared,
  entryPoints: ["src/main.ts", ...workers],
  entryNames: "[name]",
  outdir: "dist",
  splitting: true,
  chunkNames: "chunks/[name]-[hash]",
  banner: { js: requireBanner },
});
// The entry that npm links: it must run under any Node, so it only starts the right one.
await build({
  ...shared,
  entryPoints: ["deploy/launcher.ts"],
  outfile: "dist/datapilot.js",
  banner: { js: "#!/usr/bin/env node" },
  target: "node20",
});
chmodSync("dist/datapilot.js", 0o755);
// What installing the package elsewhere does: `npx --no-install datapilot` finds it here.
rmSync("node_modules/.bin/datapilot", { force: true });
symlinkSync("../../dist/datapilot.js", "node_modules/.bin/datapilot");
for (const file of ["dist/main.js", ...workers.map((w) => `dist/${basename(w, ".ts")}.js`)]) {
  if (!existsSync(file)) throw new Error(`${file} was not built`);
}
