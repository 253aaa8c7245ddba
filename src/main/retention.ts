/** `datapilot retention`: until when the objects of a ledger are locked, and prolonging what is due. */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { create, type JsonValue, toJson } from "@bufbuild/protobuf";
import { OperationOutcome, OperationSchema, OperationType } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { type Connection, exitOf } from "../cli/client.ts";
import type { Context, Spec } from "../cli/command.ts";
import { EXIT, Exit, paint, progress, table } from "../cli/io.ts";
import type { Finding } from "../log/findings.ts";
import { type Renewed, renew } from "../log/renewal.ts";
import { beginsOf, renewalOf } from "../log/upkeep.ts";
import { parseCommit } from "../record/commit.ts";
import { parseRecord } from "../record/record.ts";
import { formatTime } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { commitKey } from "../store/keys.ts";
import type { ObjectInfo, ObjectStore } from "../store/object-store.ts";
import { type RetentionReport, reportRetention } from "../store/retention-report.ts";
import { assertHome, type Home, homeOf, systemClock } from "./home.ts";
import { type OpenOptions, openLedger, openStore } from "./ledger.ts";
import { createLogger, directory, openingOf, STORE } from "./local-commands.ts";

/** Days for which the genesis says that objects are locked; undefined when there is none that says so. */
export async function retentionOf(store: Pick<ObjectStore, "get">): Promise<number | undefined> {
  try {
    const genesis = await store.get("ledger", commitKey(0));
    const [ledger] = genesis === null ? [] : parseCommit(genesis.body).items;
    const days = parseRecord(ledger?.record ?? new Uint8Array()).body["default_retention_days"];
    return typeof days === "number" && days >= 1 ? Math.floor(days) : undefined;
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}

async function* shown(objects: AsyncIterable<ObjectInfo>, at: (done: number) => void): AsyncGenerator<ObjectInfo> {
  let done = 0;
  for await (const info of objects) {
    at(++done);
    yield info;
  }
}

function rows({ classes }: RetentionReport): string[][] {
  return classes.flatMap(({ class: name, due, longer, months, objects, unlocked }) => [
    [name, String(objects), String(unlocked), String(due), String(longer), ""],
    ...months.map(({ month, objects: count }) => ["", String(count), "", "", "", month]),
  ]);
}

async function report(c: Context, store: ObjectStore, days: number): Promise<void> {
  const told = progress(c.io, "objects");
  const objects = store.list("ledger", "", { locks: true, signal: c.io.signal });
  const found = await reportRetention(
    shown(objects, (done) => told.at(done)),
    systemClock.now(),
    days,
  );
  told.end();
  c.print(found as unknown as JsonValue, () => {
    const isFine = found.due + found.unlocked === 0;
    const words = isFine
      ? paint(c.io, "green", "all are locked for more than a quarter of their term")
      : paint(
          c.io,
          "red",
          `${found.unlocked} are not locked, ${found.due} for less than a quarter of their term; the leader prolongs them, or: datapilot retention --renew`,
        );
    return `${table(["class", "objects", "not locked", "due", "longer", "locks end in"], rows(found))}term of ${days} days: ${words}\n`;
  });
  if (found.due + found.unlocked > 0) throw new Exit(EXIT.answerIsNo, "", "");
}

/**
 * Prolongs what is due, beside a server that may run, and has that server record it. What is right is judged by the log: it is read
 * from the bucket into an index of this command's own, which is removed at the end.
 */
async function renewDue(
  c: Context,
  home: Home,
  opening: Omit<OpenOptions, "logger">,
  store: ObjectStore,
): Promise<void> {
  const k = c.connect();
  const { genesis, treeSize } = await k.ledger.getHealth({});
  // Whoever may not record what he prolongs learns it before anything is prolonged.
  await k.ledger.recordOperation({
    operation: {
      outcome: OperationOutcome.DONE,
      range: { from: 0, to: treeSize },
      type: OperationType.RETENTION,
      until: formatTime(systemClock.now()),
    },
    validateOnly: true,
  });
  const index = await mkdtemp(join(home.root, "renewal-"));
  try {
    const told = progress(c.io, "objects");
    await using ledger = await openLedger(
      { ...home, index },
      { ...opening, follow: true, logger: createLogger("error"), readOnly: true },
    );
    if (ledger.log.genesis !== genesis)
      throw new Exit(
        EXIT.usage,
        "REQUEST_INVALID",
        `${k.url} serves another ledger than ${home.root} holds. Correct --url or --dir.`,
      );
    const wrong: Finding[] = [];
    const renewed: Renewed[] = [];
    const work = renew(
      {
        clock: systemClock,
        index: ledger.log.index,
        progress: (done) => told.at(done),
        report: (finding) => void wrong.push(finding),
        signal: c.io.signal,
        store,
      },
      beginsOf(ledger.log),
    );
    for await (const range of work) {
      renewed.push(range);
      await record(c, k, range, wrong.splice(0));
    }
    told.end();
    tell(c, renewed);
  } finally {
    await rm(index, { force: true, recursive: true });
  }
}

/** What cannot be recorded is told as it would have been, so that it can be recorded later. */
async function record(c: Context, k: Connection, renewed: Renewed, wrong: readonly Finding[]): Promise<void> {
  const operation = create(OperationSchema, renewalOf(renewed, wrong) as object);
  for (const { code, detail, object } of wrong) c.io.err(`${code} ${object}: ${detail}\n`);
  try {
    await k.ledger.recordOperation({ operation });
  } catch (error) {
    const body = JSON.stringify(toJson(OperationSchema, operation, { useProtoFieldName: true }));
    const { message, reason } = exitOf(error);
    throw new Exit(
      EXIT.notRecorded,
      reason,
      `Locks were prolonged, and that is not recorded: ${message}\nRecord it later with datapilot log record-operation FILE:\n${body}`,
    );
  }
}

function tell(c: Context, renewed: readonly Renewed[]): void {
  const sum = (of: keyof Renewed["counts"]): number => renewed.reduce((n, { counts }) => n + counts[of], 0);
  const reason = renewed.at(-1)?.reason;
  const counts = { held: sum("held"), objects: sum("objects"), prolonged: sum("prolonged"), wrong: sum("wrong") };
  c.print({ ...counts, ranges: renewed.length, reason: reason ?? null }, () =>
    renewed.length === 0
      ? "nothing is due\n"
      : `${counts.objects} objects: ${counts.prolonged} prolonged, ${counts.held} were locked for as long already, ${counts.wrong} could not be\n${reason === undefined ? "" : `broken off: ${reason}. Run it again, it goes on.\n`}`,
  );
  if (counts.wrong > 0) throw new Exit(EXIT.answerIsNo, "", "");
  if (reason !== undefined) throw new Exit(EXIT.incomplete, "", "");
}

export const createRetentionSpec = (): Spec => ({
  example: "datapilot retention --dir /srv/ledger",
  options: [
    ["--dir <folder>", "the ledger's home; the server may run"],
    STORE,
    ["--renew", "prolong the locks that are due, with the writer's credentials; the server records it"],
  ],
  async run(c) {
    const home = homeOf(directory(c));
    const opening = await openingOf(c, home);
    await assertHome(home);
    await using buckets = await openStore(home, { ...opening, requireLock: false });
    const days = await retentionOf(buckets.store);
    if (days === undefined) throw new Exit(EXIT.usage, "REQUEST_INVALID", `${buckets.where} holds no ledger.`);
    if (c.options["renew"] === true) await renewDue(c, home, { ...opening, requireLock: false }, buckets.store);
    else await report(c, buckets.store, days);
  },
  summary: "count the ledger's objects by class and by the month in which their locks end, or prolong what is due",
  words: "retention",
});
