/**
 * The strongest liar: whoever owns the host and every key of the ledger. Changes one record and makes all that follows fit: ids,
 * links, entries, commits, seals, record objects, tiles and checkpoints, each with a valid signature. Nothing in the result
 * contradicts itself; only what somebody kept does.
 */
import { cp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { loadKeyFiles } from "../../src/log/keys/key-files.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { createSigner } from "../../src/log/signer.ts";
import { systemClock, systemRandom } from "../../src/main/home.ts";
import { sha256Hex } from "../../src/merkle/hash.ts";
import { consistencyProof, HashStore } from "../../src/merkle/proofs.ts";
import { encodeBundle, entriesPath, newTiles, TILE_WIDTH, tilePath } from "../../src/merkle/tiles.ts";
import { parseCheckpoint } from "../../src/note/checkpoint.ts";
import { parseNote } from "../../src/note/note.ts";
import { CommitChain, type NextRecord } from "../../src/record/chain.ts";
import { formatCommit } from "../../src/record/commit.ts";
import { headsRoot } from "../../src/record/heads.ts";
import { formatRecord, type LedgerRecord, parseRecord, recordId, sortLinks } from "../../src/record/record.ts";
import { digestOf, idOf } from "../../src/std/brand.ts";
import { concat, formatHex, utf8 } from "../../src/std/bytes.ts";
import { createFileStore } from "../../src/store/fs/file-store.ts";
import { checkpointKey, commitKey, HEAD_CHECKPOINT, partialTileKey, recordKey, tileKey } from "../../src/store/keys.ts";
import { readLog, readObject } from "./log-copy.ts";

const RETAIN_MS = 20 * 365 * 86_400_000;
const ID = /sha256:[0-9a-f]{64}/g;

/**
 * Writes to `out` the history of the stopped `home` in which `change` was applied to the first record that it does not pass over
 * (by answering undefined).
 */
export async function forge(
  home: string,
  out: string,
  change: (record: LedgerRecord) => LedgerRecord | undefined,
): Promise<void> {
  const copy = await readLog(home);
  const { origin } = copy.chain;
  const keys = await loadKeyFiles(join(home, "keys"), origin);
  const retainUntil = Date.now() + RETAIN_MS;
  await cp(home, out, { preserveTimestamps: true, recursive: true });
  for (const folder of ["ledger/commits", "ledger/records", "ledger/tile", "ledger/checkpoints", "head"])
    await rm(join(out, folder), { force: true, recursive: true });
  await using store = await createFileStore({
    allowAdvisoryLock: true,
    clock: systemClock,
    random: systemRandom,
    root: out,
  });
  const put = async (key: string, body: Uint8Array): Promise<void> => {
    const { outcome } = await store.create("ledger", key, body, { retainUntil });
    if (outcome !== "created") throw new Error(`assertion failed: ${key} was ${outcome}`);
  };

  const renamed = new Map<string, string>();
  const tree = new HashStore();
  const entries: Uint8Array[] = [];
  let chain = CommitChain.genesis();
  let changed = false;
  const rewritten = (was: Uint8Array): NextRecord => {
    const text = new TextDecoder().decode(was).replaceAll(ID, (id) => renamed.get(id) ?? id);
    let record = JSON.parse(text) as LedgerRecord;
    const other = changed ? undefined : change(record);
    if (other !== undefined) {
      record = other;
      changed = true;
    }
    if (record.kind === "ledger.seal")
      record = { ...record, body: { ...record.body, heads: formatHex(headsRoot(chain.heads)) } };
    const bytes = formatRecord({ ...record, links: sortLinks(record.links) });
    renamed.set(recordId(was), recordId(bytes));
    return { bytes, id: recordId(bytes), record: parseRecord(bytes) };
  };
  for (const old of copy.commits) {
    const records = old.items.map((item) => rewritten(item.recordBytes ?? new Uint8Array()));
    for (const { bytes, id } of records) await put(recordKey(digestOf(id)), bytes);
    const next = chain.next(records);
    const { count, epoch, first, n, time, voids, writer } = old.header;
    const bytes = formatCommit(
      origin,
      { count, epoch, first, n, prev: idOf(chain.prevHash), root: next.root, time, voids, writer },
      next.items.map((i) => ({ entry: i.entryBytes, record: i.recordBytes })),
      keys.commit,
    );
    await put(commitKey(n), bytes);
    for (const item of next.items) {
      tree.append(item.leaf);
      entries.push(item.entryBytes);
    }
    chain = chain.advance(chain.check(bytes, nativeVerifier));
  }
  if (!changed) throw new Error("assertion failed: some record is changed");

  const signer = createSigner({
    clock: systemClock,
    keys,
    last: undefined,
    lastSigned: { read: () => Promise.resolve([]), write: () => Promise.resolve() },
    origin,
  });
  const noteOf = async (size: number): Promise<Uint8Array> =>
    signer.complete(
      await signer.sign({ root: tree.root(size), size }, (from) => consistencyProof(from, size, tree.read)),
    );
  const sizes = (await readdir(join(home, "ledger/checkpoints"))).map((name) => Number(name.slice(0, 20)));
  for (const size of sizes.toSorted((a, b) => a - b)) {
    const note = await noteOf(size);
    await put(checkpointKey(size, sha256Hex(note).slice(0, 16)), note);
  }
  const head = (await readObject(join(home, "head", HEAD_CHECKPOINT))) ?? utf8("");
  const { size: published } = parseCheckpoint(parseNote(head).text);
  await store.swap("head", HEAD_CHECKPOINT, await noteOf(published), null);
  for (const { level, n, width } of newTiles(0, published)) {
    const hashes = concat(...Array.from({ length: width }, (_, i) => tree.read(8 * level, n * TILE_WIDTH + i)));
    const bundle = encodeBundle(entries.slice(n * TILE_WIDTH, n * TILE_WIDTH + width));
    if (width === TILE_WIDTH) {
      await put(tileKey(tilePath(level, n)), hashes);
      if (level === 0) await put(tileKey(entriesPath(n)), bundle);
    } else {
      await store.create("head", partialTileKey(tilePath(level, n, width)), hashes, {});
      if (level === 0) await store.create("head", partialTileKey(entriesPath(n, width)), bundle, {});
    }
  }
}
