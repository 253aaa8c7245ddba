/**
 * Tampering with copies of a ledger that real commands made: each lie is found by `datapilot verify bucket` with its code. A history
 * that was rewritten with every key of the ledger is found by a kept checkpoint alone. The same for the members of a pack.
 */
import { chmod, cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { memberHeader, padding } from "../../src/evidence/ustar.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { sha256Hex } from "../../src/merkle/hash.ts";
import { canonicalize } from "../../src/record/canonical.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { parseRecordId } from "../../src/std/brand.ts";
import { concat, utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";
import { DEFAULT_LIMITS } from "../../src/verify/limits.ts";
import { type PackReport, verifyPack } from "../../src/verify/pack.ts";
import { forge } from "./forge.ts";
import { type LogCopy, readLog, readPolicy } from "./log-copy.ts";
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

/** More than a tile of entries. */
const BATCHES = 300;
const PROJECT = "evidence";

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let home: string;
let pack: Uint8Array;
let copy: LogCopy;

async function command(args: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
  const { code, stderr, stdout } = await datapilot(args, env);
  if (code !== 0) throw new Error(`datapilot ${args.join(" ")} ended with ${code}: ${stderr}${stdout}`);
}

beforeAll(async () => {
  folder = await temporaryFolder();
  home = join(folder.path, "home");
  const { token: adminToken } = await initHome(home);
  await cp(join(home, "trust/kept-checkpoint"), join(folder.path, "kept-early"));
  const server = await startServer(home);
  const { token } = await enrol(server, adminToken, PROJECT);
  const env = { DATAPILOT_PROJECT: PROJECT, DATAPILOT_TOKEN: token, DATAPILOT_URL: server.url };
  const data = join(folder.path, "rows.csv");
  await writeFile(data, "id,weight\n1,3750\n2,3800\n");
  await command(["dataset", "create", "rows", "--description", "As weighed."], env);
  await command(["dataset", "register", "rows", data, "--rows", "2"], env);
  const started = await startRun(grpcTransport(server, token), PROJECT, "training");
  const reporting = clientOf(RunService, grpcTransport(server, started.token));
  for (let from = 0; from < BATCHES; from += 50)
    await reporting.batchAppendRunEvents({
      batches: Array.from({ length: 50 }, (_, k) => ({
        metrics: [{ key: "loss", step: from + k, value: 1 / (1 + from + k) }],
        seq: from + k,
      })),
      project: PROJECT,
      requestId: `report-${from}`,
      run: started.run,
    });
  const output = join(folder.path, "rows.dpevidence");
  await command(
    [
      "evidence",
      "export",
      "rows@v1",
      "--output",
      output,
      "--purpose",
      "test",
      "--blobs",
      "--personal",
      "--kept",
      join(folder.path, "kept-early"),
    ],
    { ...env, DATAPILOT_TOKEN: adminToken },
  );
  pack = new Uint8Array(await readFile(output));
  expect(await server.stop()).toBe(0);
  await cp(join(home, "head/checkpoint"), join(folder.path, "kept"));
  copy = await readLog(home);
}, 120_000);

afterAll(async () => folder[Symbol.asyncDispose]());

interface BucketAnswer {
  readonly code: number;
  readonly verdict: string;
  readonly codes: readonly string[];
  readonly notes: readonly string[];
}

/** What the command says of a copy; `kept` names the note that the reader has. */
async function verifyBucket(dir: string, kept: "kept" | "kept-early"): Promise<BucketAnswer> {
  const { code, stderr, stdout } = await datapilot([
    "verify",
    "bucket",
    dir,
    "--policy",
    join(home, "trust/policy.txt"),
    "--genesis",
    join(home, "trust/genesis"),
    "--kept",
    join(folder.path, kept),
    "--json",
  ]);
  if (stdout === "") throw new Error(`verify said nothing: ${stderr}`);
  const report = JSON.parse(stdout) as { verdict: string; checks: { failures: { code: string }[] }[]; notes: string[] };
  return {
    code,
    codes: [...new Set(report.checks.flatMap((c) => c.failures.map((f) => f.code)))],
    notes: report.notes,
    verdict: report.verdict,
  };
}

let copies = 0;
async function copied(change: (dir: string) => Promise<void>): Promise<string> {
  const dir = join(folder.path, `copy-${copies++}`);
  for (const bucket of ["ledger", "head"])
    await cp(join(home, bucket), join(dir, bucket), { preserveTimestamps: true, recursive: true });
  await change(dir);
  return dir;
}

/** Digits stay digits, hex stays hex, base64 stays base64. */
function change(bytes: Uint8Array, at: number): void {
  const was = String.fromCharCode(bytes[at] ?? 0);
  bytes[at] = /[A-Za-z+/]/.test(was) ? (was === "b" ? 0x63 : 0x62) : (bytes[at] ?? 0) ^ 1;
}

async function flip(path: string, at: (bytes: Uint8Array) => number = (b) => b.length >> 1): Promise<void> {
  const bytes = new Uint8Array(await readFile(path));
  change(bytes, at(bytes));
  await chmod(path, 0o644);
  await writeFile(path, bytes);
}

async function add(path: string, body: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, body);
}

const indexOfText =
  (text: string, after = 0) =>
  (bytes: Uint8Array) =>
    Buffer.from(bytes).indexOf(text) + after;
const checkpointRoot = indexOfText("\n\n", -5);
const archivedIn = async (dir: string): Promise<string[]> =>
  (await readdir(join(dir, "ledger/checkpoints"))).toSorted().map((name) => join(dir, "ledger/checkpoints", name));
const recordFile = (dir: string, index: number): string => {
  const digest = copy.items[index]?.entry.record.slice(7) ?? "";
  return join(dir, `ledger/records/sha256/${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest}`);
};
/** A commit that holds something. */
const someCommit = (): number => copy.commits.find((c) => c.n > 1 && c.items.length > 0)?.n ?? 1;
const lastCommit = (): number => copy.commits.length - 1;
const commitFile = (dir: string, n: number): string => join(dir, "ledger", commitKey(n));
const STRANGER = `{"not":"named by any entry"}`;

interface Lie {
  readonly name: string;
  readonly code: string;
  readonly exit: number;
  readonly tell: (dir: string) => Promise<void>;
}

const LIES: readonly Lie[] = [
  {
    code: "commit.body",
    exit: 1,
    name: "a byte of a commit's payload",
    tell: (d) => flip(commitFile(d, someCommit()), (b) => b.length - 10),
  },
  {
    code: "commit.signature",
    exit: 1,
    name: "a byte of a commit's time",
    tell: (d) => flip(commitFile(d, someCommit()), indexOfText('"time":"', 30)),
  },
  { code: "record.digest", exit: 1, name: "a byte of a record", tell: (d) => flip(recordFile(d, 20)) },
  { code: "tile.mismatch", exit: 1, name: "a byte of a hash tile", tell: (d) => flip(join(d, "ledger/tile/0/000")) },
  { code: "tile.mismatch", exit: 1, name: "a byte of a bundle", tell: (d) => flip(join(d, "ledger/tile/entries/000")) },
  {
    code: "checkpoint.signature",
    exit: 1,
    name: "a byte of an archived checkpoint",
    tell: async (d) => flip((await archivedIn(d))[0] ?? "", checkpointRoot),
  },
  {
    code: "checkpoint.signature",
    exit: 1,
    name: "a byte of the published checkpoint",
    tell: (d) => flip(join(d, "head/checkpoint"), checkpointRoot),
  },
  { code: "commit.gap", exit: 1, name: "a commit is removed", tell: (d) => rm(commitFile(d, someCommit())) },
  { code: "record.missing", exit: 1, name: "a record is removed", tell: (d) => rm(recordFile(d, 20)) },
  { code: "tile.missing", exit: 1, name: "a hash tile is removed", tell: (d) => rm(join(d, "ledger/tile/0/000")) },
  { code: "tile.missing", exit: 1, name: "a bundle is removed", tell: (d) => rm(join(d, "ledger/tile/entries/000")) },
  {
    code: "commit.header",
    exit: 1,
    name: "a commit that nobody signed is added",
    tell: (d) => add(commitFile(d, lastCommit() + 1), "x"),
  },
  {
    code: "commit.n",
    exit: 1,
    name: "a file among the commits is added",
    tell: (d) => add(join(d, "ledger/commits/0000000000000000/x"), "x"),
  },
  {
    code: "record.key",
    exit: 1,
    name: "a file among the records is added",
    tell: (d) => add(join(d, "ledger/records/sha256/00/00/x"), "x"),
  },
  {
    code: "tile.mismatch",
    exit: 1,
    name: "a file among the tiles is added",
    tell: (d) => add(join(d, "ledger/tile/0/x"), "x"),
  },
  {
    code: "tile.ahead",
    exit: 2,
    name: "a tile beyond the tree is added",
    tell: (d) => add(join(d, "ledger/tile/0/007"), new Uint8Array(8_192)),
  },
  {
    code: "checkpoint.malformed",
    exit: 1,
    name: "a file among the checkpoints is added",
    tell: (d) => add(join(d, "ledger/checkpoints/00000000000000000007-0000000000000000"), "x\n"),
  },
  {
    code: "checkpoint.key",
    exit: 1,
    name: "a checkpoint is added under another size",
    tell: async (d) => {
      const [first = ""] = await archivedIn(d);
      await add(join(dirname(first), "00000000000000000007-0000000000000000"), await readFile(first));
    },
  },
  {
    // The checkpoints say that there was more.
    code: "checkpoint.ahead",
    exit: 2,
    name: "the newest commits are cut off",
    tell: async (d) => {
      for (let n = lastCommit(); n > lastCommit() - 3; n--) await rm(commitFile(d, n));
    },
  },
];

describe("a copy of the buckets", () => {
  it("verifies as it is", async () => {
    expect(await verifyBucket(home, "kept")).toMatchObject({ code: 0, codes: [], verdict: "COMPLETE" });
    expect(await verifyBucket(await copied(async () => undefined), "kept")).toMatchObject({ code: 0, codes: [] });
  });

  it.for(LIES)("$name: $code", async ({ code, exit, tell }) => {
    const found = await verifyBucket(await copied(tell), "kept-early");
    expect(found.codes).toContain(code);
    expect(found.code).toBe(exit);
  });

  it("a record that no entry names: a note", async () => {
    const digest = sha256Hex(utf8(STRANGER));
    const dir = await copied((d) =>
      add(join(d, `ledger/records/sha256/${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest}`), STRANGER),
    );
    const { code, notes } = await verifyBucket(dir, "kept");
    expect(notes.join("\n")).toContain("record.unreferenced");
    expect(code).toBe(0);
  });

  it("an archived checkpoint is removed: a note", async () => {
    const dir = await copied(async (d) => rm((await archivedIn(d))[0] ?? ""));
    expect((await verifyBucket(dir, "kept")).notes.join("\n")).toContain("checkpoint.missing");
  });

  it("a tail that is cut off with all that names it: found by what was kept", async () => {
    const dir = await copied(async (d) => {
      const archived = await archivedIn(d);
      const [early = ""] = archived;
      const size = Number((await readFile(early, "utf8")).split("\n")[1]);
      for (const { header, items, n } of copy.commits) {
        if (header.first + header.count <= size) continue;
        await rm(commitFile(d, n));
        for (const item of items) await rm(recordFile(d, item.index), { force: true });
      }
      await rm(join(d, "ledger/tile"), { recursive: true });
      await rm(join(d, "head"), { recursive: true });
      await add(join(d, "head/checkpoint"), await readFile(early));
      for (const later of archived.slice(1)) await rm(later);
    });
    expect(await verifyBucket(dir, "kept-early")).toMatchObject({ code: 0, verdict: "COMPLETE" });
    const found = await verifyBucket(dir, "kept");
    expect(found.codes).toContain("checkpoint.ahead");
    expect(found.code).toBe(2);
  });

  it("a history that was rewritten and signed with every key: found by what was kept, and by nothing else", async () => {
    const dir = join(folder.path, "forged");
    await forge(home, dir, (record) =>
      record.kind === "dataset" ? { ...record, body: { ...record.body, description: "As we wish." } } : undefined,
    );
    expect(await verifyBucket(dir, "kept-early")).toMatchObject({ code: 0, codes: [], verdict: "COMPLETE" });
    expect(await verifyBucket(dir, "kept")).toMatchObject({
      code: 1,
      codes: ["consistency.mismatch"],
      verdict: "CONTRADICTED",
    });
  });
});

interface Part {
  readonly name: string;
  bytes: Uint8Array;
}

const BLOCK = 512;

function partsOf(archive: Uint8Array): Part[] {
  const parts: Part[] = [];
  for (let at = 0; archive[at] !== 0; ) {
    const text = new TextDecoder().decode(archive.subarray(at, at + BLOCK));
    const name = text.slice(0, text.indexOf("\0"));
    const size = Number.parseInt(text.slice(124, 135), 8);
    parts.push({ bytes: archive.slice(at + BLOCK, at + BLOCK + size), name });
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return parts;
}

const archiveOf = (parts: readonly Part[]): Uint8Array =>
  concat(
    ...parts.flatMap(({ bytes, name }) => [memberHeader(name, bytes.length), bytes, padding(bytes.length)]),
    new Uint8Array(2 * BLOCK),
  );

/** Makes the manifest say what the members are, as a liar would. */
function redigest(parts: readonly Part[]): void {
  const [manifest] = parts;
  if (manifest === undefined) throw new Error("assertion failed: a pack begins with its manifest");
  const value = JSON.parse(new TextDecoder().decode(manifest.bytes)) as JsonObject;
  const files = parts
    .slice(1)
    .map(({ bytes, name }) => ({ name, sha256: sha256Hex(bytes) as string, size: bytes.length }));
  manifest.bytes = utf8(`${canonicalize({ ...value, files })}\n`);
}

async function verifiedPack(archive: Uint8Array): Promise<PackReport> {
  const genesis = parseRecordId((await readFile(join(home, "trust/genesis"), "utf8")).trim());
  async function* source(): AsyncGenerator<Uint8Array> {
    yield archive;
  }
  const trust = {
    kept: [new Uint8Array(await readFile(join(folder.path, "kept-early")))],
    mirrors: new Set<string>(),
    policy: await readPolicy(home),
    requirePq: true,
    verifier: nativeVerifier,
  };
  const options = {
    allowOutside: new Set<string>(),
    complete: [],
    limits: DEFAULT_LIMITS,
    ...(genesis === undefined ? {} : { genesis }),
  };
  return (await verifyPack(source(), trust, options)).report;
}

/** The first stage that failed, with its codes. */
function firstFailure(report: PackReport): { readonly stage: string; readonly codes: readonly string[] } {
  const failed = report.checks.find((c) => c.status === "fail");
  return { codes: [...new Set(failed?.failures.map((f) => f.code))], stage: failed?.id ?? "none" };
}

/** Where a byte is changed so that the member keeps its form, and what the lie is found as once the manifest agrees with it. */
const MEMBERS: readonly { name: string; at: (bytes: Uint8Array) => number; stage: string; code: string }[] = [
  { at: checkpointRoot, code: "checkpoint.signature", name: "checkpoint", stage: "checkpoint" },
  { at: indexOfText('"hashes":["', 11), code: "consistency.mismatch", name: "history.jsonl", stage: "history" },
  { at: indexOfText('"prev":"', 8), code: "inclusion.root", name: "entries.txt", stage: "entries" },
  { at: () => 7, code: "inclusion.root", name: "proof.bin", stage: "entries" },
  { at: indexOfText('"hashes":["', 11), code: "seal.mismatch", name: "heads.jsonl", stage: "chains" },
  { at: indexOfText('"salt":"', 8), code: "record.digest", name: "records.jsonl", stage: "records" },
  { at: indexOfText('"value":"', 9), code: "personal.digest", name: "personal.jsonl", stage: "records" },
  { at: () => 3, code: "artifact.digest", name: "blobs/", stage: "blobs" },
];

describe("an evidence pack", () => {
  const partNamed = (parts: readonly Part[], name: string): Part => {
    const part = parts.find((p) => p.name.startsWith(name));
    if (part === undefined) throw new Error(`assertion failed: the pack has ${name}`);
    return part;
  };
  it("verifies as it is", async () => {
    const report = await verifiedPack(pack);
    expect(report.checks.flatMap((c) => c.failures)).toEqual([]);
    expect(report.verdict).toBe("pass");
    expect(archiveOf(partsOf(pack))).toEqual(pack);
  });

  it.for(MEMBERS)("$name: any byte is found in the container", async ({ at, name }) => {
    const parts = partsOf(pack);
    const part = partNamed(parts, name);
    change(part.bytes, at(part.bytes));
    expect(firstFailure(await verifiedPack(archiveOf(parts)))).toEqual({ codes: ["pack.digest"], stage: "container" });
  });

  it.for(MEMBERS)("$name, with a manifest that agrees: $stage, $code", async ({ at, code, name, stage }) => {
    const parts = partsOf(pack);
    const part = partNamed(parts, name);
    change(part.bytes, at(part.bytes));
    redigest(parts);
    const found = firstFailure(await verifiedPack(archiveOf(parts)));
    expect(found.codes).toContain(code);
    expect(found.stage).toBe(stage);
  });

  it("a byte of the manifest, of a header, of the padding, of the end", async () => {
    const parts = partsOf(pack);
    const manifest = partNamed(parts, "manifest.json");
    change(manifest.bytes, indexOfText('"format":"', 10)(manifest.bytes));
    expect(firstFailure(await verifiedPack(archiveOf(parts)))).toEqual({
      codes: ["pack.manifest"],
      stage: "container",
    });
    for (const at of [150, 512 + (partsOf(pack)[0]?.bytes.length ?? 0), pack.length - 1]) {
      const changed = pack.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(firstFailure(await verifiedPack(changed)), String(at)).toEqual({
        codes: ["pack.malformed"],
        stage: "container",
      });
    }
  });
});
