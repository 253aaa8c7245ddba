/** What the disk gives: files created if absent and flushed, one after the other or several at a time. */
import { mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { median } from "./row.ts";

export interface RawRate {
  readonly perSecond: number;
  readonly p50Ms: number;
}

/** Creates files of `body` for `seconds`, `inFlight` at a time, each with its own flush. */
export async function rawCreates(
  parent: string,
  body: Uint8Array,
  inFlight: number,
  seconds: number,
): Promise<RawRate> {
  const folder = join(parent, `raw-${inFlight}-${body.length}`);
  await mkdir(folder);
  const times: number[] = [];
  const until = performance.now() + seconds * 1_000;
  const begun = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (performance.now() < until) {
        const from = performance.now();
        const file = await open(join(folder, String(next++)), "wx");
        await file.writeFile(body);
        await file.sync();
        await file.close();
        times.push(performance.now() - from);
      }
    }),
  );
  const perSecond = (times.length / (performance.now() - begun)) * 1_000;
  await rm(folder, { recursive: true });
  return { p50Ms: median(times), perSecond };
}
