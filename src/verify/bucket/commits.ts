/**
 * Walks the commits from the first on: each is valid after the ones before it, or is junk that a valid successor voids. What fails
 * ends the walk, since nothing after it can be believed.
 */
import { sha256Hex } from "../../merkle/hash.ts";
import { type CheckedCommit, CommitChain, type Reading, type ValidItem } from "../../record/chain.ts";
import { parseCommit } from "../../record/commit.ts";
import type { JsonObject } from "../../record/json.ts";
import { kindSpec } from "../../record/kinds.ts";
import { assertDefined } from "../../std/assert.ts";
import { idOf } from "../../std/brand.ts";
import { parseTime } from "../../std/ports.ts";
import { Violation } from "../../std/violation.ts";
import { commitKey } from "../../store/keys.ts";
import type { LockInfo, StoredObject } from "../../store/object-store.ts";
import { hasVersions, historyOf, readRight } from "../../store/right-version.ts";
import type { ArtifactObjects } from "./artifacts.ts";
import { type Audit, checkLock, DAY_MS, lockOf } from "./audit.ts";
import { RecordIndexes } from "./indexes.ts";
import { checkLinks } from "./links.ts";
import type { RecordObjects } from "./records.ts";
import { type SealClaim, Seals } from "./seals.ts";

/** Junk that no valid commit has voided yet. */
interface Junk {
  readonly n: number;
  readonly violation: Violation;
}

/** More junk in a row than any repair would void. */
const MAX_JUNK = 1_000;

export interface Walk {
  /** After the last valid commit. */
  readonly chain: CommitChain;
  /** Number of slots that were walked. */
  readonly slots: number;
  readonly failed: boolean;
  /** Index of each record. */
  readonly indexes: RecordIndexes;
  /** Sizes that a seal closes, ascending. */
  readonly sealed: readonly number[];
}

interface Slot {
  readonly n: number;
  /** What a plain read gives, and its lock. */
  readonly newest: StoredObject | null;
  readonly lock: LockInfo | null;
}

/** Reads ahead of the checks, in order. */
async function* slotsOf(audit: Audit): AsyncGenerator<Slot> {
  const ahead: Promise<Slot>[] = [];
  const read = async (n: number): Promise<Slot> => {
    const key = commitKey(n);
    const newest = await audit.store.get("ledger", key);
    return { lock: newest === null ? null : await lockOf(audit, key, newest), n, newest };
  };
  try {
    for (let n = 0; ; n++) {
      while (ahead.length < audit.options.concurrency) {
        const slot = read(n + ahead.length);
        // Whoever awaits it hears of the failure; until then nobody must.
        slot.catch(() => undefined);
        ahead.push(slot);
      }
      yield assertDefined(await ahead.shift(), "as many are read ahead");
    }
  } finally {
    await Promise.allSettled(ahead);
  }
}

/** What is told of each commit as it is walked. */
export interface Followers {
  readonly objects: RecordObjects | undefined;
  readonly artifacts: ArtifactObjects | undefined;
}

class Walker {
  readonly #audit: Audit;
  readonly #objects: RecordObjects | undefined;
  readonly #artifacts: ArtifactObjects | undefined;
  /** Number of slots that are listed. */
  readonly #listed: number;
  readonly #indexes = new RecordIndexes();
  readonly #seals: Seals;
  readonly #unknownKinds = new Map<string, number>();
  #chain = CommitChain.genesis();
  #junk: Junk[] = [];
  #retentionDays = 0;
  readonly #reading: Reading;
  /** Records that are in no commit, and whose objects are not to be read. */
  #apart = 0;
  /** Records of which nothing but the digest was checked. */
  #unread = 0;
  #failed = false;
  /** Why the walk ended, when that is not told yet. */
  #violation: Violation | undefined;

  constructor(audit: Audit, listed: number, { artifacts, objects }: Followers) {
    this.#audit = audit;
    this.#artifacts = artifacts;
    this.#listed = listed;
    this.#objects = objects;
    this.#seals = new Seals(audit);
    this.#reading = audit.options.records === "digests" ? "own" : "all";
  }

  async walk(): Promise<Walk> {
    const { options, stages } = this.#audit;
    let slots = 0;
    for await (const slot of slotsOf(this.#audit)) {
      options.signal?.throwIfAborted();
      const found = await this.#read(slot);
      if (found === null) break;
      slots = slot.n + 1;
      const commit = this.#check(slot.n, found.body);
      if (this.#failed) {
        await this.#tell(slot.n, found.body);
        break;
      }
      if (commit !== undefined) await this.#take(commit, found.lock);
      options.progress?.(slots, this.#listed, "commits");
    }
    if (!this.#failed && this.#junk.length > 0) {
      this.#reportJunk();
      const { n } = this.#junk[0] ?? { n: 0 };
      stages.commits.fail(
        "commit.squatted",
        commitKey(n),
        "holds what no commit key signed, and no commit after it voids it",
      );
    }
    for (const [kind, count] of this.#unknownKinds)
      this.#audit.notes.push(`record.unknown-kind: ${count} of kind ${kind}, whose bodies this version does not know`);
    if (this.#apart > 0) stages.records.skip(`${this.#apart} records are apart from their commits, and were not read`);
    if (this.#unread > 0)
      stages.records.skip(`${this.#unread} records have the digests that the log names; what they say was not read`);
    await this.#objects?.end();
    return { chain: this.#chain, failed: this.#failed, indexes: this.#indexes, sealed: this.#seals.sizes, slots };
  }

  /** The version of a slot that a commit key signed, whatever lies over it; else its oldest. Null when there is none. */
  async #read({ lock, n, newest }: Slot): Promise<{ body: Uint8Array; lock: LockInfo | null } | null> {
    const { options, store } = this.#audit;
    if (!hasVersions(store)) return newest === null ? null : { body: newest.body, lock };
    const key = commitKey(n);
    const found = await readRight(store, key, (bytes) => this.#isSigned(n, bytes), { newest, signal: options.signal });
    if (found === null) return null;
    const isNewest = found.versionId === newest?.versionId;
    return { body: found.body, lock: isNewest ? lock : await lockOf(this.#audit, key, found) };
  }

  /** Whether bytes are a whole commit for a slot; whether it is valid there is checked later. */
  #isSigned(n: number, bytes: Uint8Array): boolean {
    try {
      return parseCommit(bytes).header.n === n && !this.#chain.isJunk(bytes, this.#audit.trust.verifier);
    } catch (error) {
      if (error instanceof Violation) return false;
      throw error;
    }
  }

  /** The commit in slot n; undefined for junk, and for what ends the walk. */
  #check(n: number, bytes: Uint8Array): CheckedCommit | undefined {
    const { trust } = this.#audit;
    try {
      const commit = this.#chain.check(bytes, trust.verifier, (id) => !this.#indexes.append(id), this.#reading);
      for (const junk of this.#junk)
        this.#audit.notes.push(`commit.voided: ${commitKey(junk.n)} holds junk, which commit ${n} voids`);
      this.#junk = [];
      return commit;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#indexes.cut(this.#chain.size);
      if (this.#junk.length < MAX_JUNK && this.#chain.isJunk(bytes, trust.verifier)) {
        this.#chain = this.#chain.skip(bytes, trust.verifier);
        this.#junk.push({ n, violation: error });
        return undefined;
      }
      // A commit that voids nothing follows what was no junk but a commit, and is no more.
      this.#reportJunk();
      if (this.#junk.length === 0 || error.code !== "commit.voids") this.#violation = error;
      this.#failed = true;
      return undefined;
    }
  }

  /** Why the commit in slot n is none: it may follow another commit than the one that was read in the slot before it. */
  async #tell(n: number, bytes: Uint8Array): Promise<void> {
    const { options, stages, store } = this.#audit;
    if (this.#violation === undefined) return;
    const { code, message } = this.#violation;
    if (code === "commit.prev" && n > 0 && hasVersions(store)) {
      const { contents } = await historyOf(store, commitKey(n - 1), { signal: options.signal });
      const prev = parseCommit(bytes).header.prev;
      if (contents.some((c) => idOf(sha256Hex(c)) === prev)) {
        const detail = `holds ${contents.length} contents, of which more than one is a commit: commit ${n} follows one, a plain read gives another`;
        stages.commits.fail("commit.hidden", commitKey(n - 1), detail);
        return;
      }
    }
    stages.commits.fail(code, commitKey(n), message);
  }

  #reportJunk(): void {
    for (const { n, violation } of this.#junk)
      this.#audit.stages.commits.fail(violation.code, commitKey(n), violation.message);
  }

  async #take(commit: CheckedCommit, lock: LockInfo | null): Promise<void> {
    const { bundles, hashes, options, stages } = this.#audit;
    const at = commitKey(commit.n);
    let claim: SealClaim | undefined;
    hashes.extend(commit.subtrees);
    for (const item of commit.items) {
      bundles.append(item.entryBytes);
      // A seal is a commit of its own, so the chain before this commit is the state that it seals.
      if (item.record?.kind === "ledger.seal") claim = this.#seals.read(item, commit, this.#chain);
      this.#takeItem(item);
    }
    if (claim !== undefined) this.#seals.check(claim);
    for (const item of commit.items) this.#seals.fold(item);
    if (commit.n === 0 && options.genesis !== undefined && commit.items[0]?.entry.record !== options.genesis)
      stages.commits.fail("ledger.genesis", at, `the genesis is ${commit.items[0]?.entry.record}: another ledger`);
    this.#chain = this.#chain.advance(commit);
    const expectedMs = (parseTime(commit.header.time) ?? 0) + (this.#retentionDays - 1) * DAY_MS;
    checkLock(at, lock, expectedMs, this.#audit, stages.commits);
    for (const item of commit.items) this.#artifacts?.take(item, expectedMs);
    await this.#objects?.take(commit, expectedMs, this.#indexes);
  }

  #takeItem({ entry, index, record, recordBytes }: ValidItem): void {
    if (record === null) {
      if (recordBytes !== null) this.#unread++;
      else if (this.#objects === undefined) this.#apart++;
      return;
    }
    checkLinks(record.links, entry.record, index, this.#indexes, this.#audit);
    if (record.kind === "ledger") this.#retentionDays = daysOf(record.body);
    if (kindSpec(record.kind) === undefined)
      this.#unknownKinds.set(record.kind, (this.#unknownKinds.get(record.kind) ?? 0) + 1);
  }
}

const daysOf = ({ default_retention_days: days }: JsonObject): number => (typeof days === "number" ? days : 0);

/** `listed` is the number of slots that a listing gave. */
export const walkCommits = (audit: Audit, listed: number, followers: Followers): Promise<Walk> =>
  new Walker(audit, listed, followers).walk();
