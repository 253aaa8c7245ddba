/**
 * The complete subtrees of the log, the recent ones in memory: what proofs and tiles are made of. Nothing is signed from here:
 * the root comes from the chain's frontier, and a proof that does not lead to it fails at whoever checks it.
 */

import { nodeHash } from "../merkle/hash.ts";
import type { NodeReader } from "../merkle/proofs.ts";

/** Nodes of one generation; two are kept, about 10 MiB in all. */
const GENERATION = 65_536;

export class LogTree {
  #young = new Map<number, Uint8Array>();
  #old = new Map<number, Uint8Array>();
  #size: number;
  readonly #stored: NodeReader;

  /** `stored` answers for every complete subtree that was applied. */
  constructor(size: number, stored: NodeReader) {
    this.#size = size;
    this.#stored = stored;
  }

  get size(): number {
    return this.#size;
  }

  append(leaf: Uint8Array): void {
    let node = leaf;
    let index = this.#size;
    this.#keep(0, index, node);
    for (let level = 1; index % 2 === 1; level++) {
      node = nodeHash(this.read(level - 1, index - 1), node);
      index = (index - 1) / 2;
      this.#keep(level, index, node);
    }
    this.#size++;
  }

  readonly read: NodeReader = (level, index) => {
    const key = index * 64 + level;
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const node = this.#old.get(key) ?? this.#derive(level, index);
    this.#keep(level, index, node);
    return node;
  };

  /** Stored are the levels of tiles; between them nodes are made from their children, once. */
  #derive(level: number, index: number): Uint8Array {
    if (level % 8 === 0) return this.#stored(level, index);
    return nodeHash(this.read(level - 1, 2 * index), this.read(level - 1, 2 * index + 1));
  }

  #keep(level: number, index: number, node: Uint8Array): void {
    if (this.#young.size >= GENERATION) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(index * 64 + level, node);
  }
}
