/**
 * Publishes signed checkpoints, about one a second while the log grows: the newest whose records are objects already, so that
 * publication goes on also where they are far behind. Owns the order that readers rely on:
 *
 * 1. every record below the size is its own locked object;
 * 2. every commit since the last time is what everybody finds in its slot;
 * 3. full tiles and bundles, then the partial ones of this size;
 * 4. the checkpoint, never of a smaller size than the one it replaces;
 * 5. partial tiles go once their full tile exists, and not because a wider partial does: a reader of an older checkpoint still
 *    asks for them.
 */
import {
  entriesPath,
  fullTiles,
  newTiles,
  parseTilePath,
  TILE_WIDTH,
  type TileAddress,
  tilePath,
} from "../merkle/tiles.ts";
import { parseCheckpoint } from "../note/checkpoint.ts";
import { parseNote } from "../note/note.ts";
import type { TreeSize } from "../std/brand.ts";
import { equalBytes } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { HEAD_CHECKPOINT, partialTileKey, tileKey } from "../store/keys.ts";
import type { StoredObject } from "../store/object-store.ts";
import { type Placing, persist, placeHead, placeLocked } from "../store/place.ts";
import type { Applied } from "./applied.ts";
import type { CommitAudit } from "./audit.ts";
import type { Materialiser } from "./materialise.ts";
import { type Retention, tailFrom } from "./retention.ts";
import type { SignedHead, Signer } from "./signer.ts";
import { entryBundle, hashTile } from "./tile-bytes.ts";

export interface PublisherOptions extends Omit<Placing, "signal"> {
  readonly applied: Applied;
  readonly audit: CommitAudit;
  readonly materialiser: Materialiser;
  readonly signer: Signer;
  readonly retention: Retention;
  readonly intervalMs?: number;
  /** Of the head bucket at start-up, verified; null when there is none. */
  readonly published: Published | null;
  readonly onPublished: (published: Published) => void;
  onFailed(error: unknown): void;
}

export interface Published {
  readonly size: number;
  readonly note: Uint8Array;
}

const INTERVAL_MS = 1_000;
/** Of signed heads that wait for their records, one in so many records is kept, and the newest. */
const KEPT_EVERY = 1_024;

const pathOf = ({ level, n, width }: TileAddress): string =>
  level === "entries" ? entriesPath(n, width) : tilePath(level, n, width);

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #stop = new AbortController();
  #published: Published | null;
  /** Signed and not published, ascending. */
  #offered: SignedHead[] = [];
  #turn: Promise<unknown> = Promise.resolve();
  #running: Promise<void> | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#published = options.published;
  }

  get published(): Published | null {
    return this.#published;
  }

  /** A newer checkpoint was signed: it, or a later one, is published within the interval, or when its records are objects. */
  offer(signed: SignedHead): void {
    if (this.#stop.signal.aborted || signed.size <= (this.#published?.size ?? 0)) return;
    const last = this.#offered.at(-1);
    const before = this.#offered.at(-2) ?? this.#published;
    if (last !== undefined && last.size - (before?.size ?? 0) < KEPT_EVERY) this.#offered.pop();
    this.#offered.push(signed);
    this.#start();
  }

  #start(): void {
    this.#running ??= this.#run()
      .catch((error: unknown) => {
        if (this.#stop.signal.aborted) return;
        this.#stop.abort(error);
        this.#options.onFailed(error);
      })
      .finally(() => {
        this.#running = undefined;
        // Offered between the last look and the end.
        if (this.#offered.length > 0 && !this.#stop.signal.aborted) this.#start();
      });
  }

  /** Publishes exactly this checkpoint, unless a larger one is out. */
  publish(signed: SignedHead): Promise<void> {
    const done = this.#turn.then(() => this.#publishNow(signed));
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** Removes partial tiles that a crash left beside their full tile. */
  async sweep(): Promise<void> {
    const size = this.#published?.size ?? 0;
    await this.#collect("tile/", (tile) => tile.n < fullTiles(tile.level === "entries" ? 0 : tile.level, size));
  }

  async close(): Promise<void> {
    this.#stop.abort(new Error("the publisher is closed"));
    await this.#running;
    await this.#turn;
  }

  get #placing(): Placing {
    const { clock, onOver, store } = this.#options;
    return { clock, onOver, signal: this.#stop.signal, store };
  }

  async #run(): Promise<void> {
    const { clock, intervalMs = INTERVAL_MS } = this.#options;
    while (this.#offered.length > 0 && !this.#stop.signal.aborted) {
      await clock.sleep(intervalMs, this.#stop.signal);
      const next = this.#next();
      if (next !== undefined) await this.publish(next);
    }
  }

  /** The newest whose records are objects; else the oldest, which is waited for. */
  #next(): SignedHead | undefined {
    const { size } = this.#options.materialiser;
    return this.#offered.findLast((signed) => signed.size <= size) ?? this.#offered[0];
  }

  async #publishNow(signed: SignedHead): Promise<void> {
    const from = this.#published?.size ?? 0;
    if (signed.size <= from) return;
    const { applied, audit, materialiser, onPublished, signer } = this.#options;
    await materialiser.reached(signed.size);
    await audit.run(this.#placing);
    const hashTiles = newTiles(from, signed.size);
    const bundles = hashTiles.filter((t) => t.level === 0).map((t): TileAddress => ({ ...t, level: "entries" }));
    const tiles = [...hashTiles, ...bundles].toSorted((a, b) => b.width - a.width);
    for (const tile of tiles) await this.#putTile(tile);
    const note = signer.complete(signed);
    await this.#putCheckpoint(signed, note);
    this.#published = { note, size: signed.size };
    this.#offered = this.#offered.filter(({ size }) => size > signed.size);
    applied.index.setPublished(signed.size as TreeSize, tailFrom(this.#options.clock));
    onPublished(this.#published);
    for (const tile of tiles) {
      // Only the first tile that became full can have had partials.
      if (tile.width === TILE_WIDTH && tile.n === fullTiles(tile.level === "entries" ? 0 : tile.level, from)) {
        await this.#collect(`${pathOf(tile)}.p/`, (t) => t.n === tile.n && t.level === tile.level);
      }
    }
  }

  async #putTile(tile: TileAddress): Promise<void> {
    const { applied, retention } = this.#options;
    const body =
      tile.level === "entries"
        ? entryBundle(applied.reader, tile.n, tile.width)
        : hashTile(applied.tree.read, tile.level, tile.n, tile.width);
    if (tile.width === TILE_WIDTH) await placeLocked(this.#placing, tileKey(pathOf(tile)), body, retention());
    else await placeHead(this.#placing, partialTileKey(pathOf(tile)), body);
  }

  async #putCheckpoint(signed: SignedHead, note: Uint8Array): Promise<void> {
    const { store } = this.#options;
    const { signal } = this.#placing;
    await persist(this.#placing, async () => {
      const found = await store.get("head", HEAD_CHECKPOINT, { signal });
      if (found !== null && equalBytes(found.body, note)) return "swapped";
      assertNotAhead(found, signed.size);
      const { outcome } = await store.swap("head", HEAD_CHECKPOINT, note, found?.etag ?? null, { signal });
      // Moved: look again at what is there now.
      return outcome === "swapped" ? outcome : "unknown";
    });
  }

  async #collect(prefix: string, gone: (tile: TileAddress) => boolean): Promise<void> {
    const { store } = this.#options;
    const { signal } = this.#placing;
    await persist(this.#placing, async () => {
      for await (const { key } of store.list("head", prefix, { signal })) {
        const tile = parseTilePath(key);
        if (tile !== undefined && tile.width < TILE_WIDTH && gone(tile)) await store.remove("head", key, { signal });
      }
      return true;
    });
  }
}

/** Head is not trusted: what does not parse is replaced; a larger size is never. */
function assertNotAhead(found: StoredObject | null, size: number): void {
  if (found === null) return;
  let there: number;
  try {
    there = parseCheckpoint(parseNote(found.body).text).size;
  } catch (error) {
    if (error instanceof Violation) return;
    throw error;
  }
  if (there > size)
    throw new Violation(
      "checkpoint.ahead",
      `the published checkpoint has size ${there}, this process would publish ${size}`,
    );
}
