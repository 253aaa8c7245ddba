/**
 * A store that betrays: the ledger survives it, or refuses to go on with a code that says what it found.
 *
 * Markers, shadows and second pools meet up to three machines, that lead by the lease or without it: whatever the store lets them
 * write twice, no two roots are signed for one size, because a commit counts only when its slot never held another one. A store
 * that forgets what it acknowledged carries one machine: another one that had not read it yet cannot know
 * (`docs/adr/0017-a-commit-is-alone-in-its-slot.md`).
 */
import { describe, expect, it } from "vitest";
import type { Betrayal } from "./betrayed-store.ts";
import { datasets } from "./datasets.ts";
import { Tally } from "./tally.ts";

const SEEDS = 20;
const MACHINES: Readonly<Record<Betrayal, number>> = { amnesia: 1, "delete-marker": 3, shadow: 3, "two-pools": 3 };

/** What a refusal may say. */
const REFUSALS: Readonly<Record<Betrayal, readonly string[]>> = {
  amnesia: ["commit.gap", "commit.hidden", "ledger.missing", "ledger.rollback"],
  "delete-marker": ["commit.hidden"],
  shadow: ["commit.hidden"],
  "two-pools": ["commit.hidden"],
};

const BY_LEASE = [true, false];

describe.each(Object.keys(REFUSALS) as Betrayal[])("%s", (betrayal) => {
  it.each(BY_LEASE)("is survived or refused, by lease: %s", async (lease) => {
    const tally = new Tally();
    const ends = new Map<string, number>();
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { hasFoundHidden, isBetrayed, refusal } = await tally.run(
        {
          betrayal,
          leaders: 1 + (seed % MACHINES[betrayal]),
          lease,
          rates: { "crash-after": 0.01, "crash-before": 0.01, "error-after": 0.04, "error-before": 0.04, zombie: 0.04 },
          scenario: datasets({ clients: 3, requests: 4 }),
          seed,
          troubles: { crash: 0.004 },
        },
        `vitest run test/sim/betrayal.test.ts (${betrayal}, lease ${lease}, seed ${seed})`,
      );
      const end = refusal ?? (hasFoundHidden ? "found it and went on" : "went on");
      if (isBetrayed) ends.set(end, (ends.get(end) ?? 0) + 1);
    }
    console.info(`${betrayal}: ${[...ends].map(([end, n]) => `${end} ${n}`).join(", ")}`);
    for (const end of ends.keys()) expect(["went on", "found it and went on", ...REFUSALS[betrayal]]).toContain(end);
  });
});

it("is not written to again once it has two pools and is probed", async () => {
  let betrayed = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const { isBetrayed, refusal } = await new Tally().run(
      {
        betrayal: "two-pools",
        probes: true,
        scenario: datasets({ clients: 3, requests: 4 }),
        seed,
        troubles: { crash: 0.002 },
      },
      `vitest run test/sim/betrayal.test.ts (probes, seed ${seed})`,
    );
    expect(refusal).toBe(isBetrayed ? "STORE_UNAVAILABLE" : undefined);
    if (isBetrayed) betrayed++;
  }
  expect(betrayed).toBeGreaterThan(0);
});
