/** Fails when the committed generated code is not what the protos generate. */
import { execFileSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const scratch = mkdtempSync(join(tmpdir(), "datapilot-gen-"));
try {
  execFileSync("buf", ["generate", "--output", scratch], { stdio: "inherit" });
  const files = (root: string): string[] => globSync("gen/**/*.ts", { cwd: root }).toSorted();
  const fresh = files(scratch);
  const committed = files(".");
  const drifted = [...new Set([...fresh, ...committed])].filter(
    (f) => !fresh.includes(f) || !committed.includes(f) || !readFileSync(join(scratch, f)).equals(readFileSync(f)),
  );
  if (drifted.length > 0) {
    process.stderr.write(`Generated code is out of date; run "make gen":\n${drifted.map((f) => `  ${f}\n`).join("")}`);
    process.exitCode = 1;
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
