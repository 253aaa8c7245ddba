/** The simulation is worth what it catches: each planted fault must be found. */
import { afterEach, expect, it, vi } from "vitest";
import { Changes } from "../../src/log/changes.ts";
import { Committer } from "../../src/log/committer.ts";
import { Materialiser } from "../../src/log/materialise.ts";
import { assertWhole, live } from "./log-scenario.ts";

afterEach(() => vi.restoreAllMocks());

/** A life makes about this many store calls. */
const CALLS = 160;

/** Whether any crash, at any store call, before or after, shows it. */
async function isCaught(): Promise<boolean> {
  for (let n = 0; n < CALLS; n++) {
    for (const kind of ["crash-before", "crash-after", "error-before", "error-after"] as const) {
      try {
        await assertWhole(await live({ faults: [(store) => store.faults.at(n, kind)] }));
      } catch {
        return true;
      }
    }
  }
  return false;
}

it("catches guards that are not checked again", async () => {
  vi.spyOn(Changes.prototype, "unmoved").mockReturnValue(true);
  expect(await isCaught()).toBe(true);
});

it("catches an answer before the commit is durable", async () => {
  // oxlint-disable-next-line typescript/unbound-method
  const commit = Committer.prototype.commit;
  vi.spyOn(Committer.prototype, "commit").mockImplementation(function (this: Committer, ...given) {
    commit.apply(this, given).catch(() => undefined);
    return Promise.resolve({ kind: "ours" });
  });
  expect(await isCaught()).toBe(true);
});

it("catches publication before records are materialised", async () => {
  vi.spyOn(Materialiser.prototype, "reached").mockResolvedValue();
  expect(await isCaught()).toBe(true);
});
