/**
 * Grows a home to many entries in minutes: the real log, whose store writes plainly instead of flushing each file. What comes out is
 * the same home; only a power loss meanwhile would have hurt it.
 */
import { chmodSync, existsSync, mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { loadKeyFiles } from "../../src/log/keys/key-files.ts";
import { openLastSigned } from "../../src/log/keys/last-signed-file.ts";
import { type Draft, openLog } from "../../src/log/log.ts";
import { homeOf, originOf, systemClock, systemRandom } from "../../src/main/home.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { createFileStore } from "../../src/store/fs/file-store.ts";
import type { CreateOptions, ObjectStore, PutOutcome } from "../../src/store/object-store.ts";
import { grpcTransport, initHome, type NewHome, startRun, startServer } from "../e2e/server.ts";
import { quietLogger } from "../log/world.ts";
import { enrol } from "./clients.ts";
import { RUN_BATCHES } from "./load.ts";

const GROUP = 500;
const IN_FLIGHT = 6;

/** Creates objects as the file store does, but flushes none. */
class PlainStore {
  readonly #root: string;
  readonly #inner: ObjectStore;
  readonly #folders = new Set<string>();

  constructor(root: string, inner: ObjectStore) {
    this.#root = root;
    this.#inner = inner;
  }

  asStore(): ObjectStore {
    return new Proxy<ObjectStore>(this.#inner, {
      get: (inner, name) => {
        if (name === "create") return this.create.bind(this);
        const value: unknown = Reflect.get(inner, name);
        return typeof value === "function" ? (value.bind(inner) as unknown) : value;
      },
    });
  }

  create(bucket: string, key: string, body: Uint8Array, { retainUntil }: CreateOptions): Promise<PutOutcome> {
    const path = join(this.#root, bucket, key);
    const folder = dirname(path);
    if (!this.#folders.has(folder)) {
      mkdirSync(folder, { recursive: true });
      this.#folders.add(folder);
    }
    if (existsSync(path)) return Promise.resolve({ outcome: "exists" });
    writeFileSync(path, body, { flag: "wx" });
    if (retainUntil !== undefined) {
      utimesSync(path, retainUntil / 1_000, Date.now() / 1_000);
      chmodSync(path, 0o444);
    }
    return Promise.resolve({ etag: "plain", outcome: "created" });
  }
}

export interface Filled extends NewHome {
  readonly project: string;
  readonly workerToken: string;
  /** A run with this many batches. */
  readonly small: { readonly run: string; readonly batches: number };
}

const PROJECT = "filled";
const SMALL_RUN = 950;

/** A new home with about `entries` entries: reports of runs that a real server started. */
export async function fillHome(dir: string, entries: number, progress: (text: string) => void): Promise<Filled> {
  const home = await initHome(dir);
  const server = await startServer(dir);
  const worker = await enrol(server, home.token, PROJECT);
  const transport = grpcTransport(server, worker.token);
  const small = await startRun(transport, PROJECT, "small");
  const runs = [{ batches: SMALL_RUN, run: small.run }];
  for (let left = entries - SMALL_RUN, k = 0; left > 0; left -= RUN_BATCHES, k++)
    runs.push({ batches: Math.min(left, RUN_BATCHES), run: (await startRun(transport, PROJECT, `large-${k}`)).run });
  if ((await server.stop()) !== 0) throw new Error("assertion failed: the server stops");
  await growHome(dir, PROJECT, worker.principal as RecordId, runs, progress);
  return { ...home, project: PROJECT, small: { batches: SMALL_RUN, run: small.run }, workerToken: worker.token };
}

async function growHome(
  dir: string,
  projectName: string,
  principal: RecordId,
  runs: readonly { readonly run: string; readonly batches: number }[],
  progress: (text: string) => void,
): Promise<void> {
  const home = homeOf(dir);
  await using inner = await createFileStore({
    allowAdvisoryLock: true,
    clock: systemClock,
    minimumFreeBytes: 1 << 30,
    random: systemRandom,
    root: dir,
  });
  await using lastSigned = await openLastSigned(home.lastSigned);
  await using index = await openLmdbIndex({ path: home.index });
  await using log = await openLog({
    backlogRecords: 1e9,
    clock: systemClock,
    graceMs: 3_600_000,
    index,
    keys: await loadKeyFiles(home.keys, await originOf(inner, home, dir)),
    lastSigned,
    logger: quietLogger,
    queueLimits: { bytes: 1 << 30, records: 1e6 },
    random: systemRandom,
    store: new PlainStore(dir, inner).asStore(),
  });
  using reader = log.index.reader();
  const project = reader.get("name", `-/project/${projectName}`)?.value.id;
  if (project === undefined) throw new Error("assertion failed: the project is there");
  let shown = 0;
  const fill = async ({ batches, run }: { readonly run: string; readonly batches: number }): Promise<void> => {
    let previous: RecordId | undefined;
    for (let from = 0; from < batches; from += GROUP) {
      const drafts = Array.from({ length: Math.min(GROUP, batches - from) }, (_, k): Draft => {
        const seq = from + k;
        const before = k > 0 ? (`$${k - 1}` as const) : previous;
        return {
          actor: { method: "run-token", principal },
          body: {
            metrics: ["loss", "accuracy", "learning-rate"].map((key, m) => ({
              key,
              step: seq + 1,
              value: (seq + 1) / (m + 7),
            })),
            ...(seq === 0 ? {} : { seq }),
          },
          kind: "run.batch",
          links: [
            { rel: "run", to: run as RecordId },
            ...(before === undefined ? [] : [{ rel: "previous", to: before }]),
          ],
          project,
          requestId: `fill-${run.slice(7, 19)}-${from}`,
        };
      });
      const { committed } = await log.submit({ admit: () => ({ drafts, value: null }), project });
      previous = committed?.records.at(-1)?.id;
      const size = committed?.size ?? 0;
      if (size - shown >= 50_000) progress(`${((shown = size)).toLocaleString("en")} entries`);
    }
  };
  const waiting = runs.values();
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      for (const run of waiting) await fill(run);
    }),
  );
  // Also waits until every record has its own object.
  progress("sealing");
  await log.seal();
}
