/**
 * A thread in which files are created, from outside. It starts when it is needed, and does not hold a process that has nothing to
 * create. What is asked for in one turn of the event loop goes there in one message, unless each file goes `atOnce`.
 */
import { Worker } from "node:worker_threads";
import type { FileOutcome, FileToCreate } from "./create-group.ts";
import type { Numbered } from "./create-worker.ts";

/** Beside this file in the source; in the bundle at its top, where this code is in a file of the top or in a chunk one below. */
const WORKER = import.meta.url.endsWith(".ts")
  ? new URL("./create-worker.ts", import.meta.url)
  : new URL(import.meta.url.includes("/chunks/") ? "../create-worker.js" : "./create-worker.js", import.meta.url);
/** It needs little beside the bytes that it writes. */
const HEAP_MB = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

export class CreateThread implements AsyncDisposable {
  readonly #root: string;
  readonly #atOnce: boolean;
  #thread: Worker | undefined;
  #asked: Numbered<FileToCreate>[] = [];
  readonly #waiting = new Map<number, (outcome: FileOutcome) => void>();
  #count = 0;

  constructor(root: string, { atOnce = false } = {}) {
    this.#root = root;
    this.#atOnce = atOnce;
  }

  /** Takes the content: its buffer is the thread's afterwards. */
  create(file: FileToCreate): Promise<FileOutcome> {
    return new Promise((resolve) => {
      const number = this.#count++;
      this.#waiting.set(number, resolve);
      this.#asked.push([number, file]);
      if (this.#atOnce) this.#send();
      // A message costs more than what it asks for.
      else if (this.#asked.length === 1) setImmediate(() => this.#send());
    });
  }

  #send(): void {
    const asked = this.#asked;
    this.#asked = [];
    const thread = (this.#thread ??= this.#start());
    thread.ref();
    const buffers = asked.flatMap(([, { content }]) =>
      typeof content === "string" ? [] : [content.buffer as ArrayBuffer],
    );
    thread.postMessage(asked, buffers);
  }

  #start(): Worker {
    const thread = new Worker(WORKER, { resourceLimits: HEAP_MB, workerData: { root: this.#root } });
    thread.on("message", (done: readonly Numbered<FileOutcome>[]) => {
      for (const [number, outcome] of done) {
        this.#waiting.get(number)?.(outcome);
        this.#waiting.delete(number);
      }
      if (this.#waiting.size === 0) thread.unref();
    });
    thread.on("error", (error) => this.#lose(error));
    return thread;
  }

  /** What it was doing may have happened. */
  #lose(error: unknown): void {
    this.#thread = undefined;
    const message = error instanceof Error ? error.message : String(error);
    const lost = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#asked = [];
    for (const resolve of lost)
      resolve({ error: { breaks: false, code: undefined, doing: "writing an object", message }, outcome: "unknown" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.terminate();
    this.#thread = undefined;
  }
}
