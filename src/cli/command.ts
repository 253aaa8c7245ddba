/**
 * How a command is declared: its words, an example, its options, and what it does. Every command takes the connection's
 * options and `--json`; help always ends with an example.
 */
import type { DescMessage, JsonValue, MessageShape } from "@bufbuild/protobuf";
import { toJson } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import { type Connection, connect } from "./client.ts";
import { document, type Io } from "./io.ts";

export type Options = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export interface Context {
  readonly io: Io;
  readonly args: readonly string[];
  readonly options: Options;
  readonly json: boolean;
  /** Connects on first use, so that commands without a server need no token. */
  connect(): Connection;
  /** Prints a message as JSON, or what `words` makes of it. */
  show<D extends DescMessage>(schema: D, message: MessageShape<D>, words: (message: MessageShape<D>) => string): void;
  print(value: JsonValue, words: () => string): void;
  text(name: string): string | undefined;
  list(name: string): readonly string[];
  number(name: string): number | undefined;
}

export interface Spec {
  readonly words: string;
  readonly summary: string;
  readonly example: string;
  /** commander option flags and their texts; a flag that ends in `...` may be given again. */
  readonly options?: readonly (readonly [flags: string, text: string])[];
  /** Whether it talks to a control plane. */
  readonly remote?: boolean;
  readonly passThrough?: boolean;
  run(context: Context): Promise<void>;
}

const CONNECTION: readonly (readonly [string, string])[] = [
  ["--url <url>", "address of the control plane (DATAPILOT_URL)"],
  ["--token <token>", "token (better: DATAPILOT_TOKEN or DATAPILOT_TOKEN_FILE)"],
  ["--project <name>", "project to work in (DATAPILOT_PROJECT)"],
  ["--timeout <seconds>", "how long a call may take (default 60)"],
];

export const REQUEST_ID: readonly [string, string] = [
  "--request-id <id>",
  "identity of the request: a repeat answers the first outcome",
];
export const AS_OF: readonly [string, string] = ["--as-of <size>", "answer for the log as it was at this tree size"];

/** The example of each command, for the reference. */
export const EXAMPLES = new WeakMap<Command, string>();

export function declare(parent: Command, io: Io, spec: Spec): void {
  const command = parent
    .command(spec.words)
    .description(spec.summary)
    .addHelpText("after", `\nExample:\n  ${spec.example}\n`);
  EXAMPLES.set(command, spec.example);
  const remote = spec.remote ?? true;
  for (const [flags, text] of [
    ...(spec.options ?? []),
    ...(remote ? CONNECTION : []),
    ["--json", "one JSON document on standard output"] as const,
  ]) {
    const option = new Option(flags.replace("...", ""), text);
    if (flags.endsWith("..."))
      option.argParser((value: string, before: readonly string[] | undefined) => [...(before ?? []), value]);
    command.addOption(option);
  }
  if (spec.passThrough === true) command.passThroughOptions().allowExcessArguments();
  command.action(async () => {
    const options = command.opts<Options>();
    const json = options["json"] === true;
    let connection: Connection | undefined;
    await spec.run({
      args: command.args,
      connect: () => (connection ??= connect(options, io)),
      io,
      json,
      list: (name) => (Array.isArray(options[name]) ? (options[name] as readonly string[]) : []),
      number: (name) => (typeof options[name] === "string" ? wholeNumber(name, options[name]) : undefined),
      options,
      print: (value, words) => io.out(json ? document(value) : words()),
      show: (schema, message, words) =>
        io.out(
          json
            ? document(toJson(schema, message, { alwaysEmitImplicit: true, useProtoFieldName: true }))
            : words(message),
        ),
      text: (name) => (typeof options[name] === "string" ? options[name] : undefined),
    });
  });
}

function wholeNumber(name: string, text: string): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(n))
    throw new UsageError(
      `--${name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)} takes a whole number, not ${JSON.stringify(text)}.`,
    );
  return n;
}

export class UsageError extends Error {
  override readonly name = "UsageError";
}
