/**
 * The long form: seeds that no run had before, and real servers that are killed at random, in turn until the time is over and at
 * least 200 kills are done. The first argument is the number of minutes, 60 when absent. Ends with the sum of both in one line each,
 * or with the first run that failed and the command that shows it again.
 */
import { randomInt } from "node:crypto";
import { torture } from "../e2e/torture.ts";
import { byChance } from "./chance.ts";
import { Tally } from "./tally.ts";

const KILLS = 200;
/** Of one ledger. */
const KILLS_IN_TURN = 25;
/** Of the simulation, in turn. */
const TURN_MS = 60_000;

const minutes = Number(process.argv[2] ?? 60);
if (!(minutes > 0))
  throw new Error(`${process.argv[2]} is not a number of minutes: say how long, as in SOAK_MINUTES=10`);
const endMs = performance.now() + minutes * 60_000;

const simulated = new Tally();
const killed = { acks: 0, kills: 0, lost: 0, records: 0, unacknowledged: 0 };
const sums = (): string =>
  `simulation: ${simulated.toString()}\n` +
  `real servers: ${killed.kills} kills, ${killed.acks} acknowledgements of ${killed.records} records, ${killed.lost} lost, ` +
  `${killed.unacknowledged} requests committed and not acknowledged`;

async function simulateFor(ms: number): Promise<void> {
  const until = performance.now() + ms;
  for (let seed = randomInt(2 ** 31); performance.now() < until; seed++)
    await simulated.run(byChance(seed), `make sim SEED=${seed}`);
}

async function kill(): Promise<void> {
  const seed = randomInt(2 ** 31);
  const { acks, kills, lost, records, unacknowledged } = await torture(seed, KILLS_IN_TURN);
  killed.acks += acks;
  killed.kills += kills;
  killed.lost += lost.length;
  killed.records += records;
  killed.unacknowledged += unacknowledged;
  if (lost.length > 0) throw new Error(`servers that were killed lost what they had acknowledged:\n${lost.join("\n")}`);
}

// Servers end with this process.
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    console.info(sums());
    process.exit(130);
  });

try {
  while (performance.now() < endMs || killed.kills < KILLS) {
    await simulateFor(Math.min(TURN_MS, endMs - performance.now()));
    if (killed.kills < KILLS || performance.now() < endMs) await kill();
    console.info(sums());
  }
} catch (error) {
  console.error(`${sums()}\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  process.exitCode = 1;
}
