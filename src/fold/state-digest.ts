/**
 * The rolling digest of the fold: D₀ = H("datapilot/state/v1"), Dᵢ₊₁ = H(0x02 ‖ Dᵢ ‖ u64 i ‖ H(opsᵢ)), where opsᵢ are the rows
 * that entry i changes, ascending by view and key, each as three strings in UTF-8 behind their lengths: the view, the key, the
 * row's canonical JSON (empty when the row is gone). A length is a LEB128 varint. It depends on neither batches nor layout, so two
 * indexes that differ are bisected by it.
 */

import { sha256 } from "../merkle/hash.ts";
import { canonicalize } from "../record/canonical.ts";
import type { JsonObject } from "../record/json.ts";
import { utf8 } from "../std/bytes.ts";
import type { Op } from "./folding.ts";
import type { View } from "./view.ts";

/** An operation with its row as text: what is hashed is also what an index stores. */
export interface TextOp {
  readonly view: View;
  readonly key: string;
  /** Canonical JSON; empty when the row is gone. */
  readonly text: string;
  readonly value: JsonObject | null;
}

export const INITIAL_STATE: Uint8Array = sha256(utf8("datapilot/state/v1"));

const byKey = (a: TextOp, b: TextOp): number => {
  if (a.view !== b.view) return a.view < b.view ? -1 : 1;
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
};

/** Operations in the order of the digest. */
export function textOps(ops: readonly Op[]): TextOp[] {
  const out: TextOp[] = [];
  for (const op of ops)
    out.push({ key: op.key, text: op.value === null ? "" : canonicalize(op.value), value: op.value, view: op.view });
  return out.length > 1 ? out.sort(byKey) : out;
}

const encoder = new TextEncoder();
let buffer = new Uint8Array(1 << 14);
const LONGEST_VARINT = 5;

/** Up to this length a loop over characters is faster than the platform's encoder. */
const SHORT = 192;

/** Writes UTF-8 where there is room for it; returns how many bytes it has. */
function writeText(text: string, at: number): number {
  if (text.length <= SHORT) {
    let i = 0;
    for (; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code >= 0x80) break;
      buffer[at + i] = code;
    }
    if (i === text.length) return i;
  }
  return encoder.encodeInto(text, buffer.subarray(at)).written;
}

/** Writes a string behind its length; returns where it ends. */
function writeString(text: string, at: number): number {
  const most = 3 * text.length + LONGEST_VARINT;
  if (at + most > buffer.length) {
    const larger = new Uint8Array(2 * (at + most));
    larger.set(buffer);
    buffer = larger;
  }
  // Nearly all are short ASCII: write behind one byte of length, and move only when that was wrong.
  const written = writeText(text, at + 1);
  if (written < 0x80) {
    buffer[at] = written;
    return at + 1 + written;
  }
  let width = 1;
  for (let rest = written >>> 7; rest > 0; rest >>>= 7) width++;
  buffer.copyWithin(at + width, at + 1, at + 1 + written);
  let rest = written;
  for (let i = 0; i < width; i++, rest >>>= 7) buffer[at + i] = i < width - 1 ? (rest & 0x7f) | 0x80 : rest;
  return at + width + written;
}

const step = new Uint8Array(1 + 32 + 8 + 32);
step[0] = 2;
const stepView = new DataView(step.buffer);

/** The digest after entry `index`, whose operations are in the order of the digest. */
export function nextStateOf(digest: Uint8Array, index: number, ops: readonly TextOp[]): Uint8Array {
  let end = 0;
  for (const op of ops) end = writeString(op.text, writeString(op.key, writeString(op.view, end)));
  step.set(digest, 1);
  stepView.setUint32(33, Math.floor(index / 0x1_0000_0000));
  stepView.setUint32(37, index >>> 0);
  step.set(sha256(buffer.subarray(0, end)), 41);
  return sha256(step);
}

export const nextState = (digest: Uint8Array, index: number, ops: readonly Op[]): Uint8Array =>
  nextStateOf(digest, index, textOps(ops));
