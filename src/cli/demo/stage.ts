/** The stage of the demonstration: real processes, each asked as a person would ask them, and a story that is told as it goes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { EXIT, Exit, type Io, paint, printable, shortId, table } from "../io.ts";

export interface Person {
  readonly name: string;
  readonly token: string;
}

export interface Reply {
  readonly code: number;
  readonly document: Readonly<Record<string, unknown>>;
}

interface Step {
  readonly title: string;
  readonly who: Person;
  readonly args: readonly string[];
  /** Exit code that the story expects; 0 when absent. */
  readonly expect?: number;
  readonly cwd?: string;
}

interface Row {
  readonly step: number;
  readonly title: string;
  readonly outcome: string;
  readonly index: string;
  readonly record: string;
}

type Json = Readonly<Record<string, unknown>>;
const at = (value: unknown, ...path: readonly string[]): unknown =>
  path.reduce<unknown>((v, name) => (v as Json | undefined)?.[name], value);
export const textAt = (value: unknown, ...path: readonly string[]): string => {
  const found = at(value, ...path);
  return typeof found === "string" ? found : "";
};

export class Stage {
  readonly #io: Io;
  readonly #program: readonly string[];
  readonly #env: Record<string, string | undefined>;
  readonly #rows: Row[] = [];
  #step = 0;
  #server: ChildProcess | undefined;
  #url = "";

  constructor(io: Io, program: readonly string[], env: Readonly<Record<string, string>>) {
    this.#io = io;
    this.#program = program;
    const inherited = Object.fromEntries(Object.entries(io.env).filter(([name]) => !name.startsWith("DATAPILOT_")));
    this.#env = { ...inherited, NO_COLOR: "1", ...env };
  }

  act(title: string): void {
    this.#io.out(`\n${paint(this.#io, "bold", title)}\n`);
  }

  say(text: string): void {
    this.#io.out(`      ${paint(this.#io, "dim", text)}\n`);
  }

  /** Runs the program; gives its document and how it ended. */
  async run(
    args: readonly string[],
    options: { readonly token?: string; readonly cwd?: string; readonly json?: boolean } = {},
  ): Promise<Reply & { readonly text: string }> {
    const [file = "", ...prefix] = this.#program;
    const end = args.indexOf("--");
    const withJson =
      options.json === false
        ? args
        : [...args.slice(0, end < 0 ? undefined : end), "--json", ...(end < 0 ? [] : args.slice(end))];
    const child = spawn(file, [...prefix, ...withJson], {
      cwd: options.cwd,
      env: {
        ...this.#env,
        DATAPILOT_URL: this.#url,
        ...(options.token === undefined ? {} : { DATAPILOT_TOKEN: options.token }),
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (out += chunk));
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (err += chunk));
    const [code] = (await once(child, "close")) as [number | null];
    let document: Json = {};
    try {
      document = out === "" ? {} : (JSON.parse(out) as Json);
    } catch {
      document = {};
    }
    return { code: code ?? 1, document, text: out + err };
  }

  /** One step of the story: what is asked by whom, and what comes of it. */
  async step({ args, cwd, expect = EXIT.done, title, who }: Step): Promise<Json> {
    this.#step++;
    this.#io.out(`${paint(this.#io, "cyan", String(this.#step).padStart(4))}  ${title}\n`);
    const shown = args.map((a) => (/^[\w./@:=*-]+$/.test(a) ? a : `'${a}'`)).join(" ");
    this.say(`${who.name} $ datapilot ${shown.length > 150 ? `${shown.slice(0, 147)}...` : shown}`);
    const reply = await this.run(args, { token: who.token, ...(cwd === undefined ? {} : { cwd }) });
    const { code, document } = reply;
    if (code !== expect)
      throw new Exit(
        EXIT.internal,
        "DEMO_FAILED",
        `Step ${this.#step}, "${title}", ended with ${code} instead of ${expect}:\n${printable(reply.text).slice(0, 4000)}`,
      );
    this.#tell(title, code, document);
    return document;
  }

  #tell(title: string, code: number, document: Json): void {
    const metadata = at(document, "metadata");
    const refused = code === EXIT.refused;
    const waiting = code === EXIT.pending;
    const denied = code === EXIT.notAllowed || code === EXIT.answerIsNo;
    const resource = at(document, "resource") ?? at(document, "header", "receipt");
    const record =
      textAt(resource, "record") ||
      textAt(document, "run") ||
      textAt(metadata, "approval_request") ||
      textAt(metadata, "decision");
    const found = at(resource, "log_index") ?? at(document, "header", "receipt", "log_index");
    const index = typeof found === "number" ? String(found) : textAt(metadata, "log_index");
    const outcome = refused
      ? "REFUSED"
      : waiting
        ? "waits for approval"
        : denied
          ? `DENIED ${textAt(document, "reason")}`
          : textAt(resource, "gate") !== ""
            ? `gate ${textAt(resource, "gate")}`
            : textAt(resource, "status") || "recorded";
    if (refused || denied) {
      this.#io.out(
        `      ${paint(this.#io, "inverse", paint(this.#io, "red", ` ${outcome} `))}  ${printable(textAt(document, "message")).split("\n")[0] ?? ""}\n`,
      );
      this.#io.out(`      ${paint(this.#io, "red", "^^^ the refusal itself is a record of the log")}\n`);
    } else
      this.#io.out(
        `      ${waiting ? paint(this.#io, "yellow", outcome) : paint(this.#io, "green", outcome)}${index === "" ? "" : `  #${index}`}${record === "" ? "" : `  ${shortId(record)}`}\n`,
      );
    this.#rows.push({
      index,
      outcome,
      record: record === "" ? "" : shortId(record),
      step: this.#step,
      title,
    });
  }

  /** A step that changes or checks files without the server. */
  note(title: string, outcome: string, isBad: boolean): void {
    this.#step++;
    this.#io.out(
      `${paint(this.#io, "cyan", String(this.#step).padStart(4))}  ${title}\n      ${isBad ? paint(this.#io, "inverse", paint(this.#io, "red", ` ${outcome} `)) : paint(this.#io, "green", outcome)}\n`,
    );
    this.#rows.push({ index: "", outcome, record: "", step: this.#step, title });
  }

  /** Asks for something that waits for approval, and has the approver sign what is displayed. */
  async approved(step: Step, approver: Person, statement: string): Promise<Json> {
    const waiting = await this.step({ ...step, expect: EXIT.pending });
    return this.sign(textAt(waiting, "metadata", "approval_request"), approver, statement, step.args);
  }

  async sign(
    request: string,
    approver: Person,
    statement: string,
    args: readonly string[],
    expect: number = EXIT.done,
  ): Promise<Json> {
    const shown = await this.run(["approval", "show", request], { token: approver.token });
    const body = at(shown.document, "request", "approval_request");
    const meaning = textAt((at(body, "requirements") as readonly Json[] | undefined)?.[0], "approval", "meaning")
      .replace("MEANING_", "")
      .toLowerCase();
    const project = args[args.indexOf("--project") + 1];
    return this.step({
      args: [
        "approval",
        "approve",
        request,
        "--digest",
        textAt(body, "action_digest"),
        "--meaning",
        meaning === "" ? "approved" : meaning,
        "--statement",
        statement,
        ...(args.includes("--project") && project !== undefined ? ["--project", project] : []),
      ],
      expect,
      title: expect === EXIT.done ? `${approver.name} signs what was displayed` : `${approver.name} tries to sign`,
      who: approver,
    });
  }

  async startServer(dir: string): Promise<void> {
    const [file = "", ...prefix] = this.#program;
    const child = spawn(
      file,
      [...prefix, "server", "--dir", dir, "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--public-log"],
      { env: this.#env, stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#server = child;
    let text = "";
    this.#url = await new Promise<string>((resolve, reject) => {
      const take = (chunk: Buffer): void => {
        text += chunk.toString("utf8");
        const match = /"http":"([^"]+)"/.exec(text);
        if (match?.[1] !== undefined) resolve(match[1]);
      };
      child.stdout.on("data", take);
      child.stderr.on("data", take);
      child.once("exit", (code) =>
        reject(new Exit(EXIT.internal, "DEMO_FAILED", `The server ended with ${code}:\n${text}`)),
      );
    });
    const log = createWriteStream(join(dir, "server.log"));
    log.write(text);
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.say(`server process ${child.pid} on ${this.#url}`);
  }

  async stopServer(): Promise<void> {
    const server = this.#server;
    if (server === undefined || server.exitCode !== null) return;
    const closed = once(server, "exit");
    server.kill("SIGTERM");
    const [code] = (await closed) as [number | null];
    this.#server = undefined;
    if (code !== 0) throw new Exit(EXIT.internal, "DEMO_FAILED", `The server ended with ${code} after SIGTERM.`);
  }

  kill(): void {
    this.#server?.kill("SIGKILL");
  }

  get url(): string {
    return this.#url;
  }

  summary(): string {
    return table(
      ["STEP", "WHAT", "OUTCOME", "INDEX", "RECORD"],
      this.#rows.map((r) => [String(r.step), r.title, r.outcome, r.index, r.record]),
    );
  }
}
