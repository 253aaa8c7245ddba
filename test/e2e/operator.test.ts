/** What an operator does by the command line, and what a person who was given a token asks: on real processes. */
import { chmod, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { datapilot, initHome, startServer, temporaryFolder } from "./server.ts";

interface Listed {
  readonly resources: readonly {
    readonly kind: string;
    readonly name: string;
    readonly operation?: { readonly type: string; readonly accepted_head: { readonly size: number } };
    readonly access?: { readonly action: string; readonly reason: string };
  }[];
}

it("goes on from a head that an operator vouches for, and says so in the ledger", async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "ledger");
  const { token } = await initHome(dir);
  for (const file of ["last-signed", "last-signed.alternate"]) await rm(join(dir, "keys", file));

  const lost = await datapilot(["doctor", "--dir", dir]);
  expect(lost.code).toBe(1);
  const offered = /FAIL {2}log: ledger\.head-unknown\n.*--accept-head (\d+:[0-9a-f]{64})/.exec(lost.stdout)?.[1] ?? "";
  expect(offered, lost.stdout).not.toBe("");
  const [size = "", root = ""] = offered.split(":");
  for (const wrong of [root, `${size}:${root.slice(2)}`, `${size}:${root.toUpperCase()}A`])
    expect((await datapilot(["server", "--dir", dir, "--accept-head", wrong])).code).toBe(64);
  await expect(startServer(dir, { args: ["--accept-head", `${size}:${"0".repeat(64)}`] })).rejects.toThrow(
    /ledger\.rollback|does not extend/,
  );

  await using server = await startServer(dir, { args: ["--accept-head", offered] });
  const env = { DATAPILOT_TOKEN: token, DATAPILOT_URL: server.url };
  const shown = await datapilot(["log", "show", "--kind", "operation", "--json"], env);
  const { resources } = JSON.parse(shown.stdout) as Listed;
  expect(resources).toMatchObject([
    {
      kind: "operation",
      name: expect.stringMatching(/^projects\/_system\/operations\/[0-9a-f]{64}$/) as string,
      operation: { accepted_head: { root, size: Number(size) }, type: "OPERATION_TYPE_RESTORE" },
    },
  ]);
  expect(await server.stop()).toBe(0);
  // Now the signer remembers, and nothing is accepted any more.
  const healthy = await datapilot(["doctor", "--dir", dir, "--accept-head", offered]);
  expect(healthy.code, healthy.stderr).toBe(0);
  const trust = join(dir, "trust");
  const checked = await datapilot(["verify", "bucket", dir, "--policy", join(trust, "policy.txt"), "--json"]);
  expect(JSON.parse(checked.stdout)).toMatchObject({ verdict: "COMPLETE" });
});

it("tells who was denied, and nobody else", async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "ledger");
  const { token } = await initHome(dir);
  await using server = await startServer(dir);
  // Whoever scripts against it takes both addresses from the first line.
  expect(JSON.parse(server.lines[0] ?? "{}")).toMatchObject({ grpc: server.grpc, http: server.url, msg: "listening" });
  const admin = { DATAPILOT_PROJECT: "fraud", DATAPILOT_TOKEN: token, DATAPILOT_URL: server.url };
  const ok = async (...args: readonly string[]): Promise<string> => {
    const { code, stderr, stdout } = await datapilot([...args, "--json"], admin);
    expect(code, `${args.join(" ")}: ${stderr}${stdout}`).toBe(0);
    return stdout;
  };
  await ok("project", "create", "fraud");
  await ok("access", "principal", "create", "dana", "--type", "human");
  await ok("access", "bind", "viewer", "--principal", "dana");
  const { secret } = JSON.parse(await ok("token", "create", "dana")) as { secret: string };
  const denied = await datapilot(["dataset", "create", "tx"], { ...admin, DATAPILOT_TOKEN: secret });
  expect(denied.code).toBe(123);
  expect(denied.stderr).toContain("PERMISSION_DENIED");
  const { resources } = JSON.parse(await ok("query", "denials")) as Listed;
  expect(resources.map((r) => r.access)).toMatchObject([
    { action: "ACCESS_ACTION_DENIED", reason: "PERMISSION_DENIED" },
  ]);
  const told = await datapilot(["query", "denials"], admin);
  expect(told.stdout).toMatch(/denied +PERMISSION_DENIED +dataset\.write +DatasetService\/CreateDataset +1\n/);
  // Who was given the token finds himself, and the token can be found again without its secret.
  const asDana = { ...admin, DATAPILOT_TOKEN: secret };
  expect((await datapilot(["whoami"], asDana)).stdout).toMatch(/^dana .*fraud\/viewer/s);
  const tokens = await datapilot(["token", "list"], admin);
  const [, token2 = ""] = /active.*(sha256:[0-9a-f]{64})\n$/.exec(tokens.stdout) ?? [];
  await ok("token", "revoke", token2, "--reason", "Left");
  expect((await datapilot(["whoami"], asDana)).code).toBe(123);
});

it("keeps its keys under a passphrase when it is told to", async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "ledger");
  const file = join(folder.path, "passphrase");
  for (const more of [
    ["--wrap-keys"],
    ["--key-passphrase-file", file],
    ["--wrap-keys", "--key-passphrase-file", file],
  ]) {
    await writeFile(file, "short\n", { mode: 0o600 });
    const refused = await datapilot(["init", "--dir", dir, "--solo", ...more]);
    expect(refused.code, refused.stderr).toBe(64);
  }
  await writeFile(file, "correct horse battery\n", { mode: 0o600 });
  await chmod(file, 0o604);
  expect((await datapilot(["init", "--dir", dir, "--wrap-keys", "--key-passphrase-file", file])).code).toBe(64);
  await chmod(file, 0o600);
  await initHome(dir, ["--wrap-keys", "--key-passphrase-file", file]);
  expect(await readFile(join(dir, "keys", "log.pem"), "utf8")).toContain("WRAPPED");

  const closed = await datapilot(["doctor", "--dir", dir]);
  expect(closed.code).toBe(1);
  expect(closed.stdout).toMatch(/ok {4}lock.*FAIL {2}keys.*--key-passphrase-file/s);
  const wrong = await datapilot(["doctor", "--dir", dir], { DATAPILOT_KEY_PASSPHRASE: "incorrect horse" });
  expect(wrong.code).toBe(1);
  expect(wrong.stdout).toContain("does not open");
  const unopened = await datapilot(["server", "--dir", dir, "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"]);
  expect(unopened.code, unopened.stderr).toBe(64);
  const given = [
    { args: ["--key-passphrase-file", file] },
    { env: { DATAPILOT_KEY_PASSPHRASE_FILE: file } },
    { env: { DATAPILOT_KEY_PASSPHRASE: "correct horse battery" } },
  ];
  for (const start of given) {
    await using server = await startServer(dir, start);
    expect(await server.stop()).toBe(0);
    expect(server.lines.join("\n")).not.toContain("horse");
  }
});

it("says what its locks are worth, and refuses advisory ones when it is told to", async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "ledger");
  const strict = await datapilot(["init", "--dir", join(folder.path, "strict"), "--solo", "--require-lock"]);
  expect(strict.code).not.toBe(0);
  expect(strict.stderr).toContain("does not enforce locks");
  const { token } = await initHome(dir);
  for (const command of ["doctor", "server"]) {
    const refused = await datapilot([command, "--dir", dir, "--require-lock"]);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr + refused.stdout).toContain("leave out --require-lock");
  }
  expect((await datapilot(["doctor", "--dir", dir])).stdout).toContain("lock: advisory");
  await using server = await startServer(dir);
  expect(await (await fetch(`${server.url}/readyz`)).text()).toBe("ready\nlock: advisory\n");
  expect(server.lines.join("\n")).toContain('"lock":"advisory"');
  const health = await datapilot(["log", "health"], { DATAPILOT_TOKEN: token, DATAPILOT_URL: server.url });
  expect(health.stdout).toContain("lock advisory");
});

it("makes nothing in a folder that holds no ledger", async () => {
  await using folder = await temporaryFolder();
  const missing = join(folder.path, "missing");
  for (const args of [["server"], ["doctor"]]) {
    for (const dir of [missing, folder.path]) {
      const { code, stderr } = await datapilot([...args, "--dir", dir]);
      expect(code, stderr).toBe(64);
      expect(stderr).toContain(`datapilot init --dir ${dir}`);
    }
  }
  expect(await readdir(folder.path)).toEqual([]);
  const { dir } = await initHome(missing);
  const again = await datapilot(["init", "--dir", dir]);
  expect(again.code).toBe(64);
  expect(again.stderr).toContain("is not empty");
  // A copy of the data alone is verified, and not served.
  await rm(join(dir, "keys"), { recursive: true });
  const served = await datapilot(["server", "--dir", dir]);
  expect(served.code).toBe(64);
  expect(served.stderr).toContain("verify bucket");
});
