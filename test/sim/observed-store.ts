/**
 * The store of a simulation as its observer sees it: each effect, at the moment that it takes place. Holds I8 at every publication,
 * not only at the end, since a crash may come right after it.
 */
import { parseCheckpoint } from "../../src/note/checkpoint.ts";
import { parseNote } from "../../src/note/note.ts";
import { parseCommit } from "../../src/record/commit.ts";
import { parseEntry } from "../../src/record/entry.ts";
import { digestOf, type RecordId } from "../../src/std/brand.ts";
import { HEAD_CHECKPOINT, parseCommitKey, recordKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { Broken, hold } from "./invariants.ts";

export interface ObserverOptions {
  /** Hears of each note that is published. */
  readonly onPublished: (note: Uint8Array) => void;
  /** Hears of what is broken: nobody in the system is to swallow it. */
  readonly onBroken: (error: Broken) => void;
}

export function observe(inner: ObjectStore, { onBroken, onPublished }: ObserverOptions): ObjectStore {
  /** Records by their index, as the slots said first. */
  const records: RecordId[] = [];
  const slots = new Set<string>();
  let checked = 0;

  function onCommit(slot: string, body: Uint8Array): void {
    if (slots.has(slot)) return;
    slots.add(slot);
    const { header, items } = parseCommit(body);
    for (const [k, { entry }] of items.entries()) records[header.first + k] = parseEntry(entry).record;
  }

  async function onHead(note: Uint8Array): Promise<void> {
    onPublished(note);
    const { size } = parseCheckpoint(parseNote(note).text);
    hold("I8", size >= checked, `size ${size} is published after ${checked}`);
    for (; checked < size; checked++) {
      const record = records[checked];
      const found = record === undefined ? null : await inner.head("ledger", recordKey(digestOf(record)));
      hold("I8", (found?.retainUntil ?? 0) > 0, `size ${size} is published before the record of entry ${checked}`);
    }
  }

  const watching = async (work: () => void | Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      onBroken(error);
    }
  };

  return {
    ...inner,
    async create(bucket, key, body, options) {
      const done = await inner.create(bucket, key, body, options);
      const isCommit = bucket === "ledger" && parseCommitKey(key) !== undefined;
      if (done.outcome === "created" && isCommit) await watching(() => onCommit(key, body));
      return done;
    },
    async swap(bucket, key, body, etag, options) {
      const done = await inner.swap(bucket, key, body, etag, options);
      if (done.outcome === "swapped" && key === HEAD_CHECKPOINT) await watching(() => onHead(body));
      return done;
    },
  };
}
