/**
 * The threads in which files are created. Owns which thread does what: what is asked for in one turn of the event loop goes to an
 * idle one together, and what comes while all are busy is the next one's work. Threads start when they are needed, and hold no
 * process that has nothing to create.
 */
import { Worker } from "node:worker_threads";
import type { FileOutcome, FileToCreate } from "./create-worker.ts";

/** Beside this file in the source; in the bundle at its top, where this code is in a file of the top or in a chunk one below. */
const WORKER = import.meta.url.endsWith(".ts")
  ? new URL("./create-worker.ts", import.meta.url)
  : new URL(import.meta.url.includes("/chunks/") ? "../create-worker.js" : "./create-worker.js", import.meta.url);
/** As many syncs share what the disk does for one; each costs some 15 MB. */
const THREADS = 3;
/** Bounds how long one that goes first waits for those before it. */
const TOGETHER = 8;
/** A thread needs little beside the bytes that it writes. */
const HEAP_MB = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2 };

interface Waiting {
  readonly file: FileToCreate;
  resolve(outcome: FileOutcome): void;
}

export class CreateThreads implements AsyncDisposable {
  readonly #threads = new Map<Worker, readonly Waiting[]>();
  readonly #waiting: Waiting[] = [];
  #isDue = false;

  /** Takes the content: its buffer is the thread's afterwards. */
  create(file: FileToCreate): Promise<FileOutcome> {
    return new Promise((resolve) => {
      this.#waiting.push({ file, resolve });
      // A message costs more than what it asks for.
      if (this.#isDue) return;
      this.#isDue = true;
      setImmediate(() => {
        this.#isDue = false;
        this.#dispatch();
      });
    });
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const thread = this.#idle();
      if (thread === undefined) return;
      const together = this.#waiting.splice(0, TOGETHER);
      this.#threads.set(thread, together);
      thread.ref();
      const files = together.map((w) => w.file);
      thread.postMessage(
        files,
        files.flatMap(({ content }) => (typeof content === "string" ? [] : [content.buffer as ArrayBuffer])),
      );
    }
  }

  #idle(): Worker | undefined {
    for (const [thread, work] of this.#threads) if (work.length === 0) return thread;
    return this.#threads.size < THREADS ? this.#start() : undefined;
  }

  #start(): Worker {
    const thread = new Worker(WORKER, { resourceLimits: HEAP_MB });
    thread.on("message", (outcomes: readonly FileOutcome[]) => {
      const done = this.#threads.get(thread) ?? [];
      this.#threads.set(thread, []);
      thread.unref();
      for (const [i, outcome] of outcomes.entries()) done[i]?.resolve(outcome);
      this.#dispatch();
    });
    thread.on("error", (error) => this.#lose(thread, error));
    this.#threads.set(thread, []);
    return thread;
  }

  /** What it was doing may have happened. */
  #lose(thread: Worker, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    const lost = this.#threads.get(thread) ?? [];
    this.#threads.delete(thread);
    for (const waiting of lost)
      waiting.resolve({
        error: { code: undefined, doing: "writing an object", isSync: false, message },
        outcome: "unknown",
      });
    this.#dispatch();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const threads = [...this.#threads.keys()];
    this.#threads.clear();
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}
