/**
 * Uploads and downloads of the embedded store: the signed tokens that stand for S3's presigned URLs, and the reception of a
 * body (`docs/operating.md`). A client may choose every byte of a token and of a body.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { assert } from "../../std/assert.ts";
import { formatBase64Url, formatHex, parseBase64Url, parseUtf8, utf8 } from "../../std/bytes.ts";
import { refuseAborted } from "../aborted.ts";
import type { UploadMismatch } from "../object-store.ts";
import { type Disk, diskFault, type TemporaryFile, writeAll } from "./disk.ts";

const DOMAIN = "datapilot/blob-token/v1\n";
const MINIMUM_SECRET_BYTES = 32;
const MAC_BYTES = 32;
const MAX_TOKEN_CHARACTERS = 2_048;
const SHA256_HEX = /^[0-9a-f]{64}$/;
/** Small pieces are gathered before they are written. */
const GATHER_BYTES = 256 * 1024;

export interface UploadClaims {
  readonly method: "PUT" | "GET";
  readonly key: string;
  /** Hex; what a PUT must bring. */
  readonly sha256?: string | undefined;
  readonly sizeBytes?: number | undefined;
  readonly expiresAtMs: number;
  /** Name under which a browser saves a download. */
  readonly filename?: string | undefined;
}

export interface UploadSigner {
  /** A token for a URL's path: `<base64url claims>.<base64url HMAC-SHA-256>`. */
  sign(claims: UploadClaims): string;
  /** The claims, or undefined when the token is not ours, is for another method, or has expired. */
  verify(token: string, method: string, nowMs: number): UploadClaims | undefined;
}

/** `secret` has at least 32 bytes. */
export function createUploadSigner(secret: Uint8Array): UploadSigner {
  assert(secret.length >= MINIMUM_SECRET_BYTES, "an upload secret has at least 32 bytes");
  const macOf = (payload: string): Uint8Array => createHmac("sha256", secret).update(DOMAIN).update(payload).digest();
  return {
    sign(claims) {
      const payload = formatBase64Url(utf8(JSON.stringify(claims)));
      return `${payload}.${formatBase64Url(macOf(payload))}`;
    },
    verify(token, method, nowMs) {
      if (token.length > MAX_TOKEN_CHARACTERS) return undefined;
      const dot = token.indexOf(".");
      if (dot < 0) return undefined;
      const payload = token.slice(0, dot);
      const mac = parseBase64Url(token.slice(dot + 1));
      if (mac === undefined || mac.length !== MAC_BYTES || !timingSafeEqual(mac, macOf(payload))) return undefined;
      const claims = parseClaims(payload);
      return claims !== undefined && claims.method === method && nowMs < claims.expiresAtMs ? claims : undefined;
    },
  };
}

/** The MAC was right, so this is what `sign` wrote; checked all the same, because a secret may be shared with other versions. */
function parseClaims(payload: string): UploadClaims | undefined {
  const text = parseUtf8(parseBase64Url(payload) ?? new Uint8Array());
  if (text === undefined || text === "") return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { method, key, sha256, sizeBytes, expiresAtMs, filename } = value as Record<string, unknown>;
  if ((method !== "PUT" && method !== "GET") || typeof key !== "string" || !Number.isSafeInteger(expiresAtMs))
    return undefined;
  if (sha256 !== undefined && !(typeof sha256 === "string" && SHA256_HEX.test(sha256))) return undefined;
  if (sizeBytes !== undefined && !(Number.isSafeInteger(sizeBytes) && (sizeBytes as number) >= 0)) return undefined;
  if (filename !== undefined && typeof filename !== "string") return undefined;
  return {
    method,
    key,
    expiresAtMs: expiresAtMs as number,
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(sizeBytes === undefined ? {} : { sizeBytes: sizeBytes as number }),
    ...(filename === undefined ? {} : { filename }),
  };
}

class Mismatch extends Error {
  readonly found: UploadMismatch;
  constructor(found: UploadMismatch) {
    super(found.field);
    this.found = found;
  }
}

export interface UploadBody {
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly stream: AsyncIterable<Uint8Array>;
  readonly signal: AbortSignal | undefined;
}

/** Streams a body into a synced file under `tmp` while hashing it; nothing is left unless length and digest are right. */
export async function receiveStream(
  disk: Disk,
  body: UploadBody,
  retainUntil: number | undefined,
  mode: number,
): Promise<TemporaryFile | UploadMismatch> {
  const { sha256, sizeBytes, stream, signal } = body;
  const differs = (field: "length" | "sha256", expected: string, received: string): Mismatch =>
    new Mismatch({ outcome: "mismatch", field, expected, received });
  try {
    return await disk.fillTemporary(retainUntil, mode, async (fd) => {
      const hash = createHash("sha256");
      let received = 0;
      let gathered: Uint8Array[] = [];
      let gatheredBytes = 0;
      const flush = async (): Promise<void> => {
        for (const piece of gathered.length > 1 ? [Buffer.concat(gathered)] : gathered) await writeAll(fd, piece);
        gathered = [];
        gatheredBytes = 0;
      };
      for await (const piece of stream) {
        refuseAborted(signal, "an upload");
        received += piece.length;
        if (received > sizeBytes) throw differs("length", String(sizeBytes), String(received));
        hash.update(piece);
        gathered.push(piece);
        gatheredBytes += piece.length;
        if (gatheredBytes >= GATHER_BYTES) await flush();
      }
      if (received !== sizeBytes) throw differs("length", String(sizeBytes), String(received));
      const digest = formatHex(hash.digest());
      if (digest !== sha256) throw differs("sha256", sha256, digest);
      await flush();
    });
  } catch (error) {
    if (error instanceof Mismatch) return error.found;
    throw diskFault("receiving an upload", error);
  }
}
