/** Seals in the log, each compared with what the entries before it give. */
import { FOLD_VERSION } from "../../fold/fold.ts";
import type { CommitChain, ValidCommit, ValidItem } from "../../record/chain.ts";
import { headsRoot } from "../../record/heads.ts";
import type { Json } from "../../record/json.ts";
import type { RecordId } from "../../std/brand.ts";
import { formatHex } from "../../std/bytes.ts";
import type { Audit } from "./audit.ts";
import { StateFold } from "./state.ts";

/** What a seal says of the entries before it, but their state. */
export interface SealedState {
  readonly heads: string;
  readonly ledger: string;
  readonly projects: number;
  readonly size: number;
}

export const sealedState = ({ heads, ledger, size }: CommitChain): SealedState => ({
  heads: formatHex(headsRoot(heads)),
  ledger: ledger ?? "",
  projects: heads.size,
  size,
});

/** Names of what a seal does not state as the entries give it. */
export const misstated = (stated: SealClaim["stated"], given: SealedState): string[] =>
  Object.entries(given)
    .filter(([name, value]) => stated[name] !== value)
    .map(([name]) => name);

/** A seal, with what it should say. */
export interface SealClaim {
  readonly index: number;
  readonly record: RecordId;
  readonly stated: { readonly [name: string]: Json };
  readonly given: SealedState;
  /** What is wrong with where it stands. */
  readonly misplaced: string | undefined;
}

export class Seals {
  readonly #audit: Audit;
  readonly #state: StateFold | undefined;
  readonly sizes: number[] = [];
  #system = "";

  constructor(audit: Audit) {
    this.#audit = audit;
    this.#state = audit.options.state === true ? new StateFold() : undefined;
  }

  /** `before` is the chain before the seal's commit. */
  read(item: ValidItem, commit: ValidCommit, before: CommitChain): SealClaim {
    this.sizes.push(item.index + 1);
    return {
      given: { ...sealedState(before), size: item.index },
      index: item.index,
      misplaced:
        commit.items.length > 1
          ? "is not a commit of its own"
          : item.entry.project === this.#system
            ? undefined
            : "is not of the project _system",
      record: item.entry.record,
      stated: item.record?.body ?? {},
    };
  }

  check({ given, index, misplaced, record, stated }: SealClaim): void {
    const { seals } = this.#audit.stages;
    const wrong = misstated(stated, given);
    if (misplaced !== undefined) seals.fail("seal.mismatch", record, misplaced);
    if (wrong.length > 0)
      seals.fail("seal.mismatch", record, `at index ${index}: ${wrong.join(", ")} is not what the entries give`);
    if (this.#state === undefined) return;
    if (stated["state_version"] !== FOLD_VERSION)
      seals.skip(`${record} states the state of another version of the fold; this program has ${FOLD_VERSION}`);
    else if (stated["state"] !== this.#state.digest())
      seals.fail("seal.mismatch", record, `at index ${index}: the state is not what the records give`);
  }

  /** Takes an entry that was checked. */
  fold(item: ValidItem): void {
    if (item.index === 1) this.#system = item.entry.project;
    this.#state?.add(item);
  }
}
