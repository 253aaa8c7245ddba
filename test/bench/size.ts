/** Whether size matters: the rate of appends, and the memory of the server, at 10⁵ and at 10⁶ entries. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startServer } from "../e2e/server.ts";
import { Clients, runsFor } from "./clients.ts";
import { fillHome } from "./fill.ts";
import { memoryOf } from "./memory.ts";
import { atMost, type Bench, beside, median, type Row } from "./row.ts";

const CLIENTS = 16;

interface At {
  readonly rate: number;
  readonly all: number;
  readonly own: number;
  readonly startS: number;
}

async function measureAt(
  entries: number,
  folder: string,
  quick: boolean,
  progress: (text: string) => void,
): Promise<At> {
  const dir = join(folder, `size-${entries}`);
  const filled = await fillHome(dir, entries, (text) =>
    progress(`filling to ${entries.toLocaleString("en")}: ${text}`),
  );
  const from = performance.now();
  await using server = await startServer(dir);
  const startS = (performance.now() - from) / 1_000;
  await using clients = new Clients();
  const runs = await runsFor(server, filled.workerToken, filled.project, CLIENTS, 2, "size");
  const rates: number[] = [];
  for (let r = 0; r < (quick ? 2 : 4); r++) {
    progress(`appending at ${entries.toLocaleString("en")}, round ${r + 1}`);
    const { calls, seconds } = await clients.measure({
      call: { batch: 1, project: filled.project },
      grpc: server.grpc,
      runs,
      seconds: quick ? 2 : 5,
    });
    // The first round warms up.
    if (r > 0) rates.push(calls / seconds);
  }
  await sleep(500);
  const { all, own } = await memoryOf(server);
  await server.stop();
  return { all, own, rate: median(rates), startS };
}

export const size: Bench = async ({ folder, progress, quick }) => {
  const [small, large] = quick ? [10_000, 50_000] : [100_000, 1_000_000];
  const first = await measureAt(small, folder, quick, progress);
  const second = await measureAt(large, folder, quick, progress);
  const row = (what: string, unit: string, value: number, baselines: Row["baselines"], note?: string): Row => ({
    baselines,
    unit,
    value,
    what,
    ...(note === undefined ? {} : { note }),
  });
  const name = (n: number): string => n.toLocaleString("en");
  return [
    row(`append rate at ${name(large)} entries, ${CLIENTS} clients`, "records/s", second.rate, [
      {
        name: `at ${name(small)} entries`,
        reach: { met: second.rate * 1.3 >= first.rate, words: "within 1.3 ×" },
        value: first.rate,
      },
    ]),
    row(
      `resident memory at ${name(large)} entries, after appending`,
      "MB",
      second.all,
      [
        atMost("goal", second.all, 512, "< 512 MB"),
        beside("without mapped files", second.own),
        beside(`at ${name(small)} entries`, first.all),
      ],
      `the server is ready ${second.startS.toFixed(1)} s after it is started, at ${name(small)} entries ${first.startS.toFixed(1)} s`,
    ),
  ];
};
