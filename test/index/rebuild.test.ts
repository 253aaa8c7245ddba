/** A rebuild gives what applying gave, and a crash leaves a whole index. */
import { fork } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { VIEWS } from "../../src/fold/view.ts";
import type { Index } from "../../src/index/index.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { rebuild } from "../../src/index/rebuild.ts";
import { type WrittenCommit, writeLog } from "../fold/synthetic-log.ts";
import type { ApplyOrder } from "./apply-child.ts";

const root = mkdtempSync(join(tmpdir(), "datapilot-rebuild-"));
afterAll(() => rmSync(root, { force: true, recursive: true }));

async function* bytesOf(commits: readonly WrittenCommit[]): AsyncIterable<Uint8Array> {
  for (const commit of commits) yield commit.bytes;
}

/** All rows of all views. */
function dump(index: Index, size?: number): Record<string, unknown> {
  const reader = index.reader(size as never);
  return Object.fromEntries(VIEWS.map((view) => [view, [...reader.scan(view, "")]]));
}

it("rebuilds the same state and the same answers", async () => {
  const log = writeLog(3_000, () => 50, 11);
  await using live = await openLmdbIndex({ path: join(root, "live") });
  for (const commit of log.commits)
    live.apply([{ hash: commit.hash, header: commit.header, items: commit.items, n: commit.n }]);
  await using rebuilt = await openLmdbIndex({ path: join(root, "rebuilt") });
  const sizes: number[] = [];
  await rebuild(rebuilt, bytesOf(log.commits), log.chain.origin, ({ size }) => sizes.push(size));
  expect(rebuilt.watermark).toEqual(live.watermark);
  expect(sizes.at(-1)).toBe(live.watermark.size);
  expect(dump(rebuilt)).toEqual(dump(live));
  expect(dump(rebuilt, 1_234)).toEqual(dump(live, 1_234));
  for (const i of [0, 1, 17, 2_999]) {
    expect(rebuilt.reader().entry(i)).toEqual(live.reader().entry(i));
    expect(rebuilt.reader().in(i)).toEqual(live.reader().in(i));
    expect(Buffer.from(rebuilt.reader().bytes(i) ?? [])).toEqual(Buffer.from(live.reader().bytes(i) ?? []));
  }
});

it("stops at a commit that is not valid, and says why", async () => {
  const log = writeLog(200, () => 50, 12);
  const bad = log.commits.map((commit, i) =>
    i === 2
      ? { ...commit, bytes: Uint8Array.from(commit.bytes, (b, k) => (k === commit.bytes.length - 10 ? b ^ 1 : b)) }
      : commit,
  );
  await using index = await openLmdbIndex({ path: join(root, "bad") });
  await expect(rebuild(index, bytesOf(bad))).rejects.toMatchObject({ code: "commit.body" });
  await expect(rebuild(index, bytesOf(log.commits), "another/00000000")).rejects.toMatchObject({
    code: "commit.origin",
  });
});

it("reopens at a whole watermark after a kill, and goes on from there", async () => {
  const log = writeLog(6_000, () => 20, 13);
  const folder = join(root, "killed");
  const files = join(root, "commits.json");
  writeFileSync(files, JSON.stringify(log.commits.map((commit) => Buffer.from(commit.bytes).toString("base64"))));
  let size = 0;
  for (let round = 0; round < 5 && size < log.chain.size; round++) {
    const child = fork(new URL("./apply-child.ts", import.meta.url), [], { stdio: "inherit" });
    const order: ApplyOrder = { commits: files, folder };
    child.send(order);
    await new Promise<void>((resolve) => {
      child.on("message", (applied: number) => {
        // At an arbitrary place in the next writes.
        if (applied >= 300 * (round + 1)) setTimeout(() => child.kill("SIGKILL"), round * 3);
      });
      child.on("exit", () => resolve());
    });
    await using index = await openLmdbIndex({ path: folder });
    const { watermark } = index;
    expect(watermark.size).toBeGreaterThanOrEqual(size);
    size = watermark.size;
    await using fresh = await openLmdbIndex({ path: join(root, `fresh-${round}`) });
    fresh.apply(log.commits.slice(0, watermark.n));
    expect(watermark.state).toBe(fresh.watermark.state);
    expect(watermark.root).toBe(fresh.watermark.root);
    expect(dump(index)).toEqual(dump(fresh));
  }
  expect(size).toBeGreaterThan(0);
  await using index = await openLmdbIndex({ path: folder });
  index.apply(log.commits.slice(index.watermark.n));
  expect(index.watermark.root).toBe(log.commits.at(-1)?.header.root);
}, 120_000);
