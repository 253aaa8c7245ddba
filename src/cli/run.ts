/**
 * `datapilot run`: wraps a command, so that what it read, where it ran, what it made and how it ended is recorded. Before the run
 * is admitted nothing starts; once it runs, it is never stopped for our sake: what cannot be delivered is spooled.
 */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { globSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join, relative, resolve } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Command } from "commander";
import { ContentFileSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import {
  Assurance,
  FileRole,
  InputRole,
  type Lockfile,
  type Metric,
  MetricSchema,
  ModelVersionSchema,
  type Param,
  ParamSchema,
  Purpose,
  RunBatchSchema,
  RunEventSchema,
  RunFileSchema,
  RunFinishSchema,
  RunInputSchema,
  RunSchema,
  RunStatus,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import {
  ListResponseSchema,
  type Receipt,
  type Resource,
  type WriteResponse,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import {
  CompareRunsResponseSchema,
  GetRunResponseSchema,
  PlanRunResponseSchema,
  type RunPlan,
  RunPlanSchema,
} from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { formatProofFile } from "../note/proof-file.ts";
import { parseHex, utf8 } from "../std/bytes.ts";
import { type Connection, exitOf, listAll } from "./client.ts";
import { AS_OF, type Context, declare, UsageError } from "./command.ts";
import { EXIT, Exit, type Io, paint, table } from "./io.ts";
import { ciOf, codeOf, hostOf, lockfilesOf, observedOf, refOf } from "./observe.ts";
import { decisionText, resourceLine, resourceTable } from "./render.ts";
import { spool } from "./spool.ts";
import { hashFiles, type LocalFile, upload } from "./transfer.ts";

const PURPOSES: Readonly<Record<string, Purpose>> = {
  evaluation: Purpose.EVALUATION,
  exploration: Purpose.EXPLORATION,
  production: Purpose.PRODUCTION,
};
const ROLES: Readonly<Record<string, InputRole>> = {
  base_model: InputRole.BASE_MODEL,
  reference: InputRole.REFERENCE,
  test: InputRole.TEST,
  train: InputRole.TRAIN,
  validation: InputRole.VALIDATION,
};
/** What the child may not inherit: the caller's own credentials. */
const CREDENTIALS = ["DATAPILOT_TOKEN", "DATAPILOT_TOKEN_FILE", "DATAPILOT_ID_TOKEN"];
const LOG_BYTES = 16 << 20;

const PLAN_OPTIONS: readonly (readonly [string, string])[] = [
  ["--purpose <purpose>", "exploration, evaluation or production (default exploration)"],
  [
    "--dataset <ref[:role[=path]]>...",
    "input, its role (train, validation, test, reference) and where it lies, to be hashed",
  ],
  ["--env <ref>", "lock of the environment"],
  ["--param <key=value>...", "parameter"],
  ["--experiment <ref>", "experiment that it belongs to"],
  ["--retry-of <run>", "run that this tries again"],
  ["--parent <run>", "run that this is a step of"],
];

interface InputOption {
  readonly ref: string;
  readonly role: InputRole;
  readonly path: string | undefined;
}

/** `fraud/transactions@v7:train=data/` */
function parseInput(text: string): InputOption {
  const [, ref = "", role = "train", path] = /^([^:=]+)(?::([a-z_]+))?(?:=(.+))?$/.exec(text) ?? [];
  const parsed = ROLES[role];
  if (ref === "" || parsed === undefined)
    throw new UsageError(
      `--dataset takes REF[:ROLE[=PATH]] with ROLE one of ${Object.keys(ROLES).join(", ")}, not ${JSON.stringify(text)}.`,
    );
  return { path, ref, role: parsed };
}

/** The digest of a version's content: SHA-256 of its manifest, path by path (`docs/formats/records.md`). */
function contentDigest(files: readonly LocalFile[]): string {
  const lines = files.map((f) => `${JSON.stringify({ digest: f.digest, path: f.path, size_bytes: f.sizeBytes })}\n`);
  return `sha256:${createHash("sha256").update(lines.join("")).digest("hex")}`;
}

async function planOf(c: Context, connection: Connection, command: readonly string[]): Promise<RunPlan> {
  const purpose = PURPOSES[c.text("purpose") ?? "exploration"];
  if (purpose === undefined)
    throw new UsageError(
      `--purpose must be one of ${Object.keys(PURPOSES).join(", ")}, not ${JSON.stringify(c.text("purpose"))}.`,
    );
  const inputs = [];
  for (const option of c.list("dataset").map(parseInput)) {
    const files = option.path === undefined ? undefined : await hashFiles(c.io, [option.path]);
    inputs.push(
      create(RunInputSchema, {
        record: option.ref,
        requestedAs: option.ref,
        role: option.role,
        ...(files === undefined ? {} : { observedDigest: contentDigest(files) }),
      }),
    );
  }
  const params = c.list("param").map((text): Param => {
    const at = text.indexOf("=");
    if (at < 1) throw new UsageError(`--param takes KEY=VALUE, not ${JSON.stringify(text)}.`);
    return create(ParamSchema, { key: text.slice(0, at), value: text.slice(at + 1) });
  });
  const folder = process.cwd();
  const seen = codeOf(folder);
  let code = "";
  if (seen !== undefined) {
    const recorded = await connection.environment.createCode({ code: seen.code, project: connection.project });
    code = recorded.resource?.record ?? "";
  }
  const ref = refOf(folder);
  const ci = ciOf(c.io.env);
  return create(RunPlanSchema, {
    code,
    environmentLock: c.text("env") ?? "",
    experiment: c.text("experiment") ?? "",
    parent: c.text("parent") ?? "",
    retryOf: c.text("retryOf") ?? "",
    run: create(RunSchema, {
      command: [...command],
      inputs,
      params: params.toSorted((a, b) => (a.key < b.key ? -1 : 1)),
      purpose,
      ...(ref === undefined ? {} : { ref }),
      ...(ci === undefined ? {} : { ci }),
    }),
  });
}

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly wallS: number;
  readonly cpuS: number;
  readonly log: Buffer;
}

/** Runs the child with its output passed on and kept (the last 16 MiB of it). */
function execute(
  io: Io,
  command: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  onBeat: () => void,
): Promise<Ended> {
  const [file = "", ...args] = command;
  const began = performance.now();
  const cpu = process.resourceUsage();
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env: env, stdio: ["inherit", "pipe", "pipe"] });
    const chunks: Buffer[] = [];
    let kept = 0;
    const keep = (write: (text: string) => void) => (chunk: Buffer) => {
      write(chunk.toString("utf8"));
      chunks.push(chunk);
      kept += chunk.length;
      while (kept > LOG_BYTES && chunks.length > 1) kept -= chunks.shift()?.length ?? 0;
    };
    child.stdout.on("data", keep(io.err));
    child.stderr.on("data", keep(io.err));
    const beat = setInterval(onBeat, 30_000);
    const forward = (signal: NodeJS.Signals) => (): void => void child.kill(signal);
    const onInt = forward("SIGINT");
    const onTerm = forward("SIGTERM");
    process.on("SIGINT", onInt);
    process.on("SIGTERM", onTerm);
    const settle = (): void => {
      clearInterval(beat);
      process.off("SIGINT", onInt);
      process.off("SIGTERM", onTerm);
    };
    child.on("error", (error: NodeJS.ErrnoException) => {
      settle();
      reject(
        new Exit(
          error.code === "ENOENT" ? 127 : 126,
          "COMMAND_NOT_RUN",
          `${file}: ${error.code === "ENOENT" ? "command not found" : error.message}`,
        ),
      );
    });
    child.on("close", (code, signal) => {
      settle();
      const after = process.resourceUsage();
      resolve({
        code,
        cpuS: (after.userCPUTime + after.systemCPUTime - cpu.userCPUTime - cpu.systemCPUTime) / 1e6,
        log: Buffer.concat(chunks),
        signal,
        wallS: (performance.now() - began) / 1000,
      });
    });
  });
}

/** Versions by the role in which the run reads them, such as `test`. */
type ByRole = ReadonlyMap<string, string>;

/**
 * Metrics of a JSON file: an object of numbers, or a list of `{key, value, step, on}`, where `on` names the role of the input that the
 * value was measured on, or a record id.
 */
function metricsOf(file: string, inputs: ByRole): Metric[] {
  const value: unknown = JSON.parse(readFileSync(file, "utf8"));
  const rows = Array.isArray(value)
    ? (value as { key?: unknown; value?: unknown; step?: unknown; on?: unknown }[])
    : Object.entries(value as Record<string, unknown>).map(([key, v]) => ({ key, on: undefined, step: 0, value: v }));
  return rows.flatMap((row) => {
    if (typeof row.key !== "string" || typeof row.value !== "number" || !Number.isFinite(row.value)) return [];
    const on = typeof row.on === "string" ? (inputs.get(row.on) ?? row.on) : undefined;
    if (on !== undefined && !on.startsWith("sha256:"))
      throw new UsageError(
        `${file} says that ${row.key} was measured on ${JSON.stringify(on)}, and the run has no input of that role. Roles: ${[...inputs.keys()].join(", ")}.`,
      );
    return [
      create(MetricSchema, {
        key: row.key,
        step: typeof row.step === "number" ? row.step : 0,
        value: row.value,
        ...(on === undefined ? {} : { datasetVersion: on }),
      }),
    ];
  });
}

const ROLE_WORDS = new Map(Object.entries(ROLES).map(([word, role]) => [role, word]));

function inputsByRole(run: Resource | undefined): ByRole {
  const inputs = run?.body.case === "run" ? run.body.value.inputs : [];
  return new Map(inputs.map((i) => [ROLE_WORDS.get(i.role) ?? "", i.record]));
}

/** Receipts as files that any tool of the transparency-log ecosystem reads. */
function leaveReceipt(folder: string, name: string, receipt: Receipt | undefined): string | undefined {
  if (receipt === undefined) return undefined;
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}.tlog-proof`);
  writeFileSync(
    file,
    formatProofFile({
      checkpoint: receipt.checkpoint,
      extra: utf8(receipt.entry),
      hashes: receipt.inclusionProof.map((h) => parseHex(h) ?? new Uint8Array()),
      index: receipt.logIndex,
    }),
  );
  return file;
}

/** An upload fails with what `fetch` throws, a call with its code. */
const isUnreachable = (error: unknown): boolean =>
  error instanceof ConnectError
    ? error.code === Code.Unavailable || error.code === Code.DeadlineExceeded
    : error instanceof TypeError && error.message === "fetch failed";

/** Tries again while the server cannot be reached, until the time for draining is over. */
async function drained<T>(io: Io, drainMs: number, work: () => Promise<T>): Promise<T> {
  const until = performance.now() + drainMs;
  for (let wait = 250; ; wait = Math.min(wait * 2, 5000)) {
    try {
      return await work();
    } catch (error) {
      if (!isUnreachable(error) || performance.now() + wait > until || io.signal.aborted) throw error;
      await new Promise((r) => setTimeout(r, wait));
    }
  }
}

const DRAIN_MS = 15 * 60_000;
const UNITS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000 };

/** `15m`, `30s`, `1h`; a bare number is minutes. */
function drainOf(text: string | undefined): number {
  if (text === undefined) return DRAIN_MS;
  const [, n, unit = "m"] = /^(\d{1,4})([smh])?$/.exec(text) ?? [];
  if (n === undefined)
    throw new UsageError(`--drain takes a time such as 15m, 30s or 1h, not ${JSON.stringify(text)}.`);
  return Number(n) * (UNITS[unit] ?? 0);
}

/** Below the working folder by its path there, elsewhere by its name: a run's files have relative paths. */
function pathInRun(file: string): string {
  const path = relative(process.cwd(), resolve(file)).replaceAll("\\", "/");
  return path.startsWith("..") ? basename(file) : path;
}

async function wrap(c: Context): Promise<void> {
  const { io } = c;
  const command = c.args;
  if (command.length === 0)
    throw new UsageError(
      "There is no command to run. Write it after --, as in: datapilot run --purpose production -- python train.py",
    );
  const connection = c.connect();
  const { project } = connection;
  const drainMs = drainOf(c.text("drain"));
  const folder = c.text("receipts") ?? ".datapilot";
  const requestId = c.text("requestId") ?? `run-${randomBytes(8).toString("hex")}`;
  const plan = await planOf(c, connection, command);
  const observed = observedOf(process.cwd());
  const started = await connection.run.startRun({ host: hostOf(), observed, plan, project, requestId });
  const run = started.run?.record ?? "";
  io.err(`${paint(io, "green", "admitted")} ${started.run === undefined ? run : resourceLine(io, started.run)}`);
  leaveReceipt(folder, "start", started.receipt);
  const reporter = connection.as(started.runToken);
  const env = {
    ...Object.fromEntries(Object.entries(io.env).filter(([k]) => !CREDENTIALS.includes(k))),
    DATAPILOT_PROJECT: project,
    DATAPILOT_RUN: run,
    DATAPILOT_TOKEN: started.runToken,
    DATAPILOT_URL: connection.url,
  };
  let ended: Ended;
  try {
    ended = await execute(io, command, env, () => void reporter.run.heartbeat({ project, run }).catch(() => undefined));
  } catch (error) {
    await reporter.run
      .finishRun({
        finish: create(RunFinishSchema, { reason: (error as Error).message.slice(0, 1000), status: RunStatus.FAILED }),
        project,
        run,
      })
      .catch(() => undefined);
    throw error;
  }
  const outputs = c
    .list("out")
    .flatMap((pattern) => globSync(pattern))
    .filter((f) => statSync(f).isFile())
    .toSorted();
  const metricsFile = c.text("metrics");
  const status = ended.code === 0 ? RunStatus.SUCCEEDED : ended.signal === null ? RunStatus.FAILED : RunStatus.CANCELED;
  const finish = create(RunFinishSchema, {
    batches: 1,
    environmentDrift: driftBetween(observed.lockfiles, lockfilesOf(process.cwd())),
    status,
    usage: { cpuS: ended.cpuS, peakMemoryBytes: 0, wallS: ended.wallS },
    ...(ended.code === null ? {} : { exitCode: ended.code }),
    ...(ended.signal === null ? {} : { signal: ended.signal }),
  });
  mkdirSync(folder, { recursive: true });
  const logFile = join(folder, "output.log");
  writeFileSync(logFile, ended.log);
  const files = [
    ...(await Promise.all(
      outputs.map(async (f): Promise<LocalFile> => ({ ...(await single(io, f)), path: pathInRun(f) })),
    )),
    { ...(await single(io, logFile)), path: "output.log" },
  ];
  const batch = create(RunBatchSchema, {
    events: [
      create(RunEventSchema, {
        level: "info",
        message: `exit ${ended.code ?? ended.signal ?? ""}`,
        time: new Date().toISOString(),
        type: "run.ended",
      }),
    ],
    files: files.map((f) =>
      create(RunFileSchema, {
        assurance: Assurance.OBSERVED,
        digest: f.digest,
        path: f.path,
        role: f.path === "output.log" ? FileRole.LOG : FileRole.OUTPUT,
        sizeBytes: f.sizeBytes,
      }),
    ),
    metrics:
      metricsFile === undefined || !outputsExist(metricsFile) ? [] : metricsOf(metricsFile, inputsByRole(started.run)),
    seq: 0,
  });
  const deliver = async (): Promise<WriteResponse> => {
    await upload(io, reporter, files);
    await reporter.run.batchAppendRunEvents({ batches: [batch], project, requestId: `${requestId}.0`, run });
    return reporter.run.finishRun({ finish, project, requestId: `${requestId}.finish`, run });
  };
  const finished = await drained(io, drainMs, deliver).catch((error: unknown) => {
    const spooled = { batches: [batch], files, finish, project, requestId, run, token: started.runToken };
    const file = spool(c.text("spoolDir") ?? io.env["DATAPILOT_SPOOL_DIR"] ?? join(folder, "spool"), spooled);
    const why = isUnreachable(error) ? "the control plane cannot be reached" : exitOf(error).message;
    throw new Exit(
      EXIT.notRecorded,
      "NOT_RECORDED",
      `The command ended with ${ended.code ?? ended.signal ?? ""}, but it is not recorded: ${why}. What it reported is kept in ${file}; deliver it with: datapilot spool push ${file}`,
    );
  });
  leaveReceipt(folder, "finish", finished.receipt);
  const model = status === RunStatus.SUCCEEDED ? c.text("model") : undefined;
  const made = files.filter((f) => f.path !== "output.log" && f.path !== metricsFile);
  const registered =
    model === undefined
      ? undefined
      : await connection.model.createModelVersion({
          model,
          producedBy: [run],
          project,
          requestId: `${requestId}.model`,
          version: create(ModelVersionSchema, {
            files: made.map((f) =>
              create(ContentFileSchema, { digest: f.digest, path: f.path, sizeBytes: f.sizeBytes }),
            ),
          }),
        });
  leaveReceipt(folder, "model", registered?.receipt);
  const summary = {
    model: registered?.resource?.record ?? null,
    receipts: folder,
    run,
    status: status === RunStatus.SUCCEEDED ? "succeeded" : status === RunStatus.FAILED ? "failed" : "canceled",
  };
  writeFileSync(join(folder, "datapilot-receipt.json"), `${JSON.stringify(summary, null, 2)}\n`);
  c.print(
    summary,
    () =>
      `${finished.resource === undefined ? "" : `finished ${resourceLine(io, finished.resource)}`}${registered?.resource === undefined ? "" : `registered ${resourceLine(io, registered.resource)}`}receipts in ${folder}\n`,
  );
  if (ended.code !== 0) throw new Exit(ended.code ?? 128, "", "");
}

const outputsExist = (file: string): boolean => statSync(file, { throwIfNoEntry: false })?.isFile() === true;

async function single(io: Io, file: string): Promise<LocalFile> {
  const [hashed] = await hashFiles(io, [file]);
  if (hashed === undefined) throw new UsageError(`${file} is not a file.`);
  return hashed;
}

/** Lock files that changed while the command ran. */
function driftBetween(was: readonly Lockfile[], now: readonly Lockfile[]): string[] {
  return now
    .filter((l) => was.find((w) => w.path === l.path)?.digest !== l.digest)
    .map((l) => `lock file ${l.path} changed`);
}

export function addRun(program: Command, io: Io): void {
  const run = program.command("run").description("prove a job").enablePositionalOptions().passThroughOptions();
  declare(run, io, {
    example: "datapilot run plan --purpose production --dataset fraud/transactions@v7:train=data/ -- python train.py",
    options: [...PLAN_OPTIONS, ["--dry-run", "record only the preview of the decision"]],
    passThrough: true,
    run: async (c) => {
      const connection = c.connect();
      const answer = await connection.run.planRun({
        dryRun: c.options["dryRun"] === true,
        plan: await planOf(c, connection, c.args),
        project: connection.project,
      });
      c.show(
        PlanRunResponseSchema,
        answer,
        (m) =>
          `${m.run === undefined ? "" : resourceLine(io, m.run)}${m.decision === undefined ? "" : decisionText(io, m.decision)}`,
      );
      if (answer.decision?.body.case === "decision" && answer.decision.body.value.outcome > 2)
        throw new Exit(EXIT.answerIsNo, "", "");
    },
    summary: "what policies would say to a run",
    words: "plan [command...]",
  });
  declare(run, io, {
    example: "datapilot run show sha256:0123…",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        GetRunResponseSchema,
        await k.run.getRun({ asOf: c.number("asOf") ?? 0, name: c.args[0] ?? "", project: k.project }),
        (m) =>
          `${m.run === undefined ? "" : resourceLine(io, m.run)}${m.decision === undefined ? "" : decisionText(io, m.decision)}${table(
            ["METRIC", "VALUE"],
            (m.summary?.metrics ?? []).map((x) => [x.key, String(x.value)]),
          )}${table(
            ["FILE", "DIGEST"],
            (m.summary?.files ?? []).map((x) => [x.path, x.digest]),
          )}`,
      );
    },
    summary: "one run with what it reported",
    words: "show <run>",
  });
  declare(run, io, {
    example: "datapilot run list",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.run.listRuns, { asOf: c.number("asOf") ?? 0, project: k.project }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "runs of a project",
    words: "list",
  });
  declare(run, io, {
    example: "datapilot run compare sha256:0123… sha256:4567…",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        CompareRunsResponseSchema,
        await k.run.compareRuns({ asOf: c.number("asOf") ?? 0, project: k.project, runs: [...c.args] }),
        (m) =>
          table(
            ["", "WHAT", ...c.args.map((_, i) => `RUN ${i + 1}`)],
            m.values.map((v) => [v.differs ? "≠" : "", v.path, ...v.values]),
          ),
      );
    },
    summary: "what differs between runs",
    words: "compare <run...>",
  });
  declare(run, io, {
    example:
      "datapilot run exec --purpose production --dataset fraud/transactions@v7:train=data/ --env fraud/py312@v3 --out 'model/**' --metrics metrics.json --model scorer -- python train.py",
    options: [
      ...PLAN_OPTIONS,
      ["--out <glob>...", "files that the command makes"],
      ["--metrics <file>", "JSON file with metrics"],
      ["--model <name>", "model to register the outputs as a version of"],
      ["--receipts <folder>", "where to leave receipts (default .datapilot)"],
      ["--drain <minutes>", "how long to try to deliver at the end (default 15m)"],
      ["--spool-dir <folder>", "where to keep what could not be delivered"],
      ["--request-id <id>", "identity of the run's request"],
    ],
    passThrough: true,
    run: wrap,
    summary: "run a command under admission and record it (the word exec may be left out)",
    words: "exec [command...]",
  });
}
