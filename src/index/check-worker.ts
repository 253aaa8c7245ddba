/** The thread of a rebuild that checks commits in order and takes from them what the fold reads. Runs nothing else. */
import { createPublicKey, hash, type KeyObject, verify } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import { factsOf } from "../fold/facts.ts";
import { setSha256Text } from "../merkle/hash.ts";
import { isStrictEd25519, pureVerifier, type SignatureVerifier } from "../note/signatures.ts";
import { CommitChain } from "../record/chain.ts";
import type { CommitHeader } from "../record/commit.ts";
import { assertDefined } from "../std/assert.ts";
import type { Digest } from "../std/brand.ts";
import { concat } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { entryRows } from "./entry-row.ts";
import type { PackedItems } from "./index.ts";

/** A commit that was checked, in parts that threads hand over at little cost. */
export interface CheckedCommit {
  readonly hash: Digest;
  readonly header: CommitHeader;
  readonly packed: Omit<PackedItems, "facts">;
  /** JSON of its `CommitFacts`. */
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
  const { hash, header, items, n, subtrees } = commit;
  const spans = new Uint32Array(2 * items.length);
  let at = bytes.length - header.bytes;
  for (const [i, { entryBytes, recordBytes }] of items.entries()) {
    spans[2 * i] = at + entryBytes.length + 1;
    spans[2 * i + 1] = at + entryBytes.length + 1 + (recordBytes?.length ?? 0);
    at = (spans[2 * i + 1] ?? 0) + 1;
  }
  const nodes = concat(...subtrees);
  const packed = { bytes, count: items.length, nodes, rows: entryRows(items, n), spans };
  return { facts: JSON.stringify(factsOf(items)), hash, header, packed };
}

port.on("message", (bytes: Uint8Array<ArrayBuffer>) => {
  try {
    const checked = check(bytes);
    const { nodes, rows, spans } = checked.packed;
    const handed = [bytes, nodes, rows, spans].map((part) => part.buffer as ArrayBuffer);
    port.postMessage(checked satisfies CheckReply, handed);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    port.postMessage({ code: error.code, detail: error.message } satisfies CheckReply);
  }
});
