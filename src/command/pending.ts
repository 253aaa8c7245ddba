/**
 * A reader that also shows earlier drafts of the same group, under their `$k`: a decision may rest on what is recorded with it.
 * Shows them as records only; they change no view.
 */
import type { View, ViewReader, ViewRow } from "../fold/view.ts";
import type { Draft } from "../log/submission.ts";
import { type LedgerRecord, sortLinks } from "../record/record.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";

export class PendingReader implements ViewReader {
  readonly #base: ViewReader;
  readonly #drafts: readonly Draft[];
  readonly #time: string;

  constructor(base: ViewReader, drafts: readonly Draft[], time: string) {
    this.#base = base;
    this.#drafts = drafts;
    this.#time = time;
  }

  get size(): TreeSize {
    return this.#base.size;
  }

  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    return this.#base.get(view, key);
  }

  record(id: RecordId): { readonly index: LogIndex; readonly record: LedgerRecord } | undefined {
    if (!id.startsWith("$")) return this.#base.record(id);
    const position = Number(id.slice(1));
    const found = this.#drafts[position];
    if (found === undefined) return undefined;
    const { actor, body, kind, links, project, requestId } = found;
    return {
      index: (this.size + position) as LogIndex,
      record: {
        actor,
        body,
        kind,
        links: sortLinks(links as Parameters<typeof sortLinks>[0]),
        ...(project === undefined ? {} : { project: project as RecordId }),
        request_id: requestId,
        salt: "",
        time: this.#time,
        v: 1,
      },
    };
  }

  *dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }> {
    if (!id.startsWith("$")) yield* this.#base.dependents(id);
    for (const [k, { links }] of this.#drafts.entries()) {
      for (const { rel, to } of links) if (to === id) yield { id: `$${k}` as RecordId, rel };
    }
  }
}
