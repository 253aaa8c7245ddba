/**
 * A real MinIO for tests and for trying things: built once from its pinned module into the user's cache, started on a free loopback
 * port with a folder of its own, ended by its process id.
 *
 * `DATAPILOT_MINIO` names a binary to use instead.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import type { Identity } from "../api/certificate.ts";
import { assumeRole } from "./sts.ts";

/** The last commit of community MinIO; the last tag before it takes a lost read quorum for an absent object. */
const VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c";
const READY_MS = 60_000;
const BUILD_MS = 15 * 60_000;
const POLL_MS = 50;

/** A test runner may be killed before it can end anything: a shell waits for the end of this process, and then ends the child. */
function endWithMe(child: ChildProcess): void {
  const watch = spawn("sh", ["-c", `read _; kill -9 ${child.pid}`], { stdio: ["pipe", "ignore", "ignore"] });
  child.once("close", () => watch.kill("SIGKILL"));
}

/** Path of a MinIO binary; builds it when the cache has none, which takes some minutes. */
export async function minioBinary(): Promise<string> {
  const given = process.env["DATAPILOT_MINIO"];
  if (given !== undefined) return given;
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const folder = join(cache, "datapilot", `minio-${VERSION}`);
  const binary = join(folder, "minio");
  if (existsSync(binary)) return binary;
  await mkdir(folder, { recursive: true });
  process.stderr.write(`Building MinIO ${VERSION} into ${folder}, once (some minutes) ...\n`);
  await using _ = await holdBuild(join(folder, "build.lock"));
  if (!existsSync(binary)) await build(folder, binary);
  return binary;
}

async function build(folder: string, binary: string): Promise<void> {
  const aside = await mkdtemp(join(folder, "build-"));
  try {
    await promisify(execFile)("go", ["install", "-ldflags", "-s -w", `github.com/minio/minio@${VERSION}`], {
      env: { ...process.env, CGO_ENABLED: "0", GOBIN: aside },
      maxBuffer: 1 << 26,
    });
    await rename(join(aside, "minio"), binary);
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new Error(
      isMissing
        ? "MinIO cannot be built: install Go 1.24 or newer, or name a binary in DATAPILOT_MINIO"
        : `MinIO cannot be built: ${(error as Error).message}`,
      { cause: error },
    );
  } finally {
    await rm(aside, { force: true, recursive: true });
  }
}

/** One process builds; others wait. A lock whose process is gone is taken over. */
async function holdBuild(path: string): Promise<AsyncDisposable> {
  for (let waited = 0; waited < BUILD_MS; waited += POLL_MS * 10) {
    try {
      const handle = await open(path, "wx");
      await handle.writeFile(String(process.pid));
      await handle.close();
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = Number(await readFile(path, "utf8").catch(() => "0"));
    if (owner > 0 && !isRunning(owner)) await rm(path, { force: true });
    await sleep(POLL_MS * 10);
  }
  throw new Error(`another process has been building MinIO for long; end it, and remove ${path}`);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("assertion failed: a TCP port");
  return address.port;
}

export interface MinioOptions {
  /** Server pools of four drives each; one pool of one drive when absent. */
  readonly pools?: number;
  readonly tls?: Identity;
  readonly port?: number;
  /** Folder that is kept; a temporary one, removed at the end, when absent. */
  readonly folder?: string;
}

export interface Minio extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
  /** Of the administrator, who may do everything. */
  readonly root: S3Credentials;
  /** The store's address for `--store`. */
  address(name: string, parameters?: string): string;
  /** Credentials that may do what a policy of `deploy/iam` lets them, for the buckets of `name`. */
  as(duty: Duty, name: string, seconds?: number): Promise<S3Credentials>;
  /** SIGKILL; resolves once the process is gone. */
  kill(): Promise<void>;
  /** Starts it again on its port and folder; with another secret of its administrator, all sessions are over. */
  restart(secretKey?: string): Promise<void>;
}

export type Duty = "administrator" | "eraser" | "presigner" | "reader" | "writer";

/** The policy of a duty, as JSON, for the buckets of a ledger. */
export async function policyOf(duty: Duty, name: string): Promise<string> {
  const text = await readFile(new URL(`../../deploy/iam/${duty}.json`, import.meta.url), "utf8");
  return JSON.stringify(JSON.parse(text.replaceAll("NAME-", `${name}-`)));
}

export async function startMinio(options: MinioOptions = {}): Promise<Minio> {
  const binary = await minioBinary();
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), "datapilot-minio-")));
  const port = options.port ?? (await freePort());
  let root = { accessKey: "administrator", secretKey: randomBytes(16).toString("hex") };
  const drives =
    options.pools === undefined
      ? [join(folder, "data")]
      : Array.from({ length: options.pools }, (_, i) => join(folder, `pool-${i}-{1...4}`));
  const certificates = join(folder, "certificates");
  await mkdir(certificates, { recursive: true });
  if (options.tls !== undefined) {
    await writeFile(join(certificates, "public.crt"), options.tls.cert);
    await writeFile(join(certificates, "private.key"), options.tls.key);
  }
  const scheme = options.tls === undefined ? "http" : "https";
  const start = (): ChildProcess => {
    const child = spawn(
      binary,
      ["server", "--quiet", "--address", `127.0.0.1:${port}`, "--certs-dir", certificates, ...drives],
      {
        env: {
          GOMEMLIMIT: "384MiB",
          HOME: folder,
          // Several drives on one disk, which is never right but in a test.
          MINIO_CI_CD: "1",
          MINIO_BROWSER: "off",
          MINIO_IDLE_TIMEOUT: "10s",
          MINIO_ROOT_PASSWORD: root.secretKey,
          MINIO_ROOT_USER: root.accessKey,
          MINIO_UPDATE: "off",
        },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    endWithMe(child);
    return child;
  };
  let child = start();
  await untilReady(child, port, options.tls === undefined);
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "close");
    child.kill("SIGKILL");
    await gone;
  };
  return {
    [Symbol.asyncDispose]: async () => {
      await kill();
      if (options.folder === undefined) await rm(folder, { force: true, maxRetries: 5, recursive: true });
    },
    address: (name, parameters = "") =>
      `${options.tls === undefined ? "s3+http" : "s3"}://127.0.0.1:${port}/${name}${parameters}`,
    as: async (duty, name, seconds) =>
      assumeRole({ endpoint: `${scheme}://127.0.0.1:${port}`, policy: await policyOf(duty, name), root, seconds }),
    kill,
    get pid() {
      return child.pid ?? -1;
    },
    port,
    async restart(secretKey = root.secretKey) {
      await kill();
      root = { ...root, secretKey };
      child = start();
      await untilReady(child, port, options.tls === undefined);
    },
    get root() {
      return root;
    },
  };
}

/** Over TLS only the port is asked, since the certificate is known to nobody here. */
async function untilReady(child: ChildProcess, port: number, isPlain: boolean): Promise<void> {
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => {
      said.push(text);
      if (said.length > 100) said.shift();
    });
  for (let waited = 0; waited < READY_MS; waited += POLL_MS) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`MinIO ended with ${child.exitCode ?? child.signalCode}:\n${said.join("")}`);
    const answer = await fetch(`http://127.0.0.1:${port}/minio/health/cluster`).catch(() => undefined);
    if (answer !== undefined && (!isPlain || answer.status === 200)) return;
    await sleep(POLL_MS);
  }
  throw new Error(`MinIO was not ready within a minute:\n${said.join("")}`);
}
