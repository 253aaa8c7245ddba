/**
 * Table `tile`: the hashes of all complete subtrees, 64 in a block, so that any of them is one read. The last block of each level
 * stays in memory, where proofs of new entries find most of what they need.
 */

import { nodeHash } from "../../merkle/hash.ts";
import { assert, assertDefined } from "../../std/assert.ts";
import { Generations } from "./cache.ts";
import { levelKey } from "./keys.ts";
import type { Tables, WriteSet } from "./tables.ts";

const BLOCK = 64;
const HASH = 32;
const CACHED_BLOCKS = 1_024;
/** Blocks are named level · 2³² + number, which a double holds. */
const LEVEL = 2 ** 32;

export class Nodes {
  readonly #tables: Tables;
  readonly #cache = new Generations<number, Buffer>(CACHED_BLOCKS);
  readonly #open = new Map<number, Buffer>();
  readonly #dirty = new Set<number>();
  readonly #counts: number[] = [];

  constructor(tables: Tables, size: number) {
    this.#tables = tables;
    for (let level = 0, count = size; count > 0; level++, count = Math.floor(count / 2)) {
      this.#counts.push(count);
      if (count % BLOCK === 0) continue;
      const number = Math.floor(count / BLOCK);
      const block = Buffer.alloc(BLOCK * HASH);
      assertDefined(tables.get("tile", levelKey(level, number)), "the last block of a level is stored").copy(block);
      this.#open.set(level * LEVEL + number, block);
    }
  }

  /** Number of leaves. */
  get size(): number {
    return this.#counts[0] ?? 0;
  }

  append(leaf: Uint8Array): void {
    let node = leaf;
    for (let level = 0; ; level++) {
      const { at, block, index } = this.#place(level);
      block.set(node, at);
      if (index % 2 === 0) return;
      node = nodeHash(block.subarray(at - HASH, at), node);
    }
  }

  /** The same for leaves that are each followed by the subtrees that they complete, side by side. */
  appendAll(hashes: Uint8Array): void {
    let level = 0;
    for (let from = 0; from < hashes.length; from += HASH) {
      const { at, block, index } = this.#place(level);
      for (let k = 0; k < HASH; k++) block[at + k] = hashes[from + k] as number;
      level = index % 2 === 0 ? 0 : level + 1;
    }
    assert(level === 0, "all subtrees that the leaves complete are there");
  }

  /** Where the next hash of a level goes. */
  #place(level: number): { readonly block: Buffer; readonly at: number; readonly index: number } {
    const index = this.#counts[level] ?? 0;
    const name = level * LEVEL + Math.floor(index / BLOCK);
    let block = this.#open.get(name);
    if (block === undefined) {
      block = Buffer.alloc(BLOCK * HASH);
      this.#open.set(name, block);
    }
    this.#dirty.add(name);
    this.#counts[level] = index + 1;
    return { at: (index % BLOCK) * HASH, block, index };
  }

  read(level: number, index: number): Uint8Array {
    assert(index >= 0 && index < (this.#counts[level] ?? 0), "the subtree is complete");
    const name = level * LEVEL + Math.floor(index / BLOCK);
    let block = this.#open.get(name) ?? this.#cache.get(name);
    if (block === undefined) {
      block = assertDefined(
        this.#tables.get("tile", levelKey(level, Math.floor(index / BLOCK))),
        "a block of hashes is stored",
      );
      this.#cache.set(name, block);
    }
    const at = (index % BLOCK) * HASH;
    return Uint8Array.prototype.slice.call(block, at, at + HASH);
  }

  /** Roots of the complete subtrees, largest first. */
  frontier(): Uint8Array[] {
    const hashes: Uint8Array[] = [];
    for (let level = this.#counts.length - 1; level >= 0; level--) {
      const count = this.#counts[level] ?? 0;
      if (count % 2 === 1) hashes.push(this.read(level, count - 1));
    }
    return hashes;
  }

  #isOpen(name: number): boolean {
    return Math.floor((this.#counts[Math.floor(name / LEVEL)] ?? 0) / BLOCK) === name % LEVEL;
  }

  collect(set: WriteSet): void {
    for (const name of this.#dirty) {
      const level = Math.floor(name / LEVEL);
      const count = this.#isOpen(name) ? (this.#counts[level] ?? 0) % BLOCK : BLOCK;
      const block = assertDefined(this.#open.get(name), "a block that changed is held");
      set.put("tile", levelKey(level, name % LEVEL), block.subarray(0, count * HASH));
    }
  }

  settle(): void {
    for (const name of this.#dirty) {
      const block = this.#open.get(name);
      if (block === undefined || this.#isOpen(name)) continue;
      this.#cache.set(name, block);
      this.#open.delete(name);
    }
    this.#dirty.clear();
  }
}
