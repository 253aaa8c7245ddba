/**
 * The program `datapilot`: its commands and how they end. What needs a server's rooms (`init`, `server`, `doctor`, `demo`) comes from the
 * composition root.
 */
import { Command, CommanderError } from "commander";
import { addLineage, addLog } from "./ask.ts";
import { exitOf } from "./client.ts";
import { declare, EXAMPLES, type Spec, UsageError } from "./command.ts";
import { addData } from "./data.ts";
import { addEnvironments } from "./environments.ts";
import { addAccess, addPolicies } from "./govern.ts";
import { document, EXIT, Exit, type Io, paint } from "./io.ts";
import { addModels } from "./models.ts";
import { addReplicate, type ReplicatePorts } from "./replicate.ts";
import { addRun } from "./run.ts";
import { addSpool } from "./spool.ts";
import { addVerify, type VerifyPorts } from "./verify.ts";

export interface ProgramParts {
  readonly version: string;
  readonly replicate: ReplicatePorts;
  readonly verify: VerifyPorts;
  /** Commands of the server's side, listed first. */
  readonly local: readonly Spec[];
  /** Commands under `repair`. */
  readonly repair: readonly Spec[];
}

export function createProgram(io: Io, parts: ProgramParts): Command {
  const program = new Command("datapilot")
    .description("A control plane for auditable, on-prem machine-learning execution and lineage")
    .version(parts.version)
    .enablePositionalOptions()
    .showHelpAfterError("(datapilot COMMAND --help shows an example)");
  program.configureOutput({ writeErr: io.err, writeOut: io.out });
  for (const spec of parts.local) declare(program, io, spec);
  const repair = program.command("repair").description("Mend a ledger that stopped, after a person has looked");
  for (const spec of parts.repair) declare(repair, io, spec);
  addAccess(program, io);
  addData(program, io);
  addEnvironments(program, io);
  addModels(program, io);
  addPolicies(program, io);
  addRun(program, io);
  addSpool(program, io);
  addLineage(program, io);
  addLog(program, io);
  addVerify(program, io, parts.verify);
  addReplicate(program, io, parts.replicate);
  finish(program);
  return program;
}

/** At any depth: commander must not end the process itself, and what has no example of its own shows that of its first command. */
function finish(command: Command): string | undefined {
  command.exitOverride();
  const [first] = command.commands.map(finish);
  const own = EXAMPLES.get(command);
  if (own === undefined && first !== undefined) command.addHelpText("after", `\nExample:\n  ${first}\n`);
  return own ?? first;
}

const RUN_WORDS = new Set(["plan", "show", "list", "compare", "exec", "help", "--help", "-h"]);

/** `datapilot run … -- command` is short for `datapilot run exec …`. */
export const withoutShorthand = (argv: readonly string[]): string[] =>
  argv[0] === "run" && !RUN_WORDS.has(argv[1] ?? "--help") ? ["run", "exec", ...argv.slice(1)] : [...argv];

function isJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return argv.slice(0, end < 0 ? undefined : end).includes("--json");
}

const failure = (reason: string, message: string, metadata: Readonly<Record<string, string>> = {}): string =>
  document({ message, metadata: { ...metadata }, reason, receipt: metadata["receipt"] ?? null });

/** Runs a command line; gives the exit code. */
export async function runProgram(program: Command, argv: readonly string[], io: Io): Promise<number> {
  try {
    await program.parseAsync(withoutShorthand(argv), { from: "user" });
    return EXIT.done;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT.done;
      // Told on standard error already.
      if (isJson(argv)) io.out(failure("USAGE", error.message.replace(/^error: /, "")));
      return EXIT.usage;
    }
    const exit = error instanceof UsageError ? new Exit(EXIT.usage, "USAGE", error.message) : exitOf(error);
    if (exit.message !== "") {
      if (isJson(argv)) io.out(failure(exit.reason, exit.message, exit.metadata));
      else {
        const label =
          exit.code === EXIT.refused
            ? paint(io, "inverse", paint(io, "red", " REFUSED "))
            : exit.code === EXIT.pending
              ? paint(io, "yellow", "pending")
              : paint(io, "red", "error");
        const facts = Object.entries(exit.metadata)
          .map(([k, v]) => `  ${k}: ${v}\n`)
          .join("");
        io.err(`${label} ${exit.message}${exit.reason === "" ? "" : ` [${exit.reason}]`}\n${facts}`);
      }
    }
    return exit.code;
  }
}

/** The command-line reference, generated from the program itself. */
export function referenceOf(program: Command): string {
  const sections: string[] = [];
  const walk = (command: Command, path: string): void => {
    const name = `${path} ${command.name()}`.trim();
    if (command.commands.length === 0) {
      const help = command.createHelp();
      const options = help
        .visibleOptions(command)
        .filter((o) => o.long !== "--help")
        .map((o) => `| \`${o.flags}\` | ${o.description.replaceAll("|", "\\|")} |`);
      const example = EXAMPLES.get(command);
      sections.push(
        `### \`${`${name} ${command.usage().replace(/^\[options\] ?/, "")}`.trim()}\``,
        "",
        `${command.description()}.`,
        "",
        ...(example === undefined ? [] : ["```sh", example, "```", ""]),
        "| option | meaning |",
        "| --- | --- |",
        ...options,
        "",
      );
    } else {
      if (path !== "") sections.push(`## ${name}`, "", `${command.description()}.`, "");
      for (const child of command.commands) walk(child, name);
    }
  };
  walk(program, "");
  return sections.join("\n");
}
