/** Opens a ledger home: store, keys, index and log, in the order in which they need each other, and closes them in reverse. */
import { openLmdbIndex } from "../index/lmdb/lmdb-index.ts";
import type { Findings } from "../log/findings.ts";
import { loadKeyFiles } from "../log/keys/key-files.ts";
import { openLastSigned } from "../log/keys/last-signed-file.ts";
import { type Log, openLog } from "../log/log.ts";
import { nativeVerifier } from "../log/native-verifier.ts";
import type { LedgerKeys, Logger } from "../log/ports.ts";
import { type ProbeExtent, STORE_UNSAFE } from "../log/tenure.ts";
import { Fault } from "../std/faults.ts";
import { createFileStore, type FileStore } from "../store/fs/file-store.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { type ProbeResult, probeStore, RUNNING_PROBES, START_PROBES } from "../store/probes.ts";
import type { S3Store } from "../store/s3/s3-store.ts";
import { assertHome, type Home, holdHome, originOf, systemClock, systemRandom } from "./home.ts";
import { openS3, type S3Access } from "./s3.ts";

/** The buckets of a ledger, wherever they are. */
export interface LedgerStore extends AsyncDisposable {
  readonly store: ObjectStore;
  /** Present on the embedded store, which takes uploads itself. */
  readonly files: FileStore | undefined;
  /** Present on S3; `uploads` signs what clients put, by credentials that need not be able to read. */
  readonly s3: { readonly store: S3Store; readonly uploads: S3Store } | undefined;
  /** For people. */
  readonly where: string;
  /** Whether it keeps its promises; often enough to find what fails by chance, or `again`, with less. */
  probe(extent?: ProbeExtent): Promise<ProbeResult[]>;
}

export interface OpenLedger extends AsyncDisposable {
  readonly home: Home;
  readonly buckets: LedgerStore;
  readonly store: ObjectStore;
  readonly log: Log;
  /** Absent in a home that only reads. */
  readonly keys: LedgerKeys | undefined;
}

/** Where the buckets are, in the home when nothing is said, and what is asked of them. */
export interface StorePlace {
  readonly s3?: S3Access;
  /** Folder that the homes of several servers share. */
  readonly folder?: string;
  /** Whether a file system that only notes locks is refused. */
  readonly requireLock?: boolean;
  /** Nothing is ever written: no keys are needed, and on S3 a reader's credentials do. */
  readonly readOnly?: boolean;
}

export async function openStore(home: Home, place: StorePlace): Promise<LedgerStore> {
  const { folder = home.root, readOnly = false, requireLock, s3 } = place;
  if (s3 === undefined) {
    const files = await createFileStore({
      allowAdvisoryLock: requireLock !== true,
      clock: systemClock,
      random: systemRandom,
      root: folder,
    });
    return {
      [Symbol.asyncDispose]: () => files[Symbol.asyncDispose](),
      files,
      probe: (extent) => probeStore(files, { ...countsOf(extent), random: systemRandom }),
      s3: undefined,
      store: files,
      where: folder,
    };
  }
  await using held = new AsyncDisposableStack();
  const duty = readOnly ? "reader" : "writer";
  const store = held.use(await openS3(s3, duty));
  const uploads = held.use(await openS3(s3, readOnly ? "reader" : "presigner"));
  const { probeBuckets } = await import("../store/s3/bucket-probes.ts");
  const access = { address: s3.address, ca: s3.ca, credentials: s3.credentials(duty) };
  const owned = held.move();
  return {
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
    files: undefined,
    async probe(extent) {
      const configured = await probeBuckets({ access, clock: systemClock, store });
      // Without a right configuration there may be nothing to race for.
      if (configured.some((r) => !r.ok)) return configured;
      return [...configured, ...(await probeStore(store, { ...countsOf(extent), random: systemRandom }))];
    },
    s3: { store, uploads },
    store,
    where: s3.address.text,
  };
}

const countsOf = (extent: ProbeExtent = "start") => (extent === "start" ? START_PROBES : RUNNING_PROBES);

/** Start-up refuses a store that does not keep its promises, and says which. */
export function assertProbes(results: readonly ProbeResult[]): void {
  const failed = results.filter((r) => !r.ok);
  if (failed.length > 0)
    throw new Fault("STORE_UNAVAILABLE", failed.map((r) => `${r.name}: ${r.detail}. ${r.remedy}`).join("\n"), {
      metadata: failed.some((r) => r.isBroken === true) ? { code: STORE_UNSAFE } : {},
    });
}

/** A store that does nothing for so long while a ledger is opened ends the opening. */
const PATIENCE_MS = 30_000;
/** Before that it is told what is waited for. */
const TOLD_AFTER_MS = 5_000;
const LOOK_MS = 500;

/**
 * Does what waits for the store, for as long as that answers at all: work that takes hours is not cut short. Ends it with the Fault
 * that says what the store does when it has done nothing for half a minute.
 */
export async function whileAnswered<T>(
  store: S3Store | undefined,
  logger: Logger,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ended = new AbortController();
  let told = false;
  const look = setInterval(() => {
    const { sinceMs = Number.POSITIVE_INFINITY, what = "" } = store?.trouble ?? {};
    const waitedMs = systemClock.monotonic() - sinceMs;
    if (waitedMs >= PATIENCE_MS)
      ended.abort(
        new Fault(
          "STORE_UNAVAILABLE",
          `The store did nothing for ${PATIENCE_MS / 1_000} s: ${what}. Then start again.`,
        ),
      );
    else if (waitedMs >= TOLD_AFTER_MS && !told) {
      told = true;
      logger.warn({ store: what }, "waiting for the store");
    }
  }, LOOK_MS);
  try {
    return await work(ended.signal);
  } catch (error) {
    throw ended.signal.aborted ? (ended.signal.reason as Error) : error;
  } finally {
    clearInterval(look);
  }
}

export interface OpenOptions extends StorePlace {
  readonly logger: Logger;
  /** Told of what is wrong in the bucket. */
  readonly findings?: Findings;
  /** Opens wrapped keys. */
  readonly passphrase?: string;
  /** The caller has probed the store just now. */
  readonly isProbed?: boolean;
  readonly publishIntervalMs?: number;
  readonly acceptHead?: { readonly size: number; readonly root: Uint8Array };
  /** Follows at first: nothing is written to the store before `log.lead`. */
  readonly follow?: boolean;
  /** Slots of junk that the first commit voids. */
  readonly voids?: readonly number[];
}

export async function openLedger(home: Home, options: OpenOptions): Promise<OpenLedger> {
  await using held = new AsyncDisposableStack();
  if (options.readOnly !== true) await assertHome(home);
  held.use(await holdHome(home));
  const buckets = held.use(await openStore(home, options));
  const { store } = buckets;
  const origin = await originOf(store, home, buckets.where);
  const writer =
    options.readOnly === true
      ? undefined
      : {
          keys: await loadKeyFiles(home.keys, origin, options.passphrase),
          lastSigned: held.use(await openLastSigned(home.lastSigned)),
        };
  const index = held.use(await openLmdbIndex({ path: home.index }));
  const open = (signal: AbortSignal): Promise<Log> =>
    openLog({
      ...writer,
      clock: systemClock,
      index,
      logger: options.logger,
      probe: async (extent) => {
        if (extent === "again" || options.isProbed !== true) assertProbes(await buckets.probe(extent));
      },
      random: systemRandom,
      signal,
      store,
      verifier: nativeVerifier,
      ...(options.publishIntervalMs === undefined ? {} : { publishIntervalMs: options.publishIntervalMs }),
      ...(options.findings === undefined ? {} : { findings: options.findings }),
      ...(options.acceptHead === undefined ? {} : { acceptHead: options.acceptHead }),
      follow: options.follow === true || options.readOnly === true,
      ...(options.voids === undefined ? {} : { voids: options.voids }),
    });
  const log = held.use(await whileAnswered(buckets.s3?.store, options.logger, open));
  const owned = held.move();
  return { [Symbol.asyncDispose]: () => owned.disposeAsync(), buckets, home, keys: writer?.keys, log, store };
}
