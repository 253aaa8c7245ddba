/** Receipts and records, and what is wrong with those that were changed. */
import { describe, expect, it } from "vitest";
import { utf8 } from "../../src/std/bytes.ts";
import { DEFAULT_LIMITS } from "../../src/verify/limits.ts";
import { namesContent, type ProofReport, verifyProof } from "../../src/verify/proof.ts";
import { readFile, trustOf } from "./vector-runner.ts";
import type { Given } from "./vectors.ts";

const GIVEN: Given = { policy: "policy.txt" };
const proof = new TextDecoder().decode(readFile("receipt.tlog-proof"));
const record = readFile("record.json");

const verify = (text: string, bytes?: Uint8Array, given: Given = GIVEN): ProofReport =>
  verifyProof(utf8(text), bytes, trustOf(given), DEFAULT_LIMITS);

function found({ checks, verdict }: ProofReport): string {
  const failed = checks.find((c) => c.status === "fail");
  return failed === undefined ? verdict : `${failed.id} ${failed.failures.map((f) => f.code).join()}`;
}

/** Another character of base64 in the place of the one at `at`. */
const swap = (text: string, at: number): string =>
  text.slice(0, at) + (text[at] === "A" ? "B" : "A") + text.slice(at + 1);

it("a receipt, with and without the record's bytes", () => {
  const bare = verify(proof);
  expect(bare).toMatchObject({ index: 9, verdict: "pass" });
  expect(bare.record).toMatch(/^sha256:/);
  expect(bare.checks.map((c) => c.id)).toEqual(["container", "checkpoint", "history", "entries"]);
  expect(verify(proof, record)).toMatchObject({ index: 9, verdict: "pass" });
  expect(verify(proof, record, { ...GIVEN, kept: ["kept-same"] }).verdict).toBe("pass");
});

describe("finds", () => {
  it.each([
    ["another form", proof.replace("@v1", "@v2"), "container pack.malformed"],
    ["another index", proof.replace("index 9", "index 8"), "entries inclusion.root"],
    ["an index beyond the tree", proof.replace("index 9", "index 99"), "entries inclusion.root"],
    ["another entry", swap(proof, proof.indexOf("extra ") + 30), "entries inclusion.root"],
    ["another hash", swap(proof, proof.indexOf("index 9\n") + 9), "entries inclusion.root"],
    ["no signature of the log", swap(proof, proof.indexOf("\u2014 ") + 60), "checkpoint checkpoint.signature"],
    ["no cosignature", proof.slice(0, proof.lastIndexOf("\u2014 ")), "checkpoint checkpoint.quorum"],
    ["an extension line", proof.replace("\n\n\u2014", "\nmore\n\n\u2014"), "checkpoint checkpoint.malformed"],
  ])("%s", (_, text, code) => {
    const report = verify(text, record);
    expect(found(report)).toBe(code);
    // Nothing that was not proven is said.
    expect(report.record).toBeNull();
    expect(report.checks.filter((c) => c.status === "pass").length).toBeLessThan(4);
  });

  it("another record, another tree", () => {
    expect(found(verify(proof, utf8("{}")))).toBe("records record.digest");
    expect(found(verify(proof, record, { ...GIVEN, kept: ["kept-fork"] }))).toBe("history checkpoint.fork");
    expect(found(verify(proof, record, { policy: "policy-other.txt" }))).toBe("checkpoint checkpoint.origin");
  });
});

it("is incomplete without the entry, and with a kept note that it has no proof from", () => {
  const bare = verify(proof.replace(/^extra .*\n/m, ""), record);
  expect(bare).toMatchObject({ record: null, verdict: "incomplete" });
  expect(verify(proof, record, { ...GIVEN, kept: ["kept"] }).verdict).toBe("incomplete");
});

it("says whether the record names a file", () => {
  const other = `sha256:${"5".repeat(64)}`;
  const report = verifyProof(utf8(proof), record, trustOf(GIVEN), DEFAULT_LIMITS, other);
  expect(found(report)).toBe("content content.digest");
  const tampered = verifyProof(utf8(proof), utf8("{}"), trustOf(GIVEN), DEFAULT_LIMITS, other);
  expect(tampered.checks.at(-1)).toMatchObject({ id: "content", status: "skipped" });
  const links = [{ rel: "manifest", to: other }] as never;
  expect(namesContent({ body: { digest: other }, links: [] }, other)).toBe(true);
  expect(namesContent({ body: { files: [{ digest: other, path: "a" }] }, links: [] }, other)).toBe(true);
  expect(namesContent({ body: { files: [other, null], name: other }, links: [] }, other)).toBe(false);
  expect(namesContent({ body: {}, links }, other)).toBeUndefined();
});

it("refuses a question with a kept note that no key signed", () => {
  const stranger = {
    ...trustOf(GIVEN),
    kept: [utf8(proof.slice(proof.indexOf("\n\n") + 2).replace("\n11\n", "\n12\n"))],
  };
  expect(() => verifyProof(utf8(proof), record, stranger, DEFAULT_LIMITS)).toThrow(
    expect.objectContaining({ code: "kept.signature" }),
  );
});
