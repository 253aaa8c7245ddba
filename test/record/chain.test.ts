import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { leafHash, sha256, sha256Hex } from "../../src/merkle/hash.ts";
import { pureVerifier } from "../../src/note/signatures.ts";
import { CommitChain, type NextRecord, type Reading, type ValidCommit } from "../../src/record/chain.ts";
import { type CommitItem, formatCommit, parseCommit } from "../../src/record/commit.ts";
import { type Entry, entryBytes, parseEntry, startsProject } from "../../src/record/entry.ts";
import { formatRecord, type LedgerRecord, parseRecord, recordId } from "../../src/record/record.ts";
import { type Digest, digestOf, idOf, type RecordId, ZERO_DIGEST } from "../../src/std/brand.ts";
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

/** `docs/formats/commits.md` §3, rows 17 to 19, read plainly: every entry and record parsed, nothing expected. */
function plainCode(items: readonly CommitItem[], chain: CommitChain, own: ReadonlySet<string>): string | undefined {
  const heads = new Map(chain.heads);
  const seen = new Set<string>();
  try {
    for (const { entry: bytes, record } of items) {
      const entry = parseEntry(bytes);
      if (record !== null) {
        if (sha256Hex(record) !== digestOf(entry.record)) return "record.digest";
        if (own.size === 0 || own.has(entry.project)) {
          const { kind, project } = parseRecord(record);
          const creates = project === undefined && kind === "project" && entry.record === idOf(entry.project);
          if (!creates && project !== idOf(entry.project)) return "record.project";
        }
      }
      if (seen.has(entry.record)) return "entry.duplicate";
      seen.add(entry.record);
      startsProject(entry);
      const head = heads.get(entry.project);
      const count = head?.count ?? 0;
      if (entry.seq !== count) return entry.seq < count ? "chain.fork" : "chain.gap";
      if (entry.prev !== (head?.last ?? ZERO_DIGEST)) return "chain.prev";
      heads.set(entry.project, { count: count + 1, last: hex(leafHash(bytes)) as Digest });
    }
    return undefined;
  } catch (error) {
    if (error instanceof Violation) return error.code;
    throw error;
  }
}

describe("a payload that whoever holds the commit key changed", () => {
  const writer = started();
  const { own: first } = writer.commit([0, 1, 2, 5].map((c) => writer.record(c)));
  writer.chain = writer.chain.advance(first);
  const { chain } = writer;
  const good = parseCommit(writer.commit([6, 7, 8, 5, 9, 11].map((c) => writer.record(c))).bytes);
  const ownProjects = new Set(first.items.length > 0 ? [...chain.heads.keys()].slice(0, 2) : []);
  type Change = (items: CommitItem[]) => void;
  const some = fc.nat({ max: good.items.length - 1 });
  const flip = (bytes: Uint8Array, at: number, mask: number): Uint8Array => {
    const out = bytes.slice();
    out[at % out.length] = (out[at % out.length] ?? 0) ^ mask;
    return out;
  };
  /** A record that says something else, under an entry that names it. */
  const entryAt = (i: number): Entry => parseEntry((good.items[i] as CommitItem).entry);
  const renamed = (i: number, record: Uint8Array): CommitItem => ({
    entry: entryBytes({ ...entryAt(i), record: recordId(record) }),
    record,
  });
  const change: fc.Arbitrary<Change> = fc.oneof(
    fc.tuple(some, fc.nat(), fc.integer({ max: 255, min: 1 })).map(
      ([i, at, mask]): Change =>
        (items) => {
          const item = items[i] as CommitItem;
          items[i] = { ...item, entry: flip(item.entry, at, mask) };
        },
    ),
    fc.tuple(some, fc.nat(), fc.integer({ max: 255, min: 1 }), fc.boolean()).map(
      ([i, at, mask, named]): Change =>
        (items) => {
          const item = items[i] as CommitItem;
          const record = flip(item.record ?? new Uint8Array(1), at, mask);
          items[i] = named ? renamed(i, record) : { ...item, record };
        },
    ),
    fc.tuple(some, some).map(
      ([i, k]): Change =>
        (items) => {
          [items[i], items[k]] = [items[k] as CommitItem, items[i] as CommitItem];
        },
    ),
    fc.tuple(some, some, fc.boolean()).map(
      ([i, k, named]): Change =>
        (items) => {
          const record = (items[k] as CommitItem).record ?? new Uint8Array();
          items[i] = named ? renamed(i, record) : { ...(items[i] as CommitItem), record };
        },
    ),
    fc.tuple(some, fc.constantFrom(-1, 1, 2 ** 40)).map(
      ([i, more]): Change =>
        (items) => {
          const entry = entryAt(i);
          items[i] = {
            ...(items[i] as CommitItem),
            entry: entryBytes({ ...entry, seq: Math.max(0, entry.seq + more) }),
          };
        },
    ),
    fc.tuple(some, fc.constantFrom(...chain.heads.keys())).map(
      ([i, project]): Change =>
        (items) => {
          const entry = entryAt(i);
          const head = chain.heads.get(project);
          items[i] = {
            ...(items[i] as CommitItem),
            entry: entryBytes({ ...entry, prev: head?.last ?? ZERO_DIGEST, project, seq: head?.count ?? 0 }),
          };
        },
    ),
  );

  it.each<Reading>(["all", "own"])("has the code that plain reading gives it, when %s records are read", (reading) => {
    const codes = new Set<string>();
    fc.assert(
      fc.property(fc.array(change, { maxLength: 2, minLength: 1 }), (changes) => {
        const items = [...good.items];
        for (const by of changes) by(items);
        fc.pre(items.every((i) => !i.entry.includes(0x0a) && i.record?.includes(0x0a) !== true));
        const bytes = formatCommit(ORIGIN, good.header, items, commitSigner);
        const isSame = items.every((i, k) => hex(i.entry) === hex(good.items[k]?.entry ?? new Uint8Array()));
        const plain = plainCode(items, chain, reading === "all" ? new Set() : ownProjects);
        let found: string | undefined;
        try {
          chain.check(bytes, pureVerifier, () => false, reading);
        } catch (error) {
          found = (error as Violation).code;
        }
        expect(found).toBe(plain ?? (isSame ? undefined : "commit.root"));
        codes.add(found ?? "none");
      }),
      { numRuns: 600 },
    );
    expect([...codes]).toEqual(
      expect.arrayContaining(["chain.gap", "chain.prev", "commit.root", "entry.malformed", "record.digest"]),
    );
    expect(codes.has("record.noncanonical")).toBe(reading === "all");
  });
});

it("hashes nothing as the empty string before the genesis", () => {
  expect(CommitChain.genesis().prevHash).toBe(hex(sha256(new Uint8Array())) as Digest);
});
