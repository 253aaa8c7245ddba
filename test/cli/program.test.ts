import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { createDemoSpec } from "../../src/cli/demo/demo.ts";
import { EXIT, type Io } from "../../src/cli/io.ts";
import { createProgram, runProgram } from "../../src/cli/program.ts";
import { createDoctorSpec, createInitSpec, createServerSpec } from "../../src/main/local-commands.ts";
import { createVoidSpec } from "../../src/main/repair.ts";
import { createReplicatePorts } from "../../src/main/replicate-ports.ts";
import { createVerifyPorts } from "../../src/main/verify-ports.ts";

interface Ran {
  readonly code: number;
  readonly text: string;
}

function programFor(write: (text: string) => void): { readonly io: Io; readonly program: Command } {
  const io: Io = { env: {}, err: write, isTerminal: false, out: write, signal: new AbortController().signal };
  const local = [createInitSpec(), createServerSpec(), createDoctorSpec(), createDemoSpec([])];
  return {
    io,
    program: createProgram(io, {
      local,
      repair: [createVoidSpec()],
      replicate: createReplicatePorts({}),
      verify: createVerifyPorts({}),
      version: "0.0.0",
    }),
  };
}

async function run(...argv: readonly string[]): Promise<Ran> {
  let text = "";
  const { io, program } = programFor((t) => (text += t));
  return { code: await runProgram(program, argv, io), text };
}

/** The words of each command, groups before what is in them. */
function wordsOf(command: Command, path: readonly string[] = []): string[][] {
  const below = command.commands.filter((c) => c.name() !== "help");
  return [[...path], ...below.flatMap((c) => wordsOf(c, [...path, c.name()]))];
}

const COMMANDS = wordsOf(programFor(() => undefined).program);

describe.each(COMMANDS.map((words) => [words.join(" "), words] as const))("datapilot %s", (_, words) => {
  it("helps, and ends with an example", async () => {
    const { code, text } = await run(...words, "--help");
    expect(code).toBe(EXIT.done);
    expect(text).toMatch(new RegExp(`\\nExample:\\n  datapilot ${words.join(" ")}[^\\n]*\\n+$`));
  });

  it("takes no option that it does not know", async () => {
    const { code, text } = await run(...words, "--no-such-option");
    expect(code).toBe(EXIT.usage);
    expect(text).not.toBe("");
  });
});

it.each([
  [EXIT.usage, []],
  [EXIT.usage, ["no-such-command"]],
  [EXIT.usage, ["dataset"]],
  [EXIT.usage, ["dataset", "no-such-command"]],
  [EXIT.usage, ["dataset", "create"]],
  [EXIT.usage, ["project", "create", "a", "b"]],
  [EXIT.usage, ["server", "--dir"]],
  [EXIT.usage, ["server"]],
  [EXIT.done, ["help"]],
  [EXIT.done, ["help", "dataset"]],
  [EXIT.done, ["--version"]],
])("ends with %i on %j", async (expected, argv) => {
  expect((await run(...argv)).code).toBe(expected);
});
