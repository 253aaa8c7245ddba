/** The machine's clock and chance, and bytes that a key decides, for tests that cross processes. */
import { createHash, randomBytes } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { utf8 } from "../../src/std/bytes.ts";
import type { Clock, Random } from "../../src/std/ports.ts";

export const machineClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) => setTimeout(ms, undefined, signal === undefined ? {} : { signal }),
};

export const machineRandom: Random = { bytes: (length) => new Uint8Array(randomBytes(length)) };

export function bodyOf(key: string): Uint8Array {
  const digest = createHash("sha256").update(key).digest();
  return utf8(digest.toString("hex").repeat(1 + (digest[0] ?? 0)));
}
