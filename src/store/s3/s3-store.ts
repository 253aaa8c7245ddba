/**
 * The object store on S3 (`docs/operating.md`): three buckets, of which `ledger` has object lock and versions.
 *
 * - Every PUT into the ledger bucket is signed with create-if-absent, COMPLIANCE, its retain-until date and the SHA-256 of its bytes.
 *   What the bucket does by default is a second belt and never relied on.
 * - `exists` is the answer 412 and nothing else. No answer, 408, 409, 429 and 5xx are `unknown`.
 * - Writes are sent once. Reads, and writes that may be repeated, are sent up to three times.
 * - Never server-side copies and never multipart uploads: neither keeps the conditions and checksums of a PUT.
 */

import { createHash, hash } from "node:crypto";
import { assert } from "../../std/assert.ts";
import { formatHex, parseBase64, parseUtf8 } from "../../std/bytes.ts";
import { Fault } from "../../std/faults.ts";
import type { Clock } from "../../std/ports.ts";
import { refuseAborted } from "../aborted.ts";
import { parseKey } from "../keys.ts";
import type {
  Bucket,
  CreateOptions,
  GetOptions,
  ListOptions,
  LockInfo,
  LockMode,
  MutableBucket,
  ObjectInfo,
  ObjectVersion,
  OpenedObject,
  PageOptions,
  PutOutcome,
  ReceiveOutcome,
  ReceivingStore,
  StoredObject,
  StoreOptions,
  SwapOutcome,
  VersionOptions,
} from "../object-store.ts";
import { bucketName } from "./address.ts";
import { errorCodeOf, isOpen, refusal } from "./answers.ts";
import { type ListedObject, parseObjectPage, parseVersionPage } from "./listing.ts";
import {
  type S3Answer,
  type S3Request,
  S3Transport,
  Silence,
  type StreamedRequest,
  type TransportOptions,
} from "./transport.ts";

const READ_ATTEMPTS = 3;
const FIRST_PAUSE_MS = 50;
const PAGE = 1_000;
/** Requests in flight when a listing asks for locks. */
const HEADS = 32;

export interface S3StoreOptions extends TransportOptions {
  /** Times of presigned addresses and pauses between repetitions. */
  readonly clock: Clock;
}

export interface PresignedUrl {
  readonly url: string;
  /** What the client must send, as it stands. */
  readonly headers: readonly { readonly name: string; readonly value: string }[];
}

export interface PresignedPut {
  /** Key of the ledger bucket. */
  readonly key: string;
  /** Hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
  /** Milliseconds since the epoch. */
  readonly retainUntil: number;
  /** False lays the bytes over what the key holds: only where that is known to be something else. */
  readonly ifAbsent: boolean;
  readonly seconds: number;
}

export interface PresignedGet {
  readonly key: string;
  /** The address reads this version, whatever is laid over it later. */
  readonly versionId: string;
  readonly seconds: number;
}

/** A store that has not done what it was asked since then. */
export interface Trouble {
  /** By the clock's monotonic time. */
  readonly sinceMs: number;
  /** What it says, or that it says nothing, and what to do. */
  readonly what: string;
}

export interface S3Store extends ReceivingStore, AsyncDisposable {
  readonly transport: S3Transport;
  /** Undefined while requests are answered. Nothing is asked for it: it is what the last requests met. */
  readonly trouble: Trouble | undefined;
  /** An address for the upload of exactly these bytes, which the store checks and locks itself. */
  presignPut(put: PresignedPut): Promise<PresignedUrl>;
  presignGet(get: PresignedGet): Promise<PresignedUrl>;
}

/** Opens no connection and checks nothing; `bucket-probes.ts` does. */
export const createS3Store = (options: S3StoreOptions): S3Store => new BucketStore(options);

class BucketStore implements S3Store {
  readonly lock = "compliance";
  readonly transport: S3Transport;
  readonly #clock: Clock;
  #trouble: Trouble | undefined;

  constructor(options: S3StoreOptions) {
    this.transport = new S3Transport(options);
    this.#clock = options.clock;
  }

  get trouble(): Trouble | undefined {
    return this.#trouble;
  }

  /** Sends once, and remembers whether that helped. A caller who leaves says nothing of the store. */
  async #send(request: S3Request): Promise<S3Answer> {
    const note = (what: string): void => {
      this.#trouble = { sinceMs: this.#trouble?.sinceMs ?? this.#clock.monotonic(), what };
    };
    try {
      const answer = await this.transport.send(request);
      if (isOpen(answer.status) || answer.status === 401 || answer.status === 403)
        note(refusal(`${request.method} ${request.path}`, answer).message);
      else this.#trouble = undefined;
      return answer;
    } catch (error) {
      if (error instanceof Silence && request.signal?.aborted !== true) note(error.message);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.transport[Symbol.asyncDispose]();
  }

  // Writes.

  async create(bucket: Bucket, key: string, body: Uint8Array, options: CreateOptions): Promise<PutOutcome> {
    const { retainUntil, signal } = options;
    const path = this.#pathToWrite(bucket, key);
    assert(bucket !== "ledger" || retainUntil !== undefined, `${key} of the ledger bucket is created with a lock`);
    const sent = await this.#write(
      path,
      body,
      { "if-none-match": "*", ...(retainUntil === undefined ? {} : lockHeaders(retainUntil)) },
      signal,
    );
    if (sent.outcome === "unknown") return sent;
    const { answer } = sent;
    if (answer.status === 200) {
      const versionId = versionOf(answer);
      return { etag: etagOf(answer), outcome: "created", ...(versionId === undefined ? {} : { versionId }) };
    }
    if (answer.status === 412) return { outcome: "exists" };
    throw refusal(`creating ${path}`, answer);
  }

  async receive(
    key: string,
    sha256: string,
    sizeBytes: number,
    stream: AsyncIterable<Uint8Array>,
    { retainUntil, signal }: CreateOptions,
  ): Promise<ReceiveOutcome> {
    const path = this.#pathToWrite("ledger", key);
    assert(retainUntil !== undefined, `${key} of the ledger bucket is created with a lock`);
    refuseAborted(signal, "an upload");
    const came = new Counted(stream, sizeBytes);
    const differs = (field: "length" | "sha256", expected: string, received: string): ReceiveOutcome => ({
      expected,
      field,
      outcome: "mismatch",
      received,
    });
    let answer: { readonly status: number; readonly text: string };
    try {
      const reply = await this.transport.stream({
        body: { pieces: came.pieces(), sha256, sizeBytes },
        headers: {
          "content-type": "application/octet-stream",
          "if-none-match": "*",
          "x-amz-checksum-sha256": Buffer.from(sha256, "hex").toString("base64"),
          ...lockHeaders(retainUntil),
        },
        method: "PUT",
        path,
        signal,
      });
      answer = { status: reply.status, text: await textOf(reply.body) };
    } catch (error) {
      if (came.failure !== undefined) throw came.failure as Error;
      if (came.isOver) return differs("length", String(sizeBytes), String(came.sizeBytes));
      return { cause: error, outcome: "unknown" };
    }
    if (answer.status === 200) return { etag: "", outcome: "created" };
    if (answer.status === 412) return { outcome: "exists" };
    if (came.isOver) return differs("length", String(sizeBytes), String(came.sizeBytes));
    if (came.digest !== undefined && came.digest !== sha256) return differs("sha256", sha256, came.digest);
    const failed = refusal(`uploading ${path}`, { body: Buffer.from(answer.text), headers: {}, status: answer.status });
    if (isOpen(answer.status)) return { cause: failed, outcome: "unknown" };
    throw failed;
  }

  async swap(
    bucket: "head",
    key: string,
    body: Uint8Array,
    etag: string | null,
    options: StoreOptions = {},
  ): Promise<SwapOutcome> {
    const path = this.#pathToWrite(bucket, key);
    const condition = etag === null ? { "if-none-match": "*" } : { "if-match": `"${etag}"` };
    const sent = await this.#write(path, body, condition, options.signal);
    if (sent.outcome === "unknown") return sent;
    const { answer } = sent;
    if (answer.status === 200) return { etag: etagOf(answer), outcome: "swapped" };
    if (answer.status === 412 || isAbsent(answer)) return { outcome: "moved" };
    throw refusal(`swapping ${path}`, answer);
  }

  async replace(bucket: MutableBucket, key: string, body: Uint8Array, options: StoreOptions = {}): Promise<void> {
    const path = this.#pathToWrite(bucket, key);
    refuseAborted(options.signal, "a write");
    const answer = await this.#repeat({ ...putOf(path, body, {}), signal: options.signal });
    if (answer.status !== 200) throw refusal(`replacing ${path}`, answer);
  }

  async remove(bucket: MutableBucket, key: string, options: StoreOptions = {}): Promise<void> {
    const path = this.#pathToWrite(bucket, key);
    refuseAborted(options.signal, "a removal");
    const answer = await this.#repeat({ method: "DELETE", path, signal: options.signal });
    if (answer.status !== 204 && answer.status !== 200 && !isAbsent(answer)) throw refusal(`removing ${path}`, answer);
  }

  async extend(bucket: "ledger", key: string, retainUntil: number, options: VersionOptions = {}): Promise<void> {
    const path = this.#pathToWrite(bucket, key);
    const held = await this.head(bucket, key, options);
    if (held === null) throw new Fault("NOT_FOUND", `${key} is not in the ${bucket} bucket`);
    const isLongEnough = (info: ObjectInfo | null): boolean =>
      info?.lockMode === "COMPLIANCE" && (info.retainUntil ?? 0) >= retainUntil;
    if (isLongEnough(held)) return;
    const body = Buffer.from(
      `<Retention xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Mode>COMPLIANCE</Mode><RetainUntilDate>${new Date(retainUntil).toISOString()}</RetainUntilDate></Retention>`,
    );
    // The version that was looked at: without its id a shadow that was laid meanwhile would be locked.
    const version = held.versionId === undefined ? {} : { versionId: held.versionId };
    const request = putOf(path, body, { "content-type": "application/xml" });
    const answer = await this.#repeat({ ...request, query: { retention: "", ...version }, signal: options.signal });
    if (answer.status === 200) return;
    // Somebody else may have prolonged it further meanwhile, and then a shorter time is refused.
    if (isLongEnough(await this.head(bucket, key, { signal: options.signal, ...version }))) return;
    throw refusal(`prolonging the lock of ${path}`, answer);
  }

  /** Sends a PUT once. */
  async #write(
    path: string,
    body: Uint8Array,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<{ outcome: "answered"; answer: S3Answer } | { outcome: "unknown"; cause: unknown }> {
    refuseAborted(signal, "a write");
    let answer: S3Answer;
    try {
      answer = await this.#send({ ...putOf(path, body, headers), signal });
    } catch (error) {
      if (!(error instanceof Silence)) throw error;
      if (error.mayHaveArrived) return { cause: error, outcome: "unknown" };
      throw new Fault("STORE_UNAVAILABLE", error.message, { cause: error });
    }
    if (isOpen(answer.status)) return { cause: refusal(`writing ${path}`, answer), outcome: "unknown" };
    return { answer, outcome: "answered" };
  }

  // Reads.

  async get(bucket: Bucket, key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    const path = this.#pathOf(bucket, key);
    if (path === undefined) return null;
    const { range, signal, versionId } = options;
    if (range !== undefined && range.to <= range.from) return this.#emptyRange(bucket, key, options);
    const answer = await this.#repeat({
      headers: range === undefined ? {} : { range: `bytes=${range.from}-${range.to - 1}` },
      method: "GET",
      path,
      query: versionQuery(versionId),
      signal,
    });
    // Beyond the end.
    if (answer.status === 416) return this.#emptyRange(bucket, key, options);
    if (isAbsent(answer, versionId)) return null;
    if (answer.status !== 200 && answer.status !== 206) throw refusal(`reading ${path}`, answer);
    const found = versionOf(answer);
    return {
      body: answer.body,
      etag: etagOf(answer),
      ...lockOf(answer),
      ...(found === undefined ? {} : { versionId: found }),
    };
  }

  async #emptyRange(bucket: Bucket, key: string, options: GetOptions): Promise<StoredObject | null> {
    const info = await this.head(bucket, key, { signal: options.signal, versionId: options.versionId });
    if (info === null) return null;
    const { etag, versionId } = info;
    return { body: new Uint8Array(), etag, ...(versionId === undefined ? {} : { versionId }) };
  }

  async head(bucket: Bucket, key: string, options: VersionOptions = {}): Promise<ObjectInfo | null> {
    return parseKey(bucket, key) === undefined ? null : this.#head(bucket, key, options);
  }

  /** Also for keys that `keys.ts` does not parse, which a listing gives. */
  async #head(bucket: Bucket, key: string, { signal, versionId }: VersionOptions): Promise<ObjectInfo | null> {
    const path = `${bucketName(this.transport.address, bucket)}/${key}`;
    const answer = await this.#repeat({
      headers: { "x-amz-checksum-mode": "ENABLED" },
      method: "HEAD",
      path,
      query: versionQuery(versionId),
      signal,
    });
    if (isAbsent(answer, versionId)) return null;
    if (answer.status !== 200) throw refusal(`looking at ${path}`, answer);
    return infoOf(key, answer);
  }

  /** The stream reads the version that was there when it was opened, and holds nothing until it is read. */
  async open(bucket: Bucket, key: string, options: VersionOptions = {}): Promise<OpenedObject | null> {
    const info = await this.head(bucket, key, options);
    if (info === null) return null;
    return { sizeBytes: info.sizeBytes, stream: this.#pieces(bucket, info, options.signal) };
  }

  async *#pieces(bucket: Bucket, info: ObjectInfo, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const path = `${bucketName(this.transport.address, bucket)}/${info.key}`;
    const request: StreamedRequest = {
      headers: { "if-match": `"${info.etag}"` },
      method: "GET",
      path,
      query: versionQuery(info.versionId),
      signal,
    };
    const { body, status } = await asFault(this.transport.stream(request));
    if (status !== 200) {
      for await (const _ of body);
      throw new Fault(
        "STORE_UNAVAILABLE",
        `${path} was replaced or removed while it was read (${status}): read it again`,
      );
    }
    yield* body;
  }

  async *list(bucket: Bucket, prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    const { after = "", limit = Number.POSITIVE_INFINITY, locks = false, signal } = options;
    let left = limit;
    let continuation: string | undefined;
    while (left > 0) {
      const page = parseObjectPage(
        await this.#page(bucket, "listing", signal, {
          "encoding-type": "url",
          "list-type": "2",
          "max-keys": String(Math.min(PAGE, left)),
          prefix,
          ...(continuation !== undefined
            ? { "continuation-token": continuation }
            : after === ""
              ? {}
              : { "start-after": after }),
        }),
      );
      const objects = page.objects.slice(0, left);
      if (locks) yield* this.#withLocks(bucket, objects, signal);
      else yield* objects;
      left -= objects.length;
      continuation = page.continuation;
      if (continuation === undefined) return;
    }
  }

  async *#withLocks(
    bucket: Bucket,
    objects: readonly ListedObject[],
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ObjectInfo> {
    for (let at = 0; at < objects.length; at += HEADS) {
      const heads = objects.slice(at, at + HEADS).map(({ key }) => this.#head(bucket, key, { signal }));
      // Removed since it was listed.
      for (const info of await Promise.all(heads)) if (info !== null) yield info;
    }
  }

  async *versions(bucket: Bucket, prefix: string, options: PageOptions = {}): AsyncGenerator<ObjectVersion> {
    const { after = "", limit = Number.POSITIVE_INFINITY, signal } = options;
    let left = limit;
    let marker: Record<string, string> = after === "" ? {} : { "key-marker": after };
    while (left > 0) {
      const page = parseVersionPage(
        await this.#page(bucket, "listing versions", signal, {
          "encoding-type": "url",
          "max-keys": String(Math.min(PAGE, left)),
          prefix,
          versions: "",
          ...marker,
        }),
      );
      const versions = page.versions.slice(0, left);
      yield* versions;
      left -= versions.length;
      if (page.next === undefined) return;
      marker = { "key-marker": page.next.key, "version-id-marker": page.next.versionId };
    }
  }

  async #page(
    bucket: Bucket,
    doing: string,
    signal: AbortSignal | undefined,
    query: Readonly<Record<string, string>>,
  ): Promise<string> {
    const path = bucketName(this.transport.address, bucket);
    const answer = await this.#repeat({ method: "GET", path, query, signal });
    if (answer.status !== 200) throw refusal(`${doing} ${path}`, answer);
    const xml = parseUtf8(answer.body);
    if (xml === undefined) throw new Fault("STORE_UNAVAILABLE", `${doing} ${path}: the answer is not UTF-8`);
    return xml;
  }

  /** Sends what may be sent again until it is answered, a few times. */
  async #repeat(request: S3Request): Promise<S3Answer> {
    refuseAborted(request.signal, "a request");
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await this.#send(request);
        if (!isOpen(answer.status) || attempt >= READ_ATTEMPTS) return answer;
      } catch (error) {
        if (!(error instanceof Silence)) throw error;
        if (request.signal?.aborted === true || attempt >= READ_ATTEMPTS)
          throw new Fault("STORE_UNAVAILABLE", error.message, { cause: error });
      }
      await this.#clock.sleep(FIRST_PAUSE_MS * 4 ** (attempt - 1), request.signal).catch((cause: unknown) => {
        throw new Fault("STORE_UNAVAILABLE", "a request was cancelled", { cause });
      });
    }
  }

  // Addresses for clients.

  async presignPut(put: PresignedPut): Promise<PresignedUrl> {
    const { ifAbsent, key, retainUntil, seconds, sha256, sizeBytes } = put;
    const headers = {
      "content-length": String(sizeBytes),
      ...(ifAbsent ? { "if-none-match": "*" } : {}),
      ...lockHeaders(retainUntil),
      "x-amz-checksum-sha256": Buffer.from(sha256, "hex").toString("base64"),
    };
    const url = await this.transport.presign("PUT", this.#pathToWrite("ledger", key), { headers, seconds });
    return { headers: Object.entries(headers).map(([name, value]) => ({ name, value })), url };
  }

  async presignGet({ key, seconds, versionId }: PresignedGet): Promise<PresignedUrl> {
    const query = {
      "response-cache-control": "private, no-store",
      "response-content-disposition": 'attachment; filename="artifact"',
      "response-content-type": "application/octet-stream",
      versionId,
    };
    return {
      headers: [],
      url: await this.transport.presign("GET", this.#pathToWrite("ledger", key), { query, seconds }),
    };
  }

  #pathOf(bucket: Bucket, key: string): string | undefined {
    return parseKey(bucket, key) === undefined ? undefined : `${bucketName(this.transport.address, bucket)}/${key}`;
  }

  #pathToWrite(bucket: Bucket, key: string): string {
    const path = this.#pathOf(bucket, key);
    if (path === undefined)
      throw new Fault("REQUEST_INVALID", `${JSON.stringify(key.slice(0, 200))} is not a key of the ${bucket} bucket`);
    return path;
  }
}

async function asFault<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Silence) throw new Fault("STORE_UNAVAILABLE", error.message, { cause: error });
    throw error;
  }
}

/** A stream that is measured while it passes, and that ends when it is not of its length. */
class Counted {
  readonly #stream: AsyncIterable<Uint8Array>;
  readonly #expected: number;
  sizeBytes = 0;
  /** Set when the stream has another length than expected. */
  isOver = false;
  /** Hex, of a stream that came to its end. */
  digest: string | undefined;
  failure: unknown;

  constructor(stream: AsyncIterable<Uint8Array>, expected: number) {
    this.#stream = stream;
    this.#expected = expected;
  }

  async *pieces(): AsyncGenerator<Uint8Array> {
    const hash = createHash("sha256");
    try {
      for await (const piece of this.#stream) {
        this.sizeBytes += piece.length;
        if (this.sizeBytes > this.#expected) break;
        hash.update(piece);
        yield piece;
      }
    } catch (error) {
      this.failure = error;
      throw error;
    }
    this.isOver = this.sizeBytes !== this.#expected;
    if (this.isOver) throw new Error("the stream has another length");
    this.digest = hash.digest("hex");
  }
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of body) parts.push(part);
  return Buffer.concat(parts).toString();
}

const lockHeaders = (retainUntil: number) => ({
  "x-amz-object-lock-mode": "COMPLIANCE",
  "x-amz-object-lock-retain-until-date": new Date(retainUntil).toISOString(),
});

/** The bytes are copied, since the caller may reuse his buffer before the last of them is sent. */
function putOf(path: string, body: Uint8Array, headers: Readonly<Record<string, string>>): S3Request {
  const frozen = body.slice();
  const digest = hash("sha256", frozen, "buffer");
  return {
    body: frozen,
    bodySha256: digest.toString("hex"),
    headers: {
      "content-type": "application/octet-stream",
      "x-amz-checksum-sha256": digest.toString("base64"),
      ...headers,
    },
    method: "PUT",
    path,
  };
}

const versionQuery = (versionId: string | undefined): Record<string, string> =>
  versionId === undefined ? {} : { versionId };

/** Nothing there, or a delete marker; a bucket that is missing is no absent object. */
function isAbsent(answer: S3Answer, versionId?: string): boolean {
  const code = errorCodeOf(answer);
  if (answer.status === 404) return code !== "NoSuchBucket";
  if (versionId === undefined) return false;
  // A marker has no bytes (405), and an id of another form than the store's names nothing.
  return answer.status === 405 || (answer.status === 400 && (code === "" || /Version|InvalidArgument/.test(code)));
}

const etagOf = ({ headers }: S3Answer): string => (headers["etag"] ?? "").replaceAll('"', "");

/** A bucket that never had versions sends none. */
const versionOf = ({ headers }: S3Answer): string | undefined => headers["x-amz-version-id"];

const LOCK_MODES: ReadonlySet<string> = new Set<LockMode>(["COMPLIANCE", "GOVERNANCE"]);

/** Told with the bytes too, to who may read locks. */
function lockOf({ headers }: S3Answer): LockInfo {
  const mode = headers["x-amz-object-lock-mode"]?.toUpperCase() ?? "";
  const until = Date.parse(headers["x-amz-object-lock-retain-until-date"] ?? "");
  return LOCK_MODES.has(mode) && !Number.isNaN(until) ? { lockMode: mode as LockMode, retainUntil: until } : {};
}

function infoOf(key: string, answer: S3Answer): ObjectInfo {
  const { headers } = answer;
  const sizeBytes = Number(headers["content-length"]);
  if (!Number.isSafeInteger(sizeBytes))
    throw new Fault("STORE_UNAVAILABLE", `the store describes ${key} without a length: check the proxies before it`);
  const versionId = versionOf(answer);
  const sha256 = checksumOf(headers);
  return {
    etag: etagOf(answer),
    key,
    sizeBytes,
    ...lockOf(answer),
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(versionId === undefined ? {} : { versionId }),
  };
}

/** The checksum of a multipart upload is one of checksums, and says nothing of the whole. */
function checksumOf(headers: Readonly<Record<string, string>>): string | undefined {
  const { "x-amz-checksum-sha256": base64 = "", "x-amz-checksum-type": type = "FULL_OBJECT" } = headers;
  const bytes = type === "FULL_OBJECT" ? parseBase64(base64) : undefined;
  return bytes?.length === 32 ? formatHex(bytes) : undefined;
}
