/**
 * Signed addresses of the embedded store: what may be sent to or fetched from which key, until when. Short-lived, and bound to the
 * content's digest and length, so that holding one allows nothing else.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Digest } from "../../std/brand.ts";
import { parseBase64Url, parseUtf8, utf8, formatBase64Url } from "../../std/bytes.ts";

export interface TransferClaims {
  readonly method: "PUT" | "GET";
  readonly key: string;
  readonly sha256: Digest;
  readonly sizeBytes: number;
  /** Milliseconds since the epoch. */
  readonly expiresAtMs: number;
  /** Name offered to whoever downloads. */
  readonly filename?: string;
}

export interface TransferSigner {
  sign(claims: TransferClaims): string;
  /** The claims of a token that is right and not expired. */
  verify(token: string, method: "PUT" | "GET", nowMs: number): TransferClaims | undefined;
}

export function createTransferSigner(secret: Uint8Array): TransferSigner {
  const mac = (payload: Uint8Array): Buffer => createHmac("sha256", secret).update("datapilot-transfer/v1\n").update(payload).digest();
  return {
    sign(claims) {
      const payload = utf8(JSON.stringify(claims));
      return `${formatBase64Url(payload)}.${formatBase64Url(mac(payload))}`;
    },
    verify(token, method, nowMs) {
      const [left = "", right = "", ...more] = token.split(".");
      const payload = token.length > 4096 ? undefined : parseBase64Url(left);
      const signature = parseBase64Url(right);
      if (payload === undefined || signature?.length !== 32 || more.length > 0 || !timingSafeEqual(signature, mac(payload))) return undefined;
      // Only our own key signs, so the payload has the form that `sign` gave it.
      const claims = JSON.parse(parseUtf8(payload) ?? "null") as TransferClaims;
      return claims.method === method && nowMs <= claims.expiresAtMs ? claims : undefined;
    },
  };
}
