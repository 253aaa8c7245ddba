/**
 * The keys that a ledger states of itself, and stage 6: that they are the whole history, and that a key in force signed.
 */
import type { VerifierKey } from "../note/keys.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { KeyHistory } from "../record/key-history.ts";
import { type LedgerRecord, parseRecord, recordId } from "../record/record.ts";
import { Violation } from "../std/violation.ts";
import { sameKey, type Witnessed } from "./checkpoint.ts";
import type { PackEntry } from "./entries.ts";
import { linesOf } from "./limits.ts";
import type { PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";
import type { Seal } from "./seal.ts";

export const logKeys = (history: KeyHistory | undefined): VerifierKey[] =>
  history === undefined ? [] : [...history.ever("KEY_ROLE_LOG"), ...history.ever("KEY_ROLE_LOG_PQ")];

const isLedger = (record: LedgerRecord | undefined): record is LedgerRecord => record?.kind === "ledger";

/**
 * The keys in the pack's `ledger` records, read before stage 3 needs them; undefined when they make no history. They are believed
 * for no more than that stage: stages 5 and 6 check the same records against the tree.
 */
export function statedKeys(
  entries: readonly PackEntry[],
  records: Uint8Array,
  origin: string,
  verifier: SignatureVerifier,
): KeyHistory | undefined {
  const genesis = entries[0]?.entry.project;
  let history = KeyHistory.empty(origin, verifier);
  let i = 0;
  try {
    for (const line of linesOf(records)) {
      const item = entries[i++];
      if (item === undefined) break;
      if (item.entry.project !== genesis || line.length === 0 || recordId(line) !== item.entry.record) continue;
      const record = parseRecord(line);
      if (isLedger(record)) history = history.apply(item.index, record.body);
    }
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
  return history;
}

/** Follows the `ledger` records from the genesis to the newest. */
function followKeys(
  records: readonly PackRecord[],
  origin: string,
  verifier: SignatureVerifier,
  seal: Seal | undefined,
  stage: Stage,
): KeyHistory {
  const genesis = records[0]?.entry.project;
  let history = KeyHistory.empty(origin, verifier);
  let newest = "";
  for (const { entry, index, record } of records) {
    if (entry.project === genesis && record === undefined)
      stage.fail("key.chain", entry.record, "a record of _ledger is not here; the keys cannot be followed");
    if (!isLedger(record)) continue;
    if (entry.project !== genesis) stage.fail("key.chain", entry.record, "states keys outside of the genesis' project");
    const supersedes = record.links.filter((l) => l.rel === "supersedes").map((l) => l.to);
    if (supersedes.join() !== newest)
      stage.fail("key.chain", entry.record, "does not supersede the `ledger` record before it");
    try {
      history = history.apply(index, record.body);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code, entry.record, error.message);
    }
    newest = entry.record;
  }
  if (!isLedger(records[0]?.record)) stage.fail("key.chain", "entry 0", "the genesis is not a `ledger` record");
  if (seal !== undefined && seal.ledger !== newest)
    stage.fail("key.chain", newest, `the seal names ${seal.ledger} as the newest \`ledger\` record`);
  return history;
}

export interface KeyDemands {
  readonly verifier: SignatureVerifier;
  readonly requirePq: boolean;
  readonly notAfterSize: number | undefined;
}

/** The keys are all here, each rightly stated, and one in force at the checkpoint's size signed it. */
export function checkKeys(
  records: readonly PackRecord[],
  seal: Seal | undefined,
  { checkpoint, signedBy }: Witnessed,
  { notAfterSize, requirePq, verifier }: KeyDemands,
  stage: Stage,
): void {
  const { origin, size } = checkpoint;
  const history = followKeys(records, origin, verifier, seal, stage);
  const roles = requirePq ? (["KEY_ROLE_LOG", "KEY_ROLE_LOG_PQ"] as const) : (["KEY_ROLE_LOG"] as const);
  for (const role of roles)
    if (!history.inForce(role, size).some((f) => signedBy.some((k) => sameKey(f, k))))
      stage.fail("key.retired", "checkpoint", `no ${role} that signed it is in force at size ${size}`);
  if (notAfterSize !== undefined && size > notAfterSize)
    stage.fail("key.retired", "checkpoint", `size ${size} is above --not-after-size ${notAfterSize}`);
}
