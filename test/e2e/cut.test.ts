/**
 * Servers whose connections to a real MinIO break all the time: in the middle of a request, after it and before its answer; and whose
 * requests are sent again, soon or late. The log goes on, nothing is there twice, nothing is lost.
 */
import { randomInt } from "node:crypto";
import { expect, it } from "vitest";
import { seededNumbers } from "../fakes/fault-store.ts";
import { type Fate, type Passing, startProxy } from "../minio/proxy.ts";
import { makeMinioLedger } from "./minio-ledger.ts";
import { hire } from "./workers.ts";

const PERCENT = { "cut-after-request": 6, "cut-in-request": 6, replay: 8 } as const;
const LATEST_REPLAY_MS = 3_000;
/** Each kind of fault meets at least so many commits. */
const OF_EACH = 12;
/** What a condition, or a store that has it already, answers to a request that comes a second time. */
const PRECONDITION_FAILED = 412;

type Kind = keyof typeof PERCENT;

const isCommit = ({ method, path }: Passing): boolean => method === "PUT" && /-ledger\/commits\//.test(path);

it("a network that cuts and repeats requests loses nothing, and makes nothing twice", async () => {
  const seed = randomInt(2 ** 31);
  const random = seededNumbers(seed);
  await using ledger = await makeMinioLedger("cut");
  await using proxy = await startProxy(ledger.minio.port);
  await using leader = await ledger.start(ledger.first.dir, { port: proxy.port });
  await using replica = await ledger.start(await ledger.home("second"), { port: proxy.port, replica: true });
  const workers = await hire(leader, ledger.first.token, random);
  const met: Record<Kind, number> = { "cut-after-request": 0, "cut-in-request": 0, replay: 0 };
  const commits: Record<Kind, number> = { ...met };
  const secondAnswers = new Map<number, number>();
  proxy.rule = (request): Fate => {
    let drawn = random() * 100;
    for (const kind of Object.keys(PERCENT) as Kind[]) {
      // Commits are few, and what matters most.
      drawn -= PERCENT[kind] * (isCommit(request) ? 2 : 1);
      if (drawn >= 0) continue;
      met[kind]++;
      if (isCommit(request)) commits[kind]++;
      if (kind !== "replay") return { kind };
      return {
        afterMs: random() * LATEST_REPLAY_MS,
        answered(status) {
          if (isCommit(request)) secondAnswers.set(status, (secondAnswers.get(status) ?? 0) + 1);
        },
        kind,
      };
    }
    return { kind: "pass" };
  };
  const servers = [leader, replica];
  const isEnough = (): boolean => Object.values(commits).every((n) => n >= OF_EACH);
  await workers.work(() => servers[Math.floor(random() * servers.length)], isEnough);
  proxy.rule = undefined;
  await replica.kill();
  await workers.settle(leader);
  const outcome = await ledger.check(leader, workers);
  expect(outcome.lost, `seed ${seed}`).toEqual([]);
  expect([...secondAnswers.keys()]).toEqual([PRECONDITION_FAILED]);
  const told = (counts: Record<Kind, number>): string =>
    `${counts["cut-in-request"]} cut in the request, ${counts["cut-after-request"]} after it, ${counts.replay} sent twice`;
  console.info(
    `cut network, seed ${seed}: ${told(met)} (of commits: ${told(commits)}); ${outcome.commits} commits, ` +
      `${outcome.acks} acknowledgements, ${outcome.lost.length} lost, ${outcome.unacknowledged} committed and not acknowledged`,
  );
}, 600_000);
