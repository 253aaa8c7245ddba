/** Commands of whoever runs a ledger: `init`, `server`, `doctor`. */
import { readFileSync, statSync } from "node:fs";
import { pino } from "pino";
import type { Tls } from "../api/listen.ts";
import { type Context, type Spec, UsageError } from "../cli/command.ts";
import { EXIT, Exit, paint } from "../cli/io.ts";
import { loadKeyFiles } from "../log/keys/key-files.ts";
import { PASSPHRASE_MIN_CHARS } from "../log/keys/wrapped-key.ts";
import { SCRUB_RATE, type UpkeepPace } from "../log/upkeep.ts";
import { parseHex } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import type { ProbeResult } from "../store/probes.ts";
import { assertHome, type Home, homeOf, originOf, rememberedStore } from "./home.ts";
import { init } from "./init.ts";
import { type OpenOptions, openLedger, openStore, type StorePlace } from "./ledger.ts";
import { s3AccessOf } from "./s3.ts";
import { type Address, serve } from "./serve.ts";

const DEFAULT_DAYS = 3650;
const LEVELS = ["debug", "info", "warn", "error"];

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

export const directory = (c: Context): string => {
  const dir = c.text("dir");
  if (dir === undefined) throw new UsageError("--dir DIR is needed: the folder of the ledger's home.");
  return dir;
};

const ACCEPT_HEAD: readonly [string, string] = [
  "--accept-head <size:root>",
  "go on from this tree when the signer's memory is lost; the ledger records it",
];

const REQUIRE_LOCK: readonly [string, string] = [
  "--require-lock",
  "refuse a file system that notes locks and does not enforce them",
];
export const PASSPHRASE_FILE: readonly [string, string] = [
  "--key-passphrase-file <file>",
  "passphrase of wrapped keys (or DATAPILOT_KEY_PASSPHRASE, DATAPILOT_KEY_PASSPHRASE_FILE)",
];

/** From a file without its last line feed, or from the environment. */
function passphraseOf(c: Context): { passphrase?: string } {
  const { env } = c.io;
  const file = c.text("keyPassphraseFile") ?? env["DATAPILOT_KEY_PASSPHRASE_FILE"];
  if (file === undefined) {
    const passphrase = env["DATAPILOT_KEY_PASSPHRASE"];
    return passphrase === undefined || passphrase === "" ? {} : { passphrase };
  }
  if ((statSync(file).mode & 0o007) !== 0)
    throw new UsageError(`Everybody may read ${file}, which holds a passphrase. Run: chmod o= ${file}`);
  return { passphrase: readFileSync(file, "utf8").replace(/\r?\n$/, "") };
}

/** What wraps the keys of a new ledger. */
function wrappingOf(c: Context): { passphrase?: string } {
  if (c.options["wrapKeys"] !== true) {
    if (c.text("keyPassphraseFile") === undefined) return {};
    throw new UsageError("--key-passphrase-file does nothing without --wrap-keys.");
  }
  const { passphrase } = passphraseOf(c);
  if (passphrase === undefined || passphrase.length < PASSPHRASE_MIN_CHARS)
    throw new UsageError(
      `--wrap-keys needs a passphrase of at least ${PASSPHRASE_MIN_CHARS} characters: --key-passphrase-file FILE, or DATAPILOT_KEY_PASSPHRASE.`,
    );
  return { passphrase };
}

export const STORE: readonly [string, string] = [
  "--store <address>",
  "the buckets: s3://HOST:PORT/NAME, or a folder that servers share (default: where init put them)",
];

/** How whoever starts the program opens the ledger. */
export async function openingOf(c: Context, home: Home): Promise<Omit<OpenOptions, "logger">> {
  const address = c.text("store") ?? (await rememberedStore(home));
  return {
    ...placeOf(c, address),
    ...passphraseOf(c),
    ...acceptedHeadOf(c),
    requireLock: c.options["requireLock"] === true,
  };
}

const placeOf = (c: Context, address: string | undefined): StorePlace =>
  address === undefined
    ? {}
    : /^s3(\+http)?:/.test(address)
      ? { s3: s3AccessOf(address, c.io.env) }
      : { folder: address };

function acceptedHeadOf(c: Context): Pick<OpenOptions, "acceptHead"> {
  const text = c.text("acceptHead");
  if (text === undefined) return {};
  const [, size, hex] = /^(\d{1,16}):([0-9a-f]{64})$/.exec(text) ?? [];
  const root = parseHex(hex ?? "");
  if (root === undefined || root.length !== 32)
    throw new UsageError("--accept-head takes SIZE:ROOT, a number and 64 small hex characters.");
  return { acceptHead: { root, size: Number(size) } };
}

const lockText = (lock: "advisory" | "compliance"): string =>
  lock === "advisory"
    ? "advisory: the file system notes locks and does not enforce them, so give checkpoints away"
    : "compliance: locks are enforced";

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
    ["--wrap-keys", "keep the private keys under a passphrase"],
    PASSPHRASE_FILE,
    REQUIRE_LOCK,
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
      requireLock: c.options["requireLock"] === true,
      retentionDays: c.number("retentionDays") ?? DEFAULT_DAYS,
      ...wrappingOf(c),
      root: directory(c),
      solo: c.options["solo"] === true,
      ...(store === undefined ? {} : { s3: s3AccessOf(store, c.io.env) }),
    });
    c.print(
      {
        commit_vkey: answer.commitVkey,
        dir: directory(c),
        genesis: answer.genesis,
        lock: answer.lock,
        log_pq_vkey: answer.logPqVkey,
        log_vkey: answer.logVkey,
        origin: answer.origin,
        policy: answer.policy,
        token: answer.tokens.get(name) ?? "",
        tokens: Object.fromEntries(answer.tokens),
      },
      () =>
        `ledger   ${paint(c.io, "bold", answer.origin)}\ngenesis  ${answer.genesis}\nlog      ${answer.logVkey}\ncommit   ${answer.commitVkey}\nlock     ${lockText(answer.lock)}\n\nGive outsiders ${directory(c)}/trust/ by another way than this server.\n\n${paint(c.io, "bold", "Tokens, shown this once only:")}\n${[...answer.tokens].map(([who, secret]) => `${who}  ${secret}\n`).join("")}\nNext: datapilot server --dir ${directory(c)}\n`,
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

function upkeepOf(c: Context): UpkeepPace {
  const scrubRate = c.number("scrubRate");
  const pause = c.number("scrubPause");
  return {
    ...(scrubRate === undefined ? {} : { scrubRate }),
    ...(pause === undefined ? {} : { scrubPauseMs: pause * 1_000 }),
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
    [
      "--replica",
      "follow while another server leads: answer reads, forward the rest, and take over when it falls silent",
    ],
    ["--read-only", "follow for ever, without keys"],
    ["--peer-url <url>", "address under which other servers reach the HTTP port (default: the public one)"],
    ["--peer-ca <file>", "authority of the other servers' certificates, PEM (default: the system's)"],
    ACCEPT_HEAD,
    PASSPHRASE_FILE,
    REQUIRE_LOCK,
    [
      "--scrub-rate <objects>",
      `objects of the bucket that the leader looks at again in a second, to find what was changed (default ${SCRUB_RATE}; 0 for none)`,
    ],
    ["--scrub-pause <seconds>", "rest between two looks at the whole bucket (default 600)"],
    ["--upload-quota <mib>", "MiB of a project that may be declared and not completed (default 1048576, 1 TiB)"],
    ["--log-level <level>", "debug, info, warn or error (default info)"],
  ],
  remote: false,
  async run(c) {
    const level = c.text("logLevel") ?? "info";
    if (!LEVELS.includes(level))
      throw new UsageError(`--log-level must be one of ${LEVELS.join(", ")}, not ${JSON.stringify(level)}.`);
    const logger = createLogger(level);
    const url = c.text("publicUrl");
    const home = homeOf(directory(c));
    const peerUrl = c.text("peerUrl");
    const peerCa = c.text("peerCa");
    const quotaMib = c.number("uploadQuota");
    await using server = await serve({
      grpc: addressOf("grpc-listen", c.text("grpcListen") ?? "127.0.0.1:8421"),
      home,
      http: addressOf("listen", c.text("listen") ?? "127.0.0.1:8420"),
      logger,
      open: { ...(await openingOf(c, home)), readOnly: c.options["readOnly"] === true },
      publicLog: c.options["publicLog"] === true,
      replica: c.options["replica"] === true,
      upkeep: upkeepOf(c),
      ...(peerUrl === undefined ? {} : { peerUrl }),
      ...(peerCa === undefined ? {} : { peerCa: readFileSync(peerCa) }),
      ...tlsOf(c),
      ...(url === undefined ? {} : { publicUrl: url }),
      ...(quotaMib === undefined ? {} : { uploadQuotaBytes: quotaMib * 1_024 ** 2 }),
    });
    logger.info({ grpc: server.grpcAddress, http: server.url, lock: server.lock }, "listening");
    await new Promise<void>((resolve) => {
      if (c.io.signal.aborted) resolve();
      else c.io.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    logger.info({}, "closing");
  },
  summary: "run the control plane",
  words: "server",
});

type Finding = Pick<ProbeResult, "detail" | "ok" | "remedy"> & { readonly name: string };

/** A check as a line: what it found, or the refusal and what to do about it. */
async function found(name: string, check: () => Promise<string>): Promise<Finding> {
  try {
    return { detail: await check(), name, ok: true, remedy: "" };
  } catch (error) {
    if (error instanceof Fault) return { detail: error.reason, name, ok: false, remedy: error.message };
    if (error instanceof Violation) return { detail: error.code, name, ok: false, remedy: error.message };
    throw error;
  }
}

async function examine(home: Home, opening: Omit<OpenOptions, "logger">): Promise<Finding[]> {
  const lines: Finding[] = [];
  {
    await using buckets = await openStore(home, { ...opening, requireLock: false });
    const { lock } = buckets.store;
    lines.push({
      detail: lockText(lock),
      name: "lock",
      ok: opening.requireLock !== true || lock === "compliance",
      remedy: "use a volume that enforces locks, or leave out --require-lock",
    });
    lines.push(...(await buckets.probe()));
    if (!lines.every((l) => l.ok)) return lines;
    lines.push(
      await found("keys", async () => {
        const origin = await originOf(buckets.store, home, buckets.where);
        await loadKeyFiles(home.keys, origin, opening.passphrase);
        return `three keys of ${origin}, readable by their owner only`;
      }),
    );
  }
  if (!lines.every((l) => l.ok)) return lines;
  return [
    ...lines,
    await found("log", async () => {
      await using ledger = await openLedger(home, { ...opening, isProbed: true, logger: createLogger("error") });
      const { index } = ledger.log;
      const { published, size, stopped } = ledger.log.health();
      if (stopped !== undefined) throw new Violation(stopped, "the log takes no changes");
      return `${size} entries, published ${published}, state ${index.watermark.state.slice(0, 16)}…`;
    }),
  ];
}

export const createDoctorSpec = (): Spec => ({
  example: "datapilot doctor --dir /srv/ledger",
  options: [
    ["--dir <folder>", "the ledger's home; the server must not run"],
    STORE,
    ACCEPT_HEAD,
    PASSPHRASE_FILE,
    REQUIRE_LOCK,
  ],
  remote: false,
  async run(c) {
    const home = homeOf(directory(c));
    const opening = await openingOf(c, home);
    await assertHome(home);
    const lines = await examine(home, opening);
    c.print(
      lines.map(({ detail, name, ok, remedy }) => ({ detail, name, ok, remedy: ok ? "" : remedy })),
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
