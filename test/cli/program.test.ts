import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { ListResponseSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { listAll } from "../../src/cli/client.ts";
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

it.each([
  [["dataset", "create", "--json"], /missing required argument 'name'/],
  [["dataset", "create", "x", "--no-such", "--json"], /unknown option '--no-such'/],
  [["server", "--json"], /--dir DIR is needed/],
  [["server", "--dir", "x", "--log-level", "loud", "--json"], /--log-level must be one of debug/],
  [
    ["verify", "pack", "/nonexistent/pack", "--policy", "/nonexistent/policy", "--json"],
    /\/nonexistent\/policy is not there/,
  ],
  [["policy", "test", "/nonexistent/policy", "--json"], /\/nonexistent\/policy is not there/],
] as const)("answers %j in one document", async (argv, says) => {
  let out = "";
  const { io, program } = programFor(() => undefined);
  const code = await runProgram(program, argv, { ...io, out: (text) => (out += text) });
  expect(code).toBe(EXIT.usage);
  expect(JSON.parse(out)).toMatchObject({
    message: expect.stringMatching(says) as string,
    reason: expect.stringMatching(/^(USAGE|REQUEST_INVALID)$/) as string,
    receipt: null,
  });
});

it("reads a list to its end, past pages that are short or empty", async () => {
  const pages = [["a", "b"], [], ["c"]];
  const asked: string[] = [];
  const all = await listAll(
    ({ pageToken = "" }) => {
      asked.push(pageToken);
      const at = pageToken === "" ? 0 : Number(pageToken);
      const resources = (pages[at] ?? []).map((name) => ({ name }));
      const nextPageToken = at + 1 < pages.length ? String(at + 1) : "";
      return Promise.resolve(create(ListResponseSchema, { nextPageToken, resources, treeSize: 7 }));
    },
    { project: "fraud" },
  );
  expect(all.resources.map((r) => r.name)).toEqual(["a", "b", "c"]);
  expect(all).toMatchObject({ nextPageToken: "", treeSize: 7 });
  expect(asked).toEqual(["", "1", "2"]);
});
