/**
 * Real processes for end-to-end tests and benches: `datapilot` as a child, a server on free loopback ports, and a worker who may
 * report runs in a project of his own. Processes are ended by their own id; folders lie under the system's temporary one.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { PrincipalType } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { Purpose } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { AccessService, ProjectService } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
/** Compiled code is kept between starts, so that fifty of them cost seconds and not a minute. */
const CACHE = join(tmpdir(), "datapilot-compile-cache");
const READY_MS = 60_000;
const POLL_MS = 20;

/** A test that fails early leaves no server behind. */
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

const environment = (more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv => ({
  ...process.env,
  NODE_COMPILE_CACHE: CACHE,
  NODE_NO_WARNINGS: "1",
  ...more,
});

/** A folder that is removed at the end of the scope. */
export async function temporaryFolder(parent = tmpdir()): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(parent, "datapilot-e2e-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { force: true, maxRetries: 5, recursive: true }) };
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command to its end. */
export async function datapilot(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: environment(env), stdio: ["ignore", "pipe", "pipe"] });
  const text = { stderr: "", stdout: "" };
  child.stdout.setEncoding("utf8").on("data", (part: string) => (text.stdout += part));
  child.stderr.setEncoding("utf8").on("data", (part: string) => (text.stderr += part));
  const [code] = (await once(child, "close")) as [number | null];
  return { code: code ?? -1, ...text };
}

export interface NewHome {
  readonly dir: string;
  readonly token: string;
  readonly genesis: string;
  readonly origin: string;
}

/** `datapilot init --solo`: nobody else is there to approve anything. */
export async function initHome(
  dir: string,
  more: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<NewHome> {
  const { code, stderr, stdout } = await datapilot(["init", "--dir", dir, "--solo", "--json", ...more], env);
  if (code !== 0) throw new Error(`init ended with ${code}: ${stderr}${stdout}`);
  const said = JSON.parse(stdout) as { token: string; genesis: string; origin: string };
  return { dir, genesis: said.genesis, origin: said.origin, token: said.token };
}

export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  readonly url: string;
  /** Host and port. */
  readonly grpc: string;
  /** Lines that it wrote, newest last; a few hundred are kept. */
  readonly lines: readonly string[];
  /** SIGKILL; resolves once the process is gone. */
  kill(): Promise<void>;
  /** SIGTERM; gives the exit code. */
  stop(): Promise<number>;
}

const LINES_KEPT = 400;

/** What the unit file and the image give the server. */
const AS_DEPLOYED = { env: { UV_THREADPOOL_SIZE: "8" }, flags: ["--max-semi-space-size=8"] };

export interface ServerStart {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Command that runs it, such as `taskset -c 0`. */
  readonly prefix?: readonly string[];
  readonly entry?: string;
  /** How many of its lines are kept; a few hundred when absent. */
  readonly linesKept?: number;
}

export interface Launched {
  /** The server once `/readyz` says 200; rejects when it ends before. */
  readonly ready: Promise<ServerProcess>;
  /** SIGKILL, whatever it is doing; resolves once the process is gone. */
  kill(): Promise<void>;
}

/** Starts a server and does not wait. */
export function launchServer(dir: string, start: ServerStart = {}): Launched {
  const own = ["server", "--dir", dir, "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"];
  const [command = process.execPath, ...args] = [
    ...(start.prefix ?? []),
    process.execPath,
    ...AS_DEPLOYED.flags,
    start.entry ?? MAIN,
    ...own,
    ...(start.args ?? []),
  ];
  const child = spawn(command, args, {
    env: environment({ ...AS_DEPLOYED.env, ...start.env }),
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  const gone = once(child, "close").then(([code]) => {
    running.delete(child);
    return (code as number | null) ?? -1;
  });
  const lines: string[] = [];
  const keep = (line: string): void => {
    lines.push(line);
    if (lines.length > (start.linesKept ?? LINES_KEPT)) lines.shift();
  };
  createInterface({ input: child.stderr }).on("line", keep);
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await gone;
  };
  const listening = addressesOf(child, gone, keep);
  const untilReady = async (): Promise<ServerProcess> => {
    try {
      const { grpc, http } = await listening;
      await ready(http, gone);
      return {
        grpc,
        kill,
        lines,
        pid: child.pid ?? -1,
        async stop() {
          child.kill("SIGTERM");
          return gone;
        },
        [Symbol.asyncDispose]: kill,
        url: http,
      };
    } catch (error) {
      await kill();
      throw new Error(`${(error as Error).message}\n${lines.slice(-20).join("\n")}`, { cause: error });
    }
  };
  return { kill, ready: untilReady() };
}

/** Starts a server and waits until it is ready. */
export const startServer = (dir: string, start: ServerStart = {}): Promise<ServerProcess> =>
  launchServer(dir, start).ready;

/** The first line with both addresses says where it listens. */
function addressesOf(
  child: ChildProcess,
  gone: Promise<number>,
  keep: (line: string) => void,
): Promise<{ grpc: string; http: string }> {
  const found = Promise.withResolvers<{ grpc: string; http: string }>();
  if (child.stdout === null) throw new Error("assertion failed: output is a pipe");
  createInterface({ input: child.stdout }).on("line", (line) => {
    keep(line);
    if (!line.includes('"listening"')) return;
    const { grpc, http } = JSON.parse(line) as { grpc: string; http: string };
    found.resolve({ grpc, http });
  });
  gone.then(
    (code) => found.reject(new Error(`the server ended with ${code} before it listened`)),
    (error: unknown) => found.reject(error as Error),
  );
  return found.promise;
}

async function ready(url: string, gone: Promise<number>): Promise<void> {
  let ended: number | undefined;
  gone.then(
    (code) => (ended = code),
    () => undefined,
  );
  for (let waited = 0; waited < READY_MS; waited += POLL_MS) {
    if (ended !== undefined) throw new Error(`the server ended with ${ended} before it was ready`);
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    if (answer?.status === 200) return;
    await sleep(POLL_MS);
  }
  throw new Error("the server was not ready within a minute");
}

const bearer =
  (token: string): Interceptor =>
  (next) =>
  (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };

/** Clients of the gRPC port. */
export const grpcTransport = (server: Pick<ServerProcess, "grpc">, token: string): Transport =>
  createGrpcTransport({ baseUrl: `http://${server.grpc}`, interceptors: [bearer(token)] });

/** Clients of the HTTP port: Connect with JSON over HTTP/1.1, as browsers and curl speak it. */
export const httpTransport = (server: Pick<ServerProcess, "url">, token: string): Transport =>
  createConnectTransport({
    baseUrl: server.url,
    httpVersion: "1.1",
    interceptors: [bearer(token)],
    useBinaryFormat: false,
  });

export const clientOf = <S extends DescService>(service: S, transport: Transport): Client<S> =>
  createClient(service, transport);

/** A project and a service that works in it; nobody gives a role to himself, so the administrator enrols it. */
export async function enrol(
  server: ServerProcess,
  adminToken: string,
  project: string,
  roles: readonly string[] = ["contributor", "project-admin", "approver"],
): Promise<{ readonly token: string; readonly principal: string }> {
  const transport = grpcTransport(server, adminToken);
  const access = clientOf(AccessService, transport);
  const name = `${project}-worker`;
  await clientOf(ProjectService, transport).createProject({
    project: { name: project },
    requestId: `project-${project}`,
  });
  const made = await access.createPrincipal({
    principal: { displayName: `Worker of ${project}`, name, type: PrincipalType.SERVICE },
    requestId: `principal-${name}`,
  });
  for (const role of roles)
    await access.createRoleBinding({ principal: name, project, requestId: `binding-${name}-${role}`, role });
  const { secret } = await access.createToken({ principal: name, requestId: `token-${name}` });
  return { principal: made.resource?.record ?? "", token: secret };
}

export interface StartedRun {
  readonly run: string;
  /** What the run reports with. */
  readonly token: string;
}

/** A run that was started; `label` tells it from others. */
export async function startRun(transport: Transport, project: string, label: string): Promise<StartedRun> {
  const { run, runToken } = await clientOf(RunService, transport).startRun({
    plan: { run: { command: ["train", label], purpose: Purpose.EXPLORATION } },
    project,
    requestId: `run-${label}`,
  });
  if (run === undefined || runToken === "") throw new Error("assertion failed: an exploration starts");
  return { run: run.record, token: runToken };
}
