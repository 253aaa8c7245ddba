/** What an observer outside of all machines saw in a run: what clients were told, and every note that was signed. */
import type { LogReceipt } from "../../src/log/log.ts";
import { parseCheckpoint } from "../../src/note/checkpoint.ts";
import { parseNote } from "../../src/note/note.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { formatHex } from "../../src/std/bytes.ts";
import { hold } from "./invariants.ts";

/** A record that a client was told of, with the proof that came along. */
export interface Acknowledgement {
  readonly id: RecordId;
  readonly receipt: LogReceipt;
}

export class History {
  readonly acknowledged: (Acknowledgement & { readonly request: string })[] = [];
  /** Requests whose answer was that nothing was recorded, whenever they were sent. */
  readonly denied = new Map<string, string>();
  /** Every request that was sent. */
  readonly requests = new Set<string>();
  /** Largest numbers of records and bytes that waited in one process. */
  readonly queued = { bytes: 0, records: 0 };
  readonly #roots = new Map<number, string>();

  /** Hex roots that were signed, by size. */
  get signed(): ReadonlyMap<number, string> {
    return this.#roots;
  }

  onSigned(note: Uint8Array): void {
    const { root, size } = parseCheckpoint(parseNote(note).text);
    const hex = formatHex(root);
    const before = this.#roots.get(size);
    hold("I5", before === undefined || before === hex, `size ${size} was signed with roots ${before} and ${hex}`);
    this.#roots.set(size, hex);
  }
}
