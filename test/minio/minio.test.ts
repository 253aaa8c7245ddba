/** What is built is built once, whoever asks at the same time; a lock that a dead process left is no obstacle. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { temporaryFolder } from "../e2e/server.ts";

const BUILD = fileURLToPath(new URL("./build-process.ts", import.meta.url));
/** In the place of Go: takes its time, writes what Go would, and notes that it ran. */
const COMPILER = `#!/bin/sh
echo "$@" >> "$BUILDS"
sleep 1
echo binary > "$GOBIN/minio"
`;

it("is built once by three processes, also over the lock of a dead one", async () => {
  await using folder = await temporaryFolder();
  const builds = join(folder.path, "builds");
  const tools = join(folder.path, "tools");
  await mkdir(tools);
  await writeFile(join(tools, "go"), COMPILER);
  await chmod(join(tools, "go"), 0o755);
  const env = {
    BUILDS: builds,
    HOME: folder.path,
    PATH: `${tools}:${process.env["PATH"]}`,
    XDG_CACHE_HOME: folder.path,
  };
  const run = () => promisify(execFile)(process.execPath, [BUILD], { env });
  const [first] = await Promise.all([run(), run(), run()]);
  const binary = first.stdout.trim();
  expect(binary).toMatch(/minio-v0\.0\.0-\d{14}-[0-9a-f]{12}\/minio$/);
  expect(first.stderr).toContain("once (some minutes)");
  expect(await readFile(binary, "utf8")).toBe("binary\n");
  expect((await readFile(builds, "utf8")).trim().split("\n")).toHaveLength(1);
  expect((await run()).stderr).toBe("");

  await using other = await temporaryFolder();
  const lock = join(other.path, "datapilot", dirname(binary).split("/").at(-1) ?? "", "build.lock");
  await mkdir(dirname(lock), { recursive: true });
  const gone = await promisify(execFile)("sh", ["-c", "echo $$"]);
  await writeFile(lock, gone.stdout.trim());
  const after = await promisify(execFile)(process.execPath, [BUILD], { env: { ...env, XDG_CACHE_HOME: other.path } });
  expect(await readFile(after.stdout.trim(), "utf8")).toBe("binary\n");
});

it("ends with the process that started it, however that ends", async () => {
  const script = `const { startMinio } = await import(${JSON.stringify(new URL("./minio.ts", import.meta.url).href)});
    process.stdout.write(String((await startMinio({ folder: process.argv[1] })).pid));
    setInterval(() => undefined, 1000);`;
  await using folder = await temporaryFolder();
  const starter = spawn(process.execPath, ["--input-type=module-typescript", "-e", script, folder.path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [said] = (await once(starter.stdout, "data")) as [Buffer];
  const pid = Number(said.toString());
  const isThere = (): boolean => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  expect(isThere()).toBe(true);
  starter.kill("SIGKILL");
  await expect.poll(isThere, { timeout: 20_000 }).toBe(false);
}, 60_000);
