import { createHash, hash as nativeHash } from "node:crypto";
import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import { afterEach, expect, it } from "vitest";
import {
  EMPTY_ROOT,
  leafHash,
  nodeHash,
  setSha256,
  setSha256Text,
  sha256,
  sha256Hex,
  sha256Stream,
} from "../../src/merkle/hash.ts";
import { hash, hex, leavesOf } from "./model.ts";

// Not `sha256` itself: that calls whatever is installed.
const pure = (bytes: Uint8Array): Uint8Array => nobleSha256(bytes);
const data = new Uint8Array(1000).map((_, i) => i);

afterEach(() => setSha256(pure));

it("hashes as the platform does", () => {
  expect(hex(sha256(data))).toBe(hex(hash(data)));
  expect(sha256Hex(data)).toBe(hex(hash(data)));
  const stream = sha256Stream();
  for (let i = 0; i < data.length; i += 7) stream.update(data.subarray(i, i + 7));
  expect(hex(stream.digest())).toBe(hex(hash(data)));
  expect(hex(EMPTY_ROOT)).toBe(hex(hash()));
});

it("tells leaves from nodes", () => {
  const [l, r] = leavesOf(2);
  if (l === undefined || r === undefined) throw new Error("two leaves");
  expect(hex(leafHash(data))).toBe(hex(hash(new Uint8Array([0]), data)));
  expect(hex(nodeHash(l, r))).toBe(hex(hash(new Uint8Array([1]), l, r)));
  expect(hex(nodeHash(r, l))).not.toBe(hex(nodeHash(l, r)));
});

it("keeps no result in a buffer that it uses again", () => {
  const [a, b, c] = leavesOf(3);
  if (a === undefined || b === undefined || c === undefined) throw new Error("three leaves");
  const first = nodeHash(a, b);
  const before = hex(first);
  nodeHash(b, c);
  expect(hex(first)).toBe(before);
});

it("uses what the composition root installs", () => {
  let calls = 0;
  setSha256((bytes) => {
    calls++;
    return new Uint8Array(nativeHash("sha256", bytes, "buffer"));
  });
  expect(hex(leafHash(data))).toBe(hex(hash(new Uint8Array([0]), data)));
  expect(calls).toBe(1);
  setSha256(pure, () => {
    const state = createHash("sha256");
    calls++;
    return { digest: () => state.digest(), update: (bytes) => void state.update(bytes) };
  });
  const stream = sha256Stream();
  stream.update(data);
  expect(hex(stream.digest())).toBe(hex(hash(data)));
  expect(calls).toBe(2);
});

it("streams with the platform's hash as well", () => {
  let pieces = 0;
  setSha256Text(
    (bytes, form) => nativeHash("sha256", bytes, form),
    () => {
      const state = createHash("sha256");
      return { digest: () => state.digest(), update: (bytes) => void (pieces++, state.update(bytes)) };
    },
  );
  const stream = sha256Stream();
  stream.update(data);
  stream.update(data);
  expect(hex(stream.digest())).toBe(hex(hash(data, data)));
  expect(pieces).toBe(2);
});
