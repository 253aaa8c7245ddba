/** `datapilot run` around a real command, with the server there, away before, and away after. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { datapilot, initHome, type NewHome, type ServerProcess, startServer, temporaryFolder } from "./server.ts";

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let home: NewHome;
let server: ServerProcess;
let env: Record<string, string>;

async function ask(...args: readonly string[]): Promise<Record<string, unknown>> {
  const { code, stderr, stdout } = await datapilot([...args, "--json"], env);
  expect(code, stdout + stderr).toBe(0);
  return JSON.parse(stdout) as Record<string, unknown>;
}

beforeAll(async () => {
  folder = await temporaryFolder();
  home = await initHome(join(folder.path, "home"));
  server = await startServer(home.dir);
  env = { DATAPILOT_PROJECT: "lab", DATAPILOT_TOKEN: home.token, DATAPILOT_URL: server.url };
  await ask("project", "create", "lab");
  await ask("access", "principal", "create", "ada", "--type", "human", "--display-name", "Ada");
  const { secret } = (await ask("token", "create", "ada")) as { secret: string };
  await ask("access", "bind", "contributor", "--principal", "ada");
  env = { ...env, DATAPILOT_TOKEN: secret };
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

/** A job that writes a file and metrics, shows what it inherited, and ends with the code that it is told. */
function makeJob(name: string, exitCode = 0): { readonly dir: string; readonly command: readonly string[] } {
  const dir = join(folder.path, name);
  mkdirSync(dir);
  const script = join(dir, "job.mjs");
  writeFileSync(
    script,
    `import { writeFileSync } from "node:fs";
writeFileSync(${JSON.stringify(join(dir, "out.txt"))}, "made");
writeFileSync(${JSON.stringify(join(dir, "metrics.json"))}, JSON.stringify({ loss: 0.25 }));
writeFileSync(${JSON.stringify(join(dir, "env.json"))}, JSON.stringify({ token: process.env.DATAPILOT_TOKEN, run: process.env.DATAPILOT_RUN }));
process.exit(${exitCode});
`,
  );
  return { command: [process.execPath, script], dir };
}

const wrap = (dir: string, command: readonly string[], more: readonly string[] = []): string[] => [
  "run",
  "--out",
  join(dir, "out.txt"),
  "--metrics",
  join(dir, "metrics.json"),
  "--receipts",
  join(dir, "receipts"),
  ...more,
  "--json",
  "--",
  ...command,
];

describe("datapilot run", () => {
  it("records what a command made, and leaves receipts that verify", async () => {
    const { command, dir } = makeJob("good");
    const { code, stdout, stderr } = await datapilot(wrap(dir, command), env);
    expect(code, stdout + stderr).toBe(0);
    const { run } = JSON.parse(stdout) as { run: string };
    const shown = (await ask("run", "show", run)) as {
      summary: { metrics: { key: string; value: number }[] };
      run: { status: string };
    };
    expect(shown.run.status).toBe("succeeded");
    expect(shown.summary.metrics).toMatchObject([{ key: "loss", value: 0.25 }]);
    const inherited = JSON.parse(readFileSync(join(dir, "env.json"), "utf8")) as { token: string; run: string };
    expect(inherited.run).toBe(run);
    expect(inherited.token).toMatch(/^dpr_/);
    expect(readdirSync(join(dir, "receipts"))).toEqual(
      expect.arrayContaining(["datapilot-receipt.json", "finish.tlog-proof", "start.tlog-proof"]),
    );
    const checked = await datapilot([
      "verify",
      "receipt",
      join(dir, "receipts", "finish.tlog-proof"),
      "--policy",
      join(home.dir, "trust", "policy.txt"),
    ]);
    expect(checked.code, checked.stdout + checked.stderr).toBe(0);
  });

  it("ends as the command ended", async () => {
    const { command, dir } = makeJob("bad", 7);
    expect((await datapilot(wrap(dir, command), env)).code).toBe(7);
    expect(
      (await datapilot(["run", "--receipts", join(dir, "r2"), "--", join(dir, "no-such-command")], env)).code,
    ).toBe(127);
  });

  it("does not start a command that nobody admitted", async () => {
    const { command, dir } = makeJob("away");
    const { code, stdout } = await datapilot(wrap(dir, command), { ...env, DATAPILOT_URL: "http://127.0.0.1:9" });
    expect(code).toBe(122);
    expect(stdout).toContain("DATAPILOT_URL");
    expect(readdirSync(dir)).toEqual(["job.mjs"]);
  });

  it("keeps what it cannot deliver, and delivers it later", async () => {
    const dir = join(folder.path, "cut-off");
    mkdirSync(dir);
    const script = join(dir, "job.mjs");
    // The job itself takes the server away.
    writeFileSync(
      script,
      `import { writeFileSync } from "node:fs";
writeFileSync(${JSON.stringify(join(dir, "out.txt"))}, "made");
writeFileSync(${JSON.stringify(join(dir, "metrics.json"))}, "{}");
process.kill(${server.pid}, "SIGTERM");
await new Promise((r) => setTimeout(r, 3000));
`,
    );
    const cut = await datapilot(
      wrap(dir, [process.execPath, script], ["--drain", "1s", "--spool-dir", join(dir, "spool")]),
      env,
    );
    expect(cut.code, cut.stdout + cut.stderr).toBe(122);
    const [name = ""] = readdirSync(join(dir, "spool"));
    const file = join(dir, "spool", name);
    server = await startServer(home.dir);
    env = { ...env, DATAPILOT_URL: server.url };
    const pushed = (await ask("spool", "push", file)) as { run: string };
    const shown = (await ask("run", "show", pushed.run)) as { run: { status: string } };
    expect(shown.run.status).toBe("succeeded");

    const text = readFileSync(file, "utf8");
    writeFileSync(file, text.replace("out.txt", "bad.txt"));
    const tampered = await datapilot(["spool", "push", file], env);
    expect(tampered.code).toBe(64);
    expect(tampered.stderr).toContain("changed after it was written");
  });
});
