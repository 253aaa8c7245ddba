/** A ledger whose buckets lie on a real MinIO, with credentials by duty as `docs/operating.md` has them. */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { systemClock } from "../../src/main/home.ts";
import { CommitChain, type ValidItem } from "../../src/record/chain.ts";
import { commitKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import { initHome, type ServerProcess, startServer } from "../e2e/server.ts";
import type { Minio } from "../minio/minio.ts";

/** Longer than any bench. */
const SESSION_S = 6 * 3_600;
const COMMITS_AHEAD = 16;

const variables = (prefix: string, { accessKey, secretKey, sessionToken }: S3Credentials): Record<string, string> => ({
  [`${prefix}ACCESS_KEY`]: accessKey,
  [`${prefix}SECRET_KEY`]: secretKey,
  ...(sessionToken === undefined ? {} : { [`${prefix}SESSION_TOKEN`]: sessionToken }),
});

export interface S3Ledger {
  /** The first home. */
  readonly dir: string;
  readonly adminToken: string;
  /** A server on the first home. */
  start(): Promise<ServerProcess>;
  /** A server that follows, on a home of its own. */
  startReplica(name: string): Promise<ServerProcess>;
  /** The buckets, with a reader's credentials. */
  read(): Promise<S3Store>;
}

export async function createS3Ledger(minio: Minio, name: string, folder: string): Promise<S3Ledger> {
  const address = minio.address(name);
  const env = {
    ...variables("DATAPILOT_S3_", await minio.as("writer", name, SESSION_S)),
    ...variables("DATAPILOT_S3_PRESIGNER_", await minio.as("presigner", name, SESSION_S)),
  };
  const dir = join(folder, name);
  const home = await initHome(dir, ["--store", address, "--retention-days", "30"], {
    ...env,
    ...variables("DATAPILOT_S3_ADMIN_", minio.root),
  });
  const args = ["--store", address];
  return {
    adminToken: home.token,
    dir,
    async read() {
      const credentials = await minio.as("reader", name, SESSION_S);
      return createS3Store({ address: parseS3Address(address), clock: systemClock, credentials });
    },
    start: () => startServer(dir, { args, env }),
    async startReplica(replica) {
      const own = join(folder, `${name}-${replica}`);
      await mkdir(own, { recursive: true });
      await cp(join(dir, "keys"), join(own, "keys"), { recursive: true });
      return startServer(own, { args: [...args, "--replica"], env });
    },
  };
}

/** Every record of the log, by commits alone, each of them checked. */
export async function* itemsOf(store: S3Store): AsyncGenerator<ValidItem> {
  let chain = CommitChain.genesis();
  const ahead = Array.from({ length: COMMITS_AHEAD }, (_, n) => store.get("ledger", commitKey(n)));
  for (let n = COMMITS_AHEAD; ; n++) {
    const found = await ahead.shift();
    if (found === undefined || found === null) break;
    ahead.push(store.get("ledger", commitKey(n)));
    const commit = chain.check(found.body, nativeVerifier);
    chain = chain.advance(commit);
    yield* commit.items;
  }
  await Promise.all(ahead);
}

/** Throws when a batch that was acknowledged is not in the log, or is there twice; gives how many there are. */
export async function assertKept(
  store: S3Store,
  acknowledged: Readonly<Record<string, number>>,
): Promise<{ readonly acknowledged: number; readonly found: number }> {
  const seen = new Map<string, Set<number>>();
  let found = 0;
  for await (const { record } of itemsOf(store)) {
    const run = record?.kind === "run.batch" ? record.links.find((l) => l.rel === "run")?.to : undefined;
    const seq = record?.body["seq"] ?? 0;
    if (run === undefined || typeof seq !== "number") continue;
    const seqs = seen.get(run) ?? new Set<number>();
    if (seqs.has(seq)) throw new Error(`batch ${seq} of run ${run} is in the log twice`);
    seen.set(run, seqs.add(seq));
    found++;
  }
  let count = 0;
  for (const [run, until] of Object.entries(acknowledged))
    for (let seq = 0; seq < until; seq++, count++)
      if (seen.get(run)?.has(seq) !== true) throw new Error(`batch ${seq} of run ${run} was acknowledged and is lost`);
  return { acknowledged: count, found };
}
