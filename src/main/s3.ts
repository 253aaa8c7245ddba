/**
 * How a process reaches a ledger's buckets on S3: the store's address, and credentials by duty, from the environment or from a file
 * that only its owner may read. Credentials are never arguments, since those are seen by every process of the machine.
 */
import { readFileSync, statSync } from "node:fs";
import { Fault } from "../std/faults.ts";
import { parseS3Address, type S3Address } from "../store/s3/address.ts";
import type { S3Store } from "../store/s3/s3-store.ts";
import type { S3Credentials } from "../store/s3/transport.ts";
import { systemClock } from "./home.ts";

/** `deploy/iam` has a policy for each. */
export type S3Duty = "administrator" | "presigner" | "reader" | "writer";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface S3Access {
  readonly address: S3Address;
  /** PEM. */
  readonly ca: string | undefined;
  /** Throws the Fault REQUEST_INVALID when there are none. */
  credentials(duty: S3Duty): S3Credentials;
  has(duty: S3Duty): boolean;
}

const FILE = "DATAPILOT_S3_CREDENTIALS_FILE";
const PREFIXES: Readonly<Record<S3Duty, string>> = {
  administrator: "DATAPILOT_S3_ADMIN_",
  presigner: "DATAPILOT_S3_PRESIGNER_",
  reader: "DATAPILOT_S3_READER_",
  writer: "DATAPILOT_S3_",
};

/** Reads the files that address and environment name. */
export function s3AccessOf(text: string, env: Environment): S3Access {
  const address = parseS3Address(text);
  const file = env[FILE];
  const kept = file === undefined ? {} : readCredentials(file);
  const own = (duty: S3Duty): S3Credentials | undefined => fromEnvironment(env, PREFIXES[duty]) ?? kept[duty];
  // The writer may read, and sign uploads; a deployment that separates the duties names them.
  const find = (duty: S3Duty): S3Credentials | undefined =>
    own(duty) ?? (duty === "administrator" ? undefined : own("writer"));
  return {
    address,
    ca: address.caFile === undefined ? undefined : readText(address.caFile, "the store's authority"),
    credentials(duty) {
      const found = find(duty);
      if (found !== undefined) return found;
      throw new Fault(
        "REQUEST_INVALID",
        `There are no credentials for ${text}: set ${PREFIXES[duty]}ACCESS_KEY and ${PREFIXES[duty]}SECRET_KEY, or name a file in ${FILE}.`,
      );
    },
    has: (duty) => find(duty) !== undefined,
  };
}

/** Loads what speaks to S3 only now: most processes never do. */
export async function openS3(access: S3Access, duty: S3Duty): Promise<S3Store> {
  const credentials = access.credentials(duty);
  const { createS3Store } = await import("../store/s3/s3-store.ts");
  return createS3Store({ address: access.address, ca: access.ca, clock: systemClock, credentials });
}

function fromEnvironment(env: Environment, prefix: string): S3Credentials | undefined {
  const accessKey = env[`${prefix}ACCESS_KEY`];
  const secretKey = env[`${prefix}SECRET_KEY`];
  if (accessKey === undefined && secretKey === undefined) return undefined;
  if (accessKey === undefined || secretKey === undefined)
    throw new Fault("REQUEST_INVALID", `${prefix}ACCESS_KEY and ${prefix}SECRET_KEY go together.`);
  return { accessKey, secretKey, sessionToken: env[`${prefix}SESSION_TOKEN`] };
}

function readText(path: string, what: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new Fault("REQUEST_INVALID", `${what} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** `{"writer": {"access_key": …, "secret_key": …, "session_token": …}, "presigner": {…}, …}`. */
function readCredentials(path: string): Partial<Record<S3Duty, S3Credentials>> {
  const wrong = (why: string): Fault =>
    new Fault("REQUEST_INVALID", `${path}, which ${FILE} names, ${why}; docs/operating.md shows its form`);
  const text = readText(path, path);
  if ((statSync(path).mode & 0o077) !== 0) throw wrong(`may be read by others: chmod 600 ${path}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrong("is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("is no JSON object");
  const found: Partial<Record<S3Duty, S3Credentials>> = {};
  for (const [duty, entry] of Object.entries(value as Record<string, unknown>)) {
    if (!Object.hasOwn(PREFIXES, duty)) throw wrong(`names the duty ${JSON.stringify(duty.slice(0, 40))}`);
    const {
      access_key: accessKey,
      secret_key: secretKey,
      session_token: sessionToken,
    } = (entry ?? {}) as Record<string, unknown>;
    if (typeof accessKey !== "string" || typeof secretKey !== "string")
      throw wrong(`has no access_key and secret_key for ${duty}`);
    found[duty as S3Duty] = {
      accessKey,
      secretKey,
      ...(typeof sessionToken === "string" ? { sessionToken } : {}),
    };
  }
  return found;
}
