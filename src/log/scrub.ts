/**
 * Looks at the whole ledger bucket again and again, slowly, so that what was changed, hidden, shadowed, shortened or planted is found
 * although nobody asks for it. One look is two walks:
 *
 * - over the versions that lie there, a page at a time: keys of no ledger, objects that the log does not know, delete markers, and
 *   second contents under one key;
 * - over the commits of the log, from one that chance names: each object by its bytes, each lock by its end, and the rows of the
 *   index by the commit that they came from. A lock that is due is prolonged.
 *
 * Never faster than its rate in objects and bytes, so that it does not take the store from those who work. It changes nothing but
 * locks, and those only to later ends.
 */
import type { Index, IndexedCommit } from "../index/index.ts";
import { sha256Hex } from "../merkle/hash.ts";
import { fullTiles, TILE_WIDTH } from "../merkle/tiles.ts";
import { parseCommit } from "../record/commit.ts";
import { digestOf, idOf } from "../std/brand.ts";
import { equalBytes } from "../std/bytes.ts";
import { type Clock, formatTime, type Random } from "../std/ports.ts";
import { commitKey, parseKey } from "../store/keys.ts";
import type { ObjectStore, ObjectVersion } from "../store/object-store.ts";
import { type Placing, persist } from "../store/place.ts";
import { isDue } from "../store/retention-report.ts";
import { readRight } from "../store/right-version.ts";
import { askAbout, Expectations, type ExpectedObject, lookAt } from "./expected.ts";
import type { Findings } from "./findings.ts";
import { findingOf, prolongTo, unreadable } from "./renewal.ts";
import { createRetention } from "./retention.ts";

export interface ScrubOptions {
  readonly index: Index;
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly findings: Findings;
  readonly objectsPerSecond: number;
  readonly onObject?: () => void;
}

/** What one look at everything came to. */
export interface Scrubbed {
  /** Entries below which everything was looked at. */
  readonly size: number;
  readonly counts: {
    readonly commits: number;
    readonly objects: number;
    readonly prolonged: number;
    readonly versions: number;
  };
}

const BYTES_PER_OBJECT = 1 << 20;
/** Versions of a page, which costs as much as one object. */
const PAGE = 1_000;
/** What lies there for less may be on its way into the log. */
const YOUNG_MS = 3_600_000;
const PATIENCE_MS = 600_000;
/** How long one object is asked for, before it is asked whether the store answers for others. */
const OBJECT_PATIENCE_MS = 30_000;

export async function scrub(options: ScrubOptions): Promise<Scrubbed> {
  options.findings.beginLook();
  const look = new Scrub(options);
  await look.versions();
  await look.commits();
  options.findings.endLook();
  return look.scrubbed;
}

class Scrub {
  readonly #options: ScrubOptions;
  readonly #expectations: Expectations;
  readonly #size: number;
  readonly #counts = { commits: 0, objects: 0, prolonged: 0, versions: 0 };

  constructor(options: ScrubOptions) {
    this.#options = options;
    this.#expectations = new Expectations(options.index, options.store);
    this.#size = options.index.watermark.size;
  }

  get scrubbed(): Scrubbed {
    return { counts: { ...this.#counts }, size: this.#size };
  }

  get #asking(): Placing {
    const { clock, signal, store } = this.#options;
    return { clock, patienceMs: PATIENCE_MS, signal, store };
  }

  #report(code: string, object: string, detail: string): void {
    this.#options.findings.report({ code, detail, object });
  }

  async #pace(sizeBytes: number): Promise<void> {
    const { clock, objectsPerSecond, signal } = this.#options;
    await clock.sleep((1_000 / objectsPerSecond) * Math.max(1, sizeBytes / BYTES_PER_OBJECT), signal);
  }

  // The versions that lie there.

  async versions(): Promise<void> {
    let after = "";
    for (;;) {
      const page = await persist(this.#asking, () => this.#page(after));
      for (const group of page.groups) await this.#key(group);
      if (page.next === undefined) return;
      after = page.next;
      await this.#pace(0);
    }
  }

  /** Versions by their key; the last key of a full page is left to the next, unless the page has no other. */
  async #page(after: string): Promise<{ readonly groups: ObjectVersion[][]; readonly next: string | undefined }> {
    const { signal, store } = this.#options;
    const groups: ObjectVersion[][] = [];
    let seen = 0;
    for await (const version of store.versions("ledger", "", { after, limit: PAGE, signal })) {
      seen++;
      const last = groups.at(-1);
      if (last?.[0]?.key === version.key) last.push(version);
      else groups.push([version]);
    }
    if (seen < PAGE) return { groups, next: undefined };
    if (groups.length > 1) groups.pop();
    return { groups, next: groups.at(-1)?.[0]?.key };
  }

  async #key(group: readonly ObjectVersion[]): Promise<void> {
    const { key } = group[0] ?? { key: "" };
    this.#counts.versions += group.length;
    const stranger = this.#stranger(key, group);
    if (stranger !== undefined) return this.#report("object.planted", key, stranger);
    const data = group.filter((v) => !v.isMarker);
    if (data.length < group.length)
      this.#report(
        "object.hidden",
        key,
        group[0]?.isMarker === true ? "a delete marker lies over it" : "a delete marker lies among its versions",
      );
    if (data.length > 1 && (await this.#isTwofold(key, data)))
      this.#report("object.shadowed", key, `${data.length} versions with different bytes lie there`);
  }

  /** Whether versions have different bytes: by their tags, and where those differ by the digests that the store keeps. */
  async #isTwofold(key: string, versions: readonly ObjectVersion[]): Promise<boolean> {
    if (new Set(versions.map((v) => `${v.sizeBytes} ${v.etag}`)).size === 1) return false;
    const { signal, store } = this.#options;
    const digests = new Set<string>();
    for (const { versionId } of versions) {
      const info = await persist(this.#asking, () => store.head("ledger", key, { signal, versionId }));
      digests.add(info?.sha256 ?? versionId);
      if (digests.size > 1) return true;
    }
    return false;
  }

  /** Why an object is none of this ledger's. */
  #stranger(key: string, group: readonly ObjectVersion[]): string | undefined {
    const { clock, index } = this.#options;
    const parsed = parseKey("ledger", key);
    if (parsed === undefined) return "its key is none that a ledger has";
    using reader = index.reader();
    const oldest = group.at(-1)?.modifiedMs ?? 0;
    const isYoung = Math.abs(clock.now() - oldest) < YOUNG_MS;
    const { n: commits, size } = index.watermark;
    switch (parsed.type) {
      case "commit":
        // The next slot is the writer's own concern.
        return parsed.n > commits ? `there are ${commits} commits` : undefined;
      case "record":
        return isYoung || reader.indexOf(idOf(parsed.digest)) !== undefined ? undefined : "no entry names this record";
      case "artifact":
        // One that no record names yet may be an upload that is not completed.
        return reader.get("project", idOf(parsed.project)) === undefined ? "there is no such project" : undefined;
      case "tile": {
        const level = parsed.level === "entries" ? 0 : parsed.level;
        return parsed.n < fullTiles(level, size) && parsed.width === TILE_WIDTH ? undefined : "no such tile is full";
      }
      case "checkpoint":
        return parsed.size >= 1 && parsed.size <= size && reader.entry(parsed.size - 1)?.kind === "ledger.seal"
          ? undefined
          : "no seal closes a tree of this size";
      default:
        return parsed satisfies never;
    }
  }

  // What the log says.

  async commits(): Promise<void> {
    const { index, random } = this.#options;
    const { n } = index.watermark;
    const [a = 0, b = 0, c = 0, d = 0] = random.bytes(4);
    const start = (a * 2 ** 24 + b * 2 ** 16 + c * 2 ** 8 + d) % n;
    for (let k = 0; k < n; k++) {
      const commit = this.#expectations.commit((start + k) % n);
      if (commit !== undefined) await this.#commit(commit);
    }
  }

  async #commit(commit: IndexedCommit): Promise<void> {
    const { signal } = this.#options;
    this.#counts.commits++;
    const objects = await persist(this.#asking, () => this.#expectations.ofCommit(commit, signal));
    for (const object of objects) {
      const sizeBytes = await this.#object(object);
      this.#counts.objects++;
      this.#options.onObject?.();
      await this.#pace(sizeBytes);
    }
    await this.#rows(commit);
  }

  /** Gives how many bytes were read. */
  async #object(object: ExpectedObject): Promise<number> {
    const { clock, index, signal, store } = this.#options;
    const asking = { ...this.#asking, patienceMs: OBJECT_PATIENCE_MS };
    const asked = await askAbout(asking, object.key, () => lookAt(store, object, { signal }));
    if ("refused" in asked) {
      const { code, detail } = unreadable(object, asked.refused);
      this.#report(code, object.key, detail);
      return 0;
    }
    const look = asked.answer;
    const found = findingOf(object, look, index);
    // It may have been published, or erased, since what is expected was asked for.
    if (found !== undefined) this.#report(found.code, found.object, found.detail);
    if (look.is !== "right") return 0;
    const { lockMode, retainUntil = 0 } = look.lock;
    const now = clock.now();
    const isShort = object.lockedUntil > now && retainUntil < object.lockedUntil;
    const isLoose = store.lock === "compliance" && lockMode !== "COMPLIANCE";
    if (isShort || isLoose)
      this.#report(
        "object.retention",
        object.key,
        isLoose
          ? "its lock is none that binds everybody"
          : `its lock ends ${formatTime(retainUntil)}, the log asks for ${formatTime(object.lockedUntil)}`,
      );
    if (isShort || isLoose || retainUntil < object.wantedUntil || isDue(retainUntil, now, object.termDays)) {
      const until = createRetention(clock, object.termDays)();
      const done = await askAbout(asking, object.key, () =>
        prolongTo(store, object.key, look.versionId, until, signal),
      );
      if ("answer" in done && done.answer) this.#counts.prolonged++;
      else
        this.#report(
          "object.retention",
          object.key,
          `its lock cannot be prolonged${"refused" in done ? `: ${done.refused}` : ""}`,
        );
    }
    return look.sizeBytes;
  }

  /** The rows of the index are what the commit says; it is the bucket that is believed. */
  async #rows({ first, hash, n, size }: IndexedCommit): Promise<void> {
    const { index, signal, store } = this.#options;
    const key = commitKey(n);
    const isRight = (body: Uint8Array): boolean => sha256Hex(body) === hash;
    const asking = { ...this.#asking, patienceMs: OBJECT_PATIENCE_MS };
    const asked = await askAbout(asking, key, () => readRight(store, key, isRight, { signal }));
    const found = "answer" in asked ? asked.answer : null;
    if (found?.isRight !== true) return;
    const { header, items } = parseCommit(found.body);
    using reader = index.reader();
    const before = n === 0 ? undefined : reader.commit(n - 1)?.hash;
    const isSame =
      (before === undefined || header.prev === idOf(before)) &&
      header.first === first &&
      items.length === size - first &&
      items.every(({ entry, record }, i) => {
        const row = reader.entry(first + i);
        const bytes = reader.bytes(first + i);
        return (
          row !== undefined &&
          equalBytes(row.entryBytes, entry) &&
          (bytes === undefined || sha256Hex(bytes) === digestOf(row.record)) &&
          (record === null || bytes !== undefined)
        );
      });
    if (!isSame)
      this.#report(
        "index.row",
        key,
        "the index holds other rows than this commit gives: stop the server, remove index/, start it",
      );
  }
}
