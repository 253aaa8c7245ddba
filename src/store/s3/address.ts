/**
 * The address of a ledger's buckets on an S3 store, in one string that says everything but credentials:
 *
 *   s3://HOST[:PORT]/NAME[?region=REGION&ca=FILE&public=URL]        TLS
 *   s3+http://HOST[:PORT]/NAME[?…]                                  without TLS, for loopback and trusted networks
 *
 * NAME stands for three buckets: NAME-ledger, NAME-head and NAME-personal. `public` is the base address under which clients reach
 * the store, when that is not HOST (a filtering proxy, which must hand on the Host header).
 */
import { Fault } from "../../std/faults.ts";
import type { Bucket } from "../object-store.ts";

const DEFAULT_REGION = "us-east-1";
/** Leaves room for the longest suffix in a bucket's 63 characters. */
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,52}[a-z0-9])?$/;
const REGION = /^[a-z0-9-]{1,32}$/;
const PARAMETERS: ReadonlySet<string> = new Set(["region", "ca", "public"]);

export interface S3Address {
  /** As it was given. */
  readonly text: string;
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly region: string;
  /** Name of the ledger's buckets, without suffix. */
  readonly name: string;
  /** PEM file of the authority that signed the store's certificate; the system's when absent. */
  readonly caFile: string | undefined;
  /** Origin that clients are given; the store's own when absent. */
  readonly publicOrigin: string | undefined;
}

const EXAMPLE = "s3://minio.example.org:9000/ledger, or s3+http://127.0.0.1:9000/ledger without TLS";

/** Texts of faults end in logs: credentials that somebody put into an address do not. */
const wrong = (text: string, why: string): Fault =>
  new Fault(
    "REQUEST_INVALID",
    `The store's address ${JSON.stringify(text.replace(/\/\/.*@/s, "//…@"))} ${why}. It is to look like ${EXAMPLE}`,
  );

/** Throws the Fault REQUEST_INVALID. */
export function parseS3Address(text: string): S3Address {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw wrong(text, "is no address");
  }
  const tls = url.protocol === "s3:";
  if (!tls && url.protocol !== "s3+http:") throw wrong(text, "begins with neither s3:// nor s3+http://");
  if (url.username !== "" || url.password !== "")
    throw wrong(text, "holds credentials, which belong into the environment or a credentials file");
  if (url.hostname === "") throw wrong(text, "names no host");
  const name = url.pathname.replace(/^\//, "");
  if (!NAME.test(name))
    throw wrong(text, "does not end in a name of up to 54 lower-case letters, digits and hyphens for the buckets");
  for (const key of url.searchParams.keys())
    if (!PARAMETERS.has(key)) throw wrong(text, `has the parameter ${key}; region, ca and public are known`);
  const region = url.searchParams.get("region") ?? DEFAULT_REGION;
  if (!REGION.test(region)) throw wrong(text, `names the region ${JSON.stringify(region)}`);
  return {
    caFile: url.searchParams.get("ca") ?? undefined,
    host: url.hostname,
    name,
    port: url.port === "" ? (tls ? 443 : 80) : Number(url.port),
    publicOrigin: publicOriginOf(text, url.searchParams.get("public")),
    region,
    text,
    tls,
  };
}

function publicOriginOf(text: string, given: string | null): string | undefined {
  if (given === null) return undefined;
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search !== "")
    throw wrong(text, `has public=${given}, which is to be an origin such as https://store.example.org`);
  return url.origin;
}

export const bucketName = ({ name }: S3Address, bucket: Bucket): string => `${name}-${bucket}`;

/** Host and port as the Host header has them. */
export function hostHeader({ host, port, tls }: S3Address): string {
  return port === (tls ? 443 : 80) ? host : `${host}:${port}`;
}

export const originOf = (address: S3Address): string => `${address.tls ? "https" : "http"}://${hostHeader(address)}`;
