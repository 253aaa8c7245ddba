import { expect, test } from "vitest";
import { approverGroups, assertMayVote, authors, type OpenRequest, type Vote } from "../../src/policy/approvals.ts";
import { environmentMatch } from "../../src/policy/environment.ts";
import { Fault } from "../../src/std/faults.ts";
import { formatTime } from "../../src/std/ports.ts";
import { id } from "./bodies.ts";
import { START_MS, scene } from "./records.ts";

const vote: Vote = {
  actionDigest: "d",
  authAgeS: 300,
  groups: ["g"],
  meaning: "approved",
  principal: id(1),
  type: "human",
};
const request: OpenRequest = {
  actionDigest: "d",
  involved: [id(2)],
  requirements: [{ approval: { groups: ["f", "g"], meaning: "approved", quorum: 1 } }],
  voted: [id(3)],
};

test("a vote of somebody eligible counts", () => {
  expect(() => assertMayVote(vote, request)).not.toThrow();
});

test.each<[string, Partial<Vote>]>([
  ["APPROVER_NOT_HUMAN", { type: "service" }],
  ["REAUTHENTICATION_REQUIRED", { authAgeS: 301 }],
  ["REAUTHENTICATION_REQUIRED", { authAgeS: Number.NaN }],
  ["APPROVER_NOT_ELIGIBLE", { groups: ["h"] }],
  ["APPROVER_NOT_ELIGIBLE", { meaning: "reviewed" }],
  ["APPROVER_IS_AUTHOR", { principal: id(2) }],
  ["ALREADY_VOTED", { principal: id(3) }],
  ["APPROVAL_MISMATCH", { actionDigest: "e" }],
])("%s", (reason, change) => {
  try {
    assertMayVote({ ...vote, ...change }, request);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(Fault);
    expect((error as Fault).reason).toBe(reason);
  }
});

test("authors are the writers of a subject, of its revisions and of its runs", () => {
  const s = scene();
  expect(authors(s.modelVersion, s.log.reader)).toEqual([s.author]);
  s.log.add("dataset", { name: "transactions" }, { revises: s.dataset }, { by: s.steward });
  expect(authors(s.dataset, s.log.reader)).toEqual([s.author, s.steward].toSorted());
  s.log.add("run.finish", { status: "RUN_STATUS_SUCCEEDED" }, { run: s.run }, { by: s.steward });
  expect(authors(s.modelVersion, s.log.reader)).toEqual([s.author, s.steward].toSorted());
});

test("groups are those of the ledger and of the project that are in force", () => {
  const s = scene();
  const project = s.log.project ?? s.genesis;
  expect(approverGroups(s.log.reader, s.steward, project, formatTime(START_MS))).toEqual(["data-stewards", "expired"]);
  expect(approverGroups(s.log.reader, s.steward, project, formatTime(START_MS + 1))).toEqual(["data-stewards"]);
  expect(approverGroups(s.log.reader, s.author, project, formatTime(START_MS))).toEqual([]);
});

test("an environment matches what its lock pins", () => {
  const lock = {
    images: [{ digest: "i", name: "n" }],
    lockfiles: [{ digest: "l", path: "p" }],
    packages_digest: "k",
    runtimes: [{ name: "node", version: "24" }],
  };
  const seen = {
    image_digest: "i",
    lockfiles: [
      { digest: "l", path: "p" },
      { digest: "m", path: "q" },
    ],
    packages_digest: "k",
    runtimes: [{ name: "node", version: "24" }],
  };
  expect(environmentMatch(lock, seen)).toEqual({ differences: [], match: "match" });
  expect(environmentMatch(lock, { ...seen, image_digest: "j" })).toEqual({
    differences: ["image is j, not i"],
    match: "mismatch",
  });
  expect(environmentMatch(lock, { ...seen, lockfiles: [] }).match).toBe("unknown");
  expect(environmentMatch(lock, { ...seen, lockfiles: [], packages_digest: "x" }).match).toBe("mismatch");
  expect(environmentMatch(lock, null).match).toBe("unknown");
  expect(environmentMatch({}, seen).match).toBe("unknown");
});
