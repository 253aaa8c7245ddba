/** The thread of a rebuild that checks commits in order and takes from them what the fold reads. Runs nothing else. */
import { createPublicKey, hash, type KeyObject, verify } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import { factsOf } from "../fold/fold.ts";
import { setSha256Text } from "../merkle/hash.ts";
import { isStrictEd25519, pureVerifier, type SignatureVerifier } from "../note/signatures.ts";
import { CommitChain } from "../record/chain.ts";
import type { CommitHeader } from "../record/commit.ts";
import { assertDefined } from "../std/assert.ts";
import type { Digest } from "../std/brand.ts";
import { Violation } from "../std/violation.ts";

export interface CheckedCommit {
  readonly bytes: Uint8Array;
  readonly hash: Digest;
  readonly header: CommitHeader;
  /** Leaf hashes, side by side. */
  readonly leaves: Uint8Array;
  /** Lengths of each entry and its record, 0 for one that is not here. */
  readonly lengths: Uint32Array;
  /** JSON of the list of each record's `Facts`, null for one that is not here. */
  readonly facts: string;
}

export type CheckReply = CheckedCommit | { readonly code: string; readonly detail: string };

const ED25519_SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const keys = new Map<string, KeyObject>();

function keyOf(raw: Uint8Array): KeyObject {
  const name = Buffer.from(raw).toString("hex");
  let key = keys.get(name);
  if (key === undefined) {
    key = createPublicKey({ format: "der", key: Buffer.concat([ED25519_SPKI_PREFIX, raw]), type: "spki" });
    keys.set(name, key);
  }
  return key;
}

/** The platform's equation behind the strict rules; what it cannot read is refused by the pure one. */
const verifier: SignatureVerifier = {
  ed25519(publicKey, message, signature) {
    if (!isStrictEd25519(publicKey, signature)) return false;
    try {
      return verify(null, message, keyOf(publicKey), signature);
    } catch {
      return false;
    }
  },
  mlDsa44: (publicKey, message, signature) => pureVerifier.mlDsa44(publicKey, message, signature),
};

setSha256Text((data, form) => hash("sha256", data, form));
const port = assertDefined(parentPort, "this is a thread");
const { origin } = workerData as { readonly origin: string | undefined };
let chain = CommitChain.genesis();

function check(bytes: Uint8Array): CheckedCommit {
  const commit = chain.check(bytes, verifier);
  chain = chain.advance(commit);
  if (origin !== undefined && chain.origin !== origin)
    throw new Violation(
      "commit.origin",
      `the log is ${JSON.stringify(chain.origin)}, expected ${JSON.stringify(origin)}`,
    );
  const { items, header, hash } = commit;
  const leaves = new Uint8Array(32 * items.length);
  const lengths = new Uint32Array(2 * items.length);
  for (const [i, item] of items.entries()) {
    leaves.set(item.leaf, 32 * i);
    lengths[2 * i] = item.entryBytes.length;
    lengths[2 * i + 1] = item.recordBytes?.length ?? 0;
  }
  const facts = JSON.stringify(items.map((item) => (item.record === null ? null : factsOf(item.record))));
  return { bytes, facts, hash, header, leaves, lengths };
}

port.on("message", (bytes: Uint8Array<ArrayBuffer>) => {
  try {
    const checked = check(bytes);
    port.postMessage(checked satisfies CheckReply, [
      bytes.buffer,
      checked.leaves.buffer as ArrayBuffer,
      checked.lengths.buffer as ArrayBuffer,
    ]);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    port.postMessage({ code: error.code, detail: error.message } satisfies CheckReply);
  }
});
