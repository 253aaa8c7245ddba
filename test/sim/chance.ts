/** A run that a seed alone describes: which machines, which clients, and what befalls them. */
import type { FaultKind } from "../fakes/fault-store.ts";
import { seededNumbers } from "../fakes/fault-store.ts";
import { commands } from "./commands.ts";
import { datasets } from "./datasets.ts";
import type { SimulationOptions } from "./simulation.ts";

const RATES: Readonly<Record<FaultKind, number>> = {
  "crash-after": 0.003,
  "crash-before": 0.003,
  delay: 0.05,
  "disk-full": 0.02,
  duplicate: 0.03,
  "error-after": 0.04,
  "error-before": 0.04,
  stalled: 0.01,
  torn: 0.03,
  zombie: 0.04,
};

const KINDS = Object.keys(RATES) as FaultKind[];
const LEADERS = 5;

export function byChance(seed: number): SimulationOptions {
  const random = seededNumbers(seed ^ 0x5eed);
  // Some runs know some faults only: those then meet each other more often.
  const scale = random() < 0.3 ? 2.5 : 1;
  const rates = KINDS.flatMap((kind) => (scale > 1 && random() < 0.6 ? [] : [[kind, scale * RATES[kind]] as const]));
  const troubled = random();
  const withCommands = random() < 0.3;
  return {
    lease: random() < 0.4,
    leaders: random() < 0.3 ? 1 : 2 + Math.floor(random() * (LEADERS - 1)),
    ...(random() < 0.3 ? { queueLimits: { bytes: 1 << 20, records: 4 } } : {}),
    rates: Object.fromEntries(rates),
    scenario: withCommands
      ? commands(2 + Math.floor(random() * 2))
      : datasets({ clients: 2 + Math.floor(random() * 4), requests: 3 + Math.floor(random() * 5) }),
    seed,
    troubles: {
      crash: 0.002 * troubled,
      cut: 0.001,
      jump: 0.001,
      pause: 0.002 * troubled,
      restart: 0.0005,
    },
  };
}
