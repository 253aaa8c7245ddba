/**
 * Addresses at which clients put and get the bytes of artifacts: this server's own on the embedded store, the store's on S3, where no
 * byte passes through the server.
 */
import type { BlobUrls } from "../command/context.ts";
import { Fault } from "../std/faults.ts";
import { findBlob } from "../store/find-blob.ts";
import type { UploadSigner } from "../store/fs/upload.ts";
import type { S3Store } from "../store/s3/s3-store.ts";
import { systemClock } from "./home.ts";

const URL_LIFE_MS = 600_000;
const DAY_MS = 86_400_000;
/** An upload that is never completed is held for so long; completing prolongs it. */
const UPLOAD_LOCK_DAYS = 7;

/** Milliseconds since the epoch. */
export const uploadLock = (): number => systemClock.now() + UPLOAD_LOCK_DAYS * DAY_MS;

/** `base` is asked for each time, since a server learns its address after it was put together. */
export function createOwnBlobUrls(signer: UploadSigner, base: () => string): BlobUrls {
  const signed = (
    method: "PUT" | "GET",
    blob: { readonly key: string; readonly sha256: string; readonly sizeBytes: number },
  ) => {
    const expiresMs = systemClock.now() + URL_LIFE_MS;
    const token = signer.sign({
      expiresAtMs: expiresMs,
      key: blob.key,
      method,
      sha256: blob.sha256,
      sizeBytes: blob.sizeBytes,
    });
    return {
      expiresMs,
      headers: method === "PUT" ? [{ name: "content-length", value: String(blob.sizeBytes) }] : [],
      url: `${base()}/blob/${token}`,
    };
  };
  return { get: async (blob) => signed("GET", blob), put: async (blob) => signed("PUT", blob) };
}

/** `uploads` signs what clients put, and need not be able to read anything. */
export function createS3BlobUrls(store: S3Store, uploads: S3Store): BlobUrls {
  const seconds = URL_LIFE_MS / 1_000;
  return {
    async get({ key, sha256 }) {
      const found = await findBlob(store, key, sha256);
      if (found?.info.versionId === undefined)
        throw new Fault("ERASED", "the artifact's bytes are not in the store any more");
      const expiresMs = systemClock.now() + URL_LIFE_MS;
      return { expiresMs, ...(await store.presignGet({ key, seconds, versionId: found.info.versionId })) };
    },
    async put({ key, sha256, sizeBytes }) {
      const expiresMs = systemClock.now() + URL_LIFE_MS;
      // Somebody who may write laid other bytes there: these go over them. What is right already is not written again.
      const ifAbsent =
        (await store.head("ledger", key)) === null || (await findBlob(store, key, sha256))?.isVerified === true;
      const put = { ifAbsent, key, retainUntil: uploadLock(), seconds, sha256, sizeBytes };
      return { expiresMs, ...(await uploads.presignPut(put)) };
    },
  };
}
