/** Commands of whoever runs a ledger: `init`, `server`, `doctor`. */
import { readFileSync } from "node:fs";
import { pino } from "pino";
import type { Tls } from "../api/listen.ts";
import { type Context, type Spec, UsageError } from "../cli/command.ts";
import { EXIT, Exit, paint } from "../cli/io.ts";
import { loadKeyFiles } from "../log/keys/key-files.ts";
import { parseHex } from "../std/bytes.ts";
import { type Home, homeOf, originOf, rememberedStore } from "./home.ts";
import { init } from "./init.ts";
import { type OpenOptions, openLedger, openStore } from "./ledger.ts";
import { s3AccessOf } from "./s3.ts";
import { type Address, serve } from "./serve.ts";

const DEFAULT_DAYS = 3650;

/** Structured lines on standard output; what could be a secret is cut out wherever it stands. */
export const createLogger = (level: string) =>
  pino({
    base: null,
    level,
    redact: {
      censor: "[secret]",
      paths: ["authorization", "*.authorization", "token", "*.token", "secret", "*.secret", "headers"],
    },
    timestamp: pino.stdTimeFunctions.isoTime,
  });

function addressOf(flag: string, text: string): Address {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535)
    throw new UsageError(`--${flag} takes HOST:PORT, such as 127.0.0.1:8420, not ${JSON.stringify(text)}.`);
  return { host: match[1] ?? match[2] ?? "", port };
}

const directory = (c: Context): string => {
  const dir = c.text("dir");
  if (dir === undefined) throw new UsageError("--dir DIR is needed: the folder of the ledger's home.");
  return dir;
};

const ACCEPT_HEAD: readonly [string, string] = [
  "--accept-head <size:root>",
  "go on from this tree when the signer's memory is lost; the ledger records it",
];

const STORE: readonly [string, string] = [
  "--store <address>",
  "the buckets, when they moved: s3://HOST:PORT/NAME (default: where init put them)",
];

/** How whoever starts the program opens the ledger. */
async function openingOf(c: Context, home: Home): Promise<Omit<OpenOptions, "logger">> {
  const address = c.text("store") ?? (await rememberedStore(home));
  return { ...(address === undefined ? {} : { s3: s3AccessOf(address, c.io.env) }), ...acceptedHeadOf(c) };
}

function acceptedHeadOf(c: Context): Pick<OpenOptions, "acceptHead"> {
  const text = c.text("acceptHead");
  if (text === undefined) return {};
  const [, size, hex] = /^(\d{1,16}):([0-9a-f]{64})$/.exec(text) ?? [];
  const root = parseHex(hex ?? "");
  if (root === undefined || root.length !== 32)
    throw new UsageError("--accept-head takes SIZE:ROOT, a number and 64 small hex characters.");
  return { acceptHead: { root, size: Number(size) } };
}

export const createInitSpec = (): Spec => ({
  example: "datapilot init --dir /srv/ledger --origin ledger.example.org",
  options: [
    ["--dir <folder>", "new or empty folder for the ledger's home"],
    ["--origin <name>", "name of the log; eight random digits follow it (default datapilot.local)"],
    ["--solo", "leave the baseline's approvals out; the genesis says so"],
    ["--admin <name>", "name of the administrator's principal (default admin)"],
    ["--admin-display-name <text>", "printed name of the administrator"],
    [
      "--approver <name=printed name>...",
      "a further person, in every group that the policies name; nobody approves what he asks for",
    ],
    ["--retention-days <days>", `days for which objects are locked at least (default ${DEFAULT_DAYS})`],
    ["--store <address>", "keep the buckets on S3: s3://HOST:PORT/NAME, s3+http:// without TLS (default: in the home)"],
  ],
  remote: false,
  async run(c) {
    const name = c.text("admin") ?? "admin";
    const store = c.text("store");
    const answer = await init({
      admin: { displayName: c.text("adminDisplayName") ?? name, name },
      approvers: c
        .list("approver")
        .map((text) => ({ displayName: text.slice(text.indexOf("=") + 1), name: text.split("=", 1)[0] ?? "" })),
      logger: createLogger("warn"),
      origin: c.text("origin") ?? "datapilot.local",
      retentionDays: c.number("retentionDays") ?? DEFAULT_DAYS,
      root: directory(c),
      solo: c.options["solo"] === true,
      ...(store === undefined ? {} : { s3: s3AccessOf(store, c.io.env) }),
    });
    c.print(
      {
        commit_vkey: answer.commitVkey,
        dir: directory(c),
        genesis: answer.genesis,
        log_pq_vkey: answer.logPqVkey,
        log_vkey: answer.logVkey,
        origin: answer.origin,
        policy: answer.policy,
        token: answer.tokens.get(name) ?? "",
        tokens: Object.fromEntries(answer.tokens),
      },
      () =>
        `ledger   ${paint(c.io, "bold", answer.origin)}\ngenesis  ${answer.genesis}\nlog      ${answer.logVkey}\ncommit   ${answer.commitVkey}\n\nGive outsiders ${directory(c)}/trust/ by another way than this server.\n\n${paint(c.io, "bold", "Tokens, shown this once only:")}\n${[...answer.tokens].map(([who, secret]) => `${who}  ${secret}\n`).join("")}\nNext: datapilot server --dir ${directory(c)}\n`,
    );
  },
  summary: "make a ledger, its keys and one administrator",
  words: "init",
});

function tlsOf(c: Context): { tls?: Tls } {
  const cert = c.text("tlsCert");
  const key = c.text("tlsKey");
  if (cert === undefined && key === undefined) return {};
  if (cert === undefined || key === undefined) throw new UsageError("--tls-cert and --tls-key go together.");
  const ca = c.text("tlsClientCa");
  return {
    tls: {
      cert: readFileSync(cert),
      key: readFileSync(key),
      ...(ca === undefined ? {} : { ca: readFileSync(ca), requireClientCert: true }),
    },
  };
}

export const createServerSpec = (): Spec => ({
  example: "datapilot server --dir /srv/ledger --listen 127.0.0.1:8420 --grpc-listen 127.0.0.1:8421",
  options: [
    ["--dir <folder>", "the ledger's home"],
    STORE,
    [
      "--listen <host:port>",
      "HTTP port: Connect, gRPC-Web, gRPC, JSON, /log/ (default 127.0.0.1:8420; port 0 takes a free one)",
    ],
    ["--grpc-listen <host:port>", "gRPC port for many clients (default 127.0.0.1:8421)"],
    ["--public-url <url>", "address under which clients reach the HTTP port"],
    ["--public-log", "answer entries, checkpoints and proofs without a token"],
    ["--tls-cert <file>", "certificate chain, PEM"],
    ["--tls-key <file>", "its key, PEM"],
    ["--tls-client-ca <file>", "demand client certificates of this authority"],
    ACCEPT_HEAD,
    ["--log-level <level>", "debug, info, warn or error (default info)"],
  ],
  remote: false,
  async run(c) {
    const logger = createLogger(c.text("logLevel") ?? "info");
    const url = c.text("publicUrl");
    const home = homeOf(directory(c));
    await using server = await serve({
      grpc: addressOf("grpc-listen", c.text("grpcListen") ?? "127.0.0.1:8421"),
      home,
      http: addressOf("listen", c.text("listen") ?? "127.0.0.1:8420"),
      logger,
      open: await openingOf(c, home),
      publicLog: c.options["publicLog"] === true,
      ...tlsOf(c),
      ...(url === undefined ? {} : { publicUrl: url }),
    });
    logger.info({ grpc: server.grpcAddress, http: server.url }, "listening");
    await new Promise<void>((resolve) => {
      if (c.io.signal.aborted) resolve();
      else c.io.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    logger.info({}, "closing");
  },
  summary: "run the control plane",
  words: "server",
});

export const createDoctorSpec = (): Spec => ({
  example: "datapilot doctor --dir /srv/ledger",
  options: [["--dir <folder>", "the ledger's home; the server must not run"], STORE, ACCEPT_HEAD],
  remote: false,
  async run(c) {
    const home = homeOf(directory(c));
    const opening = await openingOf(c, home);
    const lines: { name: string; ok: boolean; detail: string; remedy: string }[] = [];
    {
      await using buckets = await openStore(home, opening.s3);
      if (buckets.files !== undefined)
        lines.push({
          detail:
            buckets.files.lock === "advisory"
              ? "the file system notes locks and does not enforce them"
              : "locks are enforced",
          name: "lock",
          ok: true,
          remedy: "",
        });
      lines.push(...(await buckets.probe()));
      if (lines.every((l) => l.ok)) {
        const origin = await originOf(buckets.store, home, buckets.where);
        await loadKeyFiles(home.keys, origin);
        lines.push({
          detail: `three keys of ${origin}, readable by their owner only`,
          name: "keys",
          ok: true,
          remedy: "",
        });
      }
    }
    if (lines.every((l) => l.ok)) {
      await using ledger = await openLedger(home, { ...opening, isProbed: true, logger: createLogger("error") });
      const health = ledger.log.health();
      lines.push({
        detail: `${health.size} entries, published ${health.published}, state ${ledger.log.index.watermark.state.slice(0, 16)}…`,
        name: "log",
        ok: health.writing,
        remedy: health.stopped ?? "",
      });
    }
    c.print(
      lines.map((l) => ({ ...l })),
      () =>
        lines
          .map(
            (l) =>
              `${l.ok ? paint(c.io, "green", "ok  ") : paint(c.io, "red", "FAIL")}  ${l.name}: ${l.detail}${l.ok ? "" : `\n      ${l.remedy}`}\n`,
          )
          .join(""),
    );
    if (lines.some((l) => !l.ok)) throw new Exit(EXIT.answerIsNo, "", "");
  },
  summary: "check store, keys and log of a home, one line each",
  words: "doctor",
});
