/**
 * `datapilot replicate` on a real ledger: into a folder while the server writes, killed in the middle, across a medium, onto MinIO and
 * back, and as the move of a ledger to another home.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import { type Minio, startMinio } from "../minio/minio.ts";
import {
  clientOf,
  datapilot,
  enrol,
  grpcTransport,
  initHome,
  startRun,
  startServer,
  temporaryFolder,
} from "./server.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const PROJECT = "copies";
const BATCHES = 300;

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let home: string;
let token: string;
let minio: Minio;

interface Report {
  readonly code: number;
  readonly verdict: string;
  readonly from: { readonly entries: number };
  readonly to: { readonly entries: number };
  readonly published: number;
  readonly written: { readonly artifacts: number; readonly commits: number; readonly personal: number };
}

const trust = (): string[] => ["--policy", join(home, "trust/policy.txt"), "--genesis", join(home, "trust/genesis")];

async function replicate(from: string, to: string, more: readonly string[] = [], env = {}): Promise<Report> {
  const { code, stderr, stdout } = await datapilot(["replicate", from, to, ...trust(), "--json", ...more], env);
  if (stdout === "") throw new Error(`replicate ended with ${code}: ${stderr}`);
  return { code, ...(JSON.parse(stdout) as Omit<Report, "code">) };
}

async function verify(place: string, more: readonly string[] = [], env = {}) {
  const { code, stderr, stdout } = await datapilot(["verify", "bucket", place, ...trust(), "--json", ...more], env);
  if (stdout === "") throw new Error(`verify ended with ${code}: ${stderr}`);
  return { code, ...(JSON.parse(stdout) as { verdict: string; verified: number; records: { verified: number } }) };
}

async function report(server: Awaited<ReturnType<typeof startServer>>, worker: string, label: string): Promise<void> {
  const started = await startRun(grpcTransport(server, worker), PROJECT, label);
  const reporting = clientOf(RunService, grpcTransport(server, started.token));
  for (let from = 0; from < BATCHES; from += 50)
    await reporting.batchAppendRunEvents({
      batches: Array.from({ length: 50 }, (_, k) => ({
        metrics: [{ key: "loss", step: from + k, value: 1 / (1 + from + k) }],
        seq: from + k,
      })),
      project: PROJECT,
      requestId: `report-${label}-${from}`,
      run: started.run,
    });
}

/** State and size, as `doctor` says of a home whose server is stopped. */
async function stateOf(dir: string): Promise<string> {
  const { stdout } = await datapilot(["doctor", "--dir", dir, "--json"]);
  const lines = JSON.parse(stdout) as { name: string; detail: string }[];
  return lines.find((l) => l.name === "log")?.detail ?? stdout;
}

beforeAll(async () => {
  minio = await startMinio();
  folder = await temporaryFolder();
  home = join(folder.path, "home");
  ({ token } = await initHome(home));
}, 20 * 60_000);
afterAll(async () => {
  await minio[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
}, 120_000);

const variables = (prefix: string, { accessKey, secretKey, sessionToken }: S3Credentials): Record<string, string> => ({
  [`${prefix}ACCESS_KEY`]: accessKey,
  [`${prefix}SECRET_KEY`]: secretKey,
  ...(sessionToken === undefined ? {} : { [`${prefix}SESSION_TOKEN`]: sessionToken }),
});

it("keeps copies of a ledger that is being written, and moves it", async () => {
  const copy = join(folder.path, "copy");
  const server = await startServer(home);
  const worker = await enrol(server, token, PROJECT);
  await report(server, worker.token, "first");
  const busy = report(server, worker.token, "second");
  // Killed while it copies, and the source grows.
  const child = spawn(process.execPath, [MAIN, "replicate", home, copy, ...trust()], { stdio: "ignore" });
  setTimeout(() => child.kill("SIGKILL"), 1_500);
  await once(child, "close");
  const first = await replicate(home, copy);
  await busy;
  expect(first).toMatchObject({ code: 0, verdict: "COPIED" });
  expect(await server.stop()).toBe(0);
  const second = await replicate(home, copy);
  expect(second).toMatchObject({ code: 0, verdict: "COPIED" });
  expect(second.from.entries).toBeGreaterThan(0);
  expect(second.published).toBe(second.to.entries);
  expect(await verify(copy)).toMatchObject({ code: 0, verdict: "COMPLETE", verified: second.published });

  // Across a gap: the medium is a copy like any other.
  const far = join(folder.path, "far");
  expect(await replicate(copy, far)).toMatchObject({ code: 0, to: second.to, verdict: "COPIED" });

  // The move: personal values come when asked for, then keys and trust by another way.
  const moved = await replicate(home, copy, ["--personal"]);
  expect(moved).toMatchObject({ code: 0, verdict: "COPIED", written: { commits: 0 } });
  expect(moved.written.personal).toBeGreaterThan(0);
  for (const name of ["keys", "trust"]) await cp(join(home, name), join(copy, name), { recursive: true });
  const there = await startServer(copy);
  await report(there, worker.token, "third");
  expect(await there.stop()).toBe(0);
  expect((await verify(copy)).verdict).toBe("COMPLETE");
  // What was the copy goes on; the old home is the copy now.
  expect(await replicate(home, copy)).toMatchObject({ code: 2, verdict: "INCOMPLETE" });
  expect(await replicate(copy, home)).toMatchObject({ code: 0, verdict: "COPIED" });
  await cp(join(copy, "keys"), join(home, "keys"), { force: true, recursive: true });
  expect(await stateOf(home)).toBe(await stateOf(copy));
}, 240_000);

it("goes onto MinIO, is verified there, and comes back", async () => {
  const name = "replica";
  const place = minio.address(name);
  const writer = variables("DATAPILOT_S3_", await minio.as("writer", name));
  const reader = variables("DATAPILOT_S3_READER_", await minio.as("reader", name));
  const there = await replicate(home, place, [], {
    ...writer,
    ...variables("DATAPILOT_S3_ADMIN_", minio.root),
  });
  expect(there).toMatchObject({ code: 0, verdict: "COPIED" });
  const checked = await verify(place, ["--artifacts", "--resume", join(folder.path, "resume")], reader);
  expect(checked).toMatchObject({ code: 0, verdict: "COMPLETE", verified: there.published });
  expect(checked.records.verified).toBe(there.to.entries);
  await expect(readFile(join(folder.path, "resume"))).rejects.toThrow("ENOENT");
  const back = join(folder.path, "back");
  expect(await replicate(place, back, [], reader)).toMatchObject({ code: 0, to: there.to, verdict: "COPIED" });
  expect(await verify(back)).toMatchObject({ code: 0, verdict: "COMPLETE", verified: there.published });
}, 240_000);

it("tells until when a ledger is locked", async () => {
  const { code, stdout } = await datapilot(["retention", "--dir", home, "--json"]);
  const said = JSON.parse(stdout) as { classes: { class: string; objects: number }[]; unlocked: number };
  expect({ code, unlocked: said.unlocked }).toEqual({ code: 0, unlocked: 0 });
  expect(said.classes.map((c) => c.class)).toEqual(["checkpoints", "commits", "records", "tiles"]);
});

it("says what is wrong with how it is asked", async () => {
  const ask = async (...args: string[]) => datapilot(["replicate", ...args]);
  expect(await ask(home, home, ...trust())).toMatchObject({ code: 64, stderr: expect.stringContaining("both") });
  expect(await ask(home, join(folder.path, "x"))).toMatchObject({
    code: 64,
    stderr: expect.stringContaining("--policy"),
  });
  expect(await ask(join(folder.path, "nothing"), join(folder.path, "x"), ...trust())).toMatchObject({ code: 64 });
  expect(await ask("s3://host/name", join(folder.path, "x"), ...trust())).toMatchObject({
    stderr: expect.stringContaining("DATAPILOT_S3_READER_ACCESS_KEY"),
  });
});
