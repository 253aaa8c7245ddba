/**
 * What an S3 store's refusals mean, in words that say what to do next. The store's texts are data: they are quoted, cut, and never
 * decide anything but which of these sentences is said.
 */
import { parseUtf8 } from "../../std/bytes.ts";
import { Fault } from "../../std/faults.ts";
import type { S3Answer } from "./transport.ts";

const MAX_TEXT = 200;

const element = (xml: string, name: string): string =>
  new RegExp(`<${name}>([^<]{0,1000})</${name}>`).exec(xml)?.[1] ?? "";

/** The store's error code, such as `AccessDenied`; an answer to HEAD has no body, and MinIO puts it into a header. */
export const errorCodeOf = (answer: S3Answer): string =>
  element(parseUtf8(answer.body.subarray(0, 65_536)) ?? "", "Code") || (answer.headers["x-minio-error-code"] ?? "");

const CREDENTIALS = "check DATAPILOT_S3_ACCESS_KEY and DATAPILOT_S3_SECRET_KEY, or the credentials file";

const NO_LOCK =
  "the bucket does not exist, or was made without object lock: make a new one with `datapilot init --store`, and name it";

const MEANINGS: Readonly<Record<string, string>> = {
  AccessDenied:
    "the store denies it to these credentials: give them the policy for their duty (deploy/iam), and check that the session has not ended",
  AuthorizationHeaderMalformed: "the store is in another region: name it, ?region=REGION in the store's address",
  ExpiredToken: "the session of these credentials has expired: get new ones, then start again",
  InvalidAccessKeyId: `the store does not know this access key, or its session has expired: ${CREDENTIALS}`,
  InvalidTokenId: "the session of these credentials has expired or is not the store's: get new ones, then start again",
  NoSuchBucket: "the bucket does not exist: make it with `datapilot init --store`, or correct the store's address",
  PermanentRedirect: "the store is in another region: name it, ?region=REGION in the store's address",
  RequestTimeTooSkewed:
    "this machine's clock and the store's differ by too much: set both by NTP (chronyd, systemd-timesyncd), then start again",
  SignatureDoesNotMatch: `the secret key does not belong to this access key: ${CREDENTIALS}`,
  XMinioStorageFull: "the store is full: free space or enlarge it",
};

/** The Fault STORE_UNAVAILABLE for an answer that is not what was asked for. */
export function refusal(doing: string, answer: S3Answer): Fault {
  const code = errorCodeOf(answer);
  const said = element(parseUtf8(answer.body.subarray(0, 65_536)) ?? "", "Message").slice(0, MAX_TEXT);
  // One code for many flaws; this one is told apart by its text, which AWS and MinIO spell differently.
  const meaning = code === "InvalidRequest" && /Lock ?Configuration/.test(said) ? NO_LOCK : MEANINGS[code];
  const what = `${answer.status}${code === "" ? "" : ` ${code.slice(0, MAX_TEXT)}`}`;
  const fallback =
    answer.status === 403
      ? (MEANINGS["AccessDenied"] ?? "")
      : `${said === "" ? "it says no more" : said}; look into the store's log`;
  return new Fault("STORE_UNAVAILABLE", `${doing}: the store answers ${what}: ${meaning ?? fallback}`, {
    metadata: { code },
  });
}

/** Statuses after which the write may have happened, or may still happen. */
export const isOpen = (status: number): boolean =>
  status >= 500 || status === 408 || status === 409 || status === 429 || status === 499;
