/**
 * The chain at the index's watermark, without reading every commit again: the leaves come from the index, and what proves them is
 * the last commit of the bucket, whose signed header names the root that they must lead to. So neither root nor project heads are
 * ever taken from the index's word.
 */
import type { Index, IndexReader } from "../index/index.ts";
import { leafHash, sha256Hex } from "../merkle/hash.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { CommitChain, type ValidItem } from "../record/chain.ts";
import { type CommitHeader, type ParsedCommit, parseCommit } from "../record/commit.ts";
import { parseEntry } from "../record/entry.ts";
import { assertDefined } from "../std/assert.ts";
import type { LogIndex } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";

const CHUNK = 16_384;

function itemAt(reader: IndexReader, i: number): ValidItem {
  const found = assertDefined(reader.entry(i), `entry ${i} is below the watermark`);
  const record = found.kind === "ledger" || i < 2 ? (reader.record(found.record)?.record ?? null) : null;
  return {
    entry: parseEntry(found.entryBytes),
    entryBytes: found.entryBytes,
    index: i as LogIndex,
    leaf: leafHash(found.entryBytes),
    record,
    recordBytes: null,
  };
}

function signedBy(chain: CommitChain, parsed: ParsedCommit, verifier: SignatureVerifier): boolean {
  const { signature, text } = parsed;
  return chain.keys
    .inForce("KEY_ROLE_COMMIT", parsed.header.first)
    .some(
      (k) =>
        k.id === signature.id && k.name === signature.name && verifier.ed25519(k.publicKey, text, signature.signature),
    );
}

/** Undefined when the index does not fit the bucket's commit; then it is worth nothing. */
export function restoreChain(
  index: Index,
  lastCommit: Uint8Array,
  verifier: SignatureVerifier,
): CommitChain | undefined {
  const { commitHash, n, root, size } = index.watermark;
  if (sha256Hex(lastCommit) !== commitHash) return undefined;
  try {
    const parsed = parseCommit(lastCommit);
    const header: CommitHeader = parsed.header;
    if (header.n !== n - 1 || header.first + header.count !== size || header.root !== root) return undefined;
    using reader = index.reader();
    let chain = CommitChain.genesis();
    for (let from = 0; from < size; from += CHUNK) {
      const items = Array.from({ length: Math.min(CHUNK, size - from) }, (_, k) => itemAt(reader, from + k));
      chain = chain.advance({ hash: commitHash, header, items, n: header.n });
    }
    return formatHex(chain.root()) === header.root && signedBy(chain, parsed, verifier) ? chain : undefined;
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}
