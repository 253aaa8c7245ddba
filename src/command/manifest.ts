/**
 * The manifest of a version's files: JSON lines, ascending by path, each the canonical `{"digest","path","size_bytes"}` and a
 * line feed. Its SHA-256 is what a version is by content, whether the files are listed or lie in an artifact.
 */
import { createHash } from "node:crypto";
import { canonicalize, parseCanonical } from "../record/canonical.ts";
import { isObject } from "../record/json.ts";
import { parseRecordId } from "../std/brand.ts";
import { utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { checkDigest, checkPath, invalid } from "./body.ts";

export interface ListedFile {
  readonly path: string;
  /** `sha256:<hex>` of the content. */
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Files that a manifest may list. */
export const MAX_MANIFEST_FILES = 100_000;

const byPath = (a: ListedFile, b: ListedFile): number => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0);

export const formatManifest = (files: readonly ListedFile[]): Uint8Array =>
  utf8(
    files
      .toSorted(byPath)
      .map(({ digest, path, sizeBytes }) => `${canonicalize({ digest, path, size_bytes: sizeBytes })}\n`)
      .join(""),
  );

export const contentDigest = (manifest: Uint8Array): string =>
  `sha256:${createHash("sha256").update(manifest).digest("hex")}`;

/** Checks what a caller lists; the fault REQUEST_INVALID names the file. */
export function checkFiles(files: readonly ListedFile[], at: string): void {
  const paths = new Set<string>();
  for (const [i, { path, digest, sizeBytes }] of files.entries()) {
    checkPath(`${at}[${i}].path`, path);
    checkDigest(`${at}[${i}].digest`, digest);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw invalid(`${at}[${i}].size_bytes`, "is not a length");
    if (paths.has(path)) throw invalid(`${at}[${i}].path`, `is ${path}, as of another file`);
    paths.add(path);
  }
}

/** The files of a manifest, attacker's input; the fault REQUEST_INVALID when it is not exactly what `formatManifest` writes. */
export function parseManifest(bytes: Uint8Array): ListedFile[] {
  const files: ListedFile[] = [];
  let at = 0;
  let last: string | undefined;
  while (at < bytes.length) {
    const end = bytes.indexOf(0x0a, at);
    if (end < 0) throw invalid("manifest", "does not end in a line feed");
    const file = parseLine(bytes.subarray(at, end), files.length + 1);
    if (last !== undefined && file.path <= last) throw invalid("manifest", "is not ascending by path");
    last = file.path;
    files.push(file);
    if (files.length > MAX_MANIFEST_FILES) throw invalid("manifest", `lists more than ${MAX_MANIFEST_FILES} files`);
    at = end + 1;
  }
  if (files.length === 0) throw invalid("manifest", "lists no file");
  return files;
}

function parseLine(line: Uint8Array, number: number): ListedFile {
  const wrong = `has no canonical {"digest","path","size_bytes"} in line ${number}`;
  try {
    const value = parseCanonical(line, { maxBytes: 8_192, maxDepth: 2 });
    if (!isObject(value) || Object.keys(value).length !== 3) throw invalid("manifest", wrong);
    const { digest, path, size_bytes: sizeBytes } = value;
    if (typeof digest !== "string" || parseRecordId(digest) === undefined) throw invalid("manifest", wrong);
    if (typeof path !== "string" || typeof sizeBytes !== "number") throw invalid("manifest", wrong);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw invalid("manifest", wrong);
    return { digest, path: checkPath(`manifest line ${number}`, path), sizeBytes };
  } catch (error) {
    if (error instanceof Violation) throw invalid("manifest", wrong);
    throw error;
  }
}
