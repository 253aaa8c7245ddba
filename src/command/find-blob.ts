/**
 * The bytes of an artifact in the store, by their digest and not by what lies on top: whoever may write to the bucket can lay other
 * bytes, or a delete marker, over them, and what was locked is still there.
 */
import type { ObjectInfo, ObjectStore } from "../store/object-store.ts";

export interface FoundBlob {
  readonly info: ObjectInfo;
  /** Whether the store itself vouches for the digest; else the bytes are to be read. */
  readonly isVerified: boolean;
}

/**
 * Undefined when nothing can be the bytes. `sha256` is hex. A store that keeps checksums gives the version that has the digest, or
 * none; another gives its newest.
 */
export async function findBlob(
  store: ObjectStore,
  key: string,
  sha256: string,
  signal?: AbortSignal,
): Promise<FoundBlob | undefined> {
  const newest = await store.head("ledger", key, { signal });
  if (newest?.sha256 === sha256) return { info: newest, isVerified: true };
  if (newest !== null && newest.sha256 === undefined) return { info: newest, isVerified: false };
  for await (const version of store.versions("ledger", key, { signal })) {
    if (version.key !== key || version.isMarker || version.versionId === newest?.versionId) continue;
    const info = await store.head("ledger", key, { signal, versionId: version.versionId });
    if (info?.sha256 === sha256) return { info, isVerified: true };
  }
  return undefined;
}
