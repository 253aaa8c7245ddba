/**
 * The index port on LMDB, written behind: `apply` changes the state in memory, and one transaction writes what changed since the
 * last, rows, links, tree and watermark together, after WRITE_RECORDS entries or WRITE_AFTER_MS. A crash thus leaves the index at
 * an earlier watermark, whole, and the commits beyond it are read again. Readers see what is applied, written or not.
 *
 * What fails after the checks is a bug or a full disk: the index refuses to go on, and is opened again.
 * An index of another layout or fold is cleared when it is opened: it is rebuilt from the commits.
 */
import { FOLD_VERSION } from "../../fold/fold.ts";
import type { NodeReader } from "../../merkle/proofs.ts";
import { assert } from "../../std/assert.ts";
import type { TreeSize } from "../../std/brand.ts";
import type { AppliedCommit, Index, IndexReader, Watermark } from "../index.ts";
import { type CurrentState, LmdbReader } from "./reader.ts";
import { countOf, IndexState } from "./state.ts";
import { Tables, WriteSet } from "./tables.ts";

const FORMAT_KEY = Buffer.from("format");
/** Grows with any change of tables, keys or values. */
const LAYOUT_VERSION = 5;
const FORMAT = Buffer.from(JSON.stringify({ fold: FOLD_VERSION, layout: LAYOUT_VERSION }));

export interface LmdbIndexOptions {
  /** Folder of its own, on a local file system. */
  readonly path: string;
}

/** A transaction costs as much as some twenty entries, and the event loop stands still for it: about 20 ms at this number. */
const WRITE_RECORDS = 512;
/** When more follow, rows of many entries meet in a page. */
const WRITE_MANY_RECORDS = 8_192;
/** What a crash may make the next start read again. */
const WRITE_AFTER_MS = 1_000;

export class LmdbIndex implements Index {
  readonly #tables: Tables;
  #state: IndexState;
  readonly #current: CurrentState = { state: () => this.#state, write: () => this.#write() };
  #pendingRecords = 0;
  #timer: NodeJS.Timeout | undefined;
  #broken: unknown;

  constructor(tables: Tables) {
    this.#tables = tables;
    if (tables.get("meta", FORMAT_KEY)?.equals(FORMAT) !== true) this.#reset();
    this.#state = new IndexState(tables);
  }

  get watermark(): Watermark {
    return this.#state.watermark;
  }

  apply(commits: readonly AppliedCommit[], more = false): void {
    this.#state.check(commits);
    this.#change(() => {
      for (const commit of commits) {
        this.#state.add(commit);
        this.#pendingRecords += countOf(commit);
      }
      if (this.#pendingRecords >= (more ? WRITE_MANY_RECORDS : WRITE_RECORDS)) this.#write();
    });
  }

  setMaterialised(size: TreeSize): void {
    assert(size <= this.watermark.size, "only what is applied is materialised");
    this.#change(() => this.#state.setWatermark({ materialised: size }));
  }

  setPublished(size: TreeSize, keepFrom?: string): void {
    assert(size <= this.watermark.size, "only what is applied is published");
    this.#change(() => {
      this.#state.trimTail(size, keepFrom);
      this.#state.setWatermark({ published: size });
    });
  }

  #change(change: () => void): void {
    assert(this.#broken === undefined, `the index failed before: ${String(this.#broken)}`);
    try {
      change();
    } catch (error) {
      this.#broken = error;
      throw error;
    }
    this.#timer ??= setTimeout(() => {
      // The next change tells of a failure.
      try {
        this.#write();
      } catch (error) {
        this.#broken = error;
      }
    }, WRITE_AFTER_MS).unref();
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#broken !== undefined) return;
    const set = new WriteSet();
    this.#state.collect(set);
    this.#tables.write(set);
    this.#state.settle();
    this.#pendingRecords = 0;
  }

  reader(asOf?: TreeSize): IndexReader {
    const { size } = this.watermark;
    assert(
      asOf === undefined || (Number.isInteger(asOf) && asOf >= 0 && asOf <= size),
      "a reader's size is at most the applied size",
    );
    return new LmdbReader(this.#current, asOf ?? size);
  }

  nodes(): NodeReader {
    return (level, index) => this.#state.nodes.read(level, index);
  }

  frontier(): readonly Uint8Array[] {
    return this.#state.frontier();
  }

  commitBytes(n: number): Uint8Array | undefined {
    return this.#state.commitBytes(n);
  }

  async flush(): Promise<void> {
    this.#write();
    await this.#tables.flush();
  }

  async release(): Promise<void> {
    this.#write();
    await this.#tables.remap();
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#pendingRecords = 0;
    this.#broken = undefined;
    this.#reset();
    this.#state = new IndexState(this.#tables);
  }

  #reset(): void {
    this.#tables.clear();
    const set = new WriteSet();
    set.put("meta", FORMAT_KEY, FORMAT);
    this.#tables.write(set);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#write();
    await this.#tables.close();
  }
}

/** Opens or creates an index. One process writes; the caller sees to that. */
export async function openLmdbIndex({ path }: LmdbIndexOptions): Promise<Index> {
  return new LmdbIndex(new Tables(path));
}
