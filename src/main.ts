/** The program: the only place that knows the environment, the process and every adapter. */

import { fileURLToPath } from "node:url";
import { createDemoSpec } from "./cli/demo/demo.ts";
import type { Io } from "./cli/io.ts";
import { createProgram, referenceOf, runProgram } from "./cli/program.ts";
import { useNativeSha256 } from "./main/home.ts";
import { createDoctorSpec, createInitSpec, createServerSpec } from "./main/local-commands.ts";
import { createVoidSpec } from "./main/repair.ts";
import { createReplicatePorts } from "./main/replicate-ports.ts";
import { createRetentionSpec } from "./main/retention.ts";
import { createVerifyPorts } from "./main/verify-ports.ts";
import { VERSION } from "./main/version.ts";

if (!process.versions.node.startsWith("24.")) {
  process.stderr.write(`datapilot needs Node 24; this is ${process.versions.node}.\n`);
  process.exit(125);
}

useNativeSha256();
const ending = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => ending.abort());
// A reader that went away, such as `head`, is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
});

const io: Io = {
  env: process.env,
  err: (text) => void process.stderr.write(text),
  isTerminal: process.stderr.isTTY,
  out: (text) => void process.stdout.write(text),
  signal: ending.signal,
};
const program = createProgram(io, {
  local: [
    createInitSpec(),
    createServerSpec(),
    createDoctorSpec(),
    createRetentionSpec(),
    createDemoSpec([process.execPath, fileURLToPath(import.meta.url)]),
  ],
  repair: [createVoidSpec()],
  replicate: createReplicatePorts(process.env),
  verify: createVerifyPorts(process.env),
  version: VERSION,
});
const argv = process.argv.slice(2);
if (argv[0] === "docs")
  process.stdout.write(`# Command line\n\nGenerated from the program by \`make gen\`.\n\n${referenceOf(program)}`);
else process.exitCode = await runProgram(program, argv, io);
