/**
 * The index port on LMDB. Each `apply` is one transaction: rows, links, tree and watermark change together or not at all. When a
 * transaction fails, what is in memory is thrown away and read back, so the index stands where it stood.
 *
 * An index of another layout or fold is cleared when it is opened: it is rebuilt from the commits.
 */
import { FOLD_VERSION } from "../../fold/fold.ts";
import type { NodeReader } from "../../merkle/proofs.ts";
import { assert } from "../../std/assert.ts";
import type { TreeSize } from "../../std/brand.ts";
import type { AppliedCommit, Index, IndexReader, Watermark } from "../index.ts";
import { u32Key } from "./keys.ts";
import { LmdbReader } from "./reader.ts";
import { IndexState } from "./state.ts";
import { Tables, WriteSet } from "./tables.ts";

const FORMAT_KEY = Buffer.from("format");
/** Grows with any change of tables, keys or values. */
const LAYOUT_VERSION = 1;
const FORMAT = Buffer.from(JSON.stringify({ fold: FOLD_VERSION, layout: LAYOUT_VERSION }));

export interface LmdbIndexOptions {
  /** Folder of its own, on a local file system. */
  readonly path: string;
}

export class LmdbIndex implements Index {
  readonly #tables: Tables;
  #state: IndexState;
  readonly #currentState = (): IndexState => this.#state;

  constructor(tables: Tables) {
    this.#tables = tables;
    if (tables.get("meta", FORMAT_KEY)?.equals(FORMAT) !== true) this.#reset();
    this.#state = new IndexState(tables);
  }

  get watermark(): Watermark {
    return this.#state.watermark;
  }

  apply(commits: readonly AppliedCommit[]): void {
    if (commits.length === 0) return;
    this.#change((set) => {
      for (const commit of commits) this.#state.add(commit);
      this.#state.collect(set);
    });
    this.#state.settle();
  }

  setMaterialised(size: TreeSize): void {
    assert(size <= this.watermark.size, "only what is applied is materialised");
    this.#change((set) => {
      this.#state.setWatermark({ materialised: size });
      this.#state.collectWatermark(set);
    });
  }

  setPublished(size: TreeSize): void {
    assert(size <= this.watermark.size, "only what is applied is published");
    this.#change((set) => {
      for (const { key } of this.#tables.range("tail", { start: u32Key(0) })) {
        const commit = this.#state.commit(key.readUInt32BE());
        if (commit !== undefined && commit.size > size) break;
        set.remove("tail", key);
      }
      this.#state.setWatermark({ published: size });
      this.#state.collectWatermark(set);
    });
  }

  #change(collect: (set: WriteSet) => void): void {
    const set = new WriteSet();
    try {
      collect(set);
      this.#tables.write(set);
    } catch (error) {
      this.#state = new IndexState(this.#tables);
      throw error;
    }
  }

  reader(asOf?: TreeSize): IndexReader {
    const { size } = this.watermark;
    assert(
      asOf === undefined || (Number.isInteger(asOf) && asOf >= 0 && asOf <= size),
      "a reader's size is at most the applied size",
    );
    return new LmdbReader(this.#currentState, asOf ?? size);
  }

  nodes(): NodeReader {
    return (level, index) => this.#state.nodes.read(level, index);
  }

  frontier(): readonly Uint8Array[] {
    return this.#state.frontier();
  }

  commitBytes(n: number): Uint8Array | undefined {
    return this.#tables.get("tail", u32Key(n));
  }

  flush(): Promise<void> {
    return this.#tables.flush();
  }

  clear(): void {
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
    await this.#tables.close();
  }
}

/** Opens or creates an index. One process writes; the caller sees to that. */
export async function openLmdbIndex({ path }: LmdbIndexOptions): Promise<Index> {
  return new LmdbIndex(new Tables(path));
}
