/**
 * Start-up probes of what only S3 has: credentials, clock, the configuration of the three buckets, and what the writer may do. A
 * ledger is not opened unless all hold (`docs/operating.md`). They write nothing; the one DELETE names a version that does not exist.
 */
import { randomUUID } from "node:crypto";
import { Fault } from "../../std/faults.ts";
import type { Clock } from "../../std/ports.ts";
import { commitKey } from "../keys.ts";
import type { ProbeResult } from "../probes.ts";
import { bucketName } from "./address.ts";
import { refusal } from "./answers.ts";
import { type BucketAccess, type BucketState, inspectBucket } from "./buckets.ts";
import type { S3Store } from "./s3-store.ts";

const MAX_SKEW_MS = 5_000;

export interface BucketProbeOptions {
  readonly store: S3Store;
  /** As the store has them. */
  readonly access: BucketAccess;
  readonly clock: Clock;
}

const MAKE =
  "make the buckets with `datapilot init --store` and the administrator's credentials (DATAPILOT_S3_ADMIN_ACCESS_KEY, DATAPILOT_S3_ADMIN_SECRET_KEY)";
const NEW_LEDGER_BUCKET =
  "object lock can be given to a bucket only when it is made: choose another name in --store, and let `datapilot init` make the buckets";

const held = (name: string, detail: string): ProbeResult => ({ detail, name, ok: true, remedy: "" });
const failed = (name: string, detail: string, remedy: string): ProbeResult => ({ detail, name, ok: false, remedy });

/** Runs them in order; without an answer, valid credentials and a right clock the rest would only say the same again. */
export async function probeBuckets(options: BucketProbeOptions): Promise<ProbeResult[]> {
  const reached = await probeReach(options);
  if (reached.some((r) => !r.ok)) return reached;
  return [
    ...reached,
    ...(await probeConfiguration(options)),
    await attempt("delete-version", () => probeDelete(options)),
    await attempt("newest-commit", () => probeNewestCommit(options)),
  ];
}

async function attempt(name: string, work: () => Promise<ProbeResult>): Promise<ProbeResult> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Fault) return failed(name, error.message, "see above; then run `datapilot doctor` again");
    throw error;
  }
}

/** One listing: whether there is an answer, whether the credentials are taken, and what time the store has. */
async function probeReach({ clock, store }: BucketProbeOptions): Promise<ProbeResult[]> {
  const path = bucketName(store.transport.address, "ledger");
  const before = clock.now();
  let answer: Awaited<ReturnType<typeof store.transport.send>>;
  try {
    answer = await store.transport.send({ method: "GET", path, query: { "list-type": "2", "max-keys": "1" } });
  } catch (error) {
    return [failed("reach", (error as Error).message, "correct the store's address, or start the store")];
  }
  const results: ProbeResult[] = [];
  const date = Date.parse(answer.headers["date"] ?? "");
  // The header has whole seconds, and was written at some time between sending and now.
  const ahead = before - (date + 1_000);
  const behind = date - clock.now();
  const skewMs = Math.max(ahead, behind);
  if (Number.isNaN(date))
    results.push(failed("clock", "the store's answers have no Date", "let the proxies before the store hand it on"));
  else if (skewMs > MAX_SKEW_MS)
    results.push(
      failed(
        "clock",
        `this machine's clock is ${Math.round(skewMs / 1_000)} s ${ahead > behind ? "ahead of" : "behind"} the store's`,
        "set both by NTP (chronyd, systemd-timesyncd): locks are dated by one and held by the other",
      ),
    );
  else results.push(held("clock", `within ${MAX_SKEW_MS / 1_000} s of the store's`));
  if (answer.status === 200)
    results.push(held("reach", `${store.transport.address.text} answers, and takes the credentials`));
  else if (results.every((r) => r.ok))
    results.push(
      failed("reach", refusal(`listing ${path}`, answer).message, answer.status === 404 ? MAKE : "see above"),
    );
  return results;
}

async function probeConfiguration({ access }: BucketProbeOptions): Promise<ProbeResult[]> {
  const results: ProbeResult[] = [];
  for (const bucket of ["ledger", "head", "personal"] as const) {
    const name = bucketName(access.address, bucket);
    results.push(
      ...(await attempt(bucket, async () => {
        const state = await inspectBucket(access, bucket);
        if (state === null) return failed(bucket, `the bucket ${name} does not exist`, MAKE);
        return bucket === "ledger" ? ledgerResult(name, state) : plainResult(bucket, name, state);
      }).then((r) => [r])),
    );
  }
  return results;
}

function ledgerResult(name: string, state: BucketState): ProbeResult {
  const { defaultMode, hasLock, lifecycleRules, versioning } = state;
  if (!hasLock) return failed("ledger", `the bucket ${name} has no object lock`, NEW_LEDGER_BUCKET);
  if (versioning !== "Enabled")
    return failed(
      "ledger",
      `versioning of ${name} is ${versioning === "never" ? "off" : "suspended"}`,
      NEW_LEDGER_BUCKET,
    );
  if (defaultMode !== "COMPLIANCE")
    return failed(
      "ledger",
      `the default retention of ${name} is ${defaultMode ?? "not set"}`,
      `set it to COMPLIANCE: mc retention set --default COMPLIANCE 3650d ALIAS/${name}`,
    );
  if (lifecycleRules > 0)
    return failed(
      "ledger",
      `${name} has ${lifecycleRules} lifecycle rule(s), which may remove objects when their locks end`,
      `remove them: mc ilm rule remove --all --force ALIAS/${name}`,
    );
  return held("ledger", `${name} has versions, object lock, COMPLIANCE by default and no lifecycle rules`);
}

/** What is erased must be gone: no version of it may stay. */
function plainResult(bucket: string, name: string, state: BucketState): ProbeResult {
  if (state.hasLock || state.versioning !== "never")
    return failed(
      bucket,
      `the bucket ${name} keeps versions, so nothing in it can be erased`,
      "choose another name in --store, and let `datapilot init` make the buckets",
    );
  if (state.lifecycleRules > 0)
    return failed(bucket, `${name} has lifecycle rules`, `remove them: mc ilm rule remove --all --force ALIAS/${name}`);
  return held(bucket, `${name} keeps no versions and has no lifecycle rules`);
}

/** Who may delete versions can make a ledger disappear when its locks end, and hide it before. */
async function probeDelete({ store }: BucketProbeOptions): Promise<ProbeResult> {
  const path = `${bucketName(store.transport.address, "ledger")}/${commitKey(0)}`;
  const answer = await store.transport
    .send({ method: "DELETE", path, query: { versionId: randomUUID() } })
    .catch((error: unknown) => {
      throw new Fault("STORE_UNAVAILABLE", (error as Error).message, { cause: error });
    });
  if (answer.status === 403) return held("delete-version", "these credentials may not delete versions of the ledger");
  return failed(
    "delete-version",
    `these credentials may delete versions of the ledger (${answer.status})`,
    "give the server credentials of its own with the policy deploy/iam/writer.json; never those of an administrator",
  );
}

async function probeNewestCommit({ clock, store }: BucketProbeOptions): Promise<ProbeResult> {
  const n = await newestCommit(store);
  if (n === undefined) return held("newest-commit", "there is none yet");
  const info = await store.head("ledger", commitKey(n));
  const until = info?.retainUntil ?? 0;
  if (info?.lockMode === "COMPLIANCE" && until > clock.now())
    return held(
      "newest-commit",
      `commit ${n} is held in COMPLIANCE until ${new Date(until).toISOString().slice(0, 10)}`,
    );
  return failed(
    "newest-commit",
    `commit ${n} is ${info?.lockMode === undefined ? "not locked" : `held in ${info.lockMode} until ${new Date(until).toISOString()}`}`,
    "find out who wrote or copied it without a lock (`mc stat --versions`); a copy is made with locks by `datapilot replicate`",
  );
}

/** Commits are consecutive, so the last one is found in as many steps as its number has bits, twice. */
async function newestCommit(store: S3Store): Promise<number | undefined> {
  const exists = async (n: number): Promise<boolean> => (await store.head("ledger", commitKey(n))) !== null;
  if (!(await exists(0))) return undefined;
  let low = 0;
  let high = 1;
  while (await exists(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (await exists(middle)) low = middle;
    else high = middle;
  }
  return low;
}
