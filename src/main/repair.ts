/**
 * `datapilot repair void`: lets the log go on behind slots that somebody filled with bytes that no commit key signed. A person
 * decides, because nothing tells a mistake from an attack; the next commit then names exactly those bytes, for ever.
 */
import { type Spec, UsageError } from "../cli/command.ts";
import { EXIT, Exit } from "../cli/io.ts";
import { sha256Hex } from "../merkle/hash.ts";
import { commitKey } from "../store/keys.ts";
import { type Home, homeOf } from "./home.ts";
import { type OpenOptions, openLedger } from "./ledger.ts";
import { createLogger, directory, openingOf, PASSPHRASE_FILE, STORE } from "./local-commands.ts";

const SHOWN_BYTES = 60;

interface JunkRow {
  readonly n: number;
  readonly key: string;
  readonly size_bytes: number;
  readonly sha256: string;
  /** How the bytes begin, as JSON writes them. */
  readonly begins: string;
}

function slotsOf(args: readonly string[]): readonly number[] {
  const slots = args.map(Number);
  if (slots.some((n, i) => !/^\d+$/.test(args[i] ?? "") || !Number.isSafeInteger(n)))
    throw new UsageError(`Slots are whole numbers, not ${args.join(" ")}.`);
  return slots.toSorted((a, b) => a - b);
}

/** Reads the ledger to its end and gives what lies behind the last commit. */
async function junkOf(home: Home, opening: Omit<OpenOptions, "logger">): Promise<readonly JunkRow[]> {
  await using ledger = await openLedger(home, { ...opening, follow: true, logger: createLogger("error") });
  return ledger.log.junk().map(({ bytes, n }) => ({
    begins: JSON.stringify(Buffer.from(bytes.subarray(0, SHOWN_BYTES)).toString("latin1")),
    key: commitKey(n),
    n,
    sha256: `sha256:${sha256Hex(bytes)}`,
    size_bytes: bytes.length,
  }));
}

function assertExactly(slots: readonly number[], junk: readonly JunkRow[]): void {
  const there = junk.map((j) => j.n);
  if (there.length === slots.length && there.every((n, i) => n === slots[i])) return;
  throw new Exit(
    EXIT.answerIsNo,
    "commit.voids",
    there.length === 0
      ? "There is no junk behind the last commit: what is in these slots is a commit of this ledger, was voided before, or is not there. Nothing was written."
      : `Junk lies in ${there.length === 1 ? "slot" : "slots"} ${there.join(" ")}, and all of it is voided or none. Nothing was written. Repeat: datapilot repair void ${there.join(" ")}`,
  );
}

const table = (junk: readonly JunkRow[]): string =>
  junk.map((j) => `slot ${j.n}  ${j.size_bytes} bytes  ${j.sha256}\n  ${j.key}\n  begins ${j.begins}\n`).join("");

export const createVoidSpec = (): Spec => ({
  example: "datapilot repair void 1234 --dir /srv/ledger --dry-run",
  options: [
    ["--dir <folder>", "the ledger's home; the server must not run there"],
    STORE,
    PASSPHRASE_FILE,
    ["--dry-run", "show what would be voided, and write nothing"],
  ],
  remote: false,
  async run(c) {
    const slots = slotsOf(c.args);
    const dryRun = c.options["dryRun"] === true;
    const home = homeOf(directory(c));
    const opening = await openingOf(c, home);
    const junk = await junkOf(home, opening);
    assertExactly(slots, junk);
    if (!dryRun) {
      await using ledger = await openLedger(home, { ...opening, logger: createLogger("error"), voids: slots });
      if (!ledger.log.health().writing)
        throw new Exit(EXIT.answerIsNo, "commit.voids", "The ledger did not go on; see: datapilot doctor");
    }
    c.print({ slots: junk.map((j) => ({ ...j })), voided: !dryRun }, () =>
      dryRun
        ? `${table(junk)}Nothing was written. None of it is signed by a commit key of this ledger. Keep copies, find out who wrote it, then repeat without --dry-run.\n`
        : `${table(junk)}The next commit names these bytes, and readers pass over them. Start the server again.\n`,
    );
  },
  summary: "go on behind slots of junk, which the next commit names",
  words: "void <slots...>",
});
