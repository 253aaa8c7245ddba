/** What a verifier reads at most. Hostile packs are cut off here; `--limit NAME=VALUE` raises a limit for a trusted sender. */

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

/** Longest member: what eleven octal digits say. */
export const PACK_MEMBER_BYTES = 8 * GiB - 1;

/** Splits bytes into lines without their LF; undefined when the last line has none or a line is longer than `limit`. */
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
