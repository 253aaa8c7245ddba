/** RFC 6962 as its text reads: naive, recursive, the model that the real code is held against. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

export const hash = (...parts: readonly Uint8Array[]): Uint8Array => {
  const state = createHash("sha256");
  for (const part of parts) state.update(part);
  return new Uint8Array(state.digest());
};

const NODE = new Uint8Array([1]);

function split(n: number): number {
  let k = 1;
  while (2 * k < n) k *= 2;
  return k;
}

/** MTH over leaf hashes. */
export function mth(leaves: readonly Uint8Array[]): Uint8Array {
  const [first] = leaves;
  if (first === undefined) return hash();
  if (leaves.length === 1) return first;
  const k = split(leaves.length);
  return hash(NODE, mth(leaves.slice(0, k)), mth(leaves.slice(k)));
}

export function path(m: number, leaves: readonly Uint8Array[]): Uint8Array[] {
  if (leaves.length === 1) return [];
  const k = split(leaves.length);
  return m < k
    ? [...path(m, leaves.slice(0, k)), mth(leaves.slice(k))]
    : [...path(m - k, leaves.slice(k)), mth(leaves.slice(0, k))];
}

export function subproof(m: number, leaves: readonly Uint8Array[], whole = true): Uint8Array[] {
  if (m === leaves.length) return whole ? [] : [mth(leaves)];
  const k = split(leaves.length);
  return m <= k
    ? [...subproof(m, leaves.slice(0, k), whole), mth(leaves.slice(k))]
    : [...subproof(m - k, leaves.slice(k), false), mth(leaves.slice(0, k))];
}

/** `n` distinct leaf hashes. */
export const leavesOf = (n: number): Uint8Array[] =>
  Array.from({ length: n }, (_, i) => hash(new Uint8Array([0, i >> 8, i & 255])));

export const readVector = (path: string): unknown =>
  JSON.parse(readFileSync(new URL(`../vectors/${path}`, import.meta.url), "utf8"));

export const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
