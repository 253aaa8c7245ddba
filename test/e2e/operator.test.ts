/** What an operator does by the command line, and what a person who was given a token asks: on real processes. */
import { rm } from "node:fs/promises";
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
  expect(lost.code).not.toBe(0);
  const offered = /--accept-head (\d+:[0-9a-f]{64})/.exec(lost.stderr)?.[1] ?? "";
  expect(offered, lost.stderr).not.toBe("");
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
});
