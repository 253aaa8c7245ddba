/**
 * The three lies of the demonstration, told on copies: a changed byte, a hidden record, and a history that is rewritten with every
 * key of the ledger, so that nothing in it contradicts itself.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { sha256Hex } from "../../merkle/hash.ts";
import { HashStore } from "../../merkle/proofs.ts";
import { encodeBundle, entriesPath, newTiles, TILE_WIDTH, tilePath } from "../../merkle/tiles.ts";
import { formatCheckpoint, parseCheckpoint } from "../../note/checkpoint.ts";
import { keyId } from "../../note/keys.ts";
import { formatNote, parseNote, signatureLine } from "../../note/note.ts";
import type { NoteSigner } from "../../note/signatures.ts";
import { canonicalBytes } from "../../record/canonical.ts";
import { CommitChain, type NextRecord } from "../../record/chain.ts";
import { formatCommit, parseCommit } from "../../record/commit.ts";
import { headsRoot } from "../../record/heads.ts";
import { type LedgerRecord, parseRecord, recordId, sortLinks } from "../../record/record.ts";
import { digestOf, idOf } from "../../std/brand.ts";
import { concat, formatHex } from "../../std/bytes.ts";
import { checkpointKey, commitKey, HEAD_CHECKPOINT, recordKey } from "../../store/keys.ts";

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((e) => e.isFile())
    .map((e) => join(e.parentPath, e.name))
    .toSorted();
}

/** Changes one byte of one record. */
export function flipByte(home: string): void {
  const files = filesBelow(join(home, "ledger", "records"));
  const file = files[Math.floor(files.length / 2)] ?? "";
  const bytes = readFileSync(file);
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  chmodSync(file, 0o644);
  writeFileSync(file, bytes);
}

/** Takes an approval away, as a delete marker does in a bucket. */
export function hideRecord(home: string): void {
  const file = filesBelow(join(home, "ledger", "records")).find((f) =>
    readFileSync(f, "utf8").includes('"kind":"approval",'),
  );
  if (file !== undefined) unlinkSync(file);
}

function signerOf(name: string, file: string): NoteSigner {
  const key: KeyObject = createPrivateKey(readFileSync(file));
  const publicKey = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
  return {
    algorithm: 1,
    id: keyId(name, 1, publicKey),
    name,
    sign: (message) => new Uint8Array(sign(null, message, key)),
  };
}

function put(root: string, bucket: string, key: string, body: Uint8Array): void {
  const path = join(root, bucket, key);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, body);
}

/** Copies a home's buckets with another statement in its first approval, everything after it made to fit, and signed. */
export async function rewriteHistory(home: string, out: string): Promise<void> {
  const ledger = (key: string): string => join(home, "ledger", key);
  const genesis = parseCommit(readFileSync(ledger(commitKey(0))));
  const commitSigner = signerOf(`${genesis.origin}/commit`, join(home, "keys", "commit.pem"));
  const logSigner = signerOf(genesis.origin, join(home, "keys", "log.pem"));
  const renamed = new Map<string, string>();
  const tree = new HashStore();
  const entries: Uint8Array[] = [];
  let chain = CommitChain.genesis();
  let changed = false;
  for (let n = 0; existsSync(ledger(commitKey(n))); n++) {
    const old = parseCommit(readFileSync(ledger(commitKey(n))));
    const records = old.items.map((item): NextRecord => {
      const was = item.record ?? new Uint8Array();
      const text = new TextDecoder().decode(was).replaceAll(/sha256:[0-9a-f]{64}/g, (id) => renamed.get(id) ?? id);
      let record = JSON.parse(text) as LedgerRecord;
      if (record.kind === "approval" && !changed) {
        changed = true;
        record = { ...record, body: { ...record.body, statement: "I never looked at it." } };
      }
      if (record.kind === "ledger.seal")
        record = { ...record, body: { ...record.body, heads: formatHex(headsRoot(chain.heads)) } };
      const bytes = canonicalBytes({ ...record, links: sortLinks(record.links) } as never);
      const id = recordId(bytes);
      renamed.set(recordId(was), id);
      put(out, "ledger", recordKey(digestOf(id)), bytes);
      return { bytes, id, record: parseRecord(bytes) };
    });
    const next = chain.next(records);
    const { count, epoch, first, time, writer } = old.header;
    const bytes = formatCommit(
      genesis.origin,
      { count, epoch, first, n, prev: idOf(chain.prevHash), root: next.root, time, voids: [], writer },
      next.items.map((i) => ({ entry: i.entryBytes, record: i.recordBytes })),
      commitSigner,
    );
    put(out, "ledger", commitKey(n), bytes);
    for (const item of next.items) {
      tree.append(item.leaf);
      entries.push(item.entryBytes);
    }
    chain = chain.advance(chain.check(bytes));
  }
  const signed = (size: number): Uint8Array => {
    const body = formatCheckpoint({ origin: genesis.origin, root: tree.root(size), size });
    return formatNote(body, [
      signatureLine(logSigner.name, logSigner.id, logSigner.sign(new TextEncoder().encode(body))),
    ]);
  };
  for (const name of readdirSync(ledger("checkpoints"))) {
    const note = signed(Number(name.slice(0, 20)));
    put(out, "ledger", checkpointKey(Number(name.slice(0, 20)), sha256Hex(note).slice(0, 16)), note);
  }
  const published = parseCheckpoint(parseNote(readFileSync(join(home, "head", HEAD_CHECKPOINT))).text).size;
  put(out, "head", HEAD_CHECKPOINT, signed(published));
  for (const { level, n, width } of newTiles(0, published)) {
    if (width !== TILE_WIDTH) continue;
    put(
      out,
      "ledger",
      tilePath(level, n),
      concat(...Array.from({ length: TILE_WIDTH }, (_, i) => tree.read(8 * level, n * TILE_WIDTH + i))),
    );
    if (level === 0)
      put(out, "ledger", entriesPath(n), encodeBundle(entries.slice(n * TILE_WIDTH, (n + 1) * TILE_WIDTH)));
  }
}
