/** Runs a vector of `test/vectors/packs/index.json` as any implementation would: from files alone. */
import { readFileSync } from "node:fs";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { parseTrustPolicy } from "../../src/note/trust-policy.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { parseDigest, parseRecordId } from "../../src/std/brand.ts";
import { concat, utf8 } from "../../src/std/bytes.ts";
import type { Trust } from "../../src/verify/checkpoint.ts";
import { DEFAULT_LIMITS } from "../../src/verify/limits.ts";
import { type PackOptions, type PackReport, verifyPack } from "../../src/verify/pack.ts";
import { agreeing, archiveOf, type Part, partsOf } from "./pack-lab.ts";
import type { Edit, Given } from "./vectors.ts";

export const VECTORS = new URL("../vectors/packs/", import.meta.url);
export const readFile = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(name, VECTORS)));
const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

const ORDER = [
  "manifest.json",
  "checkpoint",
  "history.jsonl",
  "entries.txt",
  "proof.bin",
  "heads.jsonl",
  "records.jsonl",
  "personal.jsonl",
];
const rank = (name: string): string => {
  const at = ORDER.indexOf(name);
  return at >= 0 ? String(at) : name.startsWith("blobs/") ? `8${name}` : `9${name}`;
};

/** Appends to a member, which is made in its place when it is not there. */
function insert(parts: readonly Part[], name: string, text: string): Part[] {
  if (parts.some((p) => p.name === name))
    return parts.map((p) => (p.name === name ? { ...p, bytes: concat(p.bytes, utf8(text)) } : p));
  return [...parts, { bytes: utf8(text), name }].toSorted((a, b) => (rank(a.name) < rank(b.name) ? -1 : 1));
}

function change(parts: readonly Part[], name: string, by: (bytes: Uint8Array) => Uint8Array): Part[] {
  const found = parts.find((p) => p.name === name);
  if (found === undefined) throw new Error(`the pack has no member ${name}`);
  return parts.map((p) => (p === found ? { ...p, bytes: by(p.bytes) } : p));
}

function flip(bytes: Uint8Array, at: number): Uint8Array {
  const out = bytes.slice();
  out[at] = (out[at] ?? 0) ^ 1;
  return out;
}

export function edit(archive: Uint8Array, edits: readonly Edit[]): Uint8Array {
  let bytes = archive;
  const onParts = (work: (parts: readonly Part[]) => readonly Part[]): void => {
    bytes = archiveOf(work(partsOf(bytes)));
  };
  for (const e of edits) {
    if ("flip-archive" in e) bytes = flip(bytes, e["flip-archive"]);
    else if ("append" in e) bytes = concat(bytes, Uint8Array.from(Buffer.from(e.append, "hex")));
    else if ("agree" in e) onParts(agreeing);
    else if ("remove" in e) onParts((parts) => parts.filter((p) => p.name !== e.remove));
    else if ("insert" in e) onParts((parts) => insert(parts, e.insert, e.text));
    else if ("flip" in e) onParts((parts) => change(parts, e.member, (b) => flip(b, e.flip)));
    else
      onParts((parts) =>
        change(parts, e.member, (b) => {
          if (!textOf(b).includes(e.replace)) throw new Error(`${e.member} has no ${JSON.stringify(e.replace)}`);
          return utf8(textOf(b).replace(e.replace, () => e.by));
        }),
      );
  }
  return bytes;
}

export const trustOf = (given: Given): Trust => ({
  kept: (given.kept ?? []).map(readFile),
  mirrors: new Set(given.mirror),
  policy: parseTrustPolicy(textOf(readFile(given.policy))),
  requirePq: given["require-pq"] === true,
  verifier: nativeVerifier,
  ...(given["max-age"] === undefined ? {} : { maxAgeS: given["max-age"] }),
  ...(given.now === undefined ? {} : { nowS: given.now }),
});

export function optionsOf(given: Given): PackOptions {
  const genesis = given.genesis === undefined ? undefined : parseRecordId(textOf(readFile(given.genesis)).trim());
  return {
    allowOutside: new Set(given["allow-outside"]),
    complete: (given.complete ?? []).map((p) => assertDefined(parseDigest(p), "a project")),
    limits: { ...DEFAULT_LIMITS, ...given.limit },
    ...(genesis === undefined ? {} : { genesis }),
    ...(given["not-after-size"] === undefined ? {} : { notAfterSize: given["not-after-size"] }),
  };
}

/** In pieces of a size that divides nothing. */
export async function* streamOf(bytes: Uint8Array, step = 997): AsyncGenerator<Uint8Array> {
  await Promise.resolve();
  for (let from = 0; from < bytes.length; from += step) yield bytes.subarray(from, from + step);
}

export const verifyBytes = async (archive: Uint8Array, given: Given): Promise<PackReport> =>
  (await verifyPack(streamOf(archive), trustOf(given), optionsOf(given))).report;

/** What a report comes to, in the words of the vectors. */
export function outcomeOf({ checks, verdict }: PackReport) {
  const failed = checks.find((c) => c.status === "fail");
  if (failed !== undefined)
    return { code: [...new Set(failed.failures.map((f) => f.code))].join(), stage: failed.id, verdict };
  const skipped = checks.find((c) => c.skipped.length > 0);
  return skipped === undefined ? { verdict } : { skipped: skipped.skipped[0] ?? "", stage: skipped.id, verdict };
}
