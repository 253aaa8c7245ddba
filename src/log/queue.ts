/**
 * What waits for the next commit. Owns fairness and the limits:
 *
 * - projects take turns by bytes (deficit round-robin), so that a busy one does not starve the others;
 * - one project holds at most a quarter of the queue, and a tenth is kept for the control lane, which goes first;
 * - beyond the limits `push` refuses with RATE_LIMITED: the queue never grows without bound.
 */
import { Fault } from "../std/faults.ts";
import type { Lane } from "./submission.ts";

export interface QueueLimits {
  readonly records: number;
  readonly bytes: number;
}

export const QUEUE_LIMITS: QueueLimits = { bytes: 32 << 20, records: 8_192 };
const PROJECT_SHARE = 0.25;
const NORMAL_SHARE = 0.9;
const QUANTUM_BYTES = 64 << 10;

export interface Queued {
  readonly project: string;
  readonly lane: Lane;
  /** What it holds; read when it is pushed and when it leaves, so constant in between. */
  readonly load: QueueLimits;
}

interface Flow<J> {
  readonly jobs: J[];
  head: number;
  deficit: number;
}

class Load {
  records = 0;
  bytes = 0;
  add(load: QueueLimits, sign: 1 | -1): void {
    this.records += sign * load.records;
    this.bytes += sign * load.bytes;
  }
  exceeds(limits: QueueLimits, share: number, more: QueueLimits): boolean {
    return this.records + more.records > limits.records * share || this.bytes + more.bytes > limits.bytes * share;
  }
}

export class FairQueue<J extends Queued> {
  readonly #limits: QueueLimits;
  readonly #control: J[] = [];
  /** Insertion order is the order of turns. */
  readonly #flows = new Map<string, Flow<J>>();
  readonly #total = new Load();
  readonly #projects = new Map<string, Load>();

  constructor(limits: QueueLimits = QUEUE_LIMITS) {
    this.#limits = limits;
  }

  get records(): number {
    return this.#total.records;
  }

  get bytes(): number {
    return this.#total.bytes;
  }

  get empty(): boolean {
    return this.#control.length === 0 && this.#flows.size === 0;
  }

  push(job: J, retryAfterMs: number): void {
    this.assertRoom(job, job.load, retryAfterMs);
    this.#insert(job);
  }

  #insert(job: J): void {
    const share = this.#projects.get(job.project) ?? new Load();
    this.#total.add(job.load, 1);
    share.add(job.load, 1);
    this.#projects.set(job.project, share);
    if (job.lane === "control") {
      this.#control.push(job);
      return;
    }
    const flow = this.#flows.get(job.project);
    if (flow === undefined) this.#flows.set(job.project, { deficit: 0, head: 0, jobs: [job] });
    else flow.jobs.push(job);
  }

  /** Refuses when `load` more of that project and lane would not fit. A group larger than the share fits an idle project. */
  assertRoom(who: { readonly project: string; readonly lane: Lane }, load: QueueLimits, retryAfterMs: number): void {
    const own = this.#projects.get(who.project);
    const full =
      this.#total.records > 0 && this.#total.exceeds(this.#limits, who.lane === "control" ? 1 : NORMAL_SHARE, load);
    const share = who.lane === "normal" && own !== undefined && own.exceeds(this.#limits, PROJECT_SHARE, load);
    if (!full && !share) return;
    const whose = full ? "The ledger's" : "This project's share of the";
    throw new Fault("RATE_LIMITED", `${whose} queue of changes is full; try again in ${retryAfterMs} ms.`, {
      retryAfterMs,
    });
  }

  /** The job whose turn it is; it stays until `take`. */
  peek(): J | undefined {
    const [control] = this.#control;
    if (control !== undefined) return control;
    for (;;) {
      const [first] = this.#flows;
      if (first === undefined) return undefined;
      const [project, flow] = first;
      const job = flow.jobs[flow.head];
      if (job === undefined) {
        this.#flows.delete(project);
        continue;
      }
      if (flow.deficit >= job.load.bytes) return job;
      // Its turn is over: to the end, with one quantum more.
      flow.deficit += QUANTUM_BYTES;
      if (this.#flows.size > 1) {
        this.#flows.delete(project);
        this.#flows.set(project, flow);
      }
    }
  }

  /** Removes what `peek` gave. */
  take(job: J): void {
    this.#total.add(job.load, -1);
    const share = this.#projects.get(job.project);
    share?.add(job.load, -1);
    if (share !== undefined && share.records <= 0) this.#projects.delete(job.project);
    if (job.lane === "control") {
      this.#control.shift();
      return;
    }
    const flow = this.#flows.get(job.project);
    if (flow === undefined) return;
    flow.deficit -= job.load.bytes;
    flow.head++;
    if (flow.head === flow.jobs.length) this.#flows.delete(job.project);
    else if (flow.head > 1_024) {
      flow.jobs.splice(0, flow.head);
      flow.head = 0;
    }
  }

  /** Removes the jobs that nobody waits for any more. */
  discard(dead: (job: J) => boolean): J[] {
    const all = this.drain();
    const gone: J[] = [];
    for (const job of all) {
      if (dead(job)) gone.push(job);
      else this.#insert(job);
    }
    return gone;
  }

  /** Everything, in the order of turns; the queue is empty afterwards. */
  drain(): J[] {
    const all: J[] = [];
    for (let job = this.peek(); job !== undefined; job = this.peek()) {
      this.take(job);
      all.push(job);
    }
    return all;
  }
}
