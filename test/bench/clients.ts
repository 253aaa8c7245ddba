/** Owns the process of clients, and the runs that they report to. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { clientOf, enrol, grpcTransport, type ServerProcess, startRun } from "../e2e/server.ts";
import type { Measured, Order, ReportedRun } from "./load.ts";

const LOAD = fileURLToPath(new URL("./load.ts", import.meta.url));
/** Clients keep to the last core, so that what they cost is not the server's. */
const PIN = existsSync("/usr/bin/taskset") ? ["taskset", "-c", "1"] : [];

export class Clients implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #next: Record<string, number> = {};

  /** Batches of each run that were acknowledged, from the first on. */
  get acknowledged(): Readonly<Record<string, number>> {
    return this.#next;
  }

  constructor() {
    const words = [...PIN, process.execPath, LOAD];
    this.#child = spawn(words[0] ?? "", words.slice(1), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  }

  async measure(order: Omit<Order, "from">): Promise<Measured> {
    this.#child.send({ ...order, from: this.#next } satisfies Order);
    const ending = new AbortController();
    const ended = once(this.#child, "exit", { signal: ending.signal }).then(
      () => {
        throw new Error("the process of clients ended");
      },
      () => undefined,
    );
    const answer = once(this.#child, "message", { signal: ending.signal });
    const [measured] = (await Promise.race([answer, ended])) as [Measured];
    ending.abort();
    Object.assign(this.#next, measured.until);
    return measured;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill();
    await gone;
  }
}

/** Enough runs for `clients` clients, `each` for one. */
export async function runsFor(
  server: ServerProcess,
  token: string,
  project: string,
  clients: number,
  each: number,
  label: string,
): Promise<ReportedRun[][]> {
  const transport = grpcTransport(server, token);
  const all: ReportedRun[][] = [];
  for (let c = 0; c < clients; c++)
    all.push(
      await Promise.all(Array.from({ length: each }, (_, k) => startRun(transport, project, `${label}-${c}-${k}`))),
    );
  return all;
}

/** Waits until the server has nothing left to do behind its answers, so that no round pays for the one before. */
export async function settle(server: ServerProcess, token: string): Promise<void> {
  const ledger = clientOf(LedgerService, grpcTransport(server, token));
  for (;;) {
    const { publishedSize, treeSize } = await ledger.getHealth({});
    if (publishedSize === treeSize) return;
    await sleep(100);
  }
}

export { enrol };
