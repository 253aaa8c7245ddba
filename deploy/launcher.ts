/** Starts the program on Node 24: the one that runs, when it is new enough, else the one of `node_modules`. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const main = join(here, "main.js");

if (process.versions.node.startsWith("24.")) {
  await import(main);
} else {
  const node = join(here, "..", "node_modules", ".bin", "node");
  if (!existsSync(node)) {
    process.stderr.write(
      `datapilot needs Node 24; this is ${process.versions.node}. Run "make build", or put Node 24 first on PATH.\n`,
    );
    process.exit(125);
  }
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? (signal === null ? 125 : 128);
  });
}
