/** Applies commits one by one from an index's watermark on, telling how far it is, until it is killed. */
import { readFileSync } from "node:fs";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { CommitChain } from "../../src/record/chain.ts";

export interface ApplyOrder {
  readonly folder: string;
  /** JSON list of commits in base64. */
  readonly commits: string;
}

async function applyAll({ folder, commits }: ApplyOrder): Promise<void> {
  const index = await openLmdbIndex({ path: folder });
  const from = index.watermark.n;
  let chain = CommitChain.genesis();
  for (const text of JSON.parse(readFileSync(commits, "utf8")) as string[]) {
    const bytes = Uint8Array.from(Buffer.from(text, "base64"));
    const commit = chain.check(bytes, { ed25519: () => true, mlDsa44: () => true });
    chain = chain.advance(commit);
    if (commit.n < from) continue;
    index.apply([{ ...commit, bytes }]);
    process.send?.(index.watermark.size);
    if (commit.n % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await index.flush();
  process.disconnect();
}

process.on("message", (order: ApplyOrder) => void applyAll(order));
