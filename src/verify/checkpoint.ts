/** Stages 2 and 3: who signed the tree, and that it extends every tree that was kept. */
import { verifyConsistency } from "../merkle/proofs.ts";
import { type Checkpoint, type OpenedCheckpoint, openCheckpoint } from "../note/checkpoint.ts";
import { verifyCosignature } from "../note/cosignature.ts";
import type { VerifierKey } from "../note/keys.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { quorumSatisfied, quorumTime, type TrustPolicy } from "../note/trust-policy.ts";
import { parseCanonical } from "../record/canonical.ts";
import type { JsonObject } from "../record/json.ts";
import { equalBytes, formatHex, parseHex, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { endsWithLineFeed, type Limits, linesOf } from "./limits.ts";
import type { Stage } from "./report.ts";

/** What the verifier trusts: given from outside, never taken from what is verified. */
export interface Trust {
  readonly policy: TrustPolicy;
  readonly verifier: SignatureVerifier;
  /** Notes that somebody kept. */
  readonly kept: readonly Uint8Array[];
  /** Names of cosigners that count for the quorum, never for time. */
  readonly mirrors: ReadonlySet<string>;
  readonly requirePq: boolean;
  readonly maxAgeS?: number;
  /** Seconds since the epoch, for `maxAgeS`. */
  readonly nowS?: number;
}

/** A checkpoint whose log signature and cosignatures were checked. */
export interface Witnessed {
  readonly checkpoint: Checkpoint;
  readonly signedBy: readonly VerifierKey[];
  /** Whether the policy's quorum is met; null when the policy asks for none. */
  readonly quorum: boolean | null;
  /** Seconds since the epoch at which the quorum had been met; undefined when it is not met or none is asked. */
  readonly quorumTimeS: number | undefined;
  readonly note: string;
}

const ML_DSA = 6;

export const logKeysOf = (policy: TrustPolicy, origin?: string): VerifierKey[] =>
  policy.logs.map((l) => l.key).filter((k) => origin === undefined || k.name === origin);

/** Opens a note under the policy's keys, with `extra` log keys where a key history gives more. Throws a Violation. */
export function openWitnessed(bytes: Uint8Array, trust: Trust, extra: readonly VerifierKey[] = []): Witnessed {
  const keys = [...logKeysOf(trust.policy), ...extra];
  const opened: OpenedCheckpoint = openCheckpoint(bytes, keys, trust.verifier);
  const { origin } = opened.checkpoint;
  if (!keys.some((k) => k.name === origin))
    throw new Violation(
      "checkpoint.origin",
      `the log is ${JSON.stringify(origin)}; the policy trusts ${keys.map((k) => JSON.stringify(k.name)).join(", ")}`,
    );
  const signedBy = opened.signedBy.filter((k) => k.name === origin);
  if (!signedBy.some((k) => k.algorithm === 1))
    throw new Violation("checkpoint.signature", "no trusted key of the log signed it");
  if (trust.requirePq && !signedBy.some((k) => k.algorithm === ML_DSA))
    throw new Violation("checkpoint.signature", "the log's ML-DSA-44 line is missing or of another key");
  const times = new Map<string, number>();
  for (const witness of trust.policy.witnesses) {
    if (trust.requirePq && witness.key.algorithm !== ML_DSA) continue;
    const cosigned = verifyCosignature(opened.note, witness.key, trust.verifier);
    if (cosigned !== undefined)
      times.set(witness.name, Math.min(cosigned.timestamp, times.get(witness.name) ?? Number.POSITIVE_INFINITY));
  }
  const none = trust.policy.quorum === "none";
  const quorum = none ? null : quorumSatisfied(trust.policy, (name) => times.has(name));
  const quorumTimeS = quorum === true ? quorumTime(trust.policy, times, trust.mirrors) : undefined;
  return { checkpoint: opened.checkpoint, note: new TextDecoder().decode(bytes), quorum, quorumTimeS, signedBy };
}

/** Stage 2. Undefined when the checkpoint cannot be relied on. */
export function checkCheckpoint(bytes: Uint8Array, trust: Trust, limits: Limits, stage: Stage): Witnessed | undefined {
  if (bytes.length > limits.note)
    return stage.fail("checkpoint.malformed", "checkpoint", `over ${limits.note} bytes`) as undefined;
  let opened: Witnessed;
  try {
    opened = openWitnessed(bytes, trust);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return stage.fail(error.code, "checkpoint", error.message) as undefined;
  }
  if (opened.quorum === false)
    stage.fail("checkpoint.quorum", "checkpoint", "the quorum of the policy did not cosign it");
  if (trust.maxAgeS !== undefined) {
    if (opened.quorumTimeS === undefined) stage.skip("age: no quorum gives a time to measure from");
    else if ((trust.nowS ?? 0) - opened.quorumTimeS > trust.maxAgeS)
      stage.fail("checkpoint.stale", "checkpoint", `its quorum is ${(trust.nowS ?? 0) - opened.quorumTimeS} s old`);
  }
  return opened;
}

/** A tree that was noted and is part of the one being verified; serves as an anchor in time. */
export type Anchor = Witnessed;

interface HistoryLine {
  readonly size: number;
  readonly hashes: readonly Uint8Array[];
  readonly note: string | undefined;
}

function parseHistory(bytes: Uint8Array, limits: Limits): HistoryLine[] {
  if (!endsWithLineFeed(bytes)) throw new Violation("pack.malformed", "history.jsonl does not end with a line feed");
  const lines: HistoryLine[] = [];
  for (const line of linesOf(bytes)) {
    if (line.length > limits.history)
      throw new Violation("pack.limit", "a line of history.jsonl is over the limit history");
    const row = parseCanonical(line, { maxBytes: limits.history }) as JsonObject;
    const { size, hashes, note } = row;
    const names = Object.keys(row).join();
    const parsed = Array.isArray(hashes)
      ? hashes.map((h) => (typeof h === "string" && h.length === 64 ? parseHex(h) : undefined))
      : [undefined];
    if (
      (names !== "hashes,size" && names !== "hashes,note,size") ||
      typeof size !== "number" ||
      !Number.isSafeInteger(size) ||
      size < 1 ||
      size <= (lines.at(-1)?.size ?? 0) ||
      (note !== undefined && typeof note !== "string")
    )
      throw new Violation("pack.malformed", "a line of history.jsonl has another form, or sizes do not ascend");
    lines.push({
      hashes: parsed.map((h) => {
        if (h === undefined) throw new Violation("pack.malformed", "a hash of history.jsonl is not 64 hex characters");
        return h;
      }),
      note,
      size,
    });
  }
  return lines;
}

/** Stage 3. Gives the anchors that are consistent with the checkpoint. */
export function checkHistory(
  history: Uint8Array | undefined,
  tree: Witnessed,
  trust: Trust,
  limits: Limits,
  extraKeys: readonly VerifierKey[],
  stage: Stage,
): Anchor[] {
  const { root, size } = tree.checkpoint;
  const anchors: Anchor[] = [];
  let lines: HistoryLine[] = [];
  try {
    lines = history === undefined ? [] : parseHistory(history, limits);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    stage.fail(error.code.startsWith("pack.") ? error.code : "pack.malformed", "history.jsonl", error.message);
  }
  const open = (bytes: Uint8Array, at: string): Witnessed | undefined => {
    try {
      return openWitnessed(bytes, { ...trust, requirePq: false }, extraKeys);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      return stage.fail(
        error.code === "checkpoint.origin" ? "checkpoint.signature" : error.code,
        at,
        error.message,
      ) as undefined;
    }
  };
  for (const line of lines) {
    const at = `history.jsonl size ${line.size}`;
    if (line.size >= size) {
      stage.fail("consistency.mismatch", at, `is not below the checkpoint's size ${size}`);
      continue;
    }
    if (line.note === undefined) continue; // a proof for a note that the reader keeps
    const anchor = open(utf8(line.note), at);
    if (anchor === undefined) continue;
    if (
      anchor.checkpoint.size !== line.size ||
      !verifyConsistency(line.size, size, anchor.checkpoint.root, root, [...line.hashes])
    )
      stage.fail("consistency.mismatch", at, "the checkpoint does not extend this tree");
    else anchors.push(anchor);
  }
  for (const [i, bytes] of trust.kept.entries()) {
    const at = `kept note ${i + 1}`;
    const kept = open(bytes, at);
    if (kept === undefined) continue;
    const keptSize = kept.checkpoint.size;
    if (keptSize === size) {
      if (equalBytes(kept.checkpoint.root, root)) anchors.push(kept);
      else
        stage.fail(
          "checkpoint.fork",
          at,
          `two signed trees of size ${size}: ${formatHex(kept.checkpoint.root)} was kept, ${formatHex(root)} is here; both notes together prove it to anybody`,
        );
      continue;
    }
    const proof = lines.find((l) => l.size === keptSize);
    if (keptSize > size)
      stage.skip(
        `${at} is of size ${keptSize}, larger than ${size}: export again, or: datapilot log consistency --from ${size} --to ${keptSize}`,
      );
    else if (proof === undefined)
      stage.skip(
        `${at} is of size ${keptSize}, and the pack has no proof from it: datapilot log consistency --from ${keptSize} --to ${size}`,
      );
    else if (verifyConsistency(keptSize, size, kept.checkpoint.root, root, [...proof.hashes])) anchors.push(kept);
    else
      stage.fail(
        "consistency.mismatch",
        at,
        `the tree of size ${size} does not extend the one of size ${keptSize} that was kept: history was rewritten`,
      );
  }
  return anchors;
}
