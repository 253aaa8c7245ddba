/**
 * The three buckets themselves, by the `minio` client: making them, and reading how they are configured. Used before a ledger is
 * opened and by nothing that serves requests: this client has neither deadlines nor cancellation, so each use has a connection
 * pool of its own that is destroyed when time is up.
 */
import http from "node:http";
import https from "node:https";
import { Client } from "minio";
import { Fault } from "../../std/faults.ts";
import type { Bucket } from "../object-store.ts";
import { bucketName, originOf, type S3Address } from "./address.ts";
import type { S3Credentials } from "./transport.ts";

const DEADLINE_MS = 20_000;

export interface BucketAccess {
  readonly address: S3Address;
  readonly credentials: S3Credentials;
  readonly ca?: string | undefined;
}

export interface BucketState {
  readonly versioning: "Enabled" | "Suspended" | "never";
  readonly hasLock: boolean;
  readonly defaultMode: "COMPLIANCE" | "GOVERNANCE" | undefined;
  readonly lifecycleRules: number;
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

async function withClient<T>(access: BucketAccess, work: (client: Client) => Promise<T>): Promise<T> {
  const { address, ca, credentials } = access;
  const agent = address.tls ? new https.Agent(ca === undefined ? {} : { ca }) : new http.Agent();
  const client = new Client({
    accessKey: credentials.accessKey,
    endPoint: address.host,
    pathStyle: true,
    port: address.port,
    region: address.region,
    // It would say so on the console.
    retryOptions: { disableRetry: true },
    secretKey: credentials.secretKey,
    transportAgent: agent,
    useSSL: address.tls,
    ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken }),
  });
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Fault("STORE_UNAVAILABLE", `${originOf(address)} did not answer within ${DEADLINE_MS} ms`)),
    DEADLINE_MS,
  );
  try {
    return await Promise.race([work(client), late.promise]);
  } finally {
    clearTimeout(timer);
    agent.destroy();
  }
}

function unavailable(doing: string, error: unknown): Fault {
  if (error instanceof Fault) return error;
  const said = error instanceof Error ? error.message : String(error);
  const code = codeOf(error);
  return new Fault(
    "STORE_UNAVAILABLE",
    `${doing}: ${code === "" ? said : `${code}: ${said}`.slice(0, 300)}; check the store's address and these credentials`,
    { cause: error },
  );
}

/** Undefined for what the store says is not configured. */
async function unless<T>(codes: readonly string[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(codeOf(error))) return undefined;
    throw error;
  }
}

/** The client's types know its older form, which took a callback. */
const lockOf = (client: Client, name: string) =>
  client.getObjectLockConfig(name) as unknown as Promise<{
    readonly objectLockEnabled?: string;
    readonly mode?: "COMPLIANCE" | "GOVERNANCE";
  }>;

const setDefaultLock = (client: Client, name: string, days: number) =>
  client.setObjectLockConfig(name, {
    mode: "COMPLIANCE",
    unit: "Days",
    validity: days,
  } as never) as unknown as Promise<void>;

/** Whether a bucket has object lock and no default for it. */
async function isLockless(client: Client, name: string): Promise<boolean> {
  const lock = await unless(["ObjectLockConfigurationNotFoundError"], lockOf(client, name));
  return lock?.objectLockEnabled === "Enabled" && lock.mode === undefined;
}

/** A bucket that never had versions has an empty configuration, which the client gives as an empty text. */
function statusOf(versioning: unknown): BucketState["versioning"] {
  const status =
    typeof versioning === "object" && versioning !== null && "Status" in versioning ? versioning.Status : "";
  return status === "Enabled" || status === "Suspended" ? status : "never";
}

/** Null when the bucket does not exist. */
export async function inspectBucket(access: BucketAccess, bucket: Bucket): Promise<BucketState | null> {
  const name = bucketName(access.address, bucket);
  try {
    return await withClient(access, async (client) => {
      const versioning = await unless(["NoSuchBucket"], client.getBucketVersioning(name));
      if (versioning === undefined) return null;
      const lock = (await unless(["ObjectLockConfigurationNotFoundError"], lockOf(client, name))) ?? {};
      const lifecycle = await unless(["NoSuchLifecycleConfiguration"], client.getBucketLifecycle(name));
      return {
        defaultMode: lock.mode,
        hasLock: lock.objectLockEnabled === "Enabled",
        lifecycleRules: [lifecycle?.Rule ?? []].flat().length,
        versioning: statusOf(versioning),
      };
    });
  } catch (error) {
    throw unavailable(`reading the configuration of ${name}`, error);
  }
}

/** Makes the buckets that do not exist; the ledger's with object lock, which no bucket gets later. Gives the names it made. */
export async function makeBuckets(access: BucketAccess, retentionDays: number): Promise<string[]> {
  const made: string[] = [];
  for (const bucket of ["ledger", "head", "personal"] as const) {
    const name = bucketName(access.address, bucket);
    try {
      await withClient(access, async (client) => {
        if (await client.bucketExists(name)) {
          // Made, and its default not set: a store may die in between.
          if (bucket === "ledger" && (await isLockless(client, name)))
            await setDefaultLock(client, name, retentionDays);
          return;
        }
        await client.makeBucket(name, access.address.region, bucket === "ledger" ? { ObjectLocking: true } : {});
        made.push(name);
        if (bucket === "ledger") await setDefaultLock(client, name, retentionDays);
      });
    } catch (error) {
      throw unavailable(`making the bucket ${name}`, error);
    }
  }
  return made;
}
