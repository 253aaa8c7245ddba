/**
 * Another process on a file store: `create` writes commits until it is killed and names each that was created, `count` adds
 * to a counter in head by compare-and-swap.
 */
import { utf8 } from "../../src/std/bytes.ts";
import { createFileStore } from "../../src/store/fs/file-store.ts";
import { commitKey, LEADER } from "../../src/store/keys.ts";
import { bodyOf, machineClock, machineRandom } from "./machine.ts";

const [, , job, root = "", amount = "0"] = process.argv;
const store = await createFileStore({
  root,
  allowAdvisoryLock: true,
  minimumFreeBytes: 0,
  clock: machineClock,
  random: machineRandom,
});

async function createForEver(): Promise<void> {
  let n = 0;
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (;;) {
        const key = commitKey(n++);
        const put = await store.create("ledger", key, bodyOf(key), { retainUntil: Date.UTC(2035, 0, 1) });
        if (put.outcome !== "created") throw new Error(`${key}: ${put.outcome}`);
        // Waits for a reader that is slow.
        await new Promise((resolve) => process.stdout.write(`${key}\n`, resolve));
      }
    }),
  );
}

async function count(times: number): Promise<void> {
  for (let done = 0; done < times; ) {
    const present = await store.get("head", LEADER);
    const value = present === null ? 0 : Number(Buffer.from(present.body).toString());
    const swapped = await store.swap("head", LEADER, utf8(String(value + 1)), present?.etag ?? null);
    if (swapped.outcome === "swapped") done++;
  }
  await store[Symbol.asyncDispose]();
}

await (job === "create" ? createForEver() : count(Number(amount)));
