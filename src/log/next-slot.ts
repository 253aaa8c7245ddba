/**
 * What comes next in the bucket after a chain: a valid commit, or the end. Whoever reads slots reads them here: recovery, replicas,
 * and a writer that finds its slot taken.
 *
 * - A plain read that is not a valid commit, and at a thorough look an absent one too, is not believed: the slot's value is its
 *   oldest version with bytes (W6). Where that is another one, something was laid over a commit: `onHidden`.
 * - Junk, which no commit key that ever was in force signed, is passed over only when a valid commit behind it names exactly those
 *   bytes (W8). Until then it is the end, with junk.
 * - A valid signature with a wrong place, and a version that is not known, throw: neither is ever passed over.
 */
import { sha256Hex } from "../merkle/hash.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import type { CommitChain, ValidCommit } from "../record/chain.ts";
import type { RecordId } from "../std/brand.ts";
import { equalBytes } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import type { CommitSlots } from "./slots.ts";

/** What the next commit is judged against. */
export interface CommitBase {
  readonly chain: CommitChain;
  readonly knows: (id: RecordId) => boolean;
}

export interface Junk {
  readonly n: number;
  readonly bytes: Uint8Array;
}

export type Next =
  | { readonly kind: "commit"; readonly bytes: Uint8Array; readonly commit: ValidCommit }
  /** Nothing valid is there; `junk` lies in the slots from the chain's place on. */
  | { readonly kind: "end"; readonly junk: readonly Junk[] };

export interface SlotReading {
  readonly slots: CommitSlots;
  readonly verifier: SignatureVerifier;
  /** A commit is there under something that was laid over it. */
  readonly onHidden: (n: number, detail: string) => void;
}

/** Slots of junk in a row that are looked behind. */
const MAX_JUNK = 1_024;

/** `thorough` asks for hidden versions where a slot reads as absent: at a takeover, and now and then while nothing comes. */
export async function readNext(
  base: CommitBase,
  reading: SlotReading,
  thorough: boolean,
  signal: AbortSignal,
): Promise<Next | "unknown"> {
  const { slots, verifier } = reading;
  const junk: Junk[] = [];
  let { chain } = base;
  while (junk.length < MAX_JUNK) {
    const { n } = chain;
    let bytes = await slots.read(n, signal);
    if (bytes === "unknown") return bytes;
    if (bytes === null) {
      if (!thorough) return { junk, kind: "end" };
      bytes = await unhidden(reading, n, signal);
      if (bytes === "unknown") return bytes;
      if (bytes === null) return { junk, kind: "end" };
    }
    let found = check(chain, base, bytes, verifier);
    if (found instanceof Violation) {
      const history = await slots.history(n, signal);
      if (history === "unknown") return history;
      const [oldest] = history.contents;
      if (oldest !== undefined && !equalBytes(oldest, bytes)) {
        reading.onHidden(n, `slot ${n} reads as other bytes than its oldest version has (${found.message})`);
        bytes = oldest;
        found = check(chain, base, bytes, verifier);
      }
    }
    if (!(found instanceof Violation)) return { bytes, commit: found, kind: "commit" };
    if (!chain.isJunk(bytes, verifier)) throw found;
    junk.push({ bytes, n });
    chain = chain.skip(bytes, verifier);
  }
  throw squatted(junk);
}

function check(
  chain: CommitChain,
  { knows }: CommitBase,
  bytes: Uint8Array,
  verifier: SignatureVerifier,
): ValidCommit | Violation {
  try {
    return chain.check(bytes, verifier, knows);
  } catch (error) {
    if (error instanceof Violation) return error;
    throw error;
  }
}

/** The bytes of a slot that reads as absent, when it ever had some. */
async function unhidden(
  { onHidden, slots }: SlotReading,
  n: number,
  signal: AbortSignal,
): Promise<Uint8Array | null | "unknown"> {
  const history = await slots.history(n, signal);
  if (history === "unknown") return history;
  const [oldest] = history.contents;
  if (oldest === undefined) {
    await slots.assertEnd(n, signal);
    return null;
  }
  // Written since the plain read, unless a marker lies over it.
  if (history.hasMarker) onHidden(n, `slot ${n} has a commit under a delete marker`);
  return oldest;
}

/** The value of a slot whose hash is known: what a plain read gives, or what lies under it. */
export async function readKnown(
  reading: SlotReading,
  n: number,
  hash: string,
  signal: AbortSignal,
): Promise<Uint8Array | null | "unknown"> {
  const { onHidden, slots } = reading;
  const plain = await slots.read(n, signal);
  if (plain === "unknown" || (plain !== null && sha256Hex(plain) === hash)) return plain;
  const history = await slots.history(n, signal);
  if (history === "unknown") return history;
  const [oldest = null] = history.contents;
  if (oldest !== null && sha256Hex(oldest) === hash)
    onHidden(n, `slot ${n} reads as ${plain === null ? "absent" : "other bytes"}; its oldest version is the commit`);
  return oldest;
}

/** Why a writer stops at junk. */
export const squatted = (junk: readonly Junk[]): Violation =>
  new Violation(
    "commit.squatted",
    `slot ${junk[0]?.n} holds bytes that no commit key of this ledger signed. Find out who wrote them, then: datapilot repair void ${junk.map((j) => j.n).join(" ")}`,
  );
