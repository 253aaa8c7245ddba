/**
 * Signature Version 4 of one request in its headers (AWS, "Create a signed AWS API request", for the service s3): every header that is
 * given is signed. Written out because each PUT and GET pays for it; addresses for clients are signed by `@smithy/signature-v4`, and
 * tests hold both to the same bytes.
 *
 * Values are signed as they stand: they hold neither outer spaces nor runs of them.
 */
import { createHmac, createSecretKey, hash, type KeyObject } from "node:crypto";
import type { S3Credentials } from "./transport.ts";

const ALGORITHM = "AWS4-HMAC-SHA256";

const encode = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

/** What most keys consist of. */
const PLAIN = /^[A-Za-z0-9._~/-]*$/;

/** A bucket and a key, from the first slash on. */
export const encodePath = (path: string): string =>
  PLAIN.test(path) ? `/${path}` : `/${path.split("/").map(encode).join("/")}`;

/** Sorted by the bytes of the encoded names, as it is signed. */
export const encodeQuery = (query: Readonly<Record<string, string>>): string =>
  Object.entries(query)
    .map(([name, value]) => [encode(name), encode(value)] as const)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");

export interface ToSign {
  readonly method: string;
  /** As `encodePath` gives it. */
  readonly path: string;
  /** As `encodeQuery` gives it. */
  readonly query: string;
  /** Lower-case names; `host` and `x-amz-content-sha256` are among them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
}

export class HeaderSigner {
  readonly #credentials: S3Credentials;
  readonly #region: string;
  /** Kept for as long as its day lasts. */
  #key: { readonly day: string; readonly key: KeyObject } | undefined;

  constructor(credentials: S3Credentials, region: string) {
    this.#credentials = credentials;
    this.#region = region;
  }

  /** The headers to send. */
  sign({ headers, method, nowMs, path, query }: ToSign): Record<string, string> {
    const { accessKey, sessionToken } = this.#credentials;
    const date = `${new Date(nowMs).toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;
    const day = date.slice(0, 8);
    const scope = `${day}/${this.#region}/s3/aws4_request`;
    const sent: Record<string, string> = { ...headers, "x-amz-date": date };
    if (sessionToken !== undefined) sent["x-amz-security-token"] = sessionToken;
    const names = Object.keys(sent).sort();
    let lines = "";
    for (const name of names) lines += `${name}:${sent[name]}\n`;
    const signed = names.join(";");
    const canonical = `${method}\n${path}\n${query}\n${lines}\n${signed}\n${sent["x-amz-content-sha256"]}`;
    const signature = createHmac("sha256", this.#keyOf(day))
      .update(`${ALGORITHM}\n${date}\n${scope}\n${hash("sha256", canonical)}`)
      .digest("hex");
    sent["authorization"] =
      `${ALGORITHM} Credential=${accessKey}/${scope}, SignedHeaders=${signed}, Signature=${signature}`;
    return sent;
  }

  #keyOf(day: string): KeyObject {
    if (this.#key?.day !== day) {
      const parts = [day, this.#region, "s3", "aws4_request"];
      const bytes = parts.reduce<Buffer>(
        (key, part) => createHmac("sha256", key).update(part).digest(),
        Buffer.from(`AWS4${this.#credentials.secretKey}`),
      );
      this.#key = { day, key: createSecretKey(bytes) };
    }
    return this.#key.key;
  }
}
