/**
 * The thread that creates files. What is asked for while it works on one group is the next group: the busier the disk, the larger the
 * groups, and the less a file costs.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { assertDefined } from "../../std/assert.ts";
import { type FileOutcome, type FileToCreate, GroupCreator } from "./create-group.ts";

export type Numbered<T> = readonly [number: number, what: T];

/** Files of one group: a first one is told of before the last of thousands is written. */
const MAX_GROUP = 256;
/** What Node makes when nobody says otherwise. */
const POOL_THREADS = 4;

const port = assertDefined(parentPort, "this is a thread");
const { root } = workerData as { readonly root: string };
// Others need the pool too: what is read, what the signer and the index sync.
const creator = new GroupCreator(root, Math.max(2, (Number(process.env["UV_THREADPOOL_SIZE"]) || POOL_THREADS) - 2));

let waiting: Numbered<FileToCreate>[] = [];
let isWorking = false;

async function work(): Promise<void> {
  isWorking = true;
  while (waiting.length > 0) {
    const group = waiting.slice(0, MAX_GROUP);
    waiting = waiting.slice(MAX_GROUP);
    const outcomes = await creator.create(group.map(([, file]) => file));
    port.postMessage(
      group.map(([number], i): Numbered<FileOutcome> => [number, assertDefined(outcomes[i], "one each")]),
    );
    // What came while a sync held this thread.
    for (let more = receiveMessageOnPort(port); more !== undefined; more = receiveMessageOnPort(port))
      waiting.push(...(more.message as Numbered<FileToCreate>[]));
  }
  isWorking = false;
}

port.on("message", (files: readonly Numbered<FileToCreate>[]) => {
  waiting.push(...files);
  if (!isWorking) void work();
});
