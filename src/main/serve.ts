/**
 * `datapilot server`: one ledger on two ports. Everything is put together here and taken apart in reverse: first no new work is
 * taken, then what is in flight ends, then what was counted is recorded, then the log is sealed and closed.
 */

import type { IncomingHttpHeaders } from "node:http";
import { createContextValues } from "@connectrpc/connect";
import { serveArtifacts } from "../api/artifact-routes.ts";
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
import { createPersonalStore } from "../command/personal.ts";
import { authorise } from "../identity/authorise.ts";
import { ledgerOf } from "../identity/ledger.ts";
import type { Log } from "../log/log.ts";
import type { Logger } from "../log/ports.ts";
import { proofFileOf } from "../query/ledger.ts";
import { createUploadSigner } from "../store/fs/upload.ts";
import { createOwnBlobUrls, createS3BlobUrls, uploadLock } from "./blob-urls.ts";
import { type Home, readUploadSecret, systemClock, systemRandom } from "./home.ts";
import { type OpenOptions, openLedger } from "./ledger.ts";

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
  readonly open?: Omit<OpenOptions, "logger">;
}

export interface Serving extends AsyncDisposable {
  readonly url: string;
  readonly grpcAddress: string;
}

const MAX_MESSAGE_BYTES = 8 << 20;
const MAX_TIMEOUT_MS = 24 * 3_600_000;
/** A change that waits this long is told of: the disk or the store below does not answer. */
const STALLED_MS = 5_000;

export async function serve(options: ServeOptions): Promise<Serving> {
  const { home, logger, publicLog, tls } = options;
  await using owned = new AsyncDisposableStack();
  const ledger = owned.use(await openLedger(home, { ...options.open, logger }));
  const { buckets, log, store } = ledger;
  const signer = createUploadSigner(await readUploadSecret(home));
  const personal = createPersonalStore(store, systemRandom);
  const denials = owned.use(new Denials({ clock: systemClock, log, logger, personal, random: systemRandom }));
  let url = options.publicUrl ?? "";
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
  };
  owned.use(new SilentRuns(deps)).start();
  const metrics = createMetrics(() => log.health());
  const edge: Edge = { deps, metrics, publicLog };
  const services = createServices(edge);
  const rpc = createRpcHandler({ maxTimeoutMs: MAX_TIMEOUT_MS, metrics, readMaxBytes: MAX_MESSAGE_BYTES, services });
  const bearerOf = (headers: IncomingHttpHeaders, path: string) =>
    callerOf(edge, path, { get: (name) => headers[name]?.toString() ?? null }, undefined);
  let serving = true;
  owned.use(watchStalls(log, logger));
  const routes = createRoutes({
    artifacts: (path, request, response) => serveArtifacts(edge, path, request, response),
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
    ready: () => serving && log.health().writing && log.health().waitingMs < STALLED_MS,
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
  const kept = owned.move();
  return {
    async [Symbol.asyncDispose]() {
      serving = false;
      await kept.disposeAsync();
    },
    grpcAddress: `${hostOf(options.grpc.host)}:${grpc.port}`,
    url,
  };
}

/** An address that listens everywhere is reached at the loopback one from here. */
const hostOf = (host: string): string =>
  host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "[::1]" : host.includes(":") ? `[${host}]` : host;

/** What waits for a store says nothing by itself, so it is looked for. */
function watchStalls(log: Log, logger: Logger): Disposable {
  const timer = setInterval(() => {
    const { waitingMs, ...health } = log.health();
    if (waitingMs >= STALLED_MS) logger.warn({ ...health, waitingMs }, "changes wait for the store");
  }, STALLED_MS).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
