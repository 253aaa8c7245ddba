/** The main job as the README promises it: `datapilot demo` on real processes, and what it leaves is what others script against. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { datapilot, temporaryFolder } from "./server.ts";

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
  const policy = ["--policy", join(dir, "trust", "policy.txt"), "--json"];
  const genesis = ["--genesis", join(dir, "trust", "genesis")];
  const bucket = await datapilot([
    "verify",
    "bucket",
    dir,
    ...policy,
    ...genesis,
    "--kept",
    join(dir, "trust", "kept-checkpoint"),
  ]);
  expect(bucket.code, bucket.stdout).toBe(0);
  expect(JSON.parse(bucket.stdout)).toMatchObject({ verdict: "COMPLETE" });
  const pack = await datapilot(["verify", "pack", join(dir, "demo.dpevidence"), ...policy, ...genesis]);
  expect(pack.code, pack.stdout).toBe(0);
  expect(JSON.parse(pack.stdout)).toMatchObject({ verdict: "pass" });
  // The receipt of the export itself is a file of the ecosystem's format.
  const receipt = await datapilot(["verify", "receipt", join(dir, "demo.dpevidence.tlog-proof"), ...policy]);
  expect(receipt.code, receipt.stdout + receipt.stderr).toBe(0);
  expect(readFileSync(join(dir, "trust", "genesis"), "utf8")).toMatch(/^sha256:[0-9a-f]{64}\n$/);

  const again = await datapilot(["demo", "--dir", dir]);
  expect(again.code).toBe(64);
  expect(again.stderr).toContain("is not empty");
});
