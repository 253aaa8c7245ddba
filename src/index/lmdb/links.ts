/**
 * Links both ways, as packed numbers.
 *
 * Table `out`: per block of 256 sources the numbers n, then n project numbers, n + 1 offsets, the targets, and the relations as 16
 * bits. Table `in`: the links of each full segment of 16,384 sources again, by block of 256 targets: m, then m pairs of a target's
 * place in its block and the end of its links, the sources ascending, the relations. The links of the last segment are held in
 * memory and come back from `out` when the index is opened, so that an append writes nothing for them.
 */
import { assertDefined } from "../../std/assert.ts";
import { Generations } from "./cache.ts";
import { pairKey, u32Key } from "./keys.ts";
import type { Tables, WriteSet } from "./tables.ts";

export const LINK_BLOCK = 256;
const SEGMENT = 16_384;
/** A power of two. */
const HOT_BLOCKS = 2_048;
/** Numbers in one generation of each cache: 16 MiB. */
const CACHED_NUMBERS = 1 << 22;

/** The links of 256 neighbours: those of the k-th are others[offsets[k] … offsets[k + 1]). */
export interface PackedLinks {
  readonly offsets: Uint32Array;
  readonly others: Uint32Array;
  readonly rels: Uint16Array;
}

export interface OutBlock extends PackedLinks {
  readonly projects: Uint32Array;
}

interface OpenBlock {
  readonly projects: number[];
  readonly offsets: number[];
  readonly targets: number[];
  readonly rels: number[];
  packed: OutBlock | undefined;
}

/** Links to the targets of one block from one segment. */
interface InPart {
  readonly key: Buffer;
  readonly bytes: Buffer;
}

const numbers = (bytes: Uint8Array): Uint32Array =>
  new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4));
const aligned = (bytes: Uint8Array): Uint8Array => (bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes));

/** The blocks that were read last, found by the low bits of their numbers: a walk asks for millions. */
class HotBlocks<T> {
  readonly #blocks: (T | undefined)[] = Array.from({ length: HOT_BLOCKS }, () => undefined);
  readonly #numbers = new Float64Array(HOT_BLOCKS).fill(-1);

  get(number: number): T | undefined {
    const slot = number & (HOT_BLOCKS - 1);
    return this.#numbers[slot] === number ? this.#blocks[slot] : undefined;
  }

  set(number: number, block: T): T {
    const slot = number & (HOT_BLOCKS - 1);
    this.#numbers[slot] = number;
    this.#blocks[slot] = block;
    return block;
  }

  forget(number: number): void {
    if (this.get(number) !== undefined) this.#numbers[number & (HOT_BLOCKS - 1)] = -1;
  }

  clear(): void {
    this.#blocks.fill(undefined);
    this.#numbers.fill(-1);
  }
}

export class Links {
  readonly #hotOut = new HotBlocks<OutBlock>();
  readonly #hotIn = new HotBlocks<PackedLinks>();
  readonly #tables: Tables;
  #size = 0;
  readonly #open = new Map<number, OpenBlock>();
  readonly #dirty = new Set<number>();
  readonly #outCache = new Generations<number, OutBlock>(CACHED_NUMBERS);
  readonly #inCache = new Generations<number, PackedLinks>(CACHED_NUMBERS);
  /** Sources and relations by target, of the last segment. */
  readonly #recent = new Map<number, number[]>();
  /** Parts of segments that became full and are not written yet, by block. */
  readonly #full = new Map<number, InPart[]>();

  constructor(tables: Tables, size: number) {
    this.#tables = tables;
    this.#size = size;
    const firstRecent = Math.floor(size / SEGMENT) * SEGMENT;
    for (let source = firstRecent; source < size; source++) {
      const block = this.outBlock(Math.floor(source / LINK_BLOCK));
      const k = source % LINK_BLOCK;
      for (let at = block.offsets[k] ?? 0; at < (block.offsets[k + 1] ?? 0); at++)
        this.#remember(block.others[at] ?? 0, source, block.rels[at] ?? 0);
    }
    if (size % LINK_BLOCK !== 0) {
      const number = Math.floor(size / LINK_BLOCK);
      const block = this.outBlock(number);
      this.#open.set(number, {
        offsets: [...block.offsets],
        packed: block,
        projects: [...block.projects],
        rels: [...block.rels],
        targets: [...block.others],
      });
    }
  }

  #remember(target: number, source: number, rel: number): void {
    const list = this.#recent.get(target);
    if (list === undefined) this.#recent.set(target, [source, rel]);
    else list.push(source, rel);
  }

  /** Appends the next entry's links: targets and relations side by side. */
  append(project: number, targets: readonly number[], rels: readonly number[]): void {
    const source = this.#size;
    const number = Math.floor(source / LINK_BLOCK);
    let block = this.#open.get(number);
    if (block === undefined) {
      block = { offsets: [0], packed: undefined, projects: [], rels: [], targets: [] };
      this.#open.set(number, block);
    }
    for (let i = 0; i < targets.length; i++) {
      const target = targets[i] as number;
      const rel = rels[i] as number;
      block.targets.push(target);
      block.rels.push(rel);
      this.#remember(target, source, rel);
    }
    block.projects.push(project);
    block.offsets.push(block.targets.length);
    block.packed = undefined;
    this.#hotOut.forget(number);
    this.#dirty.add(number);
    this.#size++;
    if (this.#size % SEGMENT === 0) this.#closeSegment();
  }

  outBlock(number: number): OutBlock {
    return this.#hotOut.get(number) ?? this.#hotOut.set(number, this.#findOut(number));
  }

  #findOut(number: number): OutBlock {
    const open = this.#open.get(number);
    if (open !== undefined) {
      open.packed ??= {
        offsets: Uint32Array.from(open.offsets),
        others: Uint32Array.from(open.targets),
        projects: Uint32Array.from(open.projects),
        rels: Uint16Array.from(open.rels),
      };
      return open.packed;
    }
    const cached = this.#outCache.get(number);
    if (cached !== undefined) return cached;
    const block = decodeOut(
      aligned(assertDefined(this.#tables.get("out", u32Key(number)), "a block of links is stored")),
    );
    this.#outCache.set(number, block, block.offsets.length + 2 * block.others.length);
    return block;
  }

  /** Links from full segments to the targets of a block, ascending by source for each. */
  inBlock(number: number): PackedLinks {
    return this.#hotIn.get(number) ?? this.#hotIn.set(number, this.#findIn(number));
  }

  #findIn(number: number): PackedLinks {
    const cached = this.#inCache.get(number);
    if (cached !== undefined) return cached;
    const parts: Uint8Array[] = [];
    for (const { value } of this.#tables.range("in", { end: pairKey(number + 1, 0), start: pairKey(number, 0) }))
      parts.push(aligned(value));
    for (const part of this.#full.get(number) ?? []) parts.push(part.bytes);
    const block = mergeIn(parts);
    this.#inCache.set(number, block, block.offsets.length + 2 * block.others.length);
    return block;
  }

  /** Sources and relations side by side, of the last segment. */
  recent(target: number): readonly number[] {
    return this.#recent.get(target) ?? [];
  }

  #closeSegment(): void {
    const segment = this.#size / SEGMENT - 1;
    const targets = Uint32Array.from(this.#recent.keys()).sort();
    for (let from = 0; from < targets.length; ) {
      const block = Math.floor((targets[from] ?? 0) / LINK_BLOCK);
      let to = from;
      let links = 0;
      for (; to < targets.length && Math.floor((targets[to] ?? 0) / LINK_BLOCK) === block; to++)
        links += this.recent(targets[to] ?? 0).length / 2;
      const count = to - from;
      const bytes = Buffer.from(new ArrayBuffer(4 * (1 + 2 * count + links) + 2 * links));
      const head = numbers(bytes);
      const rels = new Uint16Array(bytes.buffer, 4 * (1 + 2 * count + links), links);
      head[0] = count;
      let end = 0;
      for (let k = 0; k < count; k++) {
        const target = targets[from + k] ?? 0;
        const list = this.recent(target);
        for (let i = 0; i < list.length; i += 2, end++) {
          head[1 + 2 * count + end] = list[i] ?? 0;
          rels[end] = list[i + 1] ?? 0;
        }
        head[1 + 2 * k] = target % LINK_BLOCK;
        head[2 + 2 * k] = end;
      }
      const part: InPart = { bytes, key: pairKey(block, segment) };
      const parts = this.#full.get(block);
      if (parts === undefined) this.#full.set(block, [part]);
      else parts.push(part);
      from = to;
    }
    this.#recent.clear();
    this.#inCache.clear();
    this.#hotIn.clear();
  }

  collect(set: WriteSet): void {
    for (const number of this.#dirty) set.put("out", u32Key(number), encodeOut(this.outBlock(number)));
    for (const block of [...this.#full.keys()].sort((a, b) => a - b))
      for (const part of this.#full.get(block) ?? []) set.put("in", part.key, part.bytes);
  }

  settle(): void {
    const last = Math.floor(this.#size / LINK_BLOCK);
    for (const number of this.#dirty) {
      if (number === last) continue;
      const block = this.outBlock(number);
      this.#open.delete(number);
      this.#outCache.set(number, block, block.offsets.length + 2 * block.others.length);
    }
    this.#dirty.clear();
    this.#full.clear();
  }
}

function encodeOut({ projects, offsets, others, rels }: OutBlock): Buffer {
  const n = projects.length;
  const bytes = Buffer.from(new ArrayBuffer(4 * (2 + 2 * n + others.length) + 2 * others.length));
  const head = numbers(bytes);
  head[0] = n;
  head.set(projects, 1);
  head.set(offsets, 1 + n);
  head.set(others, 2 + 2 * n);
  new Uint16Array(bytes.buffer, 4 * (2 + 2 * n + others.length)).set(rels);
  return bytes;
}

function decodeOut(bytes: Uint8Array): OutBlock {
  const head = numbers(bytes);
  const n = head[0] ?? 0;
  const offsets = head.subarray(1 + n, 2 + 2 * n);
  const links = offsets[n] ?? 0;
  return {
    offsets,
    others: head.subarray(2 + 2 * n, 2 + 2 * n + links),
    projects: head.subarray(1, 1 + n),
    rels: new Uint16Array(bytes.buffer, bytes.byteOffset + 4 * (2 + 2 * n + links), links),
  };
}

/** Parts ascend by segment, and so do the sources of each target. */
function mergeIn(parts: readonly Uint8Array[]): PackedLinks {
  const offsets = new Uint32Array(LINK_BLOCK + 1);
  const heads = parts.map((part) => numbers(part));
  for (const head of heads) {
    for (let k = 0, from = 0; k < (head[0] ?? 0); k++) {
      const end = head[2 + 2 * k] ?? 0;
      const place = (head[1 + 2 * k] ?? 0) + 1;
      offsets[place] = (offsets[place] ?? 0) + end - from;
      from = end;
    }
  }
  for (let k = 1; k <= LINK_BLOCK; k++) offsets[k] = (offsets[k] ?? 0) + (offsets[k - 1] ?? 0);
  const total = offsets[LINK_BLOCK] ?? 0;
  const others = new Uint32Array(total);
  const rels = new Uint16Array(total);
  const filled = offsets.slice(0, LINK_BLOCK);
  for (const [p, head] of heads.entries()) {
    const part = parts[p] as Uint8Array;
    const count = head[0] ?? 0;
    const links = count === 0 ? 0 : (head[2 * count] ?? 0);
    const sources = head.subarray(1 + 2 * count, 1 + 2 * count + links);
    const relations = new Uint16Array(part.buffer, part.byteOffset + 4 * (1 + 2 * count + links), links);
    for (let k = 0, from = 0; k < count; k++) {
      const end = head[2 + 2 * k] ?? 0;
      const place = head[1 + 2 * k] ?? 0;
      const at = filled[place] ?? 0;
      others.set(sources.subarray(from, end), at);
      rels.set(relations.subarray(from, end), at);
      filled[place] = at + end - from;
      from = end;
    }
  }
  return { offsets, others, rels };
}
