/** The sum of many runs, in one line. */
import { Broken } from "./invariants.ts";
import { type SimulationOptions, type Summary, simulate } from "./simulation.ts";

export class Tally {
  runs = 0;
  faults = 0;
  commits = 0;
  acknowledged = 0;
  lost = 0;
  unacknowledged = 0;

  /** Runs, counts, and says how to see a run that fails again. */
  async run(options: SimulationOptions, replay: string): Promise<Summary> {
    try {
      const summary = await simulate(options);
      this.runs++;
      this.faults += summary.faults;
      this.commits += summary.commits;
      this.acknowledged += summary.acknowledged;
      this.unacknowledged += summary.unacknowledged;
      return summary;
    } catch (error) {
      if (error instanceof Broken && error.invariant === "I1") this.lost++;
      throw new Error(`${error instanceof Error ? error.message : String(error)}\nTo see it again: ${replay}`, {
        cause: error,
      });
    }
  }

  toString(): string {
    const n = (count: number): string => count.toLocaleString("en");
    return (
      `${n(this.faults)} faults in ${n(this.runs)} runs: ${n(this.commits)} commits, ` +
      `${n(this.acknowledged)} acknowledgements, ${n(this.lost)} lost, ` +
      `${n(this.unacknowledged)} requests committed and not acknowledged`
    );
  }
}
