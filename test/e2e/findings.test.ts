/**
 * What whoever may write to the buckets, or owns the disk, does to a ledger while its server runs: the server finds it without being
 * asked, says so in its log, in its metrics and in the ledger, and goes on where that is safe.
 */
import { chmod, mkdir, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { commitKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import { collect } from "../contract/object-store.ts";
import { type Minio, startMinio } from "../minio/minio.ts";
import { machineClock } from "../store/machine.ts";
import {
  clientOf,
  datapilot,
  enrol,
  grpcTransport,
  initHome,
  type ServerProcess,
  startRun,
  startServer,
  temporaryFolder,
} from "./server.ts";

const DAY_MS = 86_400_000;
const WAIT = { interval: 500, timeout: 120_000 };
const OFTEN = ["--scrub-rate", "1000", "--scrub-pause", "1"];

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let minio: Minio;
beforeAll(async () => {
  folder = await temporaryFolder();
  minio = await startMinio({ folder: join(folder.path, "minio") });
}, 20 * 60_000);
afterAll(async () => {
  await minio[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

const variables = (prefix: string, { accessKey, secretKey, sessionToken }: S3Credentials): Record<string, string> => ({
  [`${prefix}ACCESS_KEY`]: accessKey,
  [`${prefix}SECRET_KEY`]: secretKey,
  ...(sessionToken === undefined ? {} : { [`${prefix}SESSION_TOKEN`]: sessionToken }),
});

/** Findings by code as `/metrics` tells them: those that stand, or all that there ever were. */
async function metricsOf({ url }: ServerProcess, name = "findings"): Promise<Record<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.matchAll(new RegExp(`^datapilot_${name}\\{code="([^"]+)"\\} (\\d+)$`, "gm"));
  return Object.fromEntries([...lines].map(([, code = "", n]) => [code, Number(n)]));
}

interface Operation {
  readonly type: string;
  readonly outcome: string;
  readonly counts?: readonly { readonly name: string; readonly value: number }[];
  readonly findings?: readonly { readonly code: string; readonly object?: string }[];
  readonly until?: string;
}

async function operations(server: ServerProcess, token: string): Promise<Operation[]> {
  const shown = await datapilot(["log", "show", "--kind", "operation", "--project", "_system", "--json"], {
    DATAPILOT_TOKEN: token,
    DATAPILOT_URL: server.url,
  });
  expect(shown.code, shown.stderr).toBe(0);
  const { resources } = JSON.parse(shown.stdout) as { resources: { operation: Operation }[] };
  return resources.map((r) => r.operation);
}

const foundIn = (all: readonly Operation[]): string[] =>
  all.flatMap((o) => o.findings ?? []).map((f) => `${f.code} ${f.object ?? ""}`);

/** Raised three times over: metric, line, record. */
async function expectRaised(server: ServerProcess, token: string, expected: readonly string[]): Promise<void> {
  for (const finding of expected) {
    const [code = "", object = ""] = finding.split(" ");
    await expect
      .poll(() => server.lines.some((l) => l.includes(`"code":"${code}"`) && l.includes(object)), WAIT)
      .toBe(true);
  }
  await expect.poll(async () => foundIn(await operations(server, token)).toSorted(), WAIT).toEqual(expected.toSorted());
  const counted = await metricsOf(server, "findings_total");
  for (const finding of expected) expect(counted[finding.split(" ")[0] ?? ""], finding).toBeGreaterThan(0);
}

it("finds on MinIO what was laid over, hidden, planted, taken away and put back loosely", async () => {
  const name = "findings";
  const dir = join(folder.path, name);
  const env = {
    ...variables("DATAPILOT_S3_", await minio.as("writer", name)),
    ...variables("DATAPILOT_S3_PRESIGNER_", await minio.as("presigner", name)),
  };
  const { token } = await initHome(dir, ["--store", minio.address(name), "--retention-days", "30"], {
    ...env,
    ...variables("DATAPILOT_S3_ADMIN_", minio.root),
  });
  await using attacker: S3Store = createS3Store({
    address: parseS3Address(minio.address(name)),
    clock: machineClock,
    credentials: minio.root,
  });
  const at = (key: string): string => `${name}-ledger/${key}`;
  const lay = async (key: string, body: Uint8Array | string, headers: Record<string, string> = {}): Promise<void> => {
    const answer = await attacker.transport.send({ body: Buffer.from(body), headers, method: "PUT", path: at(key) });
    expect(answer.status, key).toBe(200);
  };
  await using server = await startServer(dir, { args: OFTEN, env, linesKept: 100_000 });
  const worker = await enrol(server, token, "vision");
  const transport = grpcTransport(server, worker.token);
  await startRun(transport, "vision", "before");
  const health = () => clientOf(LedgerService, grpcTransport(server, token)).getHealth({});
  await expect.poll(async () => (await health()).publishedSize === (await health()).treeSize, WAIT).toBe(true);
  // A sound bucket raises nothing.
  await expect
    .poll(
      async () =>
        /^datapilot_scrubbed_timestamp_seconds [1-9]/m.test(await (await fetch(`${server.url}/metrics`)).text()),
      WAIT,
    )
    .toBe(true);
  expect(await metricsOf(server)).toEqual({});

  const records = (await collect(attacker.list("ledger", "records/"))).map((o) => o.key);
  const [shadowed = "", hidden = "", short = "", missing = ""] = records;
  await lay(shadowed, "other bytes");
  await lay(commitKey(2), "other bytes");
  expect((await attacker.transport.send({ method: "DELETE", path: at(hidden) })).status).toBe(204);
  expect((await attacker.transport.send({ method: "DELETE", path: at(commitKey(1)) })).status).toBe(204);
  await lay("strange/object", "planted");
  // Whoever owns the disk removes an object, and puts it back with a lock that soon ends.
  const body = (await attacker.get("ledger", short))?.body ?? "";
  await rm(join(folder.path, "minio", "data", at(short)), { recursive: true });
  await rm(join(folder.path, "minio", "data", at(missing)), { recursive: true });
  await lay(short, body, {
    "x-amz-object-lock-mode": "COMPLIANCE",
    "x-amz-object-lock-retain-until-date": new Date(Date.now() + 2 * DAY_MS).toISOString(),
  });
  await expectRaised(server, token, [
    `object.hidden ${commitKey(1)}`,
    `object.hidden ${hidden}`,
    `object.missing ${missing}`,
    "object.planted strange/object",
    `object.retention ${short}`,
    `object.shadowed ${commitKey(2)}`,
    `object.shadowed ${shadowed}`,
  ]);
  // It goes on, and what was put back is locked again as the log demands.
  expect((await health()).alarm).toMatch(/^object\./);
  await startRun(transport, "vision", "after");
  await expect.poll(async () => (await health()).publishedSize === (await health()).treeSize, WAIT).toBe(true);
  expect((await attacker.head("ledger", short))?.retainUntil).toBeGreaterThan(Date.now() + 29 * DAY_MS);
  const verified = await datapilot(
    ["verify", "bucket", minio.address(name), "--policy", join(dir, "trust", "policy.txt"), "--json"],
    variables("DATAPILOT_S3_READER_", await minio.as("reader", name)),
  );
  for (const object of [shadowed, hidden, commitKey(1), commitKey(2)])
    expect(verified.stdout, verified.stderr).toContain(object);

  // Junk in the next slot is where it stops: nothing tells a mistake from an attack.
  const { n } = await nextSlot(attacker);
  await lay(commitKey(n), "junk");
  await expect(startRun(transport, "vision", "never")).rejects.toThrow();
  await expect.poll(() => server.lines.some((l) => l.includes('"code":"commit.squatted"')), WAIT).toBe(true);
  await expect.poll(async () => (await metricsOf(server))["commit.squatted"], WAIT).toBeGreaterThan(0);
  // Reads go on.
  expect((await operations(server, token)).length).toBeGreaterThan(0);
}, 300_000);

async function nextSlot(store: S3Store): Promise<{ readonly n: number }> {
  for (let n = 0; ; n++) {
    let isThere = false;
    for await (const v of store.versions("ledger", commitKey(n))) isThere ||= v.key === commitKey(n);
    if (!isThere) return { n };
  }
}

/** Files below a folder of the home's ledger. */
async function filesOf(home: string, below: string): Promise<string[]> {
  const names = await readdir(join(home, "ledger", below), { recursive: true, withFileTypes: true });
  return names.filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name));
}

it("finds on a disk what was changed, removed, shortened and planted, and prolongs what was shortened", async () => {
  const dir = join(folder.path, "embedded");
  const { token } = await initHome(dir);
  await using server = await startServer(dir, { args: OFTEN, linesKept: 100_000 });
  const worker = await enrol(server, token, "vision");
  const transport = grpcTransport(server, worker.token);
  await startRun(transport, "vision", "before");
  const env = { DATAPILOT_PROJECT: "vision", DATAPILOT_TOKEN: worker.token, DATAPILOT_URL: server.url };
  await writeFile(join(folder.path, "rows.csv"), "id\n1\n");
  expect((await datapilot(["artifact", "put", join(folder.path, "rows.csv")], env)).code).toBe(0);
  const keyOf = (path: string): string => path.slice(join(dir, "ledger").length + 1);
  const health = () => clientOf(LedgerService, grpcTransport(server, token)).getHealth({});
  await expect.poll(async () => (await health()).publishedSize === (await health()).treeSize, WAIT).toBe(true);
  const [changed = "", removed = "", short = "", loose = ""] = await filesOf(dir, "records");
  const [artifact = ""] = await filesOf(dir, "artifacts");
  for (const path of [changed, artifact]) {
    const bytes = await readFile(path);
    await chmod(path, 0o644);
    await writeFile(path, Buffer.concat([bytes.subarray(0, -1), Buffer.from("!")]));
    await chmod(path, 0o444);
    await utimes(path, new Date(Date.now() + 3_651 * DAY_MS), new Date());
  }
  await rm(removed, { force: true });
  await utimes(short, new Date(Date.now() + 10 * DAY_MS), new Date());
  await chmod(loose, 0o644);
  const foreign = join(dir, "ledger", "records", "sha256", "planted");
  await mkdir(dirname(foreign), { recursive: true });
  await writeFile(foreign, "x");
  await expectRaised(server, token, [
    `object.changed ${keyOf(artifact)}`,
    `object.changed ${keyOf(changed)}`,
    `object.missing ${keyOf(removed)}`,
    "object.planted records/sha256/planted",
    `object.retention ${keyOf(loose)}`,
    `object.retention ${keyOf(short)}`,
  ]);
  await startRun(transport, "vision", "after");
  await rm(foreign);
  await expect.poll(async () => (await metricsOf(server))["object.planted"], WAIT).toBeUndefined();
  expect((await metricsOf(server))["object.retention"]).toBeUndefined();
  const report = await datapilot(["retention", "--dir", dir, "--json"]);
  expect(JSON.parse(report.stdout)).toMatchObject({ due: 0, unlocked: 0 });

  // Artifacts that the project holds for longer.
  const retain = ["project", "retain", "vision", "models", "--days", "7300", "--basis", "Kept for twenty years"];
  const retained = await datapilot(retain, env);
  expect(retained.code, retained.stderr).toBe(0);
  await writeFile(join(folder.path, "more.csv"), "id\n2\n");
  expect((await datapilot(["artifact", "put", join(folder.path, "more.csv")], env)).code).toBe(0);
  const { classes } = JSON.parse((await datapilot(["retention", "--dir", dir, "--json"])).stdout) as {
    classes: { class: string; longer: number }[];
  };
  expect(classes.find((c) => c.class === "artifacts")?.longer).toBe(1);
  expect(classes.find((c) => c.class === "records")?.longer).toBe(0);
}, 300_000);

it("prolongs what is due: the leader by itself, an operator by command, and both are recorded", async () => {
  const dir = join(folder.path, "due");
  const { token } = await initHome(dir);
  let files: string[] = [];
  // As the disk looks after eight of ten years.
  const age = async (): Promise<void> => {
    files = [...(await filesOf(dir, "records")), ...(await filesOf(dir, "commits"))];
    for (const path of files) await utimes(path, new Date(Date.now() + 700 * DAY_MS), new Date());
  };
  const left = async () =>
    JSON.parse((await datapilot(["retention", "--dir", dir, "--json"])).stdout) as { due: number };
  const args = ["--scrub-rate", "0"];
  let worker = "";
  {
    await using first = await startServer(dir, { args });
    ({ token: worker } = await enrol(first, token, "vision"));
    await startRun(grpcTransport(first, worker), "vision", "before");
    expect(await first.stop()).toBe(0);
  }
  await age();
  expect((await left()).due).toBe(files.length);
  await using server = await startServer(dir, { args });
  await expect.poll(async () => (await operations(server, token)).length, WAIT).toBe(1);
  const [own] = await operations(server, token);
  expect(own).toMatchObject({ outcome: "OPERATION_OUTCOME_DONE", type: "OPERATION_TYPE_RETENTION" });
  expect(own?.counts).toContainEqual({ name: "prolonged", value: files.length });
  expect((await left()).due).toBe(0);

  await age();
  const due = await datapilot(["retention", "--dir", dir]);
  expect(due.code).toBe(1);
  expect(due.stdout).toContain("--renew");
  const renew = (secret: string) =>
    datapilot(["retention", "--renew", "--dir", dir, "--json"], { DATAPILOT_TOKEN: secret, DATAPILOT_URL: server.url });
  // Whoever may not record it prolongs nothing.
  const denied = await renew(worker);
  expect(denied.code, denied.stderr).not.toBe(0);
  expect((await left()).due).toBe(files.length);
  const renewed = await renew(token);
  expect(renewed.code, renewed.stderr + renewed.stdout).toBe(0);
  expect(JSON.parse(renewed.stdout)).toMatchObject({ prolonged: files.length, reason: null, wrong: 0 });
  expect((await left()).due).toBe(0);
  const [recorded] = await operations(server, token);
  expect(recorded).toMatchObject({ outcome: "OPERATION_OUTCOME_DONE", type: "OPERATION_TYPE_RETENTION" });
  expect(recorded?.counts).toContainEqual({ name: "prolonged", value: files.length });
  expect(JSON.parse((await renew(token)).stdout)).toMatchObject({ objects: 0, ranges: 0 });
  expect((await readdir(dir)).filter((f) => f.startsWith("renewal-"))).toEqual([]);
}, 300_000);
