/**
 * Looks at the slots of the commits since the last publication before the next one (rule W7, `docs/protocol.md`): what is published
 * must be what everybody finds in the bucket, for as long as its lock holds.
 *
 * - Two contents of one slot: a store that let a second writer win, or somebody who laid a version over a commit. Nothing is
 *   published any more.
 * - A slot that is empty: the store forgot a commit. It gets it back when the index's tail has it; else nothing is published.
 * - A delete marker: `onHidden`. Readers that look for the oldest version still find the commit.
 * - A lock that is shorter than the ledger's floor is prolonged; nothing is published over one that cannot be.
 * - Several versions of the same bytes are what retries leave.
 */
import { sha256Hex } from "../merkle/hash.ts";
import { equalBytes } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import { commitKey, parseCommitKey } from "../store/keys.ts";
import type { ObjectVersion } from "../store/object-store.ts";
import { type Placing, persist } from "../store/place.ts";
import type { Applied } from "./applied.ts";
import { type SlotReading, twoCommits } from "./next-slot.ts";
import { DAY_MS, type Retention } from "./retention.ts";
import { prevOf } from "./slots.ts";

export interface AuditOptions {
  readonly applied: Applied;
  readonly reading: SlotReading;
  readonly retention: Retention;
}

/** Locks that are asked for at a time. */
const IN_FLIGHT = 16;

interface Slot {
  /** Of the oldest version with bytes. */
  versionId: string | undefined;
  versions: number;
  hasMarker: boolean;
}

export class CommitAudit {
  readonly #options: AuditOptions;
  #from: number;

  /** `from` is the first slot that was not looked at before. */
  constructor(options: AuditOptions, from: number) {
    this.#options = options;
    this.#from = from;
  }

  /** Looks at every slot up to the applied end. Throws the Violation that forbids to publish. */
  async run(placing: Placing): Promise<void> {
    const from = this.#from;
    const to = this.#options.applied.chain.n;
    if (from >= to) return;
    const slots = await persist(placing, () => listSlots(placing, from, to));
    const found: { readonly n: number; readonly versionId: string }[] = [];
    for (let n = from; n < to; n++) found.push({ n, versionId: await this.#checkSlot(placing, n, slots.get(n)) });
    const waiting = found.values();
    await Promise.all(
      Array.from({ length: Math.min(IN_FLIGHT, found.length) }, async () => {
        for (const { n, versionId } of waiting) await this.#checkLock(placing, n, versionId);
      }),
    );
    this.#from = to;
  }

  /** The id of the version that is the slot's value. */
  async #checkSlot(placing: Placing, n: number, slot: Slot | undefined): Promise<string> {
    const { reading } = this.#options;
    if (slot?.versionId === undefined) {
      await this.#giveBack(placing, n);
      return (await persist(placing, () => listSlots(placing, n, n + 1))).get(n)?.versionId ?? "";
    }
    if (slot.hasMarker) reading.onHidden(n, `slot ${n} has a commit under a delete marker`);
    if (slot.versions === 1) return slot.versionId;
    const { contents } = await persist(placing, () => reading.slots.history(n, placing.signal));
    if (contents.length > 1)
      throw new Violation(
        "commit.hidden",
        `slot ${n} has ${contents.length} contents: the store let a second writer win, or somebody laid a version over a commit`,
        commitKey(n),
      );
    return slot.versionId;
  }

  async #giveBack(placing: Placing, n: number): Promise<void> {
    const { applied, reading } = this.#options;
    const bytes = applied.index.commitBytes(n);
    if (bytes === undefined || sha256Hex(bytes) !== this.#hashOf(n))
      throw new Violation(
        "commit.gap",
        `slot ${n} is empty: the store lost a commit that is not in the index's tail`,
        commitKey(n),
      );
    const outcome = await persist(placing, () => reading.slots.create(n, bytes, placing.signal));
    const there = await persist(placing, () => reading.slots.read(n, placing.signal));
    if (there === null || !equalBytes(there, bytes))
      throw new Violation(
        "commit.gap",
        `slot ${n} was empty, and after putting its commit back (${outcome}) it is not it`,
        commitKey(n),
      );
  }

  /** What the next commit says of slot `n`. */
  #hashOf(n: number): string | undefined {
    const { chain, index } = this.#options.applied;
    if (n + 1 === chain.n) return chain.prevHash;
    const next = index.commitBytes(n + 1);
    return next === undefined ? undefined : prevOf(next);
  }

  async #checkLock(placing: Placing, n: number, versionId: string): Promise<void> {
    const { signal, store } = placing;
    const until = this.#options.retention();
    const held = (): Promise<number> =>
      persist(placing, async () => {
        const info = await store.head("ledger", commitKey(n), { signal, versionId });
        if (info === null)
          throw new Violation("commit.gap", `slot ${n} had a commit when it was listed, and is empty now`);
        return info.retainUntil ?? 0;
      });
    // Rounded up to a day, a lock of yesterday is a day short of today's.
    if ((await held()) >= until - DAY_MS) return;
    await persist(placing, async () => {
      await store.extend("ledger", commitKey(n), until, { signal, versionId }).catch((error: unknown) => {
        if (!(error instanceof Fault) || error.reason !== "NOT_FOUND") throw error;
      });
      return true;
    });
    if ((await held()) < until - DAY_MS)
      throw new Violation(
        "object.retention",
        `the commit in slot ${n} is not locked for as long as the ledger demands`,
        commitKey(n),
      );
  }
}

/**
 * Refuses to go on where one of the slots of an applied chain holds two commits: before a term begins, since what was applied here
 * need not be the one that another writer signed.
 */
export async function assertOneCommitEach(
  placing: Placing,
  { chain }: Pick<Applied, "chain">,
  reading: SlotReading,
  from: number,
): Promise<void> {
  const { slots, verifier } = reading;
  for (const [n, { versions }] of await persist(placing, () => listSlots(placing, from, chain.n))) {
    if (versions < 2) continue;
    const history = await persist(placing, () => slots.history(n, placing.signal));
    if (history.contents.filter((bytes) => !chain.isJunk(bytes, verifier)).length > 1) throw twoCommits(n, history);
  }
}

async function listSlots({ signal, store }: Placing, from: number, to: number): Promise<Map<number, Slot>> {
  const slots = new Map<number, Slot>();
  const after = from === 0 ? undefined : commitKey(from - 1);
  for await (const version of store.versions("ledger", "commits/", { after, signal })) {
    const n = parseCommitKey(version.key);
    if (n === undefined) continue;
    if (n >= to) break;
    note(slots, n, version);
  }
  return slots;
}

/** Versions come newest first. */
function note(slots: Map<number, Slot>, n: number, version: ObjectVersion): void {
  const slot = slots.get(n) ?? { hasMarker: false, versionId: undefined, versions: 0 };
  if (version.isMarker) slot.hasMarker = true;
  else {
    slot.versions++;
    slot.versionId = version.versionId;
  }
  slots.set(n, slot);
}
