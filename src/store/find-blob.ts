/**
 * The bytes of an artifact in the store, by their digest and not by what lies on top: whoever may write to the bucket can lay other
 * bytes, or a delete marker, over them, and what was locked is still there.
 */
import type { ObjectInfo, ObjectStore } from "./object-store.ts";

export interface FoundBlob {
  readonly info: ObjectInfo;
  /** Whether the store itself vouches for the digest; else the bytes are to be read. */
  readonly isVerified: boolean;
}

/**
 * The version that the store says has the digest (hex), wherever it lies; else the newest of which it says nothing, since not every
 * store and not every upload has checksums. Undefined when nothing can be the bytes.
 */
export async function findBlob(
  store: ObjectStore,
  key: string,
  sha256: string,
  signal?: AbortSignal,
): Promise<FoundBlob | undefined> {
  const newest = await store.head("ledger", key, { signal });
  if (newest?.sha256 === sha256) return { info: newest, isVerified: true };
  const candidates = newest === null || newest.sha256 !== undefined ? [] : [newest];
  // Without versions there is nothing below.
  if (newest === null || newest.versionId !== undefined)
    for await (const version of store.versions("ledger", key, { signal })) {
      if (version.key !== key || version.isMarker || version.versionId === newest?.versionId) continue;
      const info = await store.head("ledger", key, { signal, versionId: version.versionId });
      if (info?.sha256 === sha256) return { info, isVerified: true };
      if (info !== null && info.sha256 === undefined) candidates.push(info);
    }
  const [info] = candidates;
  return info === undefined ? undefined : { info, isVerified: false };
}
