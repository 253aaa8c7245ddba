/**
 * `datapilot demo`: the main job, end to end. A server process on the embedded store, and the command line talking gRPC to it: real
 * data, real training, policies that refuse, a second person who signs, evidence, and three ways to tamper that are found.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Context, type Spec, UsageError } from "../command.ts";
import { EXIT, Exit, paint } from "../io.ts";
import { CLEAN, fitPolicy, measure, QUALITY_POLICY, SCHEMA, TRAIN } from "./programs.ts";
import { type Person, Stage, textAt } from "./stage.ts";
import { flipByte, hideRecord, rewriteHistory } from "./tamper.ts";

const PROJECT = "zoo";
const inProject = ["--project", PROJECT];

export const createDemoSpec = (program: readonly string[]): Spec => ({
  example: "datapilot demo --dir /tmp/provable",
  options: [["--dir <folder>", "new or empty folder for the ledger's home (default: a fresh temporary one)"]],
  remote: false,
  run: (c) => demo(c, program),
  summary: "run the main job end to end on this machine, and leave the ledger to look at",
  words: "demo",
});

function folderOf(c: Context): string {
  const dir = c.text("dir");
  if (dir === undefined) return mkdtempSync(join(tmpdir(), "datapilot-demo-"));
  mkdirSync(dir, { recursive: true });
  if (readdirSync(dir).length > 0)
    throw new UsageError(`${dir} is not empty. Give a new folder; the demonstration makes a ledger in it.`);
  return dir;
}

/** A repository with the job, committed, so that its state can be named. */
function makeRepository(folder: string, raw: string): void {
  mkdirSync(join(folder, "raw"), { recursive: true });
  writeFileSync(join(folder, "clean.mjs"), CLEAN);
  writeFileSync(join(folder, "train.mjs"), TRAIN);
  writeFileSync(join(folder, "requirements.txt"), "ml-random-forest==2.1.0\n");
  writeFileSync(join(folder, ".gitignore"), "raw/\nclean/\ntest/\nmodel/\nmetrics.json\n.datapilot/\n");
  cpSync(raw, join(folder, "raw", "penguins.json"));
  const git = (...args: readonly string[]): void =>
    void execFileSync(
      "git",
      [
        "-c",
        "user.name=Dana",
        "-c",
        "user.email=dana@example.org",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "commit.gpgsign=false",
        ...args,
      ],
      { cwd: folder, stdio: "ignore" },
    );
  git("init");
  git("add", ".");
  git("commit", "-m", "Clean penguins, train a forest");
}

/** The data lies beside the package's code, which its exports do not name. */
const penguinsOf = (module: string): string =>
  join(module.slice(0, module.lastIndexOf("vega-datasets")), "vega-datasets", "data", "penguins.json");

const rowsOf = (file: string): Readonly<Record<string, unknown>>[] => {
  const text = readFileSync(file, "utf8");
  return text.startsWith("[")
    ? (JSON.parse(text) as Readonly<Record<string, unknown>>[])
    : text
        .trimEnd()
        .split("\n")
        .map((l) => JSON.parse(l) as Readonly<Record<string, unknown>>);
};

async function demo(c: Context, program: readonly string[]): Promise<void> {
  const { io } = c;
  const began = performance.now();
  const dir = folderOf(c);
  const main = program[1] ?? "";
  const require = createRequire(main);
  const work = mkdtempSync(join(tmpdir(), "datapilot-demo-work-"));
  const stage = new Stage(io, program, { DATAPILOT_DEMO_MODULES: main, DATAPILOT_PROJECT: PROJECT });
  const onAbort = (): void => stage.kill();
  io.signal.addEventListener("abort", onAbort, { once: true });
  io.out(`${paint(io, "bold", "Animus DataPilot: a provable model, and three lies that are found")}\nledger: ${dir}\n`);
  try {
    const repository = join(work, "penguins");
    makeRepository(repository, penguinsOf(require.resolve("vega-datasets")));
    await tell(stage, dir, repository, work);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    io.out(
      `\n${stage.summary()}\n${paint(io, "bold", `Done in ${seconds} s.`)} What is left:\n  ${dir}/ledger  head  personal   the three buckets\n  ${dir}/trust                    what outsiders are given\n  ${dir}/demo.dpevidence          the evidence pack\n\nLook further:\n  datapilot verify pack ${dir}/demo.dpevidence --policy ${dir}/trust/policy.txt --genesis ${dir}/trust/genesis --kept ${dir}/trust/kept-checkpoint\n  datapilot verify bucket ${dir} --policy ${dir}/trust/policy.txt --genesis ${dir}/trust/genesis --kept ${dir}/trust/kept-checkpoint\n  datapilot verify receipt ${dir}/demo.dpevidence.tlog-proof --policy ${dir}/trust/policy.txt\n  datapilot server --dir ${dir}\n`,
    );
  } finally {
    stage.kill();
    io.signal.removeEventListener("abort", onAbort);
    rmSync(work, { force: true, recursive: true });
  }
}

async function tell(stage: Stage, dir: string, repository: string, work: string): Promise<void> {
  const file = (name: string, value: unknown): string => {
    const path = join(work, name);
    writeFileSync(path, JSON.stringify(value));
    return path;
  };
  stage.act("1  A ledger, and people");
  const made = await stage.run([
    "init",
    "--dir",
    dir,
    "--origin",
    "demo.datapilot.local",
    "--approver",
    "vera=Vera Lindqvist",
  ]);
  if (made.code !== 0) throw new Exit(EXIT.internal, "DEMO_FAILED", made.text);
  const admin: Person = { name: "admin", token: textAt(made.document, "token") };
  const vera: Person = { name: "vera", token: textAt(made.document, "tokens", "vera") };
  stage.say(
    `${textAt(made.document, "origin")}, genesis ${textAt(made.document, "genesis").slice(0, 19)}…; the baseline policies are in force`,
  );
  await stage.startServer(dir);
  await stage.step({
    args: ["project", "create", PROJECT, "--description", "Telling penguins apart"],
    title: "A project",
    who: admin,
  });
  await stage.step({
    args: ["access", "principal", "create", "dana", "--type", "human", "--display-name", "Dana Okafor"],
    title: "Dana, an engineer",
    who: admin,
  });
  const dana: Person = {
    name: "dana",
    token: textAt(
      await stage.step({ args: ["token", "create", "dana"], title: "A token for Dana", who: admin }),
      "secret",
    ),
  };
  await stage.step({
    args: ["access", "bind", "contributor", "--principal", "dana", ...inProject],
    title: "Dana contributes",
    who: admin,
  });
  for (const role of ["steward", "policy-author"])
    await stage.approved(
      {
        args: ["access", "bind", role, "--principal", "dana", ...inProject],
        title: `Dana as ${role}: a privileged role needs a second person`,
        who: admin,
      },
      vera,
      "Dana was trained for this.",
    );

  stage.act("2  Data, and a gate that it must pass");
  await stage.step({ args: ["schema", "import", file("schema.json", SCHEMA)], title: "The schema", who: dana });
  await stage.step({
    args: ["dataset", "create", "penguins", "--classification", "public", "--license", "CC0-1.0"],
    title: "The dataset",
    who: dana,
  });
  await stage.step({
    args: ["dataset", "register", "penguins", join(repository, "raw"), "--schema", "penguins", "--rows", "344"],
    title: "Version 1: as it was collected, 344 rows",
    who: dana,
  });
  await stage.step({
    args: ["policy", "create", file("quality.json", QUALITY_POLICY)],
    title: "Rules: nothing missing, sex is MALE or FEMALE",
    who: dana,
  });
  await stage.approved(
    {
      args: ["policy", "activate", "penguins-quality", "--reason", "Agreed with the keepers", ...inProject],
      title: "The rules come into force",
      who: dana,
    },
    vera,
    "The rules match the field guide.",
  );
  await stage.step({
    args: [
      "quality",
      "report",
      "penguins@v1",
      file("report1.json", measure(rowsOf(join(repository, "raw", "penguins.json")))),
    ],
    title: "Measurements of version 1",
    who: dana,
  });
  await gate(stage, dana, "penguins@v1", "fail");
  const cleaned = await stage.step({
    args: [
      "run",
      "--dataset",
      `penguins@v1:train=${join(repository, "raw")}`,
      "--out",
      "clean/*",
      "--out",
      "test/*",
      "--receipts",
      ".datapilot/clean",
      "--",
      "node",
      "clean.mjs",
    ],
    cwd: repository,
    title: "A cleaning run, wrapped",
    who: dana,
  });
  const run = textAt(cleaned, "run");
  await stage.step({
    args: [
      "dataset",
      "register",
      "penguins",
      join(repository, "clean"),
      "--schema",
      "penguins",
      "--rows",
      "333",
      "--derived-from",
      "penguins@v1",
      "--produced-by",
      run,
    ],
    title: "Version 2: the 333 complete rows",
    who: dana,
  });
  await stage.step({
    args: ["dataset", "create", "penguins-test", "--classification", "public"],
    title: "A dataset for tests",
    who: dana,
  });
  await stage.step({
    args: [
      "dataset",
      "register",
      "penguins-test",
      join(repository, "test"),
      "--schema",
      "penguins",
      "--rows",
      "87",
      "--derived-from",
      "penguins@v1",
      "--produced-by",
      run,
    ],
    title: "Its version 1: 87 rows held back",
    who: dana,
  });
  for (const [ref, path] of [
    ["penguins@v2", "clean/penguins.jsonl"],
    ["penguins-test@v1", "test/penguins-test.jsonl"],
  ] as const) {
    await stage.step({
      args: ["quality", "report", ref, file("report2.json", measure(rowsOf(join(repository, path))))],
      title: `Measurements of ${ref}`,
      who: dana,
    });
    await gate(stage, dana, ref, "pass");
  }
  const asked = await stage.step({
    args: ["dataset", "approve", "penguins@v2", "--reason", "Complete, and checked by hand", ...inProject],
    expect: EXIT.pending,
    title: "Dana asks to approve version 2",
    who: dana,
  });
  const request = textAt(asked, "metadata", "approval_request");
  await stage.sign(request, dana, "I made it, so it is good.", inProject, EXIT.notAllowed);
  await stage.sign(request, vera, "Compared twenty rows with the field notes.", inProject);
  await stage.approved(
    {
      args: ["dataset", "approve", "penguins-test@v1", "--reason", "Drawn by hash", ...inProject],
      title: "The test rows too",
      who: dana,
    },
    vera,
    "The split is by hash, so nobody chose.",
  );

  stage.act("3  An environment, and what a model must reach");
  await stage.step({ args: ["env", "create", "forest"], title: "The environment", who: dana });
  await stage.step({ args: ["env", "lock", "forest"], cwd: repository, title: "Pinned as it is seen here", who: dana });
  await stage.approved(
    {
      args: ["env", "approve", "forest@v1", "--reason", "Scanned", ...inProject],
      title: "The lock is approved",
      who: dana,
    },
    vera,
    "The scan was clean.",
  );
  await stage.step({
    args: ["policy", "create", file("fit1.json", fitPolicy(0.9))],
    title: "Policy fit v1: accuracy 0.95, each recall 0.90",
    who: dana,
  });
  await stage.approved(
    {
      args: ["policy", "activate", "fit@v1", "--reason", "Agreed with the keepers", ...inProject],
      title: "It comes into force",
      who: dana,
    },
    vera,
    "Thresholds as agreed.",
  );

  stage.act("4  Training for production");
  const train = (dataset: string, receipts: string): string[] => [
    "run",
    "--purpose",
    "production",
    "--dataset",
    dataset,
    "--dataset",
    `penguins-test@v1:test=${join(repository, "test")}`,
    "--env",
    "forest@v1",
    "--param",
    "trees=25",
    "--param",
    "seed=3",
    "--out",
    "model/*",
    "--metrics",
    "metrics.json",
    "--model",
    "scorer",
    "--receipts",
    `.datapilot/${receipts}`,
    "--",
    "node",
    "train.mjs",
  ];
  await stage.step({
    args: [
      "model",
      "create",
      "scorer",
      "--tier",
      "medium",
      "--intended-use",
      "Telling three species of penguins apart",
    ],
    title: "The model's name",
    who: dana,
  });
  await stage.step({
    args: train(`penguins@v1:train=${join(repository, "raw")}`, "v1"),
    cwd: repository,
    expect: EXIT.refused,
    title: "On version 1, which failed its gate",
    who: dana,
  });
  writeFileSync(join(repository, "train.mjs"), `${TRAIN}// a change that nobody committed\n`);
  const v2 = `penguins@v2:train=${join(repository, "clean")}`;
  await stage.step({
    args: train(v2, "dirty"),
    cwd: repository,
    expect: EXIT.refused,
    title: "On version 2, from a dirty work tree",
    who: dana,
  });
  writeFileSync(join(repository, "train.mjs"), TRAIN);
  const trained = await stage.step({
    args: train(v2, "v2"),
    cwd: repository,
    title: "On version 2, clean: admitted, trained, registered",
    who: dana,
  });
  stage.say(readFileSync(join(repository, ".datapilot", "v2", "output.log"), "utf8").trim());

  stage.act("5  Release by two persons");
  await stage.approved(
    {
      args: ["model", "promote", "scorer@v1", "--to", "validated", "--reason", "Meets fit v1", ...inProject],
      title: "Dana asks for validation",
      who: dana,
    },
    vera,
    "Repeated the evaluation; same figures.",
  );
  await stage.approved(
    {
      args: ["model", "promote", "scorer@v1", "--to", "approved", "--reason", "Validated", ...inProject],
      title: "Dana asks for approval",
      who: dana,
    },
    vera,
    "The risk is small and understood.",
  );
  await stage.step({
    args: ["model", "alias", "production", "scorer@v1"],
    title: "production points at scorer v1",
    who: dana,
  });
  const kept = await stage.run(["log", "checkpoint"], { json: false, token: dana.token });
  writeFileSync(join(dir, "trust", "kept-checkpoint"), kept.text);
  stage.say("The outsider keeps a checkpoint; the pack will have to agree with it.");
  await stage.step({
    args: [
      "evidence",
      "export",
      "scorer@production",
      "--output",
      join(dir, "demo.dpevidence"),
      "--purpose",
      "Demonstration",
      "--complete",
      PROJECT,
      "--kept",
      join(dir, "trust", "kept-checkpoint"),
    ],
    title: "Evidence for an outsider",
    who: admin,
  });

  stage.act("6  What if?");
  await stage.step({
    args: ["policy", "create", file("fit2.json", fitPolicy(0.95))],
    title: "Policy fit v2: each recall 0.95",
    who: dana,
  });
  const flips = await stage.run(["policy", "backtest", "fit@v2", "--against", "fit@v1", ...inProject], {
    token: dana.token,
  });
  const rows = Array.isArray(flips.document) ? (flips.document as readonly Readonly<Record<string, unknown>>[]) : [];
  const admitted = rows.filter((r) => r["was"] === "OUTCOME_ALLOW" && r["would_be"] === "OUTCOME_DENY");
  const built = admitted.flatMap((r) => (r["built_since"] ?? []) as readonly unknown[]).map((b) => textAt(b, "name"));
  stage.note(
    "Back-test: which releases would fit v2 have refused?",
    `${admitted.length} flip: Chinstrap recall 0.944 is below 0.95 (${[...new Set(built)].join(", ")})`,
    admitted.length !== 1,
  );
  if (admitted.length !== 1) throw new Exit(EXIT.internal, "DEMO_FAILED", flips.text);
  await stage.step({
    args: [
      "dataset",
      "revoke",
      "penguins@v2",
      "--reason",
      "A keeper reports mislabelled birds",
      "--severity",
      "invalidates",
    ],
    title: "Version 2 is revoked",
    who: dana,
  });
  const impact = await stage.run(["lineage", "impact", "penguins@v2", ...inProject], { token: dana.token });
  const affected = (impact.document["nodes"] as readonly Readonly<Record<string, unknown>>[] | undefined) ?? [];
  stage.note(
    "What does that affect?",
    `${affected.length} in use: ${affected.map((n) => textAt(n, "name")).join(", ")}`,
    affected.length !== 1,
  );
  await stage.stopServer();
  stage.say("The server has ended. From here on, only the files and the public keys speak.");

  await verifyAndTamper(stage, dir, work, textAt(trained, "model"));
}

async function gate(stage: Stage, who: Person, ref: string, expected: string): Promise<void> {
  const reply = await stage.run(["quality", "gate", ref, ...inProject], { token: who.token });
  const found = textAt(reply.document, "gate");
  stage.note(`The gate of ${ref}`, `gate ${found}`, found === "fail");
  if (found !== expected)
    throw new Exit(
      EXIT.internal,
      "DEMO_FAILED",
      `The gate of ${ref} is ${found}, expected ${expected}:\n${reply.text}`,
    );
}

interface Found {
  readonly checks?: readonly { readonly failures: readonly { readonly code: string; readonly at: string }[] }[];
  readonly verdict?: string;
}

async function verifyAndTamper(stage: Stage, dir: string, work: string, model: string): Promise<void> {
  const trust = ["--policy", join(dir, "trust", "policy.txt"), "--genesis", join(dir, "trust", "genesis")];
  const keep = ["--kept", join(dir, "trust", "kept-checkpoint")];
  const check = async (
    title: string,
    args: readonly string[],
    expected: (found: Found) => boolean,
    word: (found: Found) => string,
  ): Promise<void> => {
    const reply = await stage.run(args);
    const found = reply.document as Found;
    const holds = expected(found);
    stage.note(
      title,
      holds ? word(found) : `UNEXPECTED ${found.verdict ?? ""}`,
      found.verdict !== "pass" && found.verdict !== "COMPLETE",
    );
    if (!holds) throw new Exit(EXIT.internal, "DEMO_FAILED", `"${title}" gave:\n${reply.text.slice(0, 4000)}`);
  };
  const codes = (found: Found): string =>
    [...new Set(found.checks?.flatMap((s) => s.failures.map((f) => f.code)) ?? [])].join(", ");
  const contradicted =
    (code: string) =>
    (found: Found): boolean =>
      found.verdict !== "COMPLETE" && codes(found).includes(code);
  const told = (found: Found): string => `FOUND: ${found.verdict} ${codes(found)}`;

  stage.act("7  An outsider checks, and three lies are told");
  await check(
    "The pack, with the key and the checkpoint that was kept",
    ["verify", "pack", join(dir, "demo.dpevidence"), ...trust, ...keep],
    (f) => f.verdict === "pass",
    () => `pass: ${model.slice(0, 19)}… was made as the records say`,
  );
  await check(
    "The buckets, against the checkpoint that was kept",
    ["verify", "bucket", dir, ...trust, ...keep],
    (f) => f.verdict === "COMPLETE",
    () => "COMPLETE",
  );
  const copy = (name: string): string => {
    const to = join(work, name);
    for (const bucket of ["ledger", "head", "personal"])
      cpSync(join(dir, bucket), join(to, bucket), { preserveTimestamps: true, recursive: true });
    return to;
  };
  const first = copy("flipped");
  flipByte(first);
  await check(
    "Lie 1: one byte of a record is changed",
    ["verify", "bucket", first, ...trust, ...keep],
    contradicted("record.digest"),
    told,
  );
  const second = copy("hidden");
  hideRecord(second);
  await check(
    "Lie 2: an approval is hidden",
    ["verify", "bucket", second, ...trust, ...keep],
    contradicted("record.missing"),
    told,
  );
  const third = join(work, "rewritten");
  await rewriteHistory(dir, third);
  await check(
    "Lie 3: history is rewritten with the stolen keys; without a kept checkpoint nobody can tell",
    ["verify", "bucket", third, ...trust.slice(0, 2)],
    (f) => f.verdict === "COMPLETE",
    () => "COMPLETE, and false",
  );
  await check(
    "The checkpoint that was kept tells",
    ["verify", "bucket", third, ...trust.slice(0, 2), ...keep],
    contradicted("consistency.mismatch"),
    told,
  );
}
