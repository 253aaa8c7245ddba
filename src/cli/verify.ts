/** `datapilot verify`: checks of evidence and of buckets, without any server. */
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import type { JsonValue } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { parseCheckpoint } from "../note/checkpoint.ts";
import { parseNote } from "../note/note.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { parseTrustPolicy } from "../note/trust-policy.ts";
import { type Digest, digestOf, parseEitherId, type RecordId } from "../std/brand.ts";
import { Violation } from "../std/violation.ts";
import { formatResumed, parseResumed } from "../verify/bucket/resume.ts";
import { type BucketOptions, type BucketReader, type BucketReport, verifyBucket } from "../verify/bucket.ts";
import type { Trust } from "../verify/checkpoint.ts";
import { DEFAULT_LIMITS, type Limits } from "../verify/limits.ts";
import { type PackReport, verifyPack } from "../verify/pack.ts";
import { type ProofReport, verifyProof } from "../verify/proof.ts";
import { type Check, exitCodeOf } from "../verify/report.ts";
import { type Context, declare, UsageError } from "./command.ts";
import { EXIT, Exit, type Io, paint, printable, progress } from "./io.ts";
import { identityOf, splittingOf } from "./transfer.ts";

export interface VerifyPorts {
  /** Native signatures with the strict rules. */
  readonly verifier: SignatureVerifier;
  /** Opens buckets for reading: a folder that holds them, or the address of those on S3. */
  openBucket(place: string): Promise<BucketReader & AsyncDisposable>;
  now(): number;
}

export const GENESIS: readonly [string, string] = [
  "--genesis <id>",
  "id of the genesis record, or a file that holds it",
];
export const POLICY: readonly [string, string] = [
  "--policy <file>",
  "C2SP policy file that says which log and witnesses to trust; never taken from what is verified",
];
const TRUST: readonly (readonly [string, string])[] = [
  POLICY,
  ["--kept <note>...", "a checkpoint that you kept"],
  ["--max-age <seconds>", "how old the quorum's time may be"],
  ["--require-pq", "demand the ML-DSA-44 signature of the log"],
  ["--mirror <name>...", "cosigner that counts for the quorum, not for time"],
];

export function trustOf(c: Context, ports: Pick<VerifyPorts, "now" | "verifier">): Trust {
  const file = c.text("policy");
  if (file === undefined)
    throw new UsageError("--policy FILE is needed: what to trust comes from you, not from what is verified.");
  try {
    const policy = parseTrustPolicy(readFileSync(file, "utf8"));
    const maxAgeS = c.number("maxAge");
    const trust: Trust = {
      kept: c.list("kept").map((f) => readFileSync(f)),
      mirrors: new Set(c.list("mirror")),
      nowS: Math.floor(ports.now() / 1000),
      policy,
      requirePq: c.options["requirePq"] === true,
      verifier: ports.verifier,
      ...(maxAgeS === undefined ? {} : { maxAgeS }),
    };
    for (const note of trust.kept) parseCheckpoint(parseNote(note).text);
    return trust;
  } catch (error) {
    throw usageOf(error);
  }
}

/** A flaw of what was given, not of what is verified. Verifiers throw a Violation for nothing else. */
const usageOf = (error: unknown): unknown =>
  error instanceof Violation ? new UsageError(`${error.code}: ${error.message}`) : error;

/** Runs a verifier. */
export async function asked<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw usageOf(error);
  }
}

export function genesisOf(c: Context): RecordId | undefined {
  const text = c.text("genesis");
  if (text === undefined) return undefined;
  const id = parseEitherId(text) ?? parseEitherId(readFileSync(text, "utf8").trim());
  if (id === undefined) throw new UsageError("--genesis takes a record id, or a file that holds one.");
  return id;
}

function limitsOf(c: Context): Limits {
  const limits: Record<keyof Limits, number> = { ...DEFAULT_LIMITS };
  for (const text of c.list("limit")) {
    const [name = "", value = ""] = text.split("=");
    if (!(name in limits) || !/^\d+$/.test(value))
      throw new UsageError(
        `--limit takes NAME=VALUE with NAME one of ${Object.keys(limits).join(", ")}, not ${JSON.stringify(text)}.`,
      );
    limits[name as keyof Limits] = Number(value);
  }
  return limits;
}

function checksText(io: Io, checks: readonly Check[]): string {
  return checks
    .map((check) => {
      const mark =
        check.status === "pass"
          ? paint(io, "green", "pass   ")
          : check.status === "fail"
            ? paint(io, "red", "FAIL   ")
            : paint(io, "yellow", "skipped");
      const failures = check.failures
        .map((f) => `           ${paint(io, "red", f.code)} ${printable(f.at)}: ${printable(f.detail)}\n`)
        .join("");
      return `  ${mark}  ${check.id}\n${failures}${check.skipped.map((s) => `           ${printable(s)}\n`).join("")}`;
    })
    .join("");
}

function reportText(io: Io, report: PackReport | ProofReport): string {
  const { checkpoint, verdict } = report;
  const about =
    checkpoint === null
      ? ""
      : `tree of size ${checkpoint.size} of ${printable(checkpoint.origin)}, root ${checkpoint.root.slice(0, 16)}…, quorum ${checkpoint.quorum ? "met" : "not met, or not asked for"}\n`;
  const word =
    verdict === "pass"
      ? paint(io, "green", "PASS")
      : verdict === "fail"
        ? paint(io, "inverse", paint(io, "red", " FAIL "))
        : paint(io, "yellow", "INCOMPLETE");
  return `${about}${checksText(io, report.checks)}${report.notes.map((n) => `  note: ${printable(n)}\n`).join("")}verdict: ${word}\n`;
}

const statesText = (what: string, states: Readonly<Record<string, number>> | null): string =>
  states === null
    ? ""
    : `${what}: ${Object.entries(states)
        .filter(([name, count]) => count > 0 || name === "verified")
        .map(([name, count]) => `${count} ${name.replaceAll("_", " ")}`)
        .join(", ")}\n`;

function bucketText(io: Io, report: BucketReport): string {
  const word =
    report.verdict === "COMPLETE"
      ? paint(io, "green", "COMPLETE")
      : paint(io, "inverse", paint(io, "red", ` ${report.verdict} `));
  return [
    `${report.commits} commits, ${report.entries} entries; claimed size ${report.claimed}, verified size ${report.verified}\n`,
    statesText("record objects", report.records && { ...report.records }),
    statesText("artifacts", report.artifacts && { ...report.artifacts }),
    checksText(io, report.checks),
    ...report.notes.map((n) => `  note: ${printable(n)}\n`),
    `verdict: ${word}\n`,
  ].join("");
}

/** Whole, and nothing to say against how it lies in the store; behind; or else no. */
function bucketExit({ checks, verdict }: BucketReport): number {
  if (verdict === "BEHIND") return EXIT.incomplete;
  return verdict === "COMPLETE" && checks.every((c) => c.status !== "fail") ? EXIT.done : EXIT.answerIsNo;
}

/** A file that says how far a verification came; gone when it ends. */
function resumeIn(file: string): NonNullable<BucketOptions["resume"]> {
  return {
    from: existsSync(file) ? parseResumed(readFileSync(file, "utf8")) : undefined,
    async save(resumed) {
      await writeFile(`${file}.partial`, formatResumed(resumed));
      await rename(`${file}.partial`, file);
    },
  };
}

const ended = (code: number): void => {
  if (code !== 0) throw new Exit(code, "", "");
};

export function addVerify(program: Command, io: Io, ports: VerifyPorts): void {
  const verify = program.command("verify").description("check evidence or a copy of the buckets; needs no server");
  declare(verify, io, {
    example:
      "datapilot verify pack scorer.dpevidence --policy trust/policy.txt --kept trust/kept-checkpoint --genesis trust/genesis",
    options: [
      ...TRUST,
      GENESIS,
      ["--complete <project>...", "id of a project of which every entry must be here"],
      ["--allow-outside <why>...", "accept records left out for this reason: depth, not-granted"],
      ["--not-after-size <size>", "distrust checkpoints above this size"],
      ["--limit <name=value>...", "raise a limit for a sender you trust"],
    ],
    remote: false,
    run: async (c) => {
      const shown = progress(io, "bytes read");
      let bytes = 0;
      const genesis = genesisOf(c);
      const notAfterSize = c.number("notAfterSize");
      const complete = c.list("complete").map((p): Digest => {
        const id = parseEitherId(p);
        if (id === undefined)
          throw new UsageError(`--complete takes the id of a project's creation record, not ${JSON.stringify(p)}.`);
        return digestOf(id);
      });
      const trust = trustOf(c, ports);
      const limits = limitsOf(c);
      const { report } = await asked(() =>
        verifyPack(createReadStream(c.args[0] ?? ""), trust, {
          allowOutside: new Set(c.list("allowOutside")),
          complete,
          limits,
          progress: (_, n) => shown.at((bytes += n)),
          ...(genesis === undefined ? {} : { genesis }),
          ...(notAfterSize === undefined ? {} : { notAfterSize }),
        }),
      );
      shown.end();
      c.print(report as unknown as JsonValue, () => reportText(io, report));
      ended(exitCodeOf(report.verdict));
    },
    summary: "check an evidence pack",
    words: "pack <file>",
  });
  const proofRun = async (c: Context): Promise<void> => {
    const recordFile = c.text("record");
    const report = await asked(() =>
      verifyProof(
        readFileSync(c.args[0] ?? ""),
        recordFile === undefined ? undefined : readFileSync(recordFile),
        trustOf(c, ports),
        limitsOf(c),
      ),
    );
    c.print(
      report as unknown as JsonValue,
      () => `${report.record === null ? "" : `${report.record} is entry ${report.index}\n`}${reportText(io, report)}`,
    );
    ended(exitCodeOf(report.verdict));
  };
  declare(verify, io, {
    example: "datapilot verify receipt run.tlog-proof --policy trust/policy.txt",
    options: [...TRUST, ["--record <file>", "the record's exact bytes"], ["--limit <name=value>...", "raise a limit"]],
    remote: false,
    run: proofRun,
    summary: "check a receipt (.tlog-proof)",
    words: "receipt <file>",
  });
  declare(verify, io, {
    example:
      "datapilot verify record version.json --proof version.tlog-proof --file model.json --policy trust/policy.txt",
    options: [
      ...TRUST,
      ["--proof <file>", "its receipt (.tlog-proof)"],
      ["--file <file>", "a file that the record must name: the bytes of an artifact, or of a version"],
      ["--limit <name=value>...", "raise a limit"],
    ],
    remote: false,
    run: async (c) => {
      const proof = c.text("proof");
      if (proof === undefined) throw new UsageError("--proof FILE is needed: the receipt of the record.");
      const file = c.text("file");
      const content = file === undefined ? undefined : (await identityOf(file, splittingOf(io))).digest;
      const report = await asked(() =>
        verifyProof(readFileSync(proof), readFileSync(c.args[0] ?? ""), trustOf(c, ports), limitsOf(c), content),
      );
      c.print(report as unknown as JsonValue, () => reportText(io, report));
      ended(exitCodeOf(report.verdict));
    },
    summary: "check a record's bytes against its receipt, and a file against the record",
    words: "record <file>",
  });
  declare(verify, io, {
    example: "datapilot verify bucket /srv/copy --policy trust/policy.txt --kept trust/kept-checkpoint",
    options: [
      ...TRUST,
      GENESIS,
      ["--no-records", "check records as the commits hold them, without the record objects"],
      ["--log-only", "check the log alone: of records only the digests that it names, not what they say"],
      ["--state", "fold all records again, and compare the state with the seals; needs memory for all of them"],
      ["--artifacts", "read and hash the bytes of artifacts too"],
      ["--resume <file>", "keep there how far it came, and go on from there when it was stopped"],
      ["--concurrency <n>", "objects read at once (default 32)"],
    ],
    remote: false,
    run: async (c) => {
      const shown = progress(io, "verified");
      const genesis = genesisOf(c);
      const state = c.options["state"] === true;
      const logOnly = c.options["logOnly"] === true;
      if (state && logOnly)
        throw new UsageError("--state folds what records say, and --log-only does not read it: give one of them.");
      const trust = trustOf(c, ports);
      const file = c.text("resume");
      const resume = file === undefined ? undefined : await asked(() => resumeIn(file));
      await using bucket = await ports.openBucket(c.args[0] ?? "");
      const report = await asked(() =>
        verifyBucket(bucket, trust, {
          artifacts: c.options["artifacts"] === true,
          concurrency: c.number("concurrency") ?? 32,
          nowMs: ports.now(),
          progress: (done, of) => shown.at(done, of),
          records: logOnly ? "digests" : c.options["records"] === false ? "commits" : "objects",
          signal: io.signal,
          state,
          ...(resume === undefined ? {} : { resume }),
          ...(genesis === undefined ? {} : { genesis }),
        }),
      );
      shown.end();
      if (file !== undefined) await rm(file, { force: true });
      c.print(report as unknown as JsonValue, () => bucketText(io, report));
      ended(bucketExit(report));
    },
    summary: "check the buckets, or a copy of them: commits, records, tiles, checkpoints, seals, locks",
    words: "bucket <place>",
  });
}
