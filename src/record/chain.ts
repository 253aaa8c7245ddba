/**
 * The chain of commits: what must be known to say whether the next commit object is valid, and what it then adds. One function for
 * the writer's recovery, replicas, importers and verifiers (`docs/formats/commits.md`). Invariants:
 *
 * - `check` leaves the chain as it is; `advance` and `skip` give another one;
 * - the heads of all projects are shared along a chain, so that a commit costs what it changes: a chain that was advanced must not
 *   be used again, except through an earlier `clone`;
 * - that links name records at lower indexes is not known here: whoever has an index checks it.
 *
 * Commits may come from an attacker: the signature of all but the genesis is checked before anything in the payload is parsed.
 */

import { Frontier } from "../merkle/frontier.ts";
import { leafHash, leafHashHex, sha256Hex } from "../merkle/hash.ts";
import { pureVerifier, type SignatureVerifier } from "../note/signatures.ts";
import { assertDefined } from "../std/assert.ts";
import { type Digest, digestOf, idOf, type LogIndex, type RecordId, ZERO_DIGEST } from "../std/brand.ts";
import { formatHex, parseHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import {
  type CommitHeader,
  type CommitItem,
  hasUnknownVersion,
  type ParsedCommit,
  parseCommit,
  splitCommit,
  type Void,
} from "./commit.ts";
import { type Entry, entryBytes, isEntry, parseEntry, projectIn, startsProject } from "./entry.ts";
import type { Head } from "./heads.ts";
import { KeyHistory } from "./key-history.ts";
import { type LedgerRecord, parseRecord } from "./record.ts";

export interface ValidItem {
  readonly index: LogIndex;
  readonly entry: Entry;
  readonly entryBytes: Uint8Array;
  readonly leaf: Uint8Array;
  /** Null when the record is an object of its own only. */
  readonly recordBytes: Uint8Array | null;
  /** Null as well when it was not read. */
  readonly record: LedgerRecord | null;
}

/**
 * Which records are read: all, or only those of the ledger's own projects, which alone move keys and seal. Of a record that is not
 * read the digest is checked, and nothing of what it says.
 */
export type Reading = "all" | "own";

export interface ValidCommit {
  readonly n: number;
  /** SHA-256 of the whole object. */
  readonly hash: Digest;
  readonly header: CommitHeader;
  readonly items: readonly ValidItem[];
}

/** A commit that `check` found valid. */
export interface CheckedCommit extends ValidCommit {
  /** The leaves of its entries, each followed by the subtrees that it completes. */
  readonly subtrees: readonly Uint8Array[];
}

/** A record that is to become an entry. */
export interface NextRecord {
  readonly id: RecordId;
  readonly bytes: Uint8Array;
  readonly record: LedgerRecord;
}

/** Entries that would follow, and the root that they lead to. */
export interface NextItems {
  readonly first: number;
  readonly root: Digest;
  readonly items: readonly ValidItem[];
}

interface State {
  readonly origin: string;
  readonly n: number;
  readonly size: number;
  /** SHA-256 of the bytes in slot n−1. */
  readonly prevHash: Digest;
  readonly frontier: Frontier;
  readonly epoch: number;
  readonly time: string;
  readonly heads: Map<Digest, Head>;
  readonly keys: KeyHistory;
  /** Junk in the slots below n and above the last commit, which the next commit must void. */
  readonly voids: readonly Void[];
  /** The genesis and the newest `ledger` record. */
  readonly ledger: { readonly genesis: RecordId; readonly newest: RecordId } | undefined;
  /** The projects of the genesis and of `_system`. */
  readonly own: readonly Digest[];
}

/** Where a chain stands, for who kept that apart from the commits. */
export interface Standing extends Omit<State, "origin" | "size" | "voids" | "ledger"> {
  readonly ledger: { readonly genesis: RecordId; readonly newest: RecordId };
}

const EMPTY_HASH = sha256Hex(new Uint8Array());
const SYSTEM_PROJECT = "_system";

/** What entries add to a state, entry by entry, without changing it. */
class Following {
  readonly frontier: Frontier;
  readonly heads = new Map<Digest, Head>();
  /** Leaves, and the subtrees that they complete. */
  readonly subtrees: Uint8Array[] = [];
  keys: KeyHistory;
  ledger: State["ledger"];
  own: State["own"];
  readonly #before: State;
  /** The project of the entry before, which is often the next one's. */
  #project = ZERO_DIGEST;

  constructor(before: State, keys: KeyHistory) {
    this.#before = before;
    this.frontier = before.frontier.clone();
    this.keys = keys;
    this.ledger = before.ledger;
    this.own = before.own;
  }

  get size(): number {
    return this.frontier.size;
  }

  head(project: Digest): Head | undefined {
    return this.heads.get(project) ?? this.#before.heads.get(project);
  }

  /** `seq` and `prev` must continue the project's chain. */
  checkEntry(entry: Entry): void {
    startsProject(entry);
    const head = this.head(entry.project);
    const count = head?.count ?? 0;
    if (entry.seq !== count)
      throw new Violation(
        entry.seq < count ? "chain.fork" : "chain.gap",
        `seq ${entry.seq} of project ${entry.project}, expected ${count}`,
      );
    if (entry.prev !== (head?.last ?? ZERO_DIGEST))
      throw new Violation(
        "chain.prev",
        `prev of seq ${entry.seq} of project ${entry.project} is not the leaf hash before it`,
      );
  }

  /**
   * The one entry that may follow for a record of a project that has begun, when these bytes are exactly it. Its form, its digest
   * and its place in the chain are then right; undefined leaves it to the long way, which says what is wrong.
   */
  expected(bytes: Uint8Array, record: Uint8Array): Entry | undefined {
    // Only digests have heads.
    const project = projectIn(bytes, this.#project) as Digest | undefined;
    const head = project === undefined ? undefined : this.head(project);
    if (project === undefined || head === undefined) return undefined;
    this.#project = project;
    const digest = sha256Hex(record);
    return digest !== project && isEntry(bytes, head.last, project, digest, head.count)
      ? { prev: head.last, project, record: idOf(digest), seq: head.count }
      : undefined;
  }

  append(item: ValidItem, leafHex: Digest = formatHex(item.leaf) as Digest): void {
    const { project, record: id, seq } = item.entry;
    this.heads.set(project, { count: seq + 1, last: leafHex });
    this.frontier.append(item.leaf, this.subtrees);
    if (item.index < 2) this.own = [...this.own, project];
    if (item.record?.kind !== "ledger") return;
    const supersedes = item.record.links.filter((l) => l.rel === "supersedes").map((l) => l.to);
    if (this.ledger !== undefined && digestOf(this.ledger.genesis) !== project)
      throw new Violation("key.chain", `${id} states keys outside of the project of the genesis`);
    if (supersedes.join() !== (this.ledger?.newest ?? ""))
      throw new Violation("key.chain", `${id} does not supersede the \`ledger\` record before it`);
    this.keys = this.keys.apply(item.index, item.record.body);
    this.ledger = { genesis: this.ledger?.genesis ?? id, newest: id };
  }
}

export class CommitChain {
  readonly #state: State;
  /** What the commit that was checked last adds, so that advancing does not hash again. */
  #checked: { readonly commit: ValidCommit; readonly following: Following } | undefined;

  private constructor(state: State) {
    this.#state = state;
  }

  /** The chain before any commit. */
  static genesis(): CommitChain {
    return new CommitChain({
      epoch: 0,
      frontier: Frontier.empty(),
      heads: new Map(),
      keys: KeyHistory.empty(""),
      ledger: undefined,
      n: 0,
      origin: "",
      own: [],
      prevHash: EMPTY_HASH,
      size: 0,
      time: "",
      voids: [],
    });
  }

  /** The chain after the valid commit n−1. Nothing is checked: who kept the standing knows what of it he may believe. */
  static at(standing: Standing): CommitChain {
    const { frontier, heads, keys } = standing;
    return new CommitChain({
      ...standing,
      frontier: frontier.clone(),
      heads: new Map(heads),
      origin: keys.origin,
      size: frontier.size,
      voids: [],
    });
  }

  get origin(): string {
    return this.#state.origin;
  }
  /** Number of the next commit. */
  get n(): number {
    return this.#state.n;
  }
  get size(): number {
    return this.#state.size;
  }
  get prevHash(): Digest {
    return this.#state.prevHash;
  }
  get epoch(): number {
    return this.#state.epoch;
  }
  get time(): string {
    return this.#state.time;
  }
  get heads(): ReadonlyMap<Digest, Head> {
    return this.#state.heads;
  }
  get keys(): KeyHistory {
    return this.#state.keys;
  }
  /** What the header of the next commit must list. */
  get voids(): readonly Void[] {
    return this.#state.voids;
  }
  /** Id of entry 0; undefined before the genesis. */
  get genesis(): RecordId | undefined {
    return this.#state.ledger?.genesis;
  }
  /** Id of the newest `ledger` record; undefined before the genesis. */
  get ledger(): RecordId | undefined {
    return this.#state.ledger?.newest;
  }
  get frontier(): Frontier {
    return this.#state.frontier.clone();
  }
  root(): Uint8Array {
    return this.#state.frontier.root();
  }

  get #isEmpty(): boolean {
    return this.#state.ledger === undefined;
  }

  /**
   * Checks the object in slot `n`. Throws a Violation; the chain stays as it is. `isKnown` is asked once of each record, in order,
   * whether it is an entry already; without it only duplicates inside the commit are seen. The genesis commit is always read whole.
   */
  check(
    bytes: Uint8Array,
    verifier: SignatureVerifier = pureVerifier,
    isKnown: (record: RecordId) => boolean = () => false,
    reading: Reading = "all",
  ): CheckedCommit {
    const parsed = parseCommit(bytes);
    const { header } = parsed;
    if (!this.#isEmpty && parsed.origin !== this.origin)
      throw new Violation(
        "commit.origin",
        `the commit is of ${JSON.stringify(parsed.origin)}, the log is ${JSON.stringify(this.origin)}`,
      );
    if (!this.#isEmpty) checkSignature(parsed, this.keys, this.size, verifier);
    this.#checkPlace(header);
    const following = new Following(this.#state, this.#isEmpty ? KeyHistory.empty(parsed.origin, verifier) : this.keys);
    const seen = new Set<RecordId>();
    const items = parsed.items.map((raw): ValidItem => {
      const index = following.size as LogIndex;
      try {
        const expected = raw.record === null ? undefined : following.expected(raw.entry, raw.record);
        const entry = expected ?? readEntry(raw);
        const isRead = reading === "all" || this.#isEmpty || following.own.includes(entry.project);
        const record = isRead && raw.record !== null ? readRecord(raw.record, entry, index) : null;
        const id = entry.record;
        if (seen.has(id) || isKnown(id)) throw new Violation("entry.duplicate", `${id} is an entry already`);
        seen.add(id);
        const leafHex = leafHashHex(raw.entry);
        const leaf = assertDefined(parseHex(leafHex), "a hash is hex");
        const item: ValidItem = { entry, entryBytes: raw.entry, index, leaf, record, recordBytes: raw.record };
        if (this.#isEmpty && index < 2) checkGenesis(item);
        if (expected === undefined) following.checkEntry(entry);
        following.append(item, leafHex);
        return item;
      } catch (error) {
        throw error instanceof Violation ? new Violation(error.code, `entry ${index}: ${error.message}`) : error;
      }
    });
    if (this.#isEmpty) checkSignature(parsed, following.keys, 0, verifier);
    const root = formatHex(following.frontier.root());
    if (root !== header.root)
      throw new Violation("commit.root", `the entries give root ${root}, the header says ${header.root}`);
    const commit: CheckedCommit = {
      hash: sha256Hex(bytes),
      header,
      items,
      n: header.n,
      subtrees: following.subtrees,
    };
    this.#checked = { commit, following };
    return commit;
  }

  #checkPlace(header: CommitHeader): void {
    const { epoch, n, prevHash, size, time, voids } = this.#state;
    if (header.n !== n) throw new Violation("commit.n", `n is ${header.n}, expected ${n}`);
    const same =
      header.voids.length === voids.length &&
      voids.every((v, i) => v.n === header.voids[i]?.n && v.sha256 === header.voids[i]?.sha256);
    if (!same)
      throw new Violation(
        "commit.voids",
        `voids are not exactly the ${voids.length} junk objects since the last commit`,
      );
    if (header.prev !== idOf(prevHash))
      throw new Violation("commit.prev", "prev is not the digest of the bytes in the slot before");
    if (header.first !== size)
      throw new Violation("commit.first", `first is ${header.first}, the log has ${size} entries`);
    if (header.epoch < epoch) throw new Violation("commit.epoch", `epoch ${header.epoch} falls below ${epoch}`);
    if (header.time < time) throw new Violation("commit.time", `time ${header.time} falls below ${time}`);
    if (this.#isEmpty && header.count < 2)
      throw new Violation("commit.count", "the genesis commit does not hold entries 0 and 1");
  }

  /**
   * Whether the object in slot `n` is junk: it carries no valid signature of any commit key that ever was in force, so anyone who
   * may write to the bucket can have made it. An object of an unknown version is never junk, nor is anything before the genesis.
   */
  isJunk(bytes: Uint8Array, verifier: SignatureVerifier = pureVerifier): boolean {
    if (this.#isEmpty) return false;
    const parts = splitCommit(bytes);
    if (parts === undefined) return true;
    if (parts.origin === this.origin && hasUnknownVersion(parts.headerLine)) return false;
    const { signature, text } = parts;
    return (
      signature === undefined ||
      !this.keys
        .ever("KEY_ROLE_COMMIT")
        .some(
          (k) =>
            k.id === signature.id &&
            k.name === signature.name &&
            verifier.ed25519(k.publicKey, text, signature.signature),
        )
    );
  }

  /**
   * The chain past junk in slot `n`, which the next commit must void by number and digest. Readers that meet junk go on like
   * this, and believe it only when a valid commit follows.
   */
  skip(junk: Uint8Array, verifier: SignatureVerifier = pureVerifier): CommitChain {
    if (!this.isJunk(junk, verifier))
      throw new Violation("commit.voids", `slot ${this.n} holds no junk: what a commit key signed cannot be voided`);
    const hash = sha256Hex(junk);
    const { n, voids } = this.#state;
    return new CommitChain({ ...this.#state, n: n + 1, prevHash: hash, voids: [...voids, { n, sha256: idOf(hash) }] });
  }

  /** The chain after a commit that was checked against this one, or that the writer made of what it had checked. */
  advance(commit: ValidCommit): CommitChain {
    const { hash, header, items } = commit;
    const following = this.#checked?.commit === commit ? this.#checked.following : this.#follow(items);
    const { heads } = this.#state;
    for (const [project, head] of following.heads) heads.set(project, head);
    return new CommitChain({
      epoch: header.epoch,
      frontier: following.frontier,
      heads,
      keys: following.keys,
      ledger: following.ledger,
      n: header.n + 1,
      origin: following.keys.origin,
      own: following.own,
      prevHash: hash,
      size: following.size,
      time: header.time,
      voids: [],
    });
  }

  #follow(items: readonly ValidItem[]): Following {
    const origin = items[0]?.record?.body["origin"];
    const following = new Following(
      this.#state,
      this.#isEmpty ? KeyHistory.empty(typeof origin === "string" ? origin : "") : this.keys,
    );
    for (const item of items) following.append(item);
    return following;
  }

  /** A chain of its own, which advances apart from this one. */
  clone(): CommitChain {
    return new CommitChain({
      ...this.#state,
      frontier: this.#state.frontier.clone(),
      heads: new Map(this.#state.heads),
    });
  }

  /** Entries for records in this order, and the root after them; for the writer, which need not parse what it made. */
  next(records: readonly NextRecord[]): NextItems {
    const following = new Following(this.#state, this.keys);
    const items = records.map(({ bytes, id, record }): ValidItem => {
      const project = digestOf(record.project ?? id);
      const head = following.head(project);
      const entry: Entry = { prev: head?.last ?? ZERO_DIGEST, project, record: id, seq: head?.count ?? 0 };
      const text = entryBytes(entry);
      const leaf = leafHash(text);
      const index = following.size as LogIndex;
      following.heads.set(project, { count: entry.seq + 1, last: formatHex(leaf) as Digest });
      following.frontier.append(leaf);
      return { entry, entryBytes: text, index, leaf, record, recordBytes: bytes };
    });
    return { first: this.size, items, root: formatHex(following.frontier.root()) as Digest };
  }
}

function checkSignature(
  { signature, text }: ParsedCommit,
  keys: KeyHistory,
  size: number,
  verifier: SignatureVerifier,
): void {
  const key = keys.inForce("KEY_ROLE_COMMIT", size).find((k) => k.id === signature.id && k.name === signature.name);
  if (key === undefined)
    throw new Violation("commit.signature", `no commit key in force at size ${size} signed it, but ${signature.name}`);
  if (!verifier.ed25519(key.publicKey, text, signature.signature))
    throw new Violation("commit.signature", "the signature is not over these bytes");
}

/** A well-formed entry that names the bytes of its record. */
function readEntry(item: CommitItem): Entry {
  const entry = parseEntry(item.entry);
  if (item.record !== null && sha256Hex(item.record) !== digestOf(entry.record))
    throw new Violation("record.digest", `the bytes after the entry of ${entry.record} have another SHA-256`);
  return entry;
}

/** A well-formed record of its entry's project; its digest was checked. */
function readRecord(bytes: Uint8Array, entry: Entry, index: LogIndex): LedgerRecord {
  const record = parseRecord(bytes);
  const creates = index === 0 ? "ledger" : "project";
  const own = idOf(entry.project);
  // Only the record that creates a project stands without one.
  if (record.project === undefined ? record.kind !== creates || entry.record !== own : record.project !== own)
    throw new Violation("record.project", `${entry.record} is of another project than its entry`);
  return record;
}

/** The genesis commit begins with the ledger itself and the project of what belongs to no other. */
function checkGenesis({ entry, index, record }: ValidItem): void {
  const right =
    index === 0 ? record?.kind === "ledger" : record?.kind === "project" && record.body["name"] === SYSTEM_PROJECT;
  if (!right || entry.seq !== 0)
    throw new Violation(
      "commit.count",
      index === 0
        ? "the genesis does not begin with the `ledger` record"
        : "entry 1 does not create the project _system",
    );
}
