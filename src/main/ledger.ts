/** Opens a ledger home: store, keys, index and log, in the order in which they need each other, and closes them in reverse. */
import { openLmdbIndex } from "../index/lmdb/lmdb-index.ts";
import { loadKeyFiles } from "../log/keys/key-files.ts";
import { openLastSigned } from "../log/keys/last-signed-file.ts";
import { type Log, openLog } from "../log/log.ts";
import { nativeVerifier } from "../log/native-verifier.ts";
import type { LedgerKeys, Logger } from "../log/ports.ts";
import { Fault } from "../std/faults.ts";
import { createFileStore, type FileStore } from "../store/fs/file-store.ts";
import { type ProbeResult, probeStore } from "../store/probes.ts";
import { type Home, holdHome, originOf, systemClock, systemRandom } from "./home.ts";

export interface OpenLedger extends AsyncDisposable {
  readonly home: Home;
  readonly store: FileStore;
  readonly log: Log;
  /** Absent in a home that only reads. */
  readonly keys: LedgerKeys | undefined;
}

/** Start-up refuses a store that does not keep its promises, and says which. */
export function assertProbes(results: readonly ProbeResult[]): void {
  const failed = results.filter((r) => !r.ok);
  if (failed.length > 0)
    throw new Fault("STORE_UNAVAILABLE", failed.map((r) => `${r.name}: ${r.detail}. ${r.remedy}`).join("\n"));
}

export interface OpenOptions {
  readonly logger: Logger;
  readonly publishIntervalMs?: number;
  readonly acceptHead?: { readonly size: number; readonly root: Uint8Array };
  /** Folder of the buckets, shared with other homes; the home itself when absent. */
  readonly folder?: string;
  /** Follows at first: nothing is written to the store before `log.lead`. */
  readonly follow?: boolean;
  /** Follows for ever, and needs no keys. */
  readonly readOnly?: boolean;
  /** Slots of junk that the first commit voids. */
  readonly voids?: readonly number[];
}

export async function openLedger(home: Home, options: OpenOptions): Promise<OpenLedger> {
  await using held = new AsyncDisposableStack();
  held.use(await holdHome(home));
  const root = options.folder ?? home.root;
  const store = held.use(
    await createFileStore({ allowAdvisoryLock: true, clock: systemClock, random: systemRandom, root }),
  );
  const origin = await originOf(store, root);
  const writer =
    options.readOnly === true
      ? undefined
      : {
          keys: await loadKeyFiles(home.keys, origin),
          lastSigned: held.use(await openLastSigned(home.lastSigned)),
        };
  const index = held.use(await openLmdbIndex({ path: home.index }));
  const log = held.use(
    await openLog({
      ...writer,
      clock: systemClock,
      index,
      logger: options.logger,
      probe: async () => assertProbes(await probeStore(store, { random: systemRandom })),
      random: systemRandom,
      store,
      verifier: nativeVerifier,
      ...(options.publishIntervalMs === undefined ? {} : { publishIntervalMs: options.publishIntervalMs }),
      ...(options.acceptHead === undefined ? {} : { acceptHead: options.acceptHead }),
      follow: options.follow === true || options.readOnly === true,
      ...(options.voids === undefined ? {} : { voids: options.voids }),
    }),
  );
  const owned = held.move();
  return { [Symbol.asyncDispose]: () => owned.disposeAsync(), home, keys: writer?.keys, log, store };
}
