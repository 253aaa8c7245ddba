/** What a verifier reads at most. Hostile packs are cut off here; `--limit NAME=VALUE` raises a limit for a trusted sender. */
import { Violation } from "../std/violation.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** Bytes, except `members` and `entries`, which count. */
export const DEFAULT_LIMITS = {
  entries: 2_000_000,
  history: 128 * KiB,
  line: 64 * KiB,
  manifest: 64 * MiB,
  members: 100_000,
  note: 64 * KiB,
  pack: 64 * GiB,
  record: MiB,
  total: 8 * GiB,
} as const;

export type Limits = Readonly<Record<keyof typeof DEFAULT_LIMITS, number>>;

/** What exceeds a limit, with the way to raise it. */
export const overLimit = (what: string, limit: keyof Limits): Violation =>
  new Violation(
    "pack.limit",
    `${what} is over the limit ${limit}; if you trust the sender, raise it: --limit ${limit}=VALUE`,
  );

/** Lines without their LF; bytes after the last LF are a line, too. */
export function* linesOf(bytes: Uint8Array): Generator<Uint8Array> {
  let from = 0;
  while (from < bytes.length) {
    const at = bytes.indexOf(0x0a, from);
    yield bytes.subarray(from, at < 0 ? bytes.length : at);
    if (at < 0) return;
    from = at + 1;
  }
}

export const endsWithLineFeed = (bytes: Uint8Array): boolean => bytes.length === 0 || bytes.at(-1) === 0x0a;
