/**
 * Secrets of tokens: `dp_` or `dpr_` (a run's) and 32 random bytes as base64url. Only their SHA-256 is recorded; a secret of
 * 256 random bits needs no slow hash. Never logs or keeps a secret.
 */
import { hash } from "node:crypto";
import type { Digest } from "../std/brand.ts";
import { formatBase64Url } from "../std/bytes.ts";
import type { Random } from "../std/ports.ts";

const SECRET_BYTES = 32;
// 32 bytes: the last of 43 characters carries four bits.
const SECRET = /^(dpr?_)[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

export const TOKEN_MAX_DAYS = 400;
export const TOKEN_DEFAULT_DAYS = 90;
export const RUN_TOKEN_MAX_MS = 24 * 3_600_000;

export interface Secret {
  /** Shown once, to whom it was made for. */
  readonly text: string;
  readonly sha256: Digest;
}

export const secretDigest = (text: string): Digest => hash("sha256", text, "hex") as Digest;

export function createSecret(random: Random, method: "token" | "run-token"): Secret {
  const text = `${method === "token" ? "dp_" : "dpr_"}${formatBase64Url(random.bytes(SECRET_BYTES))}`;
  return { text, sha256: secretDigest(text) };
}

/** Which kind of token a text is, attacker's input; undefined when it is none. */
export function parseSecret(text: string): "token" | "run-token" | undefined {
  const prefix = SECRET.exec(text)?.[1];
  if (prefix === undefined) return undefined;
  return prefix === "dp_" ? "token" : "run-token";
}
