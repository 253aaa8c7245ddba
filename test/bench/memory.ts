/** What a server takes of the machine, as Linux tells. */
import { readFile } from "node:fs/promises";

/** Resident memory in MB: all of it, and without what is only mapped from files. */
export async function memoryOf(process: {
  readonly pid: number;
}): Promise<{ readonly all: number; readonly own: number }> {
  const text = await readFile(`/proc/${process.pid}/status`, "utf8");
  const mb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) / 1_024;
  return { all: mb("VmRSS"), own: mb("RssAnon") };
}
