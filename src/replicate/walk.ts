/**
 * Walks the source's commits in order, from where a chain stands to the first that is absent in all versions. Each is valid after the ones before
 * it and each seal says what they give, or the walk ends with the Violation; junk in a slot is handed over with the commit that
 * voids it. Links between records, and that no record is entered twice over the whole log, are left to `verify bucket`.
 */

import type { SignatureVerifier } from "../note/signatures.ts";
import type { CommitChain, ValidCommit } from "../record/chain.ts";
import { assertDefined } from "../std/assert.ts";
import { Violation } from "../std/violation.ts";
import { commitKey } from "../store/keys.ts";
import type { StoredObject } from "../store/object-store.ts";
import { RecordIndexes } from "../verify/bucket/indexes.ts";
import { misstated, sealedState } from "../verify/bucket/seals.ts";
import { ask, readContent, type Sides } from "./ports.ts";

export interface SlotBytes {
  readonly n: number;
  readonly bytes: Uint8Array;
}

export interface Step extends SlotBytes {
  readonly commit: ValidCommit;
  /** Junk that this commit voids. */
  readonly junk: readonly SlotBytes[];
  /** The chain after it. */
  readonly after: CommitChain;
}

/** Why a walk ended before the source did. */
export class BadCommit extends Violation {
  readonly n: number;

  constructor(n: number, { code, message }: Violation) {
    super(code, message);
    this.n = n;
  }
}

/** More junk in a row than any repair would void. */
const MAX_JUNK = 1_000;

interface Slot {
  readonly n: number;
  /** What a plain read gives. */
  readonly newest: StoredObject | null;
}

/** Reads ahead, in order. */
async function* slotsOf({ options, source }: Sides, from: number, end: number): AsyncGenerator<Slot> {
  const ahead: Promise<StoredObject | null>[] = [];
  try {
    for (let n = from; n < end; n++) {
      while (ahead.length < options.concurrency && n + ahead.length < end) {
        const key = commitKey(n + ahead.length);
        const read = ask(options, () => source.get("ledger", key, { signal: options.signal }));
        // Whoever awaits it hears of the failure; until then nobody must.
        read.catch(() => undefined);
        ahead.push(read);
      }
      yield { n, newest: (await ahead.shift()) ?? null };
    }
  } finally {
    await Promise.allSettled(ahead);
  }
}

/** `end` is the number of slots to walk at most. */
export async function* walk(sides: Sides, start: CommitChain, end = Number.MAX_SAFE_INTEGER): AsyncGenerator<Step> {
  const { options } = sides;
  const { verifier } = options.trust;
  const known = new RecordIndexes();
  let chain = start;
  let junk: { readonly n: number; readonly bytes: Uint8Array; readonly violation: Violation }[] = [];
  for await (const { n, newest } of slotsOf(sides, start.n, end)) {
    options.signal.throwIfAborted();
    const checks = new Checks(chain, verifier, known, chain.size - start.size);
    const found = await readContent(sides, sides.source, commitKey(n), checks.isRight, newest);
    if (found === null) break;
    const { body: bytes } = found;
    const { commit } = checks;
    if (commit === undefined) {
      const violation = checks.violationOf(bytes);
      if (junk.length >= MAX_JUNK || !chain.isJunk(bytes, verifier)) {
        // A commit that voids nothing says nothing of itself; the junk before it does.
        const [first] = violation.code === "commit.voids" ? junk : [];
        throw new BadCommit(first?.n ?? n, first?.violation ?? violation);
      }
      chain = chain.skip(bytes, verifier);
      junk.push({ bytes, n, violation });
      continue;
    }
    chain = chain.advance(commit);
    yield { after: chain, bytes, commit, junk, n };
    junk = [];
  }
  const [first] = junk;
  if (first !== undefined)
    throw new BadCommit(
      first.n,
      new Violation("commit.squatted", "holds what no commit key signed, and no commit after it voids it"),
    );
}

/** Tries what a slot holds as the commit after a chain. */
class Checks {
  readonly #chain: CommitChain;
  readonly #verifier: SignatureVerifier;
  /** Records from the start of the walk on; so many are in commits. */
  readonly #known: RecordIndexes;
  readonly #count: number;
  readonly #violations = new Map<Uint8Array, Violation>();
  commit: ValidCommit | undefined;

  constructor(chain: CommitChain, verifier: SignatureVerifier, known: RecordIndexes, count: number) {
    this.#chain = chain;
    this.#verifier = verifier;
    this.#known = known;
    this.#count = count;
  }

  readonly isRight = (bytes: Uint8Array): boolean => {
    try {
      const commit = this.#chain.check(bytes, this.#verifier, (record) => !this.#known.append(record));
      checkSeal(commit, this.#chain);
      this.commit = commit;
      return true;
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#known.cut(this.#count);
      this.#violations.set(bytes, error);
      return false;
    }
  };

  violationOf(bytes: Uint8Array): Violation {
    return assertDefined(this.#violations.get(bytes), "these bytes were tried");
  }
}

function checkSeal({ items }: ValidCommit, before: CommitChain): void {
  const seal = items.find((i) => i.record?.kind === "ledger.seal");
  if (seal === undefined) return;
  if (items.length > 1) throw new Violation("seal.mismatch", `${seal.entry.record} is not a commit of its own`);
  const wrong = misstated(seal.record?.body ?? {}, sealedState(before));
  if (wrong.length > 0)
    throw new Violation("seal.mismatch", `${seal.entry.record}: ${wrong.join(", ")} is not what the entries give`);
}
