/**
 * Reads by content, not by what lies on top: on a store with versions whoever may write can lay other bytes, or a delete marker,
 * over an object, and what was locked is still there. In the normal case this is one read; versions are listed only when the
 * newest one is not right. Everybody who looks below the newest version does it here.
 */
import { equalBytes } from "../std/bytes.ts";
import type { ObjectStore, ObjectVersion, StoredObject, StoreOptions } from "./object-store.ts";

/** A store whose versions may not be known, such as a plain copy of the newest ones. */
export type ContentReader = Pick<ObjectStore, "get"> & Partial<Pick<ObjectStore, "versions">>;

/** What lies over the right version. */
export type Over = "object.hidden" | "object.shadowed";

export interface Found extends StoredObject {
  readonly isRight: boolean;
  /** Set when the right version is not what a plain read gives. */
  readonly over?: Over;
}

/** Bodies that are read under one key at most: an attacker may have laid any number. */
const MAX_TRIED = 64;

export const describeOver = (over: Over): string =>
  over === "object.hidden" ? "a delete marker lies over the right version" : "other bytes lie over the right version";

export const hasVersions = <S extends object>(store: S): store is S & Pick<ObjectStore, "versions"> =>
  "versions" in store && store.versions !== undefined;

async function versionsOf(
  store: Pick<ObjectStore, "versions">,
  key: string,
  options: StoreOptions,
): Promise<{ readonly data: ObjectVersion[]; readonly hasMarker: boolean }> {
  const all: ObjectVersion[] = [];
  for await (const version of store.versions("ledger", key, options)) if (version.key === key) all.push(version);
  return { data: all.filter((v) => !v.isMarker).toReversed(), hasMarker: all.some((v) => v.isMarker) };
}

/** The data versions of a key, oldest first: what was there first is what create-if-absent made. */
export const dataVersions = async (
  store: Pick<ObjectStore, "versions">,
  key: string,
  options: StoreOptions,
): Promise<ObjectVersion[]> => (await versionsOf(store, key, options)).data;

/** What a key ever held. */
export interface History {
  /** Oldest first, each content once; empty for a key that was never written. */
  readonly contents: readonly Uint8Array[];
  /** Whether a delete marker lies anywhere among the versions. */
  readonly hasMarker: boolean;
}

export async function historyOf(
  store: Pick<ObjectStore, "get" | "versions">,
  key: string,
  options: StoreOptions,
): Promise<History> {
  const { data, hasMarker } = await versionsOf(store, key, options);
  const contents: Uint8Array[] = [];
  for (const { versionId } of data.slice(0, MAX_TRIED)) {
    const body = (await store.get("ledger", key, { signal: options.signal, versionId }))?.body;
    if (body !== undefined && !contents.some((c) => equalBytes(c, body))) contents.push(body);
  }
  return { contents, hasMarker };
}

/** Whether one version is all that a key ever held. */
export async function isAlone(
  store: Pick<ObjectStore, "versions">,
  key: string,
  { signal }: StoreOptions,
): Promise<boolean> {
  let count = 0;
  for await (const version of store.versions("ledger", key, { limit: 2, signal })) if (version.key === key) count++;
  return count === 1;
}

/**
 * The version of an object of the ledger bucket that has the right bytes. When none has, the oldest, marked as wrong; null when
 * there is none. `newest` is what a plain read gave, when that was done before.
 */
export async function readRight(
  store: ContentReader,
  key: string,
  isRight: (body: Uint8Array) => boolean,
  options: StoreOptions & { readonly newest?: StoredObject | null } = {},
): Promise<Found | null> {
  const { newest = await store.get("ledger", key, { signal: options.signal }), signal } = options;
  if (newest !== null && isRight(newest.body)) return { ...newest, isRight: true };
  if (!hasVersions(store)) return newest === null ? null : { ...newest, isRight: false };
  let oldest: Found | null = null;
  // The newest was read; ids tell where there are any.
  const others = (await dataVersions(store, key, { signal })).filter((v) => v.versionId !== newest?.versionId);
  for (const { versionId } of others.slice(0, MAX_TRIED)) {
    const found = await store.get("ledger", key, { signal, versionId });
    if (found === null) continue;
    const over = newest === null ? "object.hidden" : "object.shadowed";
    if (isRight(found.body)) return { ...found, isRight: true, over };
    oldest ??= { ...found, isRight: false };
  }
  return oldest ?? (newest === null ? null : { ...newest, isRight: false });
}

/**
 * The bytes of an object of known length, of the version that is right; undefined when there is none. Of what strangers laid there
 * nothing longer is read.
 */
export async function readSized(
  store: ContentReader & Pick<ObjectStore, "head">,
  key: string,
  sizeBytes: number,
  isRight: (body: Uint8Array) => boolean,
  { signal }: StoreOptions = {},
): Promise<Uint8Array | undefined> {
  const read = async (versionId: string | undefined): Promise<Uint8Array | undefined> => {
    // The store may not have an empty range, and a version may be another than was looked at.
    const range = { from: 0, to: sizeBytes + 1 };
    const body = (await store.get("ledger", key, { range, signal, versionId }))?.body;
    return body !== undefined && isRight(body) ? body : undefined;
  };
  const newest = await store.head("ledger", key, { signal });
  const found = newest?.sizeBytes === sizeBytes ? await read(newest.versionId) : undefined;
  if (found !== undefined || !hasVersions(store)) return found;
  const others = await dataVersions(store, key, { signal });
  for (const version of others.filter((v) => v.sizeBytes === sizeBytes).slice(0, MAX_TRIED)) {
    const body = await read(version.versionId);
    if (body !== undefined) return body;
  }
  return undefined;
}
