/** A copy in folders is read alike, in this thread and in others. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { openFileCopy } from "../../src/store/fs/file-copy.ts";
import { commitKey } from "../../src/store/keys.ts";

const root = mkdtempSync(join(tmpdir(), "datapilot-copy-"));
afterAll(() => rmSync(root, { force: true, recursive: true }));
const COMMITS = 50;
mkdirSync(join(root, "ledger/commits/0000000000000000"), { recursive: true });
for (let n = 0; n < COMMITS; n++) writeFileSync(join(root, "ledger", commitKey(n)), `commit ${n}`);
mkdirSync(join(root, "ledger", commitKey(COMMITS)));

it.each([
  ["here", Number.POSITIVE_INFINITY],
  ["elsewhere", -1],
])("%s", async (_, hereMs) => {
  const copy = openFileCopy(root, hereMs);
  const found = await Promise.all(Array.from({ length: COMMITS }, (_, n) => copy.get("ledger", commitKey(n))));
  expect(found.map((f) => Buffer.from(f?.body ?? []).toString())).toEqual(
    Array.from({ length: COMMITS }, (_, n) => `commit ${n}`),
  );
  expect(await copy.get("ledger", commitKey(COMMITS + 1))).toBeNull();
  expect(await copy.get("ledger", "../outside")).toBeNull();
  await expect(copy.get("ledger", commitKey(COMMITS))).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
});
