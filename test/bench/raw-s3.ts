/**
 * What the object store gives without a ledger, by two clients that have nothing in common: our S3 path in this process, and
 * `raw-s3/`, a program around MinIO's Go client. Both create objects as the ledger does, of one record's size, absent before, locked in
 * COMPLIANCE mode, with a SHA-256 that the store checks; or read given keys.
 */
import { execFile, spawn } from "node:child_process";
import { hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { systemClock } from "../../src/main/home.ts";
import type { Digest } from "../../src/std/brand.ts";
import { recordKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import type { Minio } from "../minio/minio.ts";

const NAME = "raw";
const RETENTION_MS = 30 * 86_400_000;
const SESSION_S = 6 * 3_600;

/** How much, and how fast. */
export interface Creates {
  readonly inFlight: number;
  readonly seconds: number;
  readonly sizeBytes: number;
  /** How many are due in a second; each is timed from then. Absent: as fast as it goes. */
  readonly perSecond?: number;
}

export interface Raw {
  readonly perSecond: number;
  readonly timesMs: readonly number[];
}

export class RawS3 implements AsyncDisposable {
  readonly #store: S3Store;
  readonly #minio: Minio;
  readonly #credentials: S3Credentials;
  readonly #program: string;

  private constructor(minio: Minio, store: S3Store, credentials: S3Credentials, program: string) {
    this.#minio = minio;
    this.#store = store;
    this.#credentials = credentials;
    this.#program = program;
  }

  static async open(minio: Minio, folder: string): Promise<RawS3> {
    const program = join(folder, "raw-s3");
    await promisify(execFile)("go", ["build", "-o", program, "."], {
      cwd: fileURLToPath(new URL("./raw-s3", import.meta.url)),
      env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" },
    }).catch((cause: unknown) => {
      const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
      throw new Error(
        isMissing
          ? "The second client of the benchmark is a Go program: install Go 1.24 or newer"
          : `The second client of the benchmark cannot be built: ${(cause as Error).message}`,
        { cause },
      );
    });
    const address = parseS3Address(minio.address(NAME));
    await makeBuckets({ address, credentials: minio.root }, 1);
    const credentials = await minio.as("writer", NAME, SESSION_S);
    return new RawS3(minio, createS3Store({ address, clock: systemClock, credentials }), credentials, program);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }

  /** Locked creates by our own path. */
  creates({ inFlight, perSecond, seconds, sizeBytes }: Creates): Promise<Raw> {
    const retainUntil = Date.now() + RETENTION_MS;
    return measure(
      inFlight,
      async () => {
        const body = randomBytes(sizeBytes);
        const { outcome } = await this.#store.create("ledger", recordKey(hash("sha256", body) as Digest), body, {
          retainUntil,
        });
        if (outcome !== "created") throw new Error(`assertion failed: a new object is created, but it is ${outcome}`);
      },
      { perSecond, untilMs: performance.now() + seconds * 1_000 },
    );
  }

  /** The same by the other client. */
  async otherCreates({ inFlight, perSecond = 0, seconds, sizeBytes }: Creates): Promise<Raw> {
    const raw = await this.#run({
      bucket: `${NAME}-ledger`,
      credentials: this.#credentials,
      inFlight,
      perSecond,
      retainUntil: new Date(Date.now() + RETENTION_MS).toISOString(),
      seconds,
      sizeBytes,
    });
    const last = await this.#store.head("ledger", raw.lastKey);
    if (last?.lockMode !== "COMPLIANCE" || last.sha256 === undefined || last.sizeBytes !== sizeBytes)
      throw new Error("assertion failed: the other client's objects are locked and have a checksum");
    return raw;
  }

  /** Reads keys of a ledger bucket by our own path. */
  reads(store: S3Store, keys: readonly string[], inFlight: number): Promise<Raw> {
    return measure(
      inFlight,
      async (i) => {
        if ((await store.get("ledger", keys[i] ?? "")) === null) throw new Error("assertion failed: the key is there");
      },
      { count: keys.length },
    );
  }

  /** The same by the other client. */
  async otherReads(name: string, keys: readonly string[], inFlight: number): Promise<Raw> {
    const credentials = await this.#minio.as("reader", name);
    return this.#run({ bucket: `${name}-ledger`, credentials, inFlight, keys });
  }

  async #run({ credentials, ...order }: { credentials: S3Credentials } & Record<string, unknown>) {
    const child = spawn(this.#program, [], { stdio: ["pipe", "pipe", "inherit"] });
    const gone = once(child, "close");
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (part: string) => (said += part));
    child.stdin.end(JSON.stringify({ endpoint: `127.0.0.1:${this.#minio.port}`, ...credentials, ...order }));
    const [code] = (await gone) as [number | null];
    if (code !== 0) throw new Error(`the other client ended with ${code}`);
    const { lastKey, seconds, timesMs } = JSON.parse(said) as { lastKey: string; seconds: number; timesMs: number[] };
    return { lastKey, perSecond: timesMs.length / seconds, timesMs };
  }
}

async function measure(
  inFlight: number,
  one: (i: number) => Promise<void>,
  {
    count = Number.POSITIVE_INFINITY,
    perSecond = Number.POSITIVE_INFINITY,
    untilMs = Number.POSITIVE_INFINITY,
  }: { readonly count?: number; readonly perSecond?: number | undefined; readonly untilMs?: number },
): Promise<Raw> {
  const timesMs: number[] = [];
  const begun = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (next < count) {
        const i = next++;
        const from = perSecond === Number.POSITIVE_INFINITY ? performance.now() : begun + (i / perSecond) * 1_000;
        if (from >= untilMs) return;
        if (from > performance.now()) await sleep(from - performance.now());
        await one(i);
        timesMs.push(performance.now() - from);
      }
    }),
  );
  return { perSecond: (timesMs.length / (performance.now() - begun)) * 1_000, timesMs };
}
