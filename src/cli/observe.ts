/** What can be seen where a job runs: repository, lock files, runtimes, CI coordinates, host. Facts only; nothing is guessed. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { arch, cpus, platform, release } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import {
  type CiJob,
  CiJobSchema,
  type Code,
  CodeSchema,
  type EnvironmentLock,
  EnvironmentLockSchema,
  type GitRef,
  GitRefSchema,
  type Host,
  HostSchema,
  type Lockfile,
  LockfileSchema,
  type ObservedEnvironment,
  ObservedEnvironmentSchema,
  RuntimeSchema,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";

const LOCKFILES = [
  "Cargo.lock",
  "conda-lock.yml",
  "environment.yml",
  "go.sum",
  "package-lock.json",
  "pnpm-lock.yaml",
  "poetry.lock",
  "requirements.txt",
  "uv.lock",
  "yarn.lock",
];

const sha256 = (bytes: Uint8Array | string): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

function git(folder: string, ...args: readonly string[]): string | undefined {
  try {
    return execFileSync("git", ["-C", folder, ...args], {
      encoding: "utf8",
      maxBuffer: 256 << 20,
      stdio: ["ignore", "pipe", "ignore"],
    });
  } catch {
    return undefined;
  }
}

/** An address without the credentials that people put into it. */
export function withoutCredentials(address: string): string {
  return address.replace(/^([a-z+]+:\/\/)[^/@]*@/, "$1");
}

/** The state of the repository around a folder; undefined outside of one. */
export function codeOf(folder: string): { code: Code; diff: string } | undefined {
  const commit = git(folder, "rev-parse", "HEAD")?.trim();
  if (commit === undefined || !/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(commit)) return undefined;
  const status = git(folder, "status", "--porcelain=v1", "--untracked-files=all") ?? "";
  const dirty = status.trim() !== "";
  const diff = dirty ? `${status}\n${git(folder, "diff", "--binary", "HEAD") ?? ""}` : "";
  const top = git(folder, "rev-parse", "--show-toplevel")?.trim() ?? folder;
  const remote = git(folder, "remote", "get-url", "origin")?.trim();
  const tree = git(folder, "rev-parse", "HEAD^{tree}")?.trim();
  return {
    code: create(CodeSchema, {
      commit,
      dirty,
      repository: remote === undefined ? `file:${top.split("/").at(-1) ?? "repository"}` : withoutCredentials(remote),
      ...(tree === undefined ? {} : { tree }),
      ...(dirty ? { diffDigest: sha256(diff) } : {}),
    }),
    diff,
  };
}

/** `protected` is what only a forge can say; here it stays false. */
export function refOf(folder: string): GitRef | undefined {
  const name = git(folder, "symbolic-ref", "--short", "HEAD")?.trim();
  return name === undefined || name === "" ? undefined : create(GitRefSchema, { kind: "branch", name });
}

export function lockfilesOf(folder: string): Lockfile[] {
  return LOCKFILES.filter((path) => existsSync(join(folder, path))).map((path) =>
    create(LockfileSchema, { digest: sha256(readFileSync(join(folder, path))), path }),
  );
}

const runtimes = () => [create(RuntimeSchema, { name: "node", version: process.versions.node })];

export const lockOf = (folder: string): EnvironmentLock =>
  create(EnvironmentLockSchema, { lockfiles: lockfilesOf(folder), runtimes: runtimes() });
export const observedOf = (folder: string): ObservedEnvironment =>
  create(ObservedEnvironmentSchema, { lockfiles: lockfilesOf(folder), runtimes: runtimes() });
export const hostOf = (): Host =>
  create(HostSchema, { arch: arch(), cpus: cpus().length, os: `${platform()} ${release()}` });

type Env = Readonly<Record<string, string | undefined>>;

/** Coordinates of the CI job that this process is part of; undefined outside of the systems that are known. */
export function ciOf(env: Env): CiJob | undefined {
  const job = (
    provider: string,
    pipeline: string | undefined,
    id: string | undefined,
    url: string | undefined,
    attempt?: string,
  ): CiJob =>
    create(CiJobSchema, {
      provider,
      ...(pipeline === undefined ? {} : { pipelineId: pipeline }),
      ...(id === undefined ? {} : { jobId: id }),
      ...(url === undefined ? {} : { url }),
      ...(attempt === undefined || !/^\d+$/.test(attempt) ? {} : { attempt: Number(attempt) }),
    });
  if (env["GITLAB_CI"] !== undefined) return job("gitlab", env["CI_PIPELINE_ID"], env["CI_JOB_ID"], env["CI_JOB_URL"]);
  if (env["GITHUB_ACTIONS"] !== undefined)
    return job(
      "github",
      env["GITHUB_RUN_ID"],
      env["GITHUB_JOB"],
      `${env["GITHUB_SERVER_URL"] ?? ""}/${env["GITHUB_REPOSITORY"] ?? ""}/actions/runs/${env["GITHUB_RUN_ID"] ?? ""}`,
      env["GITHUB_RUN_ATTEMPT"],
    );
  if (env["JENKINS_URL"] !== undefined) return job("jenkins", env["JOB_NAME"], env["BUILD_NUMBER"], env["BUILD_URL"]);
  return undefined;
}
