/**
 * Judges what is new at the source before anything is written: the commits from the copy's watermark to the end, each checkpoint
 * against the tree that they give, and both against what the copy already holds. A source that contradicts itself, or the copy,
 * is found here; one that merely ends early, or lacks something, is told from it.
 */
import { sha256Hex } from "../merkle/hash.ts";
import { parseCheckpoint } from "../note/checkpoint.ts";
import { parseNote } from "../note/note.ts";
import type { CommitChain } from "../record/chain.ts";
import type { KeyHistory } from "../record/key-history.ts";
import { equalBytes, formatHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { checkpointKey, commitKey, HEAD_CHECKPOINT, parseKey } from "../store/keys.ts";
import { hasVersions } from "../store/right-version.ts";
import { elderKeys, openOwn } from "../verify/bucket/checkpoints.ts";
import { openWitnessed, type Witnessed } from "../verify/checkpoint.ts";
import { openKept } from "../verify/history.ts";
import type { Stage } from "../verify/report.ts";
import { ask, readContent, type Sides } from "./ports.ts";
import { BadCommit, type SlotBytes, walk } from "./walk.ts";
import type { Watermark } from "./watermark.ts";

/** A checkpoint of the source that the policy trusts and that the commits give. */
export interface Claim {
  /** Its key in the archive; undefined for the one in head. */
  readonly key: string | undefined;
  readonly bytes: Uint8Array;
  readonly root: string;
  readonly size: number;
}

export interface Judged {
  /** Ascending by size. */
  readonly claims: readonly Claim[];
  /** Size of the source's largest valid checkpoint. */
  readonly claimed: number;
  /** Slots that were walked, and the entries in them. */
  readonly end: number;
  readonly size: number;
  readonly origin: string;
  /** Size of the checkpoint in the copy's head. */
  readonly published: number;
}

interface FoundNote {
  readonly key: string | undefined;
  readonly bytes: Uint8Array;
}

const HEAD_AT = `head/${HEAD_CHECKPOINT}`;
const BEFORE_ALL = "";

/** Notes of one side, of archived sizes from `from` on; keys that are none are told. */
async function notesOf(
  sides: Sides,
  side: Pick<Sides["source"], "get" | "list" | "versions">,
  from: number,
): Promise<FoundNote[]> {
  const { notes, options } = sides;
  const { signal } = options;
  const found: FoundNote[] = [];
  const head = await ask(options, () => side.get("head", HEAD_CHECKPOINT, { signal }));
  if (head !== null) found.push({ bytes: head.body, key: undefined });
  const after = `checkpoints/${String(from).padStart(20, "0")}`;
  const keys = await keysAfter(options, side, "checkpoints/", after);
  for (const key of keys) {
    const named = parseKey("ledger", key);
    const isNamed = (bytes: Uint8Array): boolean =>
      named?.type === "checkpoint" && sha256Hex(bytes).startsWith(named.noteHash);
    const note = await readContent(sides, side, key, isNamed);
    if (note === null) notes.add(`checkpoint.key: ${key} is passed over: it is no key of a checkpoint`);
    else found.push({ bytes: note.body, key });
  }
  return found;
}

/** Keys of the ledger bucket, hidden ones too. */
const keysAfter = (
  options: Sides["options"],
  side: Pick<Sides["source"], "list" | "versions">,
  prefix: string,
  after: string,
): Promise<string[]> =>
  ask(options, async () => {
    const keys = new Set<string>();
    if (hasVersions(side)) {
      for await (const { isMarker, key } of side.versions("ledger", prefix, { after, signal: options.signal }))
        if (!isMarker) keys.add(key);
    } else for await (const { key } of side.list("ledger", prefix, { after })) keys.add(key);
    return [...keys];
  });

/** The size that a note states; undefined when it is no note of a log. */
function sizeOf({ bytes }: FoundNote): number | undefined {
  try {
    return parseCheckpoint(parseNote(bytes).text).size;
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}

/** The copy's commits from slot `from` on; with those after a hole. */
async function slotsOf({ options, target }: Sides, from: number): Promise<Set<number>> {
  const after = from === 0 ? BEFORE_ALL : commitKey(from - 1);
  const slots = new Set<number>();
  for (const key of await keysAfter(options, target, "commits/", after)) {
    const parsed = parseKey("ledger", key);
    if (parsed?.type === "commit") slots.add(parsed.n);
  }
  return slots;
}

export async function judge(sides: Sides, start: Watermark, stage: Stage): Promise<Judged> {
  const { options, source, target } = sides;
  const { chain } = start;
  const from = Math.min(chain.size, ...start.unarchived.map((s) => s.size));
  const found: Found = { claims: [], claimed: 0, newest: [] };
  const theirs = await notesOf(sides, source, from);
  const ours = await notesOf(sides, target, chain.size);
  const nothing = { claims: [], end: chain.n, origin: chain.origin, published: 0 };
  const trusted = theirs.filter((note) => isTrusted(sides, note));
  if (trusted.length === 0) {
    if (theirs.length === 0)
      stage.fail("checkpoint.missing", "checkpoints/", "the source has no checkpoint, so nothing there is signed");
    else failUnsigned(theirs, stage);
    return { ...nothing, claimed: 0, size: chain.size };
  }
  if (!(await meets(sides, chain, stage))) return { ...nothing, claimed: 0, size: chain.size };

  const roots = new Map<number, string>(start.unarchived.map((s) => [s.size, s.root]));
  const kept = keptSizes(options);
  const wanted = new Set([...[...theirs, ...ours].flatMap((n) => sizeOf(n) ?? []), ...kept]);
  const slots = await slotsOf(sides, chain.n);
  const end = await readCommits(sides, chain, { roots, slots, stage, wanted });
  if (options.genesis !== undefined && end.chain.genesis !== options.genesis)
    stage.fail("ledger.genesis", commitKey(0), `the genesis is ${end.chain.genesis ?? "absent"}: another ledger`);

  for (const note of trusted) takeNote(sides, note, end.chain, chain.size, roots, found, stage);
  if (found.claimed === 0) failUnsigned(trusted, stage);
  if (found.newest.length > 0 && found.newest.every((tree) => tree.quorum === false))
    stage.fail("checkpoint.quorum", HEAD_AT, "the quorum of the policy did not cosign the source's newest checkpoint");
  compareKept(sides, end.chain, roots, stage);
  const published = compareNotes(sides, ours, end.chain.keys, roots, end.chain.size, stage);
  return {
    claimed: found.claimed,
    claims: found.claims.toSorted((a, b) => a.size - b.size),
    end: end.chain.n,
    origin: end.chain.origin,
    published,
    size: end.chain.size,
  };
}

/** Sizes of the notes that somebody kept. */
export const keptSizes = ({ trust }: Sides["options"]): number[] =>
  trust.kept.flatMap((bytes) => sizeOf({ bytes, key: undefined }) ?? []);

/** Each kept note is part of the source's tree, or history was rewritten. Throws the Violation `kept.signature`. */
function compareKept(
  { options: { trust } }: Sides,
  { keys, origin, size: end }: CommitChain,
  roots: ReadonlyMap<number, string>,
  stage: Stage,
): void {
  for (const { at, tree } of openKept(trust, elderKeys(trust.policy, keys), origin, stage)) {
    const { root, size } = tree.checkpoint;
    if (size > end)
      stage.fail(
        "checkpoint.ahead",
        at,
        `is of size ${size}; the source's commits end at ${end}: the newest are missing`,
      );
    else if (roots.get(size) !== formatHex(root))
      stage.fail(
        "consistency.mismatch",
        at,
        `the source's tree of size ${size} has another root than the one that was kept: history was rewritten`,
      );
  }
}

const failUnsigned = (notes: readonly FoundNote[], stage: Stage): void =>
  stage.fail(
    "checkpoint.signature",
    notes[0]?.key ?? HEAD_AT,
    "no checkpoint of the source is signed by a key of the policy",
  );

interface Found {
  readonly claims: Claim[];
  claimed: number;
  /** Notes of the largest size. */
  newest: Witnessed[];
}

/** A note that nobody trusted signed may be anybody's: it is passed over, and not copied. */
function isTrusted({ notes, options }: Sides, note: FoundNote): boolean {
  try {
    // An older key, which a policy of today does not name, is told from a stranger's when the keys are known.
    openWitnessed(note.bytes, { ...options.trust, requirePq: false });
    return true;
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    if (error.code === "checkpoint.signature" && note.key !== undefined) return true;
    notes.add(`${error.code}: ${note.key ?? HEAD_AT} is passed over: ${error.message}`);
    return false;
  }
}

/** Whether the source holds the commit up to which the copy is whole. */
async function meets(sides: Sides, chain: CommitChain, stage: Stage): Promise<boolean> {
  if (chain.n === 0) return true;
  const key = commitKey(chain.n - 1);
  const found = await readContent(sides, sides.source, key, (bytes) => sha256Hex(bytes) === chain.prevHash);
  if (found === null) stage.fail("replica.ahead", key, "is in the copy, and not at the source: the source is older");
  else if (found.isRight) return true;
  else
    stage.fail(
      "replica.fork",
      key,
      "holds another commit in the copy than at the source: keep both, and find out who signed them",
    );
  return false;
}

interface Reading {
  /** Roots at the sizes that are wanted. */
  readonly roots: Map<number, string>;
  readonly wanted: ReadonlySet<number>;
  /** Slots that the copy holds; those that were met are taken out. */
  readonly slots: Set<number>;
  readonly stage: Stage;
}

/** Gives the chain after the last valid commit. */
async function readCommits(
  sides: Sides,
  start: CommitChain,
  { roots, slots, stage, wanted }: Reading,
): Promise<{ readonly chain: CommitChain }> {
  const { options, source, target } = sides;
  const frontier = start.frontier;
  let chain = start;
  if (wanted.has(frontier.size)) roots.set(frontier.size, formatHex(frontier.root()));
  const compare = async ({ bytes, n }: SlotBytes): Promise<void> => {
    if (!slots.delete(n)) return;
    const key = commitKey(n);
    const held = await readContent(sides, target, key, (body) => equalBytes(body, bytes));
    if (held?.isRight === false)
      stage.fail(
        "replica.fork",
        key,
        "holds other bytes in the copy than at the source: keep both, and find out who signed them",
      );
  };
  try {
    for await (const step of walk(sides, start)) {
      for (const junk of step.junk) await compare(junk);
      await compare(step);
      for (const { leaf } of step.commit.items) {
        frontier.append(leaf);
        if (wanted.has(frontier.size)) roots.set(frontier.size, formatHex(frontier.root()));
      }
      chain = step.after;
      options.progress?.(chain.size, undefined, "read");
    }
  } catch (error) {
    if (!(error instanceof BadCommit)) throw error;
    stage.fail(error.code, commitKey(error.n), error.message);
    return { chain };
  }
  const [beyond] = slots;
  if (beyond !== undefined)
    stage.fail("replica.ahead", commitKey(beyond), "is in the copy, and not at the source: the source is older");
  const [later] = await keysAfter(options, source, "commits/", commitKey(chain.n));
  if (later !== undefined) stage.fail("commit.gap", commitKey(chain.n), `is absent, and ${later} is there`);
  return { chain };
}

/** A signed note is right when the commits give its root. */
function takeNote(
  { notes, options }: Sides,
  note: FoundNote,
  { keys, size: end }: CommitChain,
  start: number,
  roots: ReadonlyMap<number, string>,
  found: Found,
  stage: Stage,
): void {
  const { bytes, key } = note;
  const at = key ?? HEAD_AT;
  let tree: Witnessed;
  try {
    tree = openOwn(bytes, options.trust, keys);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    notes.add(`${error.code}: ${at} is passed over: ${error.message}`);
    return;
  }
  const { root, size } = tree.checkpoint;
  if (key !== undefined && key !== checkpointKey(size, sha256Hex(bytes).slice(0, 16))) {
    notes.add(`checkpoint.key: ${at} is passed over: the key is not the one of its size and bytes`);
    return;
  }
  if (size >= found.claimed) found.newest = [...(size > found.claimed ? [] : found.newest), tree];
  found.claimed = Math.max(found.claimed, size);
  const given = roots.get(size);
  if (size > end) stage.fail("checkpoint.ahead", at, `is of size ${size}; the source's commits end at ${end}`);
  else if (given === undefined) {
    if (size < start) return; // The copy had it, or it came later than anybody waits for.
    throw new Error(`assertion failed: the root at ${size} was looked at`);
  } else if (given !== formatHex(root))
    stage.fail("checkpoint.root", at, `signs root ${formatHex(root)} at size ${size}, the commits give ${given}`);
  else found.claims.push({ bytes, key, root: given, size });
}

/** The copy's own notes hold for the source's tree too. Gives the size of the one in head. */
function compareNotes(
  { options }: Sides,
  ours: readonly FoundNote[],
  keys: KeyHistory,
  roots: ReadonlyMap<number, string>,
  end: number,
  stage: Stage,
): number {
  let published = 0;
  for (const { bytes, key } of ours) {
    const at = key ?? HEAD_AT;
    let tree: Witnessed;
    try {
      tree = openOwn(bytes, { ...options.trust, requirePq: false }, keys);
    } catch (error) {
      if (error instanceof Violation) continue; // Not a note of this log: it says nothing of the source.
      throw error;
    }
    const { root, size } = tree.checkpoint;
    if (key === undefined) published = size;
    const given = roots.get(size);
    if (size > end)
      stage.fail("replica.ahead", at, `is of size ${size} in the copy; the source's commits end at ${end}`);
    else if (given !== undefined && given !== formatHex(root))
      stage.fail("replica.fork", at, `signs another root at size ${size} in the copy than the source's commits give`);
  }
  return published;
}
