/**
 * The chain at the index's watermark, without reading every commit again: the leaves come from the index, and what proves them is
 * the last commit of the bucket, whose signed header names the root that they must lead to. So neither root nor project heads are
 * ever taken from the index's word.
 */
import type { Index } from "../index/index.ts";
import { Frontier } from "../merkle/frontier.ts";
import { leafHash, sha256Hex } from "../merkle/hash.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { CommitChain } from "../record/chain.ts";
import { type CommitHeader, type ParsedCommit, parseCommit } from "../record/commit.ts";
import { KeyHistory } from "../record/key-history.ts";
import { assertDefined } from "../std/assert.ts";
import { type Digest, digestOf, type RecordId } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";

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
    const chain = chainFrom(index, header, commitHash, parsed.origin);
    return formatHex(chain.root()) === header.root && signedBy(chain, parsed, verifier) ? chain : undefined;
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}

/** One loop over all entries, with no more made of each than its hash: a large ledger has many. */
function chainFrom(index: Index, header: CommitHeader, commitHash: Digest, origin: string): CommitChain {
  using reader = index.reader();
  const frontier = Frontier.empty();
  const heads = new Map<RecordId, { count: number; last: Uint8Array }>();
  let keys = KeyHistory.empty(origin);
  const ledgers: RecordId[] = [];
  for (let i = 0; i < reader.size; i++) {
    const { entryBytes, kind, project, record, seq } = assertDefined(
      reader.entry(i),
      `entry ${i} is below the watermark`,
    );
    const leaf = leafHash(entryBytes);
    frontier.append(leaf);
    const head = heads.get(project);
    if (head === undefined) heads.set(project, { count: seq + 1, last: leaf });
    else {
      head.count = seq + 1;
      head.last = leaf;
    }
    if (kind !== "ledger") continue;
    keys = keys.apply(i, assertDefined(reader.record(record), "a `ledger` record is here").record.body);
    ledgers.push(record);
  }
  return CommitChain.at({
    epoch: header.epoch,
    frontier,
    heads: new Map(
      [...heads].map(([id, { count, last }]) => [digestOf(id), { count, last: formatHex(last) as Digest }]),
    ),
    keys,
    ledger: {
      genesis: assertDefined(ledgers[0], "a log begins with its ledger"),
      newest: assertDefined(ledgers.at(-1), "a log begins with its ledger"),
    },
    n: header.n + 1,
    // The two projects of the genesis come first, as they did in the log.
    own: [...heads.keys()].slice(0, 2).map(digestOf),
    prevHash: commitHash,
    time: header.time,
  });
}
