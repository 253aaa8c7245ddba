/**
 * The checkpoints in a copy, each compared with the tree that its commits give. Notes of one tree are one checkpoint: signatures
 * may have come late.
 *
 * A key that the ledger states of itself is believed only when it is no younger than one of the policy: who follows a rotation
 * pins the new key.
 */
import { sha256Hex } from "../../merkle/hash.ts";
import type { VerifierKey } from "../../note/keys.ts";
import { formatNote, parseNote } from "../../note/note.ts";
import type { TrustPolicy } from "../../note/trust-policy.ts";
import type { CommitChain } from "../../record/chain.ts";
import type { KeyHistory } from "../../record/key-history.ts";
import { equalBytes, formatHex } from "../../std/bytes.ts";
import { Violation } from "../../std/violation.ts";
import { checkpointKey, HEAD_CHECKPOINT, parseKey } from "../../store/keys.ts";
import { readRight } from "../../store/right-version.ts";
import { checkAge, checkRoles, openWitnessed, sameKey, type Trust, type Witnessed } from "../checkpoint.ts";
import { openKept } from "../history.ts";
import { type Audit, checkLock, lockOf } from "./audit.ts";

const HEAD_AT = `head/${HEAD_CHECKPOINT}`;
/** Of what is absent, this many sizes are named. */
const SIZES_SHOWN = 10;
/** The most that a note may have. */
const MAX_SIGNATURES = 128;

/** A note as it lies in the copy. */
export interface FoundNote {
  readonly at: string;
  readonly bytes: Uint8Array;
}

/** Reads the notes. Done before the commits are, so that a ledger that grows meanwhile is not ahead of itself. */
export async function readNotes(audit: Audit, listed: readonly string[]): Promise<FoundNote[]> {
  const { notes, options, stages, store } = audit;
  const found: FoundNote[] = [];
  for (const key of listed) {
    const parsed = parseKey("ledger", key);
    const isNamed = (bytes: Uint8Array): boolean =>
      parsed?.type === "checkpoint" && sha256Hex(bytes).startsWith(parsed.noteHash);
    const note =
      parsed?.type === "checkpoint" ? await readRight(store, key, isNamed, { signal: options.signal }) : null;
    if (note === null) {
      stages.checkpoints.fail("checkpoint.key", key, "is not the key of a checkpoint");
      continue;
    }
    found.push({ at: key, bytes: note.body });
    // As long as anything at all: the archive outlives what it seals.
    checkLock(key, await lockOf(audit, key, note), options.nowMs + 1, audit, stages.checkpoints);
  }
  const head = await store.get("head", HEAD_CHECKPOINT);
  if (head === null) notes.push("head has no checkpoint: the newest archived one stands for it");
  else found.push({ at: HEAD_AT, bytes: head.body });
  return found;
}

/** Log keys that the ledger states, no younger than one that the policy names. */
export function elderKeys({ logs }: TrustPolicy, history: KeyHistory): VerifierKey[] {
  const own = history.keys.filter((k) => k.role !== "KEY_ROLE_COMMIT");
  const pinned = own.filter((k) => logs.some((l) => sameKey(l.key, k.key)));
  const youngest = Math.max(-1, ...pinned.map((k) => k.from));
  return own.filter((k) => k.from <= youngest).map((k) => k.key);
}

/**
 * Opens a note of the log whose keys these are, signed by a key in force at its size that the policy trusts. Violations:
 * `checkpoint.malformed`, `.origin`, `.signature`.
 */
export function openOwn(bytes: Uint8Array, trust: Trust, keys: KeyHistory): Witnessed {
  const tree = openWitnessed(bytes, trust, elderKeys(trust.policy, keys));
  const { origin, size } = tree.checkpoint;
  if (origin !== keys.origin && keys.origin !== "")
    throw new Violation("checkpoint.origin", `is of the log ${origin}; the commits are of ${keys.origin}`);
  const inForce = keys.inForce("KEY_ROLE_LOG", size);
  if (!inForce.some((f) => tree.signedBy.some((k) => sameKey(f, k))))
    throw new Violation("checkpoint.signature", `no log key that signed it is in force at size ${size}`);
  return tree;
}

/** One signed tree: all notes of it, and their signatures together. */
export interface Claim {
  readonly at: string;
  readonly tree: Witnessed;
  readonly isArchived: boolean;
  /** Whether the commits give this tree. */
  readonly isSound: boolean;
  /** The note with all signatures. */
  readonly merged: Uint8Array;
}

export class Checkpoints {
  readonly #audit: Audit;
  readonly #chain: CommitChain;
  readonly #elders: readonly VerifierKey[];
  /** The first of a tree stands for all. */
  readonly claims: Claim[] = [];

  constructor(audit: Audit, chain: CommitChain) {
    this.#audit = audit;
    this.#chain = chain;
    this.#elders = elderKeys(audit.trust.policy, chain.keys);
    checkRoles(audit.trust.policy, chain.keys, audit.stages.checkpoints);
  }

  take(found: readonly FoundNote[]): void {
    const trees = new Map<string, { at: string; isArchived: boolean; notes: Uint8Array[] }>();
    for (const { at, bytes } of found) {
      const tree = this.#open(at, bytes);
      if (tree === undefined) continue;
      const isArchived = at !== HEAD_AT;
      const name = `${tree.checkpoint.size} ${formatHex(tree.checkpoint.root)}`;
      const known = trees.get(name);
      if (known === undefined) trees.set(name, { at, isArchived, notes: [bytes] });
      else trees.set(name, { ...known, isArchived: known.isArchived || isArchived, notes: [...known.notes, bytes] });
    }
    for (const { at, isArchived, notes } of trees.values()) this.#claim(at, isArchived, merge(notes));
    const bySize = Map.groupBy(this.claims, (c) => c.tree.checkpoint.size);
    for (const [size, same] of bySize)
      if (same.length > 1)
        this.#stage.fail(
          "checkpoint.fork",
          same[1]?.at ?? "",
          `and ${same[0]?.at} are two signed trees of size ${size}; both notes together prove it to anybody`,
        );
  }

  get #stage() {
    return this.#audit.stages.checkpoints;
  }

  get #trust(): Trust {
    return { ...this.#audit.trust, requirePq: false };
  }

  /** A note of this log that a key in force signed, or a failure. */
  #open(at: string, bytes: Uint8Array): Witnessed | undefined {
    try {
      const tree = openOwn(bytes, this.#trust, this.#chain.keys);
      const { size } = tree.checkpoint;
      if (at !== HEAD_AT && at !== checkpointKey(size, sha256Hex(bytes).slice(0, 16)))
        this.#stage.fail("checkpoint.key", at, "the key is not the one of its size and bytes");
      return tree;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      return this.#stage.fail(error.code, at, error.message) as undefined;
    }
  }

  #claim(at: string, isArchived: boolean, merged: Uint8Array): void {
    const { hashes } = this.#audit;
    const tree = openWitnessed(merged, this.#trust, this.#elders);
    const { root, size } = tree.checkpoint;
    const given = size > hashes.size ? undefined : hashes.root(size);
    if (given === undefined)
      this.#stage.fail("checkpoint.ahead", at, `is of size ${size}; the commits here end at ${hashes.size}`);
    else if (!equalBytes(given, root))
      this.#stage.fail(
        "checkpoint.root",
        at,
        `signs root ${formatHex(root)} at size ${size}, the commits give ${formatHex(given)}`,
      );
    this.claims.push({ at, isArchived, isSound: given !== undefined && equalBytes(given, root), merged, tree });
  }

  /** The largest tree that is signed and that the commits give, with what the reader demands of it. */
  newest(): Witnessed | undefined {
    const [newest] = this.claims
      .filter((c) => c.isSound)
      .toSorted((a, b) => b.tree.checkpoint.size - a.tree.checkpoint.size);
    if (newest === undefined) return undefined;
    const { trust } = this.#audit;
    try {
      const tree = openWitnessed(newest.merged, trust, this.#elders);
      if (tree.quorum === false)
        this.#stage.fail("checkpoint.quorum", newest.at, "the quorum of the policy did not cosign it");
      checkAge(tree, trust, newest.at, this.#stage);
      return tree;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#stage.fail(error.code, newest.at, error.message);
      return newest.tree;
    }
  }

  /** Each kept note is part of the tree, or history was rewritten. Throws the Violation `kept.signature`. */
  checkKept(): void {
    const { hashes, stages, trust } = this.#audit;
    const origin = this.#chain.origin;
    for (const { at, tree } of openKept(trust, this.#elders, origin, stages.kept)) {
      const { root, size } = tree.checkpoint;
      if (size > hashes.size)
        stages.kept.fail(
          "checkpoint.ahead",
          at,
          `is of size ${size}; the commits here end at ${hashes.size}: the newest entries are missing`,
        );
      else if (!equalBytes(hashes.root(size), root))
        stages.kept.fail(
          "consistency.mismatch",
          at,
          `the tree of size ${size} has another root than the one that was kept: history was rewritten`,
        );
    }
  }

  /** Accuses nobody: a writer that died between a seal and its archive leaves the same. */
  noteUnarchived(sealed: readonly number[]): void {
    const archived = new Set(this.claims.filter((c) => c.isArchived).map((c) => c.tree.checkpoint.size));
    const missing = sealed.filter((size) => !archived.has(size));
    if (missing.length === 0) return;
    const shown = missing.slice(0, SIZES_SHOWN).join(", ");
    const more = missing.length > SIZES_SHOWN ? ` and ${missing.length - SIZES_SHOWN} more` : "";
    this.#audit.notes.push(`checkpoint.missing: no archived checkpoint of the sealed sizes ${shown}${more}`);
  }
}

/** One note with the signatures of all, which have one text. Each was opened by itself. */
function merge(notes: readonly Uint8Array[]): Uint8Array {
  const [first] = notes;
  if (first === undefined || notes.length === 1) return first ?? new Uint8Array();
  const { text } = parseNote(first);
  const lines = new Set(notes.flatMap((n) => parseNote(n).signatures.map((s) => s.line)));
  return lines.size > MAX_SIGNATURES ? first : formatNote(text, [...lines]);
}
