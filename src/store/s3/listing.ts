/**
 * Pages of ListObjectsV2 and ListObjectVersions (Amazon S3 API, 2006-03-01). Read with `encoding-type=url`, so that a key, which an
 * attacker chooses, is never markup. An element that is missing or malformed is a Fault: a page is never taken for shorter than it is.
 */
import { Fault } from "../../std/faults.ts";
import type { ObjectVersion } from "../object-store.ts";

export interface ListedObject {
  readonly key: string;
  readonly sizeBytes: number;
  readonly etag: string;
}

export interface ObjectPage {
  readonly objects: readonly ListedObject[];
  /** Absent on the last page. */
  readonly continuation: string | undefined;
}

export interface VersionPage {
  readonly versions: readonly ObjectVersion[];
  /** Absent on the last page. */
  readonly next: { readonly key: string; readonly versionId: string } | undefined;
}

const broken = (what: string): Fault =>
  new Fault("STORE_UNAVAILABLE", `a listing of the store ${what}: check that it speaks S3, and the proxies before it`);

function text(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml);
  return found?.[1]?.replaceAll(/&(?:quot|#34|#x22);/g, '"').replaceAll("&amp;", "&");
}

function need(xml: string, name: string): string {
  const found = text(xml, name);
  if (found === undefined) throw broken(`has an entry without ${name}`);
  return found;
}

function decode(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll("+", " "));
  } catch {
    throw broken("has a key that is not URL-encoded");
  }
}

const etagOf = (quoted: string): string => quoted.replaceAll('"', "");

function sizeOf(xml: string): number {
  const size = Number(need(xml, "Size"));
  if (!Number.isSafeInteger(size) || size < 0) throw broken("has an entry without a length");
  return size;
}

function assertPage(xml: string, root: string): void {
  if (!xml.includes(`<${root}`) || !xml.trimEnd().endsWith(`</${root}>`)) throw broken(`is no whole ${root}`);
}

export function parseObjectPage(xml: string): ObjectPage {
  assertPage(xml, "ListBucketResult");
  const objects = [...xml.matchAll(/<Contents>(.*?)<\/Contents>/gs)].map(([, entry = ""]) => ({
    etag: etagOf(need(entry, "ETag")),
    key: decode(need(entry, "Key")),
    sizeBytes: sizeOf(entry),
  }));
  const isTruncated = need(xml, "IsTruncated") === "true";
  return { continuation: isTruncated ? need(xml, "NextContinuationToken") : undefined, objects };
}

export function parseVersionPage(xml: string): VersionPage {
  assertPage(xml, "ListVersionsResult");
  const versions = [...xml.matchAll(/<(Version|DeleteMarker)>(.*?)<\/\1>/gs)].map(([, kind, entry = ""]) => {
    const isMarker = kind === "DeleteMarker";
    const modifiedMs = Date.parse(need(entry, "LastModified"));
    if (Number.isNaN(modifiedMs)) throw broken("has a version without a date");
    return {
      etag: isMarker ? "" : etagOf(need(entry, "ETag")),
      isLatest: need(entry, "IsLatest") === "true",
      isMarker,
      key: decode(need(entry, "Key")),
      modifiedMs,
      sizeBytes: isMarker ? 0 : sizeOf(entry),
      versionId: need(entry, "VersionId"),
    };
  });
  const isTruncated = need(xml, "IsTruncated") === "true";
  return {
    next: isTruncated
      ? { key: decode(need(xml, "NextKeyMarker")), versionId: need(xml, "NextVersionIdMarker") }
      : undefined,
    versions,
  };
}
