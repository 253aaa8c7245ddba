/**
 * What comes next in the bucket after a chain: a valid commit, or the end. Whoever reads slots reads them here: recovery, replicas,
 * and a writer that finds its slot taken.
 *
 * - A plain read that is not a valid commit, and at a thorough look an absent one too, is not believed: the slot's value is the
 *   oldest of its versions that a commit key signed (W6). Where that is another one, something was laid over a commit: `onHidden`.
 * - Two commits in one slot, each signed and valid there, are what a store makes that lets a second writer win. Which of them was
 *   acknowledged the bucket does not say, so nobody goes on from either: `commit.hidden`.
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
import { describeOver, type History } from "../store/right-version.ts";
import { type CommitSlots, prevOf } from "./slots.ts";

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
    const plain = await slots.read(n, signal);
    if (plain === "unknown") return plain;
    if (plain === null && !thorough) return { junk, kind: "end" };
    const found = plain === null ? undefined : check(chain, base, plain, verifier);
    if (plain !== null && found !== undefined && !(found instanceof Violation))
      return { bytes: plain, commit: found, kind: "commit" };
    const history = await slots.history(n, signal);
    if (history === "unknown") return history;
    const commits = commitsIn(chain, base, history, verifier);
    if (commits.length > 1) throw twoCommits(n, history);
    const [commit] = commits;
    if (commit !== undefined) {
      tellHidden(reading, n, plain, commit.bytes, history);
      return { ...commit, kind: "commit" };
    }
    const bytes = wrongIn(chain, history, verifier);
    if (bytes === undefined) {
      if (plain !== null) return "unknown";
      await slots.assertEnd(n, signal);
      return { junk, kind: "end" };
    }
    if (!chain.isJunk(bytes, verifier)) return refused(chain, base, bytes, reading, signal);
    junk.push({ bytes, n });
    chain = chain.skip(bytes, verifier);
  }
  throw squatted(junk);
}

/** What a writer finds in the slot where it put `own`, and where something is beside it, or instead of it. */
export async function readTaken(
  base: CommitBase,
  reading: SlotReading,
  own: Uint8Array,
  signal: AbortSignal,
): Promise<Taken | "unknown"> {
  const { chain } = base;
  const { n } = chain;
  const history = await reading.slots.history(n, signal);
  if (history === "unknown") return history;
  const commits = commitsIn(chain, base, history, reading.verifier);
  const [first] = commits;
  // Both were made by writers. Who came second knows, and steps down; who came first may have looked before, and have signed.
  if (commits.length > 1 && first !== undefined && equalBytes(first.bytes, own)) throw twoCommits(n, history);
  if (first !== undefined) {
    if (history.contents.length > 1 || history.hasMarker)
      reading.onHidden(n, `slot ${n} has other versions, or a delete marker, beside its commit`);
    return first;
  }
  const bytes = wrongIn(chain, history, reading.verifier);
  if (bytes === undefined)
    throw new Violation("commit.hidden", `slot ${n} is occupied and has no version that could be read`);
  if (chain.isJunk(bytes, reading.verifier)) throw squatted([{ bytes, n }]);
  return refused(chain, base, bytes, reading, signal);
}

interface Taken {
  readonly bytes: Uint8Array;
  readonly commit: ValidCommit;
}

function commitsIn(chain: CommitChain, base: CommitBase, { contents }: History, verifier: SignatureVerifier): Taken[] {
  return contents.flatMap((bytes) => {
    const commit = check(chain, base, bytes, verifier);
    return commit instanceof Violation ? [] : [{ bytes, commit }];
  });
}

/** Of a slot without a commit: what a commit key signed for elsewhere, else what was there first. */
const wrongIn = (chain: CommitChain, { contents }: History, verifier: SignatureVerifier): Uint8Array | undefined =>
  contents.find((bytes) => !chain.isJunk(bytes, verifier)) ?? contents[0];

export const twoCommits = (n: number, { contents }: History): Violation =>
  new Violation(
    "commit.hidden",
    `slot ${n} holds ${contents.length} contents, and more than one is a commit: the store let a second writer win. Which one was acknowledged a kept checkpoint or another replica tells; go on from a copy that has that one alone`,
  );

function tellHidden(
  { onHidden }: SlotReading,
  n: number,
  plain: Uint8Array | null,
  bytes: Uint8Array,
  { hasMarker }: History,
): void {
  if (plain !== null) {
    if (!equalBytes(plain, bytes)) onHidden(n, `slot ${n} reads as other bytes than the commit that lies below`);
    // Written since the plain read, unless a marker lies over it.
  } else if (hasMarker) onHidden(n, `slot ${n} has a commit under a delete marker`);
}

/** Throws why signed bytes are no commit here, by what happened: they may follow another commit than the one that was read before. */
async function refused(
  chain: CommitChain,
  base: CommitBase,
  bytes: Uint8Array,
  { slots, verifier }: SlotReading,
  signal: AbortSignal,
): Promise<"unknown"> {
  const violation = check(chain, base, bytes, verifier);
  if (!(violation instanceof Violation)) throw new Error("assertion failed: what is no commit is judged again");
  if (violation.code !== "commit.prev" || chain.n === 0) throw violation;
  const before = await slots.history(chain.n - 1, signal);
  if (before === "unknown") return before;
  const prev = prevOf(bytes);
  throw before.contents.some((b) => sha256Hex(b) === prev) ? twoCommits(chain.n - 1, before) : violation;
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

/** The value of a slot whose hash is known: what a plain read gives, or what lies under it. */
export async function readKnown(
  reading: SlotReading,
  n: number,
  hash: string,
  signal: AbortSignal,
): Promise<Uint8Array | null | "unknown"> {
  const found = await reading.slots.find(n, (bytes) => sha256Hex(bytes) === hash, signal);
  if (found === "unknown" || found === null) return found;
  if (found.over !== undefined) reading.onHidden(n, `slot ${n}: ${describeOver(found.over)}`);
  return found.body;
}

/** Why a writer stops at junk. */
export const squatted = (junk: readonly Junk[]): Violation =>
  new Violation(
    "commit.squatted",
    `slot ${junk[0]?.n} holds bytes that no commit key of this ledger signed. Find out who wrote them, then: datapilot repair void ${junk.map((j) => j.n).join(" ")}`,
  );
