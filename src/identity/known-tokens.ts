/**
 * Tokens that were authenticated against the state as it is: who reports a thousand times a second is looked up once.
 *
 * - What a holder rests on (the token's row, its entity, its principal, the state of its run) is changed by records of other kinds than
 *   `QUIET` only. When one of those is applied, everything is forgotten: what is revoked is refused from the next commit on, as
 *   without this memory. What a caller may do is asked of the views each time.
 * - Time is looked at each time. A flaw is never remembered.
 * - Secrets are known by their SHA-256 and never kept.
 */
import type { ViewReader } from "../fold/view.ts";
import type { LedgerRecord } from "../record/record.ts";
import type { Digest } from "../std/brand.ts";
import { authenticate, callerAt, type Holder, holderOf } from "./authenticate.ts";
import type { Caller, Origin } from "./caller.ts";
import { parseSecret, secretDigest } from "./token.ts";

/** Kinds of which the fold makes no token, no entity and no other state of a run. */
export const QUIET: ReadonlySet<string> = new Set(["access", "artifact", "run.batch"]);
/** Beyond this many, all are forgotten. */
const MAX_KNOWN = 10_000;

export class KnownTokens {
  readonly #holders = new Map<Digest, Holder>();

  /** As `authenticate`; `reader` is of the newest applied state. */
  authenticate(reader: ViewReader, token: string, nowMs: number, origin: Origin): Caller {
    const method = parseSecret(token);
    // Tells the flaw.
    if (method === undefined) return authenticate(reader, token, nowMs, origin);
    const digest = secretDigest(token);
    let holder = this.#holders.get(digest);
    if (holder === undefined || holder.caller.method !== method || nowMs >= holder.expiresMs) {
      holder = holderOf(reader, method, digest, nowMs);
      if (this.#holders.size >= MAX_KNOWN) this.#holders.clear();
      this.#holders.set(digest, holder);
    }
    return callerAt(holder, nowMs, origin);
  }

  /** Told of every commit as it is applied, before anything else is asked of the new state. */
  applied(items: readonly { readonly record: Pick<LedgerRecord, "kind"> | null }[]): void {
    if (this.#holders.size > 0 && items.some(({ record }) => record === null || !QUIET.has(record.kind)))
      this.#holders.clear();
  }
}
