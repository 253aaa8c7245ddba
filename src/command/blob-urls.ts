/** Addresses of artifacts' bytes under the server's own `/blob/`, for a store that presigns no addresses of its own. */
import type { Clock } from "../std/ports.ts";
import type { UploadSigner } from "../store/fs/upload.ts";
import type { BlobUrls } from "./context.ts";

const LIFE_MS = 600_000;

/** `base` is the server's public address without a slash at its end. */
export const createBlobUrls = (signer: UploadSigner, base: string, clock: Clock): BlobUrls => ({
  put({ key, sha256, sizeBytes }) {
    const expiresMs = clock.now() + LIFE_MS;
    const token = signer.sign({ method: "PUT", key, sha256, sizeBytes, expiresAtMs: expiresMs });
    return { url: `${base}/blob/${token}`, headers: [{ name: "content-length", value: String(sizeBytes) }], expiresMs };
  },
  get({ key, sha256, sizeBytes }) {
    const expiresMs = clock.now() + LIFE_MS;
    const token = signer.sign({ method: "GET", key, sha256, sizeBytes, expiresAtMs: expiresMs });
    return { url: `${base}/blob/${token}`, headers: [], expiresMs };
  },
});
