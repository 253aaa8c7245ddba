/**
 * The open batch: entries in their final place on top of the applied log. Owns the order of what enters one commit:
 *
 * - a group is contiguous and whole; a group whose guards moved is not placed;
 * - every entry continues its project's chain;
 * - each placed entry is folded, so that the next group is checked against it.
 */
import { foldRecord, type Op } from "../fold/fold.ts";
import type { ViewReader } from "../fold/view.ts";
import type { Frontier } from "../merkle/frontier.ts";
import { leafHash, sha256Hex } from "../merkle/hash.ts";
import type { NoteSigner } from "../note/signatures.ts";
import type { CommitChain, ValidCommit, ValidItem } from "../record/chain.ts";
import { type CommitHeader, formatCommit } from "../record/commit.ts";
import { type Entry, entryBytes } from "../record/entry.ts";
import type { Head } from "../record/heads.ts";
import { type Digest, digestOf, idOf, type LogIndex, type RecordId, type TreeSize, ZERO_DIGEST } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { formatTime } from "../std/ports.ts";
import type { Admission } from "./admission.ts";
import type { Changes } from "./changes.ts";
import { Overlay } from "./overlay.ts";

/** What one commit aims at; a single group may go up to the hard limits. */
export const COMMIT_TARGET = { bytes: 1 << 20, records: 1_024 } as const;

export interface CommitStamp {
  readonly epoch: number;
  /** 32 hex characters, random per process start. */
  readonly writer: string;
  readonly key: NoteSigner;
  readonly nowMs: number;
}

/** A commit that was made here: valid by construction, so nobody parses it again. */
export interface MadeCommit {
  readonly bytes: Uint8Array;
  /** With what the fold says of each item. */
  readonly commit: ValidCommit & { readonly ops: readonly (readonly Op[])[] };
}

/** The applied log. */
export interface BatchBase {
  readonly chain: CommitChain;
  readonly changes: Changes;
  readonly reader: ViewReader;
  knows(id: RecordId): boolean;
}

export class Batch {
  readonly items: ValidItem[] = [];
  readonly #ops: (readonly Op[])[] = [];
  readonly #overlay: Overlay;
  readonly #base: BatchBase;
  readonly #chain: CommitChain;
  readonly #frontier: Frontier;
  readonly #moved = new Map<Digest, Head>();
  readonly #changes: Changes;
  #bytes = 0;

  constructor(base: BatchBase) {
    this.#base = base;
    this.#chain = base.chain;
    this.#frontier = base.chain.frontier;
    this.#changes = base.changes;
    this.#overlay = new Overlay(base.reader);
  }

  get size(): TreeSize {
    return this.#overlay.size;
  }

  /** The state with what was placed on top. */
  get reader(): ViewReader {
    return this.#overlay;
  }

  knows(id: RecordId): boolean {
    return this.#overlay.knows(id) || this.#base.knows(id);
  }

  /** Whether all that the admission read is still so. */
  holds(admission: Admission): boolean {
    return this.#changes.unmoved(admission.guards, admission.size);
  }

  /** Whether the group may enter: an empty batch takes any group, and a full one none. */
  fits(admission: Admission): boolean {
    if (this.items.length === 0) return true;
    return (
      this.items.length + admission.records.length <= COMMIT_TARGET.records &&
      this.#bytes + admission.bytes <= COMMIT_TARGET.bytes
    );
  }

  /** Places a group; returns the index of its first entry. */
  place(admission: Admission): LogIndex {
    const first = this.size as number as LogIndex;
    for (const made of admission.records) {
      const project = digestOf(made.project);
      const head = this.#moved.get(project) ?? this.#chain.heads.get(project);
      const entry: Entry = { prev: head?.last ?? ZERO_DIGEST, project, record: made.id, seq: head?.count ?? 0 };
      const bytes = entryBytes(entry);
      const leaf = leafHash(bytes);
      const index = this.size as number as LogIndex;
      const item: ValidItem = { entry, entryBytes: bytes, index, leaf, record: made.record, recordBytes: made.bytes };
      this.#moved.set(project, { count: entry.seq + 1, last: formatHex(leaf) as Digest });
      const ops = foldRecord(this.#overlay, item);
      for (const key of this.#overlay.apply(item, ops)) this.#changes.note(key, index);
      this.#frontier.append(leaf);
      this.items.push(item);
      this.#ops.push(ops);
    }
    this.#bytes += admission.bytes;
    return first;
  }

  /** Closes the batch: the signed object that goes into the next slot. An empty one is a fence. */
  seal({ epoch, key, nowMs, writer }: CommitStamp): MadeCommit {
    const chain = this.#chain;
    const time = formatTime(nowMs);
    const bytes = formatCommit(
      chain.origin,
      {
        count: this.items.length,
        epoch,
        first: chain.size,
        n: chain.n,
        prev: idOf(chain.prevHash),
        root: formatHex(this.#frontier.root()) as Digest,
        time: time < chain.time ? chain.time : time,
        voids: chain.voids,
        writer,
      },
      this.items.map((i) => ({ entry: i.entryBytes, record: i.recordBytes })),
      key,
    );
    return {
      bytes,
      commit: { hash: sha256Hex(bytes), header: headerOf(bytes), items: this.items, n: chain.n, ops: this.#ops },
    };
  }
}

const LF = 0x0a;

/** The header line of a commit that was just formatted. */
function headerOf(bytes: Uint8Array): CommitHeader {
  const from = bytes.indexOf(LF) + 1;
  return JSON.parse(new TextDecoder().decode(bytes.subarray(from, bytes.indexOf(LF, from)))) as CommitHeader;
}
