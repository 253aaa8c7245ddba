/** `datapilot retention`: until when the objects of a ledger are locked. */
import type { JsonValue } from "@bufbuild/protobuf";
import type { Spec } from "../cli/command.ts";
import { EXIT, Exit, paint, progress, table } from "../cli/io.ts";
import { parseCommit } from "../record/commit.ts";
import { parseRecord } from "../record/record.ts";
import { Violation } from "../std/violation.ts";
import { commitKey } from "../store/keys.ts";
import type { ObjectInfo, ObjectStore } from "../store/object-store.ts";
import { type RetentionReport, reportRetention } from "../store/retention-report.ts";
import { assertHome, homeOf, systemClock } from "./home.ts";
import { openStore } from "./ledger.ts";
import { directory, openingOf, STORE } from "./local-commands.ts";

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
  return classes.flatMap(({ class: name, due, months, objects, unlocked }) => [
    [name, String(objects), String(unlocked), String(due), ""],
    ...months.map(({ month, objects: count }) => ["", String(count), "", "", month]),
  ]);
}

export const createRetentionSpec = (): Spec => ({
  example: "datapilot retention --dir /srv/ledger",
  options: [["--dir <folder>", "the ledger's home; the server may run"], STORE],
  remote: false,
  async run(c) {
    const home = homeOf(directory(c));
    const opening = await openingOf(c, home);
    await assertHome(home);
    await using buckets = await openStore(home, { ...opening, requireLock: false });
    const { store } = buckets;
    const days = await retentionOf(store);
    if (days === undefined) throw new Exit(EXIT.usage, "REQUEST_INVALID", `${buckets.where} holds no ledger.`);
    const told = progress(c.io, "objects");
    const objects = store.list("ledger", "", { locks: true, signal: c.io.signal });
    const report = await reportRetention(
      shown(objects, (done) => told.at(done)),
      systemClock.now(),
      days,
    );
    told.end();
    c.print(report as unknown as JsonValue, () => {
      const isFine = report.due + report.unlocked === 0;
      const words = isFine
        ? paint(c.io, "green", "all are locked for more than a quarter of their term")
        : paint(c.io, "red", `${report.unlocked} are not locked, ${report.due} for less than a quarter of their term`);
      return `${table(["class", "objects", "not locked", "due", "locks end in"], rows(report))}term of ${days} days: ${words}\n`;
    });
    if (report.due + report.unlocked > 0) throw new Exit(EXIT.answerIsNo, "", "");
  },
  summary: "count the ledger's objects by class and by the month in which their locks end",
  words: "retention",
});
