/**
 * Where a Merkle tree divides. Sizes go up to 2^53−1, so the 32-bit operators apply to halves only.
 */

const WORD = 2 ** 32;

/** Floor of the binary logarithm, for n ≥ 1. `Math.log2` rounds up near 2^53. */
export const floorLog2 = (n: number): number => (n < WORD ? 31 - Math.clz32(n) : 63 - Math.clz32(Math.floor(n / WORD)));

/** The largest power of two below `n`, for n ≥ 2. */
export const splitPoint = (n: number): number => 2 ** floorLog2(n - 1);

export const isPowerOfTwo = (n: number): boolean => n >= 1 && 2 ** floorLog2(n) === n;

/** Whether `n` can be a size or an index. */
export const isCount = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;
