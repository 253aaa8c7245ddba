/**
 * `datapilot server`: one ledger on two ports. Everything is put together here and taken apart in reverse: first no new work is
 * taken, then what is in flight ends, then what was counted is recorded, then the log is sealed and closed, and the lease given up.
 *
 * Both ports answer before this process leads, or without it ever doing so: as a replica, which forwards what it cannot answer.
 */

import type { IncomingHttpHeaders } from "node:http";
import { createContextValues } from "@connectrpc/connect";
import { serveArtifacts } from "../api/artifact-routes.ts";
import { Forwarder } from "../api/forward.ts";
import { listenGrpc } from "../api/grpc.ts";
import { callerOf, type Edge } from "../api/guard.ts";
import { listen, type Tls } from "../api/listen.ts";
import { createMetrics } from "../api/metrics.ts";
import { PEER } from "../api/peer.ts";
import { createRoutes } from "../api/routes.ts";
import { createRpcHandler } from "../api/rpc.ts";
import { createServices, reflectionDescriptors } from "../api/services.ts";
import type { Deps } from "../command/context.ts";
import { Denials } from "../command/denials.ts";
import { SilentRuns } from "../command/lose-runs.ts";
import { outstandingOf } from "../command/outstanding.ts";
import { createPersonalStore } from "../command/personal.ts";
import { ChunkedReader } from "../command/read-chunked.ts";
import { UploadSweeper } from "../command/sweep-uploads.ts";
import { authorise } from "../identity/authorise.ts";
import { KnownTokens } from "../identity/known-tokens.ts";
import { ledgerOf } from "../identity/ledger.ts";
import { Election } from "../log/election.ts";
import { Findings } from "../log/findings.ts";
import { Lease } from "../log/lease.ts";
import type { Log, LogHealth } from "../log/log.ts";
import { nativeVerifier } from "../log/native-verifier.ts";
import type { Logger } from "../log/ports.ts";
import { createTally, Upkeep, type UpkeepPace } from "../log/upkeep.ts";
import { proofFileOf } from "../query/ledger.ts";
import { createUploadSigner } from "../store/fs/upload.ts";
import { createOwnBlobUrls, createS3BlobUrls, uploadLock } from "./blob-urls.ts";
import { type Home, readUploadSecret, systemClock, systemRandom } from "./home.ts";
import { type OpenLedger, type OpenOptions, openLedger } from "./ledger.ts";

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ServeOptions {
  readonly home: Home;
  readonly http: Address;
  readonly grpc: Address;
  /** Address under which clients reach the HTTP port; from the listener when absent. */
  readonly publicUrl?: string;
  readonly publicLog: boolean;
  readonly tls?: Tls;
  readonly logger: Logger;
  readonly open?: Omit<OpenOptions, "findings" | "follow" | "logger">;
  readonly upkeep?: UpkeepPace;
  /** Bytes of a project that may be declared and not completed; a named limit when absent. */
  readonly uploadQuotaBytes?: number;
  /** Leaves the lead to whoever has it, until that one falls silent. */
  readonly replica?: boolean;
  /** Address under which other servers reach the HTTP port; the public one when absent. */
  readonly peerUrl?: string;
  /** Authority of the other servers' certificates, PEM; the system's when absent. */
  readonly peerCa?: Buffer;
}

export interface Serving extends AsyncDisposable {
  readonly url: string;
  readonly grpcAddress: string;
  /** What the store makes of locks. */
  readonly lock: "advisory" | "compliance";
}

const MAX_MESSAGE_BYTES = 8 << 20;
const MAX_TIMEOUT_MS = 24 * 3_600_000;
/** A change that waits this long is told of: the disk or the store below does not answer. */
const STALLED_MS = 5_000;

export async function serve(options: ServeOptions): Promise<Serving> {
  const { home, logger, publicLog, tls } = options;
  await using owned = new AsyncDisposableStack();
  const findings = new Findings(logger);
  const ledger = owned.use(await openLedger(home, { ...options.open, findings, follow: true, logger }));
  const { buckets, log, store } = ledger;
  let url = options.publicUrl ?? "";
  const election = owned.use(electionOf(options, ledger, () => options.peerUrl ?? url));
  const forward = owned.use(
    new Forwarder({
      clock: systemClock,
      key: ledger.keys?.commit,
      leaderUrl: () => election.leader?.url,
      log,
      random: systemRandom,
      tls: { ...tls, ...(options.peerCa === undefined ? {} : { ca: options.peerCa }) },
    }),
  );
  const signer = createUploadSigner(await readUploadSecret(home, options.open?.readOnly === true));
  const personal = createPersonalStore(store, systemRandom);
  const denials = new Denials({ clock: systemClock, log, logger, personal, random: systemRandom });
  owned.defer(() =>
    denials[Symbol.asyncDispose]().catch((error: unknown) => {
      logger.warn({ err: error }, "counted denials could not be recorded");
    }),
  );
  const deps: Deps = {
    clock: systemClock,
    denials,
    log,
    logger,
    personal,
    random: systemRandom,
    store,
    uploads:
      buckets.s3 === undefined
        ? createOwnBlobUrls(signer, () => url)
        : createS3BlobUrls(buckets.s3.store, buckets.s3.uploads),
    ...(options.uploadQuotaBytes === undefined ? {} : { uploadQuotaBytes: options.uploadQuotaBytes }),
  };
  const swept = { abandoned: 0, abandoned_bytes: 0, completed: 0 };
  const read = { differing: 0, unreadable: 0, verified: 0 };
  owned.use(
    whileLeading(log, () => {
      const duties = new AsyncDisposableStack();
      for (const duty of [
        new SilentRuns(deps),
        new UploadSweeper(deps, swept, () => buckets.files?.sweep()),
        new ChunkedReader(deps, read),
      ])
        duties.use(duty).start();
      return duties;
    }),
  );
  const tally = createTally();
  owned.use(
    whileLeading(
      log,
      () =>
        new Upkeep({
          ...options.upkeep,
          clock: systemClock,
          findings,
          log,
          logger,
          random: systemRandom,
          store,
          tally,
        }),
    ),
  );
  const metrics = createMetrics(() => log.health(), {
    upkeep: { findings, tally },
    uploads: { outstanding: () => outstandingOf(log).stats, read, swept },
  });
  const tokens = new KnownTokens();
  log.onCommit(({ items }) => tokens.applied(items));
  const edge: Edge = { deps, forward, metrics, publicLog, tokens };
  const services = createServices(edge);
  const rpc = createRpcHandler({ maxTimeoutMs: MAX_TIMEOUT_MS, metrics, readMaxBytes: MAX_MESSAGE_BYTES, services });
  const bearerOf = (headers: IncomingHttpHeaders, path: string) =>
    callerOf(edge, path, { get: (name) => headers[name]?.toString() ?? null }, undefined);
  let serving = true;
  const trouble = (): string | undefined => {
    const { sinceMs = Number.POSITIVE_INFINITY, what } = buckets.s3?.store.trouble ?? {};
    return systemClock.monotonic() - sinceMs >= STALLED_MS ? what : undefined;
  };
  owned.use(watchStalls(log, trouble, logger));
  const routes = createRoutes({
    artifacts: (path, request, response) =>
      forward.isFollowing ? forward.proxy(request, response) : serveArtifacts(edge, path, request, response),
    embedded:
      buckets.files === undefined
        ? undefined
        : { files: buckets.files, now: () => systemClock.now(), retainUntil: uploadLock, signer },
    log: { published: () => log.published(), tile: (path) => log.tiles.readTile(path) },
    mayReadLog(headers, path) {
      const caller = bearerOf(headers, path);
      using reader = log.index.reader();
      authorise(reader, caller, ledgerOf(reader), "log.read", systemClock.now());
    },
    metrics,
    next: rpc,
    proof: (headers, path, record) => proofFileOf(deps, publicLog ? undefined : bearerOf(headers, path), record),
    publicLog,
    ready: () => serving && trouble() === undefined && isReady(log.health(), election.leader !== undefined),
    store,
  });
  const http = owned.use(await listen(routes, { ...options.http, ...(tls === undefined ? {} : { tls }) }));
  const grpc = owned.use(
    await listenGrpc(
      services.map((s) => s.spec),
      {
        ...options.grpc,
        contextValues: (peer) => createContextValues().set(PEER, peer.address.replace(/:\d+$/, "")),
        health: true,
        maxTimeoutMs: MAX_TIMEOUT_MS,
        readMaxBytes: MAX_MESSAGE_BYTES,
        reflection: reflectionDescriptors(),
        ...(tls === undefined ? {} : { tls }),
      },
    ),
  );
  if (url === "") url = `${tls === undefined ? "http" : "https"}://${hostOf(options.http.host)}:${http.port}`;
  await election.begin();
  const kept = owned.move();
  return {
    async [Symbol.asyncDispose]() {
      serving = false;
      await kept.disposeAsync();
    },
    lock: store.lock,
    grpcAddress: `${hostOf(options.grpc.host)}:${grpc.port}`,
    url,
  };
}

function electionOf({ logger, replica }: ServeOptions, { keys, log, store }: OpenLedger, url: () => string): Election {
  const lease = new Lease({
    clock: systemClock,
    keys: () => log.commitKeys(),
    origin: log.origin,
    store,
    verifier: nativeVerifier,
  });
  return new Election({
    clock: systemClock,
    key: keys?.commit,
    lease,
    log,
    logger,
    random: systemRandom,
    url,
    waits: replica === true || keys === undefined,
  });
}

/** Takes changes, or answers reads that are not old and knows where to send changes. */
const isReady = ({ lagMs, role, waitingMs, writing }: LogHealth, knowsLeader: boolean): boolean =>
  role === "leader" ? writing && waitingMs < STALLED_MS : knowsLeader && lagMs < STALLED_MS;

/** Runs what only the leader does, for as long as this process is it. */
function whileLeading(log: Log, start: () => AsyncDisposable): AsyncDisposable {
  let running: AsyncDisposable | undefined;
  let turn: Promise<void> = Promise.resolve();
  const adapt = async (): Promise<void> => {
    if (log.role === "leader") {
      running ??= start();
      return;
    }
    const ended = running;
    running = undefined;
    await ended?.[Symbol.asyncDispose]();
  };
  const change = (): void => {
    turn = turn.then(adapt);
  };
  const forget = log.onRole(change);
  change();
  return {
    async [Symbol.asyncDispose]() {
      forget();
      await turn;
      await running?.[Symbol.asyncDispose]();
    },
  };
}

/** An address that listens everywhere is reached at the loopback one from here. */
const hostOf = (host: string): string =>
  host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "[::1]" : host.includes(":") ? `[${host}]` : host;

/** What waits for a store says nothing by itself, so it is looked for. */
function watchStalls(log: Log, trouble: () => string | undefined, logger: Logger): Disposable {
  const timer = setInterval(() => {
    const store = trouble();
    if (store !== undefined) logger.warn({ store }, "the store does not do what it is asked");
    const { waitingMs, ...health } = log.health();
    if (waitingMs >= STALLED_MS) logger.warn({ ...health, waitingMs }, "changes wait for the store");
  }, STALLED_MS).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
