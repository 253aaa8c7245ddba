/**
 * Stage 2: who signed the tree, and whether the witnesses that the reader asks for saw it.
 *
 * What is trusted is given from outside. Keys that a ledger states of itself may open notes that somebody kept and anchors, which
 * only add demands; the checkpoint that carries a verdict is always signed by a key of the policy.
 */
import { type Checkpoint, openCheckpoint } from "../note/checkpoint.ts";
import { verifyCosignature } from "../note/cosignature.ts";
import type { VerifierKey } from "../note/keys.ts";
import type { Note } from "../note/note.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { quorumSatisfied, quorumTime, type TrustPolicy } from "../note/trust-policy.ts";
import type { KeyHistory } from "../record/key-history.ts";
import { assert } from "../std/assert.ts";
import { equalBytes } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import type { Stage } from "./report.ts";

/** What the verifier trusts: given from outside, never taken from what is verified. */
export interface Trust {
  readonly policy: TrustPolicy;
  readonly verifier: SignatureVerifier;
  /** Notes that somebody kept. */
  readonly kept: readonly Uint8Array[];
  /** Names of cosigners that count for the quorum, never for time. */
  readonly mirrors: ReadonlySet<string>;
  /** Demands the log's ML-DSA-44 line, and a quorum of such keys. */
  readonly requirePq: boolean;
  readonly maxAgeS?: number;
  /** Seconds since the epoch; needed with `maxAgeS`. */
  readonly nowS?: number;
}

/** A checkpoint whose log signature and cosignatures were checked. */
export interface Witnessed {
  readonly checkpoint: Checkpoint;
  /** Log keys of the checkpoint's origin that signed it. */
  readonly signedBy: readonly VerifierKey[];
  /** Whether the policy's quorum is met; null when the policy asks for none. */
  readonly quorum: boolean | null;
  /** Seconds since the epoch at which the quorum had been met; undefined when it is not met, states no time, or is none. */
  readonly quorumTimeS: number | undefined;
}

const ED25519 = 1;
const ML_DSA = 6;

export const sameKey = (a: VerifierKey, b: VerifierKey): boolean =>
  a.id === b.id && a.name === b.name && equalBytes(a.publicKey, b.publicKey);

/** When each witness of the policy cosigned, by its name there. A line of a known key that fails refuses the note. */
function cosigned(note: Note, { policy, requirePq, verifier }: Trust): Map<string, number> {
  const times = new Map<string, number>();
  for (const { key, name } of policy.witnesses) {
    const found = verifyCosignature(note, key, verifier);
    if (found !== undefined && (!requirePq || key.algorithm === ML_DSA)) times.set(name, found.timestamp);
  }
  return times;
}

/**
 * Opens a note under the policy's log keys, and `extra` ones that a ledger's key history gives. Violations:
 * `checkpoint.malformed`, `.origin`, `.signature`.
 */
export function openWitnessed(bytes: Uint8Array, trust: Trust, extra: readonly VerifierKey[] = []): Witnessed {
  const { policy, verifier } = trust;
  const keys = [...policy.logs.map((l) => l.key), ...extra];
  const { checkpoint, note, signedBy: all } = openCheckpoint(bytes, keys, verifier);
  const signedBy = all.filter((k) => k.name === checkpoint.origin);
  if (!signedBy.some((k) => k.algorithm === ED25519))
    throw new Violation("checkpoint.signature", `no trusted Ed25519 key of ${checkpoint.origin} signed it`);
  if (trust.requirePq && !signedBy.some((k) => k.algorithm === ML_DSA))
    throw new Violation("checkpoint.signature", "the log's ML-DSA-44 line is missing, or of another key");
  const times = cosigned(note, trust);
  const quorum = policy.quorum === "none" ? null : quorumSatisfied(policy, (name) => times.has(name));
  return {
    checkpoint,
    quorum,
    quorumTimeS: quorum === true ? quorumTime(policy, times, trust.mirrors) : undefined,
    signedBy,
  };
}

/** Stage 2. Undefined when the checkpoint cannot be relied on. */
export function checkCheckpoint(bytes: Uint8Array, trust: Trust, stage: Stage): Witnessed | undefined {
  let opened: Witnessed;
  try {
    opened = openWitnessed(bytes, trust);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return stage.fail(error.code, "checkpoint", error.message) as undefined;
  }
  if (opened.quorum === false)
    stage.fail("checkpoint.quorum", "checkpoint", "the quorum of the policy did not cosign it");
  checkAge(opened, trust, "checkpoint", stage);
  return opened;
}

/** `--max-age`, measured from the time at which the quorum had been met. */
export function checkAge({ quorumTimeS }: Witnessed, { maxAgeS, nowS }: Trust, at: string, stage: Stage): void {
  if (maxAgeS === undefined) return;
  assert(nowS !== undefined, "an age is measured from a time");
  if (quorumTimeS === undefined) stage.skip("age: no quorum gives a time to measure from");
  else if (nowS - quorumTimeS > maxAgeS)
    stage.fail("checkpoint.stale", at, `its quorum is ${nowS - quorumTimeS} s old, ${maxAgeS} s are allowed`);
}

/** A key of the ledger that is a witness of the policy, too, would let the operator count as an outsider. */
export function checkRoles(policy: TrustPolicy, keys: KeyHistory, stage: Stage): void {
  for (const { key, name } of policy.witnesses) {
    const own = keys.keys.find((k) => equalBytes(k.key.publicKey, key.publicKey));
    if (own !== undefined)
      stage.fail("policy.duplicate-key", "checkpoint", `the witness ${name} of the policy is the ledger's ${own.role}`);
  }
}
