/** A ledger read from its commits alone, without any code of the server: what tests compare acknowledgements with. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { leafHash } from "../../src/merkle/hash.ts";
import { HashStore, inclusionProof, verifyInclusion } from "../../src/merkle/proofs.ts";
import { openCheckpoint } from "../../src/note/checkpoint.ts";
import { parseTrustPolicy, type TrustPolicy } from "../../src/note/trust-policy.ts";
import { CommitChain, type ValidCommit, type ValidItem } from "../../src/record/chain.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { equalBytes, parseHex, utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";

export interface LogCopy {
  readonly commits: readonly ValidCommit[];
  readonly items: readonly ValidItem[];
  readonly hashes: HashStore;
  /** Indexes of each record; one, unless something is wrong. */
  readonly indexes: ReadonlyMap<string, readonly number[]>;
  readonly chain: CommitChain;
}

export async function readObject(path: string): Promise<Uint8Array | undefined> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Gives the bytes of a key of the ledger bucket. */
export type ReadKey = (key: string) => Promise<Uint8Array | undefined>;

/** Checks every commit of a home's ledger bucket, or of any other; throws the Violation of the first that is wrong. */
export async function readLog(from: string | ReadKey): Promise<LogCopy> {
  const read: ReadKey = typeof from === "string" ? (key) => readObject(join(from, "ledger", key)) : from;
  let chain = CommitChain.genesis();
  const commits: ValidCommit[] = [];
  const items: ValidItem[] = [];
  const hashes = new HashStore();
  const indexes = new Map<string, number[]>();
  for (let n = 0; ; n++) {
    const bytes = await read(commitKey(n));
    if (bytes === undefined) return { chain, commits, hashes, indexes, items };
    const commit = chain.check(bytes, nativeVerifier);
    chain = chain.advance(commit);
    commits.push(commit);
    for (const item of commit.items) {
      items.push(item);
      hashes.append(item.leaf);
      const id = item.entry.record;
      indexes.set(id, [...(indexes.get(id) ?? []), item.index]);
    }
  }
}

export const readPolicy = async (dir: string): Promise<TrustPolicy> =>
  parseTrustPolicy(await readFile(join(dir, "trust", "policy.txt"), "utf8"));

/** What an acknowledgement says, as the API gives it. */
export interface Acknowledgement {
  readonly record: string;
  readonly logIndex: number;
  readonly treeSize: number;
  readonly entry: string;
  readonly leafHash: string;
  readonly inclusionProof: readonly string[];
  readonly checkpoint: string;
}

/** Why an acknowledgement does not hold against a copy of the log and its final checkpoint; undefined when it does. */
export function disproof(
  copy: LogCopy,
  policy: TrustPolicy,
  final: Uint8Array,
  receipt: Acknowledgement,
): string | undefined {
  const keys = policy.logs.map((l) => l.key);
  const own = openCheckpoint(utf8(receipt.checkpoint), keys, nativeVerifier).checkpoint;
  const last = openCheckpoint(final, keys, nativeVerifier).checkpoint;
  const { logIndex: index, record } = receipt;
  const leaf = leafHash(utf8(receipt.entry));
  const proof = receipt.inclusionProof.map((h) => parseHex(h) ?? new Uint8Array());
  if (own.size !== receipt.treeSize) return "the receipt's checkpoint has another size";
  if (!verifyInclusion(index, own.size, leaf, proof, own.root)) return "the receipt does not prove itself";
  if (!equalBytes(copy.hashes.root(own.size), own.root)) return "the log does not extend the receipt's checkpoint";
  if (index >= last.size) return `the final checkpoint ends at ${last.size}, before entry ${index}`;
  const later = inclusionProof(index, last.size, copy.hashes.read);
  if (!verifyInclusion(index, last.size, leaf, later, last.root)) return "the final checkpoint does not hold the entry";
  const found = copy.indexes.get(record) ?? [];
  if (found.length !== 1 || found[0] !== index)
    return `the record is at ${found.join(", ") || "no index"}, not ${index}`;
  return copy.items[index]?.entry.record === (record as RecordId) ? undefined : "the entry is another record's";
}
