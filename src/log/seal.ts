/**
 * Seals: a record that states heads and state of all entries before it, a commit of its own and the last entry of the checkpoint
 * that it closes. Owns when they are made, that callers at the same time share one, and that the closed checkpoint is published
 * and archived under lock before a seal counts as done.
 */
import { FOLD_VERSION } from "../fold/fold.ts";
import { headsRoot } from "../record/heads.ts";
import { assertDefined } from "../std/assert.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import type { Clock } from "../std/ports.ts";
import type { Placing } from "../store/place.ts";
import type { Applied } from "./applied.ts";
import { archiveCheckpoint } from "./archive.ts";
import type { Publisher } from "./publish.ts";
import type { Retention } from "./retention.ts";
import type { Sequencer } from "./sequencer.ts";
import type { SignedHead, Signer } from "./signer.ts";
import type { Draft, Submission } from "./submission.ts";

export interface Seal {
  readonly index: LogIndex;
  readonly size: TreeSize;
  /** The archived note; the seal is its last entry. */
  readonly checkpoint: Uint8Array;
}

export interface SealerOptions extends Omit<Placing, "signal"> {
  readonly applied: Applied;
  readonly sequencer: Sequencer;
  readonly publisher: Publisher;
  readonly signer: Signer;
  readonly retention: Retention;
  readonly clock: Clock;
  readonly intervalMs?: number;
  onFailed(error: unknown): void;
}

const INTERVAL_MS = 600_000;

/** The body of the seal that would come next: all as of the entries before it. */
export function sealDraft({ chain, index, reader }: Applied, system: RecordId): Draft {
  const ledger = assertDefined(reader.get("ledger", ""), "a ledger has its genesis record").value.record;
  return {
    actor: { method: "system" },
    body: {
      heads: formatHex(headsRoot(chain.heads)),
      ledger,
      projects: chain.heads.size,
      size: chain.size,
      state: index.watermark.state,
      state_version: FOLD_VERSION,
    },
    kind: "ledger.seal",
    links: [],
    project: system,
    requestId: `seal-${chain.size}`,
  };
}

export class Sealer {
  readonly #options: SealerOptions;
  readonly #system: RecordId;
  readonly #stop = new AbortController();
  /** Not begun yet: whoever asks now is served by it. */
  #next: Promise<Seal> | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #last: Seal | undefined;
  readonly #timer: Promise<void>;

  constructor(options: SealerOptions) {
    this.#options = options;
    this.#system = assertDefined(options.applied.reader.entry(1), "entry 1 creates the project _system").record;
    this.#timer = this.#everyInterval();
  }

  /** A sealed checkpoint over all that was applied when it was asked for. */
  seal(signal?: AbortSignal): Promise<Seal> {
    signal?.throwIfAborted();
    const next = (this.#next ??= this.#turn.then(() => {
      this.#next = undefined;
      return this.#sealNow();
    }));
    this.#turn = next.catch(() => undefined);
    return signal === undefined ? next : abandonable(next, signal);
  }

  /** Ends; a seal that was made and not yet archived is archived after the next start. */
  async close(): Promise<void> {
    this.#stop.abort(new Error("the sealer is closed"));
    await this.#timer;
    await this.#turn;
  }

  async #sealNow(): Promise<Seal> {
    const { applied, clock, onOver, publisher, retention, sequencer, signer, store } = this.#options;
    const existing = this.#last;
    if (existing?.size === applied.size) return existing;
    const sealed = this.#endsWithSeal() ? this.#again() : await sequencer.exclusive(() => this.#submission());
    await publisher.publish(sealed.signed);
    const { published } = publisher;
    const checkpoint = published?.size === sealed.signed.size ? published.note : signer.complete(sealed.signed);
    const placing = { clock, onOver, signal: this.#stop.signal, store };
    await archiveCheckpoint(placing, checkpoint, retention());
    this.#last = { checkpoint, index: sealed.index, size: sealed.signed.size as TreeSize };
    return this.#last;
  }

  /** Made before a restart, when nothing came after it; its checkpoint may not be archived yet. */
  #endsWithSeal(): boolean {
    const { applied, sequencer } = this.#options;
    return applied.reader.entry(applied.size - 1)?.kind === "ledger.seal" && sequencer.signed.size === applied.size;
  }

  #again(): { readonly index: LogIndex; readonly signed: SignedHead } {
    const { applied, sequencer } = this.#options;
    return { index: (applied.size - 1) as LogIndex, signed: sequencer.signed };
  }

  #submission(): Submission<null> {
    const { applied } = this.#options;
    return {
      admit: () => ({ drafts: [sealDraft(applied, this.#system)], value: null }),
      lane: "control",
      project: this.#system,
    };
  }

  async #everyInterval(): Promise<void> {
    const { clock, intervalMs = INTERVAL_MS } = this.#options;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(intervalMs, this.#stop.signal).catch(() => undefined);
      if (this.#stop.signal.aborted || this.#options.sequencer.stopped !== undefined) return;
      await this.seal().catch((error: unknown) => {
        // A store that takes nothing now is asked again in an interval.
        if (!(error instanceof Fault && error.reason === "STORE_UNAVAILABLE")) this.#options.onFailed(error);
      });
    }
  }
}

function abandonable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject, resolve } = Promise.withResolvers<T>();
  const abandon = (): void => reject(signal.reason as Error);
  signal.addEventListener("abort", abandon, { once: true });
  work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abandon));
  return promise;
}
