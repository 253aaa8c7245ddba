import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sha256, sha256Hex } from "../../src/merkle/hash.ts";
import { pureVerifier } from "../../src/note/signatures.ts";
import { CommitChain, type NextRecord, type ValidCommit } from "../../src/record/chain.ts";
import { formatCommit, parseCommit } from "../../src/record/commit.ts";
import { formatRecord, type LedgerRecord, recordId } from "../../src/record/record.ts";
import { type Digest, idOf, type RecordId } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Violation } from "../../src/std/violation.ts";
import { hex, mth, readVector } from "../merkle/model.ts";
import { commitSigner, genesisRecords, ORIGIN } from "./ledger.ts";

interface State {
  readonly n: number;
  readonly size: number;
  readonly root: string;
  readonly prev_hash: string;
  readonly epoch: number;
  readonly time: string;
  readonly heads: Record<string, unknown>;
}
interface Vectors {
  readonly origin: string;
  readonly chain: { junk?: string[]; commit: string; state: State }[];
  readonly invalid: { name: string; code: string; after: number; junk?: string[]; commit: string }[];
}

const { chain: steps, invalid, origin } = readVector("record/commits.json") as Vectors;

const stateOf = (chain: CommitChain): State => ({
  epoch: chain.epoch,
  heads: Object.fromEntries(chain.heads),
  n: chain.n,
  prev_hash: chain.prevHash,
  root: hex(chain.root()),
  size: chain.size,
  time: chain.time,
});

/** The chain after the first `count` valid commits. */
function chainAfter(count: number): CommitChain {
  let chain = CommitChain.genesis();
  for (const { commit, junk = [] } of steps.slice(0, count)) {
    for (const bytes of junk) chain = chain.skip(utf8(bytes));
    chain = chain.advance(chain.check(utf8(commit)));
  }
  return chain;
}

describe("vectors", () => {
  it("follows the valid chain", () => {
    for (const [i, { state }] of steps.entries()) expect(stateOf(chainAfter(i + 1))).toEqual(state);
    expect(chainAfter(1).origin).toBe(origin);
  });

  it("writes the same bytes from the same parts", () => {
    for (const { commit } of steps) {
      const { header, items, origin: of, signature } = parseCommit(utf8(commit));
      const signer = { algorithm: 1, id: signature.id, name: signature.name, sign: () => signature.signature } as const;
      expect(new TextDecoder().decode(formatCommit(of, header, items, signer))).toBe(commit);
    }
  });

  it.each(invalid)("refuses: $name", ({ after, code, commit, junk = [] }) => {
    let chain = chainAfter(after);
    for (const bytes of junk) chain = chain.skip(utf8(bytes));
    const before = stateOf(chain);
    expect(() => chain.check(utf8(commit))).toThrow(expect.objectContaining({ code }));
    expect(stateOf(chain)).toEqual(before);
  });

  it("has a mutant for every code of a commit that one object can show", () => {
    const codes = new Set(invalid.map((v) => v.code));
    const all = [
      "header",
      "version",
      "n",
      "voids",
      "signature",
      "origin",
      "prev",
      "first",
      "count",
      "bytes",
      "body",
      "root",
      "epoch",
      "time",
      "limit",
    ];
    expect(all.filter((c) => !codes.has(`commit.${c}`))).toEqual([]);
  });
});

describe("junk", () => {
  const at2 = chainAfter(2);
  const commit = steps[2]?.commit ?? "";

  it.each([
    ["bytes of any kind", "junk"],
    ["a commit whose signature is broken", commit.replace(/\n— (\S+) (.{20})./, "\n— $1 $2A")],
    ["a commit of another origin", commit.replaceAll("datapilot.local", "elsewhere.local")],
    ["another format", "datapilot.local/1a2b3c4d/commit\n{}\n\n— a b\n\n"],
  ])("is %s", (_, bytes) => {
    expect(at2.isJunk(utf8(bytes))).toBe(true);
    expect(at2.skip(utf8(bytes)).voids).toEqual([{ n: 2, sha256: idOf(sha256Hex(utf8(bytes))) }]);
  });

  it("is never what a commit key signed, whatever else is wrong with it", () => {
    const signed = invalid.filter(
      (v) =>
        v.after === 2 &&
        !["commit.signature", "commit.origin"].includes(v.code) &&
        v.commit.includes("\n— ") &&
        !v.name.includes("empty line"),
    );
    const junk = signed.filter((v) => at2.isJunk(utf8(v.commit)));
    expect(junk.map((v) => v.name)).toEqual([]);
    expect(signed.length).toBeGreaterThan(40);
    expect(() => at2.skip(utf8(commit))).toThrow(expect.objectContaining({ code: "commit.voids" }));
  });

  it("is never a version that is not known, nor anything before the genesis", () => {
    expect(at2.isJunk(utf8(`${ORIGIN}/commit\n{"v":2}\n\n— a AAAAAAA=\n\n`))).toBe(false);
    expect(CommitChain.genesis().isJunk(utf8("junk"))).toBe(false);
  });
});

/** Records of a few projects, in any order, as a writer would make them. */
class Writer {
  chain = CommitChain.genesis();
  readonly leaves: Uint8Array[] = [];
  readonly #projects: RecordId[] = [];
  #salt = 0;

  record(choice: number): NextRecord {
    const isNew = this.#projects.length === 0 || choice % 5 === 0;
    const project = this.#projects[choice % Math.max(1, this.#projects.length)];
    const salt = new Uint8Array(16);
    new DataView(salt.buffer).setUint32(0, ++this.#salt);
    const record: LedgerRecord = {
      actor: { method: "system" },
      body: { name: `n${this.#salt}` },
      kind: isNew ? "project" : "dataset",
      links: [],
      ...(isNew || project === undefined ? {} : { project }),
      request_id: `r${this.#salt}`,
      salt: Buffer.from(salt).toString("base64url"),
      time: "2026-11-23T08:00:00.000Z",
      v: 1,
    };
    const bytes = formatRecord(record);
    const id = recordId(bytes);
    if (isNew) this.#projects.push(id);
    return { bytes, id, record };
  }

  commit(records: readonly NextRecord[]): { bytes: Uint8Array; own: ValidCommit } {
    const { chain } = this;
    const { first, items, root } = chain.next(records);
    const bytes = formatCommit(
      ORIGIN,
      {
        count: items.length,
        epoch: chain.epoch,
        first,
        n: chain.n,
        prev: idOf(chain.prevHash),
        root,
        time: "2026-11-23T08:00:00.000Z",
        voids: chain.voids,
        writer: "0".repeat(32),
      },
      items.map((i) => ({ entry: i.entryBytes, record: i.recordBytes })),
      commitSigner,
    );
    this.leaves.push(...items.map((i) => i.leaf));
    return { bytes, own: { hash: sha256Hex(bytes), header: parseCommit(bytes).header, items, n: chain.n } };
  }
}

function started(): Writer {
  const writer = new Writer();
  writer.chain = writer.chain.advance(writer.chain.check(writer.commit(genesisRecords()).bytes));
  return writer;
}

describe("a writer and its readers", () => {
  it("agree on every commit, whether it was checked or made", () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat({ max: 20 }), { maxLength: 5 }), { maxLength: 4 }), (batches) => {
        const writer = started();
        let reader = writer.chain.clone();
        for (const batch of batches) {
          const { bytes, own } = writer.commit(batch.map((c) => writer.record(c)));
          const valid = reader.check(bytes);
          expect(valid.items.map((i) => ({ ...i, leaf: hex(i.leaf) }))).toEqual(
            own.items.map((i) => ({ ...i, leaf: hex(i.leaf) })),
          );
          reader = reader.advance(valid);
          writer.chain = writer.chain.advance(own);
          expect(stateOf(reader)).toEqual(stateOf(writer.chain));
          expect(hex(reader.root())).toBe(hex(mth(writer.leaves)));
        }
      }),
      { numRuns: 25 },
    );
  });

  it("refuse every change of a byte", () => {
    const writer = started();
    const { bytes } = writer.commit([writer.record(0), writer.record(1)]);
    const reader = writer.chain;
    fc.assert(
      fc.property(fc.nat({ max: bytes.length - 1 }), fc.integer({ max: 255, min: 1 }), (at, flip) => {
        const changed = bytes.slice();
        changed[at] = (changed[at] ?? 0) ^ flip;
        expect(() => reader.check(changed)).toThrow(Violation);
      }),
      { numRuns: 300 },
    );
    for (let end = 0; end < bytes.length; end += 7)
      expect(() => reader.check(bytes.subarray(0, end))).toThrow(Violation);
    expect(reader.check(bytes).items).toHaveLength(2);
  });

  it("refuse a record that is an entry already", () => {
    const writer = started();
    const { bytes, own } = writer.commit([writer.record(0)]);
    const known = own.items[0]?.entry.record;
    expect(() => writer.chain.check(bytes, pureVerifier, (id) => id === known)).toThrow(
      expect.objectContaining({ code: "entry.duplicate" }),
    );
  });

  it("say which entry is wrong", () => {
    const broken = invalid.find((v) => v.code === "record.text");
    expect(() => chainAfter(2).check(utf8(broken?.commit ?? ""))).toThrow(/^entry 6: /);
  });

  it("part at a clone", () => {
    const writer = started();
    const copy = writer.chain.clone();
    const before = stateOf(copy);
    writer.chain = writer.chain.advance(writer.commit([writer.record(0)]).own);
    expect(stateOf(copy)).toEqual(before);
    expect(copy.heads.size).toBe(2);
    expect(writer.chain.heads.size).toBe(3);
  });

  it("know the newest record of keys", () => {
    expect(CommitChain.genesis().ledger).toBeUndefined();
    const genesis = chainAfter(1).ledger;
    expect(chainAfter(5).ledger).not.toBe(genesis);
    expect(chainAfter(4).ledger).toBe(genesis);
  });
});

it("hashes nothing as the empty string before the genesis", () => {
  expect(CommitChain.genesis().prevHash).toBe(hex(sha256(new Uint8Array())) as Digest);
});
