/**
 * The long form: seeds that no run had before, and real servers that are killed at random, on the embedded store and on MinIO, in turn
 * until the time is over and at least 200 kills are done. The first argument is the number of minutes, 60 when absent. Ends with the
 * sum of each in one line, or with the first run that failed and the command that shows it again.
 */
import { randomInt } from "node:crypto";
import { type Outcome, summary, torture, tortureMinio } from "../e2e/torture.ts";
import { byChance } from "./chance.ts";
import { Tally } from "./tally.ts";

const KILLS = 200;
/** Of one ledger. */
const KILLS_IN_TURN = { embedded: 25, minio: 40 } as const;
/** Of the simulation, in turn. */
const TURN_MS = 60_000;

const minutes = Number(process.argv[2] ?? 60);
if (!(minutes > 0))
  throw new Error(`${process.argv[2]} is not a number of minutes: say how long, as in SOAK_MINUTES=10`);
const endMs = performance.now() + minutes * 60_000;

const simulated = new Tally();
const outcomes: Record<keyof typeof KILLS_IN_TURN, Outcome[]> = { embedded: [], minio: [] };
const kills = (): number => Object.values(outcomes).reduce((n, of) => n + of.reduce((m, o) => m + o.kills, 0), 0);
const sums = (): string =>
  `simulation: ${simulated.toString()}\n` +
  `servers on the embedded store: ${summary(outcomes.embedded)}\n` +
  `servers on MinIO, and MinIO: ${summary(outcomes.minio)}`;

async function simulateFor(ms: number): Promise<void> {
  const until = performance.now() + ms;
  for (let seed = randomInt(2 ** 31); performance.now() < until; seed++)
    await simulated.run(byChance(seed), `make sim SEED=${seed}`);
}

async function kill(store: keyof typeof KILLS_IN_TURN): Promise<void> {
  const run = store === "minio" ? tortureMinio : torture;
  const outcome = await run(randomInt(2 ** 31), KILLS_IN_TURN[store]);
  outcomes[store].push(outcome);
  if (outcome.lost.length > 0)
    throw new Error(`servers that were killed lost what they had acknowledged:\n${outcome.lost.join("\n")}`);
}

// Servers end with this process.
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    console.info(sums());
    process.exit(130);
  });

const isOver = (): boolean => performance.now() >= endMs && kills() >= KILLS;
try {
  while (!isOver()) {
    await simulateFor(Math.min(TURN_MS, endMs - performance.now()));
    for (const store of ["embedded", "minio"] as const) if (!isOver()) await kill(store);
    console.info(sums());
  }
} catch (error) {
  console.error(`${sums()}\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  process.exitCode = 1;
}
