/**
 * The lease: the object `leader` of the head bucket, in which the writer says every two seconds that it is alive and where it is
 * reached (`docs/protocol.md`). It keeps two processes from contending all the time, and tells the others where to forward.
 *
 * - Nothing rests on it for safety: who holds it may still lose the next slot, and who lost it may still win one.
 * - No clocks are compared. A lease is silent for as long as this process saw it unchanged by its own monotonic clock, and
 *   `beat` makes every one differ from the last.
 * - It is signed with a commit key, because callers' credentials are forwarded to where it points, and head is not trusted. Its text
 *   begins with `<origin>/leader`, so it is never a commit.
 */

import type { VerifierKey } from "../note/keys.ts";
import { formatNote, parseNote, signatureLine } from "../note/note.ts";
import type { NoteSigner, SignatureVerifier } from "../note/signatures.ts";
import { canonicalize, parseCanonical } from "../record/canonical.ts";
import { isObject } from "../record/json.ts";
import { equalBytes, utf8 } from "../std/bytes.ts";
import type { Clock } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { LEADER } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";

export interface Leader {
  /** Higher in each lease that is written. */
  readonly beat: number;
  readonly epoch: number;
  /** Where other servers reach its HTTP port; empty in a lease that was given up. */
  readonly url: string;
  /** 32 hex characters; empty in a lease that was given up. */
  readonly writer: string;
}

export interface Seen {
  /** Undefined when the object is absent, or nothing that a commit key signed. */
  readonly leader: Leader | undefined;
  /** For how long it was seen unchanged. */
  readonly silentMs: number;
}

export interface LeaseOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly verifier: SignatureVerifier;
  readonly origin: string;
  /** Keys whose signature is believed now. */
  readonly keys: () => readonly VerifierKey[];
}

const MAX_LEASE_BYTES = 8_192;
const WRITER = /^(?:[0-9a-f]{32})?$/;

export function formatLease(origin: string, { beat, epoch, url, writer }: Leader, key: NoteSigner): Uint8Array {
  const text = `${origin}/leader\n${canonicalize({ beat, epoch, url, writer })}\n`;
  return formatNote(text, [signatureLine(key.name, key.id, key.sign(utf8(text)))]);
}

/** Undefined for anything but a lease of this log that one of the keys signed. An attacker may control all bytes here. */
export function parseLease(
  bytes: Uint8Array,
  { keys, origin, verifier }: Pick<LeaseOptions, "keys" | "origin" | "verifier">,
): Leader | undefined {
  try {
    const { signatures, text } = parseNote(bytes, { maxBytes: MAX_LEASE_BYTES });
    const lines = text.split("\n");
    const [first, body = ""] = lines;
    if (first !== `${origin}/leader` || lines.length !== 3) return undefined;
    const known = keys();
    const isSigned = signatures.some((s) =>
      known.some((k) => k.id === s.id && k.name === s.name && verifier.ed25519(k.publicKey, utf8(text), s.signature)),
    );
    const value = parseCanonical(utf8(body), { maxBytes: MAX_LEASE_BYTES });
    if (!isSigned || !isObject(value) || Object.keys(value).length !== 4) return undefined;
    const { beat, epoch, url, writer } = value;
    if (!Number.isSafeInteger(beat) || !Number.isSafeInteger(epoch)) return undefined;
    if (typeof url !== "string" || typeof writer !== "string" || !WRITER.test(writer)) return undefined;
    return { beat: beat as number, epoch: epoch as number, url, writer };
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}

export class Lease {
  readonly #options: LeaseOptions;
  #etag: string | null | undefined;
  #sinceMs = 0;
  #leader: Leader | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** Reads it. Rejects when the store does not answer; then nothing was seen. */
  async look(signal: AbortSignal): Promise<Seen> {
    const { clock, store } = this.#options;
    const found = await store.get("head", LEADER, { signal });
    const nowMs = clock.monotonic();
    this.#note(found?.etag ?? null, found === null ? undefined : parseLease(found.body, this.#options), nowMs);
    return { leader: this.#leader, silentMs: nowMs - this.#sinceMs };
  }

  #note(etag: string | null, leader: Leader | undefined, nowMs: number): void {
    if (etag !== this.#etag) this.#sinceMs = nowMs;
    this.#etag = etag;
    this.#leader = leader;
  }

  /**
   * Writes a lease in place of the one that was seen last. `lost`: another writer's is there. `unknown`: nothing can be said, and
   * it may be tried again.
   */
  async write(term: Omit<Leader, "beat">, key: NoteSigner, signal: AbortSignal): Promise<"held" | "lost" | "unknown"> {
    const { clock, origin, store } = this.#options;
    const leader: Leader = { ...term, beat: (this.#leader?.beat ?? 0) + 1 };
    const body = formatLease(origin, leader, key);
    const done = await store.swap("head", LEADER, body, this.#etag ?? null, { signal });
    if (done.outcome === "swapped") {
      this.#note(done.etag, leader, clock.monotonic());
      return "held";
    }
    const found = await store.get("head", LEADER, { signal });
    if (found !== null && equalBytes(found.body, body)) {
      this.#note(found.etag, leader, clock.monotonic());
      return "held";
    }
    const there = found === null ? undefined : parseLease(found.body, this.#options);
    this.#note(found?.etag ?? null, there, clock.monotonic());
    // An earlier beat of ours may have landed late; what is no lease is written over.
    return there === undefined || there.writer === term.writer ? "unknown" : "lost";
  }
}
