/**
 * The chain of commits: what must be known to say whether the next commit object is valid, and what it then adds. One function for
 * the writer's recovery, replicas, importers and verifiers.
 */
import { leafHash, sha256Hex } from "../merkle/hash.ts";
import { Frontier } from "../merkle/frontier.ts";
import { pureVerifier, type SignatureVerifier } from "../note/signatures.ts";
import { type Digest, digestOf, idOf, type LogIndex, type RecordId, ZERO_DIGEST } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { type CommitHeader, type CommitItem, parseCommit, type Void } from "./commit.ts";
import { type Entry, entryBytes, parseEntry, startsProject } from "./entry.ts";
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
  readonly record: LedgerRecord | null;
}

export interface ValidCommit {
  readonly n: number;
  /** SHA-256 of the whole object. */
  readonly hash: Digest;
  readonly header: CommitHeader;
  readonly items: readonly ValidItem[];
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
}

const EMPTY_HASH = sha256Hex(new Uint8Array());

/** Follows heads through a batch without changing the chain's own. */
class HeadsAfter {
  readonly #heads: ReadonlyMap<Digest, Head>;
  readonly changed = new Map<Digest, Head>();

  constructor(heads: ReadonlyMap<Digest, Head>) {
    this.#heads = heads;
  }

  get(project: Digest): Head | undefined {
    return this.changed.get(project) ?? this.#heads.get(project);
  }

  append(project: Digest, leaf: Uint8Array): void {
    this.changed.set(project, { count: (this.get(project)?.count ?? 0) + 1, last: formatHex(leaf) as Digest });
  }
}

export class CommitChain {
  readonly #state: State;

  private constructor(state: State) {
    this.#state = state;
  }

  /** The chain before any commit. */
  static genesis(): CommitChain {
    return new CommitChain({ epoch: 0, frontier: Frontier.empty(), heads: new Map(), keys: KeyHistory.empty(""), n: 0, origin: "", prevHash: EMPTY_HASH, size: 0, time: "" });
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
  get frontier(): Frontier {
    return this.#state.frontier.clone();
  }
  root(): Uint8Array {
    return this.#state.frontier.root();
  }

  /**
   * Checks the object in slot `n`, or a later slot when it voids all junk in between. Throws a Violation; the chain stays as it is.
   * `isKnown` says whether a record is an entry already.
   */
  check(bytes: Uint8Array, verifier: SignatureVerifier = pureVerifier, isKnown: (record: RecordId) => boolean = () => false): ValidCommit {
    const state = this.#state;
    const parsed = parseCommit(bytes);
    const { header } = parsed;
    const genesis = state.size === 0 && state.n === 0;
    const origin = genesis ? parsed.origin : state.origin;
    if (parsed.origin !== origin) throw new Violation("commit.origin", `the commit is of ${JSON.stringify(parsed.origin)}, the log is ${JSON.stringify(origin)}`);
    const items = this.#readItems(parsed.items, header, isKnown);
    const keys = genesis ? genesisKeys(origin, items, verifier) : state.keys;
    const key = keys.inForce("KEY_ROLE_COMMIT", header.first).find((k) => k.id === parsed.signature.id && k.name === parsed.signature.name);
    if (key === undefined || !verifier.ed25519(key.publicKey, parsed.text, parsed.signature.signature)) throw new Violation("commit.signature", key === undefined ? "no commit key in force signed it" : "the signature is not over these bytes");
    this.#checkPlace(header);
    const heads = new HeadsAfter(state.heads);
    const frontier = state.frontier.clone();
    for (const item of items) {
      chainEntry(item.entry, heads);
      heads.append(item.entry.project, item.leaf);
      frontier.append(item.leaf);
    }
    if (formatHex(frontier.root()) !== header.root) throw new Violation("commit.root", `the entries give root ${formatHex(frontier.root())}, the header says ${header.root}`);
    return { hash: sha256Hex(bytes), header, items, n: header.n };
  }

  #readItems(items: readonly CommitItem[], header: CommitHeader, isKnown: (record: RecordId) => boolean): ValidItem[] {
    const seen = new Set<string>();
    return items.map((item, i) => {
      const entry = parseEntry(item.entry);
      startsProject(entry);
      if (seen.has(entry.record) || isKnown(entry.record)) throw new Violation("entry.duplicate", `${entry.record} is an entry already`);
      seen.add(entry.record);
      let record: LedgerRecord | null = null;
      if (item.record !== null) {
        if (sha256Hex(item.record) !== digestOf(entry.record)) throw new Violation("record.digest", `the bytes after the entry of ${entry.record} have another SHA-256`);
        record = parseRecord(item.record);
        if ((record.project ?? entry.record) !== idOf(entry.project)) throw new Violation("record.project", `${entry.record} is of another project than its entry`);
      }
      return { entry, entryBytes: item.entry, index: (header.first + i) as LogIndex, leaf: leafHash(item.entry), record, recordBytes: item.record };
    });
  }

  #checkPlace(header: CommitHeader): void {
    const { n, prevHash, size, epoch, time } = this.#state;
    const voids: readonly Void[] = header.voids;
    // A commit that voids junk stands after it, and its prev names the bytes of the last junk object.
    if (header.n !== n + voids.length) throw new Violation("commit.n", `n is ${header.n}, expected ${n + voids.length}`);
    for (const [i, v] of voids.entries()) if (v.n !== n + i) throw new Violation("commit.voids", `void ${i} names slot ${v.n}, expected ${n + i}`);
    if (header.prev !== (voids.at(-1)?.sha256 ?? idOf(prevHash))) throw new Violation("commit.prev", "prev is not the digest of the bytes in the slot before");
    if (header.first !== size) throw new Violation("commit.first", `first is ${header.first}, the log has ${size} entries`);
    if (header.epoch < epoch) throw new Violation("commit.epoch", `epoch ${header.epoch} falls below ${epoch}`);
    if (header.time < time) throw new Violation("commit.time", `time ${header.time} falls below ${time}`);
    if (size === 0 && (header.n !== 0 || header.count < 2 || header.voids.length > 0)) throw new Violation("commit.count", "the genesis commit is number 0 and holds entries 0 and 1");
  }

  /** The chain after a commit that was checked against this one. */
  advance(commit: ValidCommit): CommitChain {
    const state = this.#state;
    const frontier = state.frontier.clone();
    const after = new HeadsAfter(state.heads);
    let keys = state.n === 0 && state.size === 0 ? KeyHistory.empty(originOf(commit)) : state.keys;
    for (const item of commit.items) {
      frontier.append(item.leaf);
      after.append(item.entry.project, item.leaf);
      if (item.record?.kind === "ledger") keys = keys.apply(item.index, item.record.body);
    }
    // Heads are shared along the chain, so that a commit costs what it changes.
    for (const [project, head] of after.changed) state.heads.set(project, head);
    return new CommitChain({ epoch: commit.header.epoch, frontier, heads: state.heads, keys, n: commit.n + 1, origin: keys.origin, prevHash: commit.hash, size: state.size + commit.items.length, time: commit.header.time });
  }

  /** A chain of its own, for trying commits on. */
  clone(): CommitChain {
    return new CommitChain({ ...this.#state, frontier: this.#state.frontier.clone(), heads: new Map(this.#state.heads) });
  }

  /** Entries for records in this order, and the root after them; for the writer, which need not parse what it made. */
  next(records: readonly NextRecord[]): NextItems {
    const { size } = this.#state;
    const heads = new HeadsAfter(this.#state.heads);
    const frontier = this.#state.frontier.clone();
    const items = records.map(({ id, bytes, record }, i): ValidItem => {
      const project = digestOf(record.project ?? id);
      const head = heads.get(project);
      const entry: Entry = { prev: head?.last ?? ZERO_DIGEST, project, record: id, seq: head?.count ?? 0 };
      const text = entryBytes(entry);
      const leaf = leafHash(text);
      heads.append(project, leaf);
      frontier.append(leaf);
      return { entry, entryBytes: text, index: (size + i) as LogIndex, leaf, record, recordBytes: bytes };
    });
    return { first: size, items, root: formatHex(frontier.root()) as Digest };
  }
}

/** `seq` and `prev` continue the project's chain. */
function chainEntry(entry: Entry, heads: HeadsAfter): void {
  const head = heads.get(entry.project);
  const count = head?.count ?? 0;
  if (entry.seq !== count) throw new Violation(entry.seq < count ? "chain.fork" : "chain.gap", `seq ${entry.seq} of project ${entry.project}, expected ${count}`);
  if (entry.prev !== (head?.last ?? ZERO_DIGEST)) throw new Violation("chain.prev", `prev of seq ${entry.seq} of project ${entry.project} is not the leaf hash before it`);
}

function originOf(commit: ValidCommit): string {
  const origin = commit.items[0]?.record?.body["origin"];
  return typeof origin === "string" ? origin : "";
}

/** The keys that the genesis record names; it must come first and be followed by the project of the system. */
function genesisKeys(origin: string, items: readonly ValidItem[], verifier: SignatureVerifier): KeyHistory {
  const [ledger, system] = items;
  if (ledger?.record?.kind !== "ledger" || system?.record?.kind !== "project" || system.record.body["name"] !== "_system") throw new Violation("commit.count", "the genesis commit does not begin with the `ledger` record and the project _system");
  return KeyHistory.empty(origin, verifier).apply(0, ledger.record.body);
}
