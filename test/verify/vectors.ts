/**
 * The vectors of evidence packs (`test/vectors/packs/`): one ledger that tells the truth, packs of it, and packs of ledgers that
 * lie in one thing each. Written anew by the tests when WRITE_VECTORS is set; every implementation runs `index.json`.
 */
import { sha256Hex } from "../../src/merkle/hash.ts";
import { inclusionProof } from "../../src/merkle/proofs.ts";
import { formatVkey, parseVkey } from "../../src/note/keys.ts";
import { formatNote } from "../../src/note/note.ts";
import { formatProofFile } from "../../src/note/proof-file.ts";
import { CHUNKS_MEDIA_TYPE, type ChunkManifest, formatChunkManifest } from "../../src/record/chunks.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { type Digest, digestOf, idOf, type RecordId } from "../../src/std/brand.ts";
import { concat, utf8 } from "../../src/std/bytes.ts";
import { governedFiles } from "./governed.ts";
import {
  archiveOf,
  at,
  type Draft,
  type EntryLie,
  KEYS,
  keyRow,
  type LabKey,
  LabLedger,
  type Left,
  labKey,
  ORIGIN,
  type PackPlan,
  personalId,
  START_S,
  salt,
} from "./pack-lab.ts";

/** A change of an archive's members; `agree` makes the manifest say what they are then. */
export type Edit =
  | { readonly flip: number; readonly member: string }
  | { readonly replace: string; readonly by: string; readonly member: string }
  | { readonly remove: string }
  | { readonly insert: string; readonly text: string }
  | { readonly "flip-archive": number }
  | { readonly append: string }
  | { readonly agree: true };

/** What a reader gives besides the pack. Files lie beside the index. */
export interface Given {
  readonly policy: string;
  readonly kept?: readonly string[];
  readonly genesis?: string;
  readonly complete?: readonly string[];
  readonly "allow-outside"?: readonly string[];
  readonly mirror?: readonly string[];
  readonly "require-pq"?: true;
  readonly "max-age"?: number;
  /** Seconds since the epoch, for `max-age`. */
  readonly now?: number;
  readonly "not-after-size"?: number;
  readonly limit?: Readonly<Record<string, number>>;
}

export interface Vector {
  readonly name: string;
  readonly pack: string;
  readonly edits?: readonly Edit[];
  readonly given: Given;
  /** The first stage that fails, and the only code that it fails with; what is skipped, by how it begins. */
  readonly expect:
    | { readonly verdict: "pass" }
    | { readonly verdict: "fail"; readonly stage: string; readonly code: string }
    | { readonly verdict: "incomplete"; readonly stage: string; readonly skipped: string };
}

const BLOB = utf8("id,weight\n1,3750\n2,3800\n");
/** Content in chunks, where one chunk comes twice. */
const CHUNKS = ["0123", "4567", "0123", "89"].map(utf8);
const MANIFEST: ChunkManifest = {
  chunkBytes: 4,
  chunks: CHUNKS.map(sha256Hex),
  sha256Claimed: sha256Hex(concat(...CHUNKS)),
  sizeBytes: 14,
};
const DISTINCT = [CHUNKS[0], CHUNKS[1], CHUNKS[3]].map((c) => assertDefined(c, "a chunk"));
const ADA = { salt: salt("ada"), value: "Ada of the Audit" };
const WITNESSED = { key: KEYS.witness, timeS: START_S + 20 };
const EARLIER = { key: KEYS.witness, timeS: START_S + 8 };
const ANCHOR = 6;
const NOWHERE = `sha256:${"e".repeat(64)}`;

/** Where the entries of the truthful ledger stand. */
const INDEX = { ada: 2, artifact: 4, combined: 9, hidden: 8, other: 6, secret: 7, table: 5 } as const;

/** How a ledger departs from the truth. */
interface Lies {
  readonly genesisKeys?: readonly JsonObject[];
  /** Of the record `combined`, the last before the seal. */
  readonly combined?: Partial<Draft>;
  readonly combinedEntry?: EntryLie;
  readonly combinedBytes?: (truth: Uint8Array) => Uint8Array;
  /** What stands between `combined` and the seal. */
  readonly more?: (ledger: LabLedger) => void;
  readonly seal?: JsonObject | ((ledger: LabLedger) => RecordId);
}

function ledgerOf(lies: Lies = {}): LabLedger {
  const ledger = new LabLedger();
  const keys = lies.genesisKeys ?? [
    keyRow({ key: KEYS.log, role: "KEY_ROLE_LOG" }),
    keyRow({ key: KEYS.commit, role: "KEY_ROLE_COMMIT" }),
  ];
  const init = { method: "init" };
  const genesis = ledger.add({
    actor: init,
    body: { default_retention_days: 30, keys, origin: ORIGIN },
    kind: "ledger",
  });
  ledger.add({ actor: init, body: { name: "_system" }, kind: "project" });
  ledger.add({
    actor: init,
    body: { display_name: personalId(ADA), name: "ada", type: "PRINCIPAL_TYPE_HUMAN" },
    kind: "principal",
    project: genesis,
  });
  const fraud = ledger.add({ body: { name: "fraud" }, kind: "project" });
  const artifact = ledger.add({
    body: { digest: `sha256:${sha256Hex(BLOB)}`, size_bytes: BLOB.length },
    kind: "artifact",
    project: fraud,
  });
  const table = ledger.add({
    body: { name: "table" },
    kind: "dataset",
    links: [{ rel: "sample", to: artifact }],
    project: fraud,
  });
  const other = ledger.add({ body: { name: "other" }, kind: "project" });
  const secret = ledger.add({ body: { name: "secret" }, kind: "dataset", project: other });
  ledger.add({ body: { name: "hidden" }, kind: "dataset", project: other });
  const combined = ledger.record({
    body: { name: "combined" },
    kind: "dataset",
    links: [
      { rel: "source", to: secret },
      { rel: "source", to: table },
    ],
    project: fraud,
    ...lies.combined,
  });
  ledger.append(lies.combinedBytes?.(combined) ?? combined, digestOf(fraud), lies.combinedEntry);
  lies.more?.(ledger);
  if (typeof lies.seal === "function") lies.seal(ledger);
  else ledger.seal(lies.seal);
  return ledger;
}

const TRUTH = ledgerOf();

/** A ledger that calls these bytes a manifest, and a pack with these chunks. */
function chunked(bytes: Uint8Array, chunks: readonly Uint8Array[]): Uint8Array {
  const body = { digest: idOf(sha256Hex(bytes)), media_type: CHUNKS_MEDIA_TYPE, size_bytes: bytes.length };
  const ledger = ledgerOf({ more: (l) => void l.add({ body, kind: "artifact", project: l.item(3).id }) });
  return packOf(ledger, { blobs: [BLOB, bytes, ...chunks] });
}
const ids = (ledger: LabLedger) => ({
  fraud: digestOf(ledger.item(3).id),
  genesis: ledger.item(0).id,
  ledger: ledger.item(0).project,
});

function planOf(ledger: LabLedger, more: Partial<PackPlan> = {}): PackPlan {
  const size = more.size ?? ledger.size;
  const { fraud, ledger: own } = ids(ledger);
  return {
    anchors: [{ size: 5 }, { note: ledger.note(ANCHOR, [KEYS.log], [EARLIER]), size: ANCHOR }],
    blobs: [BLOB],
    checkpoint: ledger.note(size, [KEYS.log], [WITNESSED]),
    complete: [own, fraud],
    entries: without(ledger, ...(size < ledger.size ? [ledger.size - 1] : [])),
    personal: [ADA],
    roots: [ledger.item(INDEX.combined).id],
    size,
    withheld: new Map([
      [INDEX.other, "other-project"],
      [INDEX.secret, "other-project"],
    ]),
    ...more,
  };
}

const packOf = (ledger: LabLedger, more: Partial<PackPlan> = {}): Uint8Array =>
  archiveOf(ledger.pack(planOf(ledger, more)));

const without = (ledger: LabLedger, ...gone: readonly number[]): number[] =>
  Array.from({ length: ledger.size }, (_, i) => i).filter((i) => i !== INDEX.hidden && !gone.includes(i));

const policyOf = (logs: readonly LabKey[], ...rest: readonly string[]): Uint8Array =>
  utf8(`${[...logs.map((k) => `log ${k.vkey}`), ...rest].join("\n")}\n`);

const asWitness = (key: LabKey): string => {
  const { name, publicKey } = assertDefined(parseVkey(key.vkey), "a key");
  return formatVkey(name, 4, publicKey);
};

/** A log key that was in force up to size 11, and the one after it. */
function rotated(): LabLedger {
  const first = { key: KEYS.log, role: "KEY_ROLE_LOG" } as const;
  return ledgerOf({
    genesisKeys: [keyRow(first), keyRow({ key: KEYS.commit, role: "KEY_ROLE_COMMIT" })],
    more: (ledger) =>
      void ledger.add({
        body: {
          default_retention_days: 30,
          keys: [
            keyRow({ ...first, to: 11 }),
            keyRow({ endorsedBy: KEYS.log, from: 11, key: KEYS.next, role: "KEY_ROLE_LOG" }),
            keyRow({ key: KEYS.commit, role: "KEY_ROLE_COMMIT" }),
          ],
          origin: ORIGIN,
        },
        kind: "ledger",
        links: [{ rel: "supersedes", to: ledger.item(0).id }],
        project: ledger.item(0).id,
      }),
  });
}

/** A second `ledger` record with these keys. */
const secondLedger =
  (keys: readonly JsonObject[], links = true) =>
  (ledger: LabLedger): void =>
    void ledger.add({
      body: { default_retention_days: 30, keys, origin: ORIGIN },
      kind: "ledger",
      links: links ? [{ rel: "supersedes", to: ledger.item(0).id }] : [],
      project: ledger.item(0).id,
    });

const OWN_KEYS = [
  keyRow({ key: KEYS.log, role: "KEY_ROLE_LOG" }),
  keyRow({ key: KEYS.commit, role: "KEY_ROLE_COMMIT" }),
];

function laterLink(): LabLedger {
  return ledgerOf({
    more: (ledger) => {
      const project = ledger.item(3).id;
      const later = ledger.record({
        also: { salt: salt("later") },
        body: { name: "later" },
        kind: "dataset",
        project,
      });
      ledger.add({
        body: { name: "sooner" },
        kind: "dataset",
        links: [{ rel: "source", to: idOf(sha256Hex(later)) }],
        project,
      });
      ledger.append(later, digestOf(project));
    },
  });
}

const PQ_KEYS = [...OWN_KEYS, keyRow({ key: KEYS.logPq, role: "KEY_ROLE_LOG_PQ" })];

/** Files by name, without the index. */
export async function vectorFiles(): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  const lying = (name: string, lies: Lies, more: (ledger: LabLedger) => Partial<PackPlan> = () => ({})): void => {
    const ledger = ledgerOf(lies);
    files.set(`${name}.dpevidence`, packOf(ledger, more(ledger)));
  };
  const witness = `witness a ${KEYS.witness.vkey}`;
  files.set("valid.dpevidence", packOf(TRUTH));
  files.set("policy.txt", policyOf([KEYS.log], witness, "quorum a"));
  files.set("policy-none.txt", policyOf([KEYS.log], "quorum none"));
  files.set("policy-next.txt", policyOf([KEYS.next], witness, "quorum a"));
  files.set("policy-other.txt", policyOf([labKey("log.example/other", 1)], witness, "quorum a"));
  files.set("policy-commit.txt", policyOf([KEYS.log], `witness a ${asWitness(KEYS.commit)}`, "quorum a"));
  files.set(
    "policy-pq.txt",
    policyOf([KEYS.log, KEYS.logPq], witness, `witness b ${KEYS.witnessPq.vkey}`, "group any any a b", "quorum any"),
  );
  files.set("genesis", utf8(`${TRUTH.item(0).id}\n`));
  files.set("genesis-other", utf8(`${NOWHERE}\n`));
  files.set("kept", TRUTH.note(5, [KEYS.log]));
  files.set("kept-no-proof", TRUTH.note(4, [KEYS.log]));
  files.set("kept-same", TRUTH.note(TRUTH.size, [KEYS.log]));
  files.set("kept-fork", ledgerOf({ combined: { body: { name: "forked" } } }).note(TRUTH.size, [KEYS.log]));
  files.set("kept-rewritten", ledgerOf({ genesisKeys: PQ_KEYS }).note(5, [KEYS.log]));
  const grown = ledgerOf();
  grown.add({ body: { name: "later" }, kind: "project" });
  files.set("kept-later", grown.note(grown.size, [KEYS.log]));
  const old = rotated();
  files.set("kept-retired", old.note(5, [KEYS.log]));

  // The same truth, told otherwise.
  files.set("uncosigned.dpevidence", packOf(TRUTH, { checkpoint: TRUTH.note(TRUTH.size, [KEYS.log]) }));
  files.set("commit-as-witness.dpevidence", commitAsWitness());
  files.set("depth.dpevidence", packOf(TRUTH, { complete: [ids(TRUTH).ledger], withheld: withheldAs("depth") }));
  files.set(
    "not-granted.dpevidence",
    packOf(TRUTH, { complete: [ids(TRUTH).ledger], withheld: withheldAs("not-granted") }),
  );
  files.set("own-as-other.dpevidence", packOf(TRUTH, { withheld: withheldAs("other-project") }));
  const loose = ledgerOf({ more: addLoose });
  files.set("gap.dpevidence", packOf(loose, { entries: without(loose, INDEX.combined + 1) }));
  files.set("tail.dpevidence", packOf(TRUTH, tailPlan()));
  files.set("no-creation.dpevidence", packOf(TRUTH, noCreationPlan()));
  files.set("no-seal.dpevidence", packOf(TRUTH, { size: TRUTH.size - 1 }));
  files.set("ledger-withheld.dpevidence", packOf(TRUTH, ledgerWithheld()));
  files.set("rotated.dpevidence", packOf(old, rotatedPlan(old, [KEYS.next])));
  files.set("retired.dpevidence", packOf(old, rotatedPlan(old, [KEYS.log])));

  const pq = ledgerOf({ genesisKeys: PQ_KEYS });
  const cosigners = [WITNESSED, { key: KEYS.witnessPq, timeS: START_S + 30 }];
  files.set("pq.dpevidence", packOf(pq, { checkpoint: pq.note(pq.size, [KEYS.log, KEYS.logPq], cosigners) }));
  files.set("pq-classic.dpevidence", packOf(pq, { checkpoint: pq.note(pq.size, [KEYS.log], cosigners) }));
  files.set("pq-quorum.dpevidence", packOf(pq, { checkpoint: pq.note(pq.size, [KEYS.log, KEYS.logPq], [WITNESSED]) }));

  files.set("chunked.dpevidence", chunked(formatChunkManifest(MANIFEST), DISTINCT));
  files.set("chunked-no-manifest.dpevidence", chunked(utf8('{"chunk":4,"chunks":[]}'), []));
  const longer = { ...MANIFEST, chunks: [...MANIFEST.chunks.slice(0, 3), sha256Hex(utf8("89AB"))] };
  files.set("chunked-length.dpevidence", chunked(formatChunkManifest(longer), [...DISTINCT.slice(0, 2), utf8("89AB")]));

  // Lies that are in the tree, signed with every key.
  lying("noncanonical", { combinedBytes: (b) => utf8(new TextDecoder().decode(b).replace('"v":1', '"v": 1')) });
  lying("schema", { combined: { body: { name: "combined", weight: 7 } } });
  lying("text", { combined: { body: { description: "admin\u202Etxt.exe", name: "combined" } } });
  lying("project", { combined: { project: TRUTH.item(INDEX.other).id } });
  lying("dangling", { combined: { links: [{ rel: "source", to: NOWHERE }] } });
  files.set("order.dpevidence", packOf(laterLink()));
  lying("unknown-kind", { combined: { body: { anything: true }, kind: "forecast" } });
  lying("client-signature", {
    combined: {
      actor: { client_signature: { key: "k", method: "m", request: "r", signature: "s" }, method: "system" },
    },
  });
  lying("seal-size", { seal: { size: 7 } });
  lying("seal-project", { seal: (ledger) => ledger.seal({}, { project: ledger.item(3).id }) });
  lying("seal-heads", { seal: (ledger) => ledger.seal({ heads: "0".repeat(64) }) });
  lying("seal-ledger", { seal: (ledger) => ledger.seal({ ledger: NOWHERE }) });
  lying("key-chain", { more: secondLedger(OWN_KEYS, false) });
  lying("key-left-out", { more: secondLedger(OWN_KEYS.slice(0, 1)) });
  lying("key-endorsement", {
    more: secondLedger([
      ...OWN_KEYS,
      keyRow({ endorsedBy: KEYS.stranger, from: 12, key: KEYS.next, role: "KEY_ROLE_LOG" }),
    ]),
  });
  lying("prev", { combinedEntry: { prev: "1".repeat(64) as Digest } });
  lying(
    "fork",
    { combinedEntry: { seq: 2 }, seal: (ledger) => ledger.seal({}, { heads: forkedHeads(ledger) }) },
    (l) => ({
      heads: forkedHeads(l),
    }),
  );
  lying("count", { seal: (ledger) => ledger.seal({}, { heads: shorterHeads(ledger) }) }, (l) => ({
    heads: shorterHeads(l),
  }));
  lying("future", { combined: { time: at(20 + 61) } });
  lying("almost-future", { combined: { time: at(20 + 60) } });
  lying("backdated", { combined: { time: at(8 - 601) } });
  lying("almost-backdated", { combined: { time: at(8 - 600) } });
  files.set("receipt.tlog-proof", receiptOf(TRUTH, INDEX.combined));
  files.set("record.json", TRUTH.item(INDEX.combined).record);
  for (const [name, bytes] of await governedFiles()) files.set(name, bytes);
  return files;
}

const withheldAs = (why: string): Map<number, string> =>
  new Map([
    [INDEX.table, why],
    [INDEX.other, "other-project"],
    [INDEX.secret, "other-project"],
  ]);

/** Two more of which nothing links to the first. */
function addLoose(ledger: LabLedger): void {
  const project = ledger.item(3).id;
  for (const name of ["loose", "last"]) ledger.add({ body: { name }, kind: "dataset", project });
}

const noCreationPlan = (): Partial<PackPlan> => ({
  entries: without(TRUTH, INDEX.other),
  withheld: new Map([[INDEX.secret, "other-project"]]),
});

const tailPlan = (): Partial<PackPlan> => ({
  entries: without(TRUTH, INDEX.combined),
  roots: [TRUTH.item(INDEX.table).id],
});

const ledgerWithheld = (): Partial<PackPlan> => ({
  outside: [],
  personal: [],
  withheld: new Map([
    [INDEX.ada, "not-granted"],
    [INDEX.other, "other-project"],
    [INDEX.secret, "other-project"],
  ]),
});

const rotatedPlan = (ledger: LabLedger, by: readonly LabKey[]): Partial<PackPlan> => ({
  checkpoint: ledger.note(ledger.size, by, [WITNESSED]),
});

/** Entries before the seal. */
const FORKED_SIZE = 10;

function forkedHeads(ledger: LabLedger): Map<string, { count: number; last: string }> {
  const heads = ledger.heads(FORKED_SIZE);
  const fraud = assertDefined(heads.get(ids(ledger).fraud), "a head");
  return heads.set(ids(ledger).fraud, { ...fraud, count: 3 });
}

function shorterHeads(ledger: LabLedger): Map<string, { count: number; last: string }> {
  const heads = ledger.heads(FORKED_SIZE);
  return heads.set(ids(ledger).fraud, assertDefined(ledger.head(ids(ledger).fraud, INDEX.combined), "a head"));
}

function commitAsWitness(): Uint8Array {
  const text = new TextDecoder().decode(TRUTH.note(TRUTH.size, [KEYS.log])).split("\n\n")[0] ?? "";
  const cosigner: LabKey = labKey(KEYS.commit.name, 4, `${KEYS.commit.name} 1`);
  const checkpoint = formatNote(`${text}\n`, [KEYS.log.line(`${text}\n`), cosigner.line(`${text}\n`, START_S + 20)]);
  return packOf(TRUTH, { anchors: [{ size: 5 }], checkpoint });
}

const receiptOf = (ledger: LabLedger, index: number): Uint8Array =>
  utf8(
    formatProofFile({
      checkpoint: new TextDecoder().decode(ledger.note(ledger.size, [KEYS.log], [WITNESSED])),
      extra: ledger.item(index).entry,
      hashes: inclusionProof(index, ledger.size, ledger.tree.read),
      index,
    }),
  );

const GIVEN: Given = { genesis: "genesis", kept: ["kept"], policy: "policy.txt" };
/** For ledgers of their own. */
const OTHER: Given = { policy: "policy.txt" };
const GOVERNED: Given = { policy: "policy-governed.txt" };
const AGREE: Edit = { agree: true };

const fails = (name: string, stage: string, code: string, more: Partial<Vector> = {}): Vector => ({
  expect: { code, stage, verdict: "fail" },
  given: GIVEN,
  name,
  pack: "valid.dpevidence",
  ...more,
});

const lies = (name: string, stage: string, code: string, pack: string, given: Given = OTHER): Vector =>
  fails(name, stage, code, { given, pack: `${pack}.dpevidence` });

const edited = (name: string, stage: string, code: string, ...edits: readonly Edit[]): Vector =>
  fails(name, stage, code, { edits });

const incomplete = (name: string, stage: string, skipped: string, pack: string, given: Given): Vector => ({
  expect: { skipped, stage, verdict: "incomplete" },
  given,
  name,
  pack: `${pack}.dpevidence`,
});

const passes = (name: string, pack: string, given: Given, edits?: readonly Edit[]): Vector => ({
  expect: { verdict: "pass" },
  given,
  name,
  pack: `${pack}.dpevidence`,
  ...(edits === undefined ? {} : { edits }),
});

const manifestName = `blobs/${sha256Hex(formatChunkManifest(MANIFEST))}`;
const chunkName = `blobs/${sha256Hex(assertDefined(CHUNKS[1], "a chunk"))}`;
const chunkedBut = (name: string, code: string, ...edits: readonly Edit[]): Vector =>
  fails(name, "blobs", code, { edits, given: OTHER, pack: "chunked.dpevidence" });

const records = TRUTH.items.map((i) => new TextDecoder().decode(i.record));
const blobName = `blobs/${sha256Hex(BLOB)}`;
const LEFT: readonly Left[] = [INDEX.other, INDEX.secret].map((i) => ({
  id: TRUTH.item(i).id,
  type: "record",
  why: "other-project",
}));
const rowsOf = (left: readonly Left[]): string =>
  left
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    .map(({ id, type, why }) => `{"id":"${id}","type":"${type}","why":"${why}"}`)
    .join();
/** Lists one more as left out. */
const outside = (more: Left): Edit => ({
  by: rowsOf([...LEFT, more]),
  member: "manifest.json",
  replace: rowsOf(LEFT),
});
const artifactOutside = (why: string): Edit => outside({ id: `sha256:${sha256Hex(BLOB)}`, type: "artifact", why });
const personalOutside = (why: string): Edit => outside({ id: personalId(ADA), type: "personal", why });
const entryLine = (i: number): string => `${i} ${new TextDecoder().decode(TRUTH.item(i).entry)}\n`;

export function vectors(): Vector[] {
  const at7 = TRUTH.item(INDEX.secret).id.slice(7);
  return [
    passes("as it is", "valid", GIVEN),
    passes("with a note that was kept of the same size", "valid", { ...GIVEN, kept: ["kept-same"] }),
    passes("without witnesses", "uncosigned", { ...GIVEN, policy: "policy-none.txt" }),
    passes("what must be complete is", "valid", { ...GIVEN, complete: [ids(TRUTH).fraud] }),
    passes("fresh", "valid", { ...GIVEN, "max-age": 60, now: START_S + 80 }),
    passes("below the size that is trusted", "valid", { ...GIVEN, "not-after-size": TRUTH.size }),
    passes("depth, which the reader accepts", "depth", { ...GIVEN, "allow-outside": ["depth"] }),
    passes("not granted, which the reader accepts", "not-granted", { ...GIVEN, "allow-outside": ["not-granted"] }),
    passes("a report, which says nothing", "valid", GIVEN, [{ insert: "report.html", text: "<html>" }, AGREE]),
    passes("a personal value that is not granted", "valid", GIVEN, [
      { remove: "personal.jsonl" },
      personalOutside("not-granted"),
      AGREE,
    ]),
    passes("an artifact that is not included", "valid", GIVEN, [
      { remove: blobName },
      artifactOutside("not-included"),
      AGREE,
    ]),
    passes("a key that was rotated, pinned by hand", "rotated", { policy: "policy-next.txt" }),
    passes("a note that a retired key of the ledger signed", "rotated", {
      kept: ["kept-retired"],
      policy: "policy-next.txt",
    }),
    passes("post-quantum", "pq", { policy: "policy-pq.txt", "require-pq": true }),
    passes("classic, where nothing more is asked", "pq-classic", { policy: "policy-pq.txt" }),
    passes("61 s before a witness saw it would be too late, 60 s is not", "almost-future", OTHER),
    passes("10 min before is not too early", "almost-backdated", OTHER),

    passes("an artifact in chunks", "chunked", OTHER),
    passes("an artifact in chunks whose chunk is not included", "chunked", OTHER, [
      { remove: chunkName },
      outside({ id: idOf(sha256Hex(CHUNKS[1] ?? BLOB)), type: "artifact", why: "not-included" }),
      AGREE,
    ]),
    passes("an artifact in chunks that is not included", "chunked", OTHER, [
      ...[manifestName, ...DISTINCT.map((c) => `blobs/${sha256Hex(c)}`)].map((remove) => ({ remove })),
      outside({ id: idOf(sha256Hex(formatChunkManifest(MANIFEST))), type: "artifact", why: "not-included" }),
      AGREE,
    ]),
    passes("a ledger under policy", "governed", GOVERNED),

    incomplete("a kept note of a later size", "history", "kept note 1 is of size 12, larger", "valid", {
      ...GIVEN,
      kept: ["kept-later"],
    }),
    incomplete("a kept note without a proof", "history", "kept note 1 is of size 4, and there is no proof", "valid", {
      ...GIVEN,
      kept: ["kept-no-proof"],
    }),
    incomplete("no age without a quorum", "checkpoint", "age", "uncosigned", {
      ...GIVEN,
      "max-age": 60,
      now: START_S + 80,
      policy: "policy-none.txt",
    }),
    incomplete("no times from a mirror", "time", "times", "valid", { ...GIVEN, mirror: ["a"] }),
    incomplete("depth", "records", TRUTH.item(INDEX.table).id, "depth", GIVEN),
    incomplete("not granted", "records", TRUTH.item(INDEX.table).id, "not-granted", GIVEN),
    incomplete(
      "a project that is not offered complete",
      "chains",
      `project ${digestOf(TRUTH.item(INDEX.other).id)}`,
      "valid",
      {
        ...GIVEN,
        complete: [digestOf(TRUTH.item(INDEX.other).id)],
      },
    ),
    incomplete("a kind that no version knows", "records", "sha256:", "unknown-kind", OTHER),
    incomplete("a client's signature, which is reserved", "records", "sha256:", "client-signature", OTHER),
    {
      ...incomplete("an artifact that is not granted", "blobs", "artifact", "valid", GIVEN),
      edits: [{ remove: blobName }, artifactOutside("not-granted"), AGREE],
    },

    edited("a byte of a header", "container", "pack.malformed", { "flip-archive": 100 }),
    edited("a byte of padding", "container", "pack.malformed", { "flip-archive": paddingAt() }),
    edited("bytes after the end", "container", "pack.malformed", { append: "00" }),
    edited("a member of another name", "container", "pack.malformed", { insert: "notes.txt", text: "" }, AGREE),
    edited("a member that is missing", "container", "pack.malformed", { remove: "heads.jsonl" }, AGREE),
    edited(
      "a line that is no object",
      "container",
      "pack.malformed",
      { insert: "personal.jsonl", text: "null\n" },
      AGREE,
    ),
    edited(
      "a line that is not canonical",
      "container",
      "pack.malformed",
      { by: '{"count": ', member: "heads.jsonl", replace: '{"count":' },
      AGREE,
    ),
    fails("more members than allowed", "container", "pack.limit", { given: { ...GIVEN, limit: { members: 3 } } }),
    fails("a longer record than allowed", "container", "pack.limit", { given: { ...GIVEN, limit: { record: 400 } } }),
    fails("more entries than allowed", "container", "pack.limit", { given: { ...GIVEN, limit: { entries: 4 } } }),
    fails("a longer line of history than allowed", "container", "pack.limit", {
      given: { ...GIVEN, limit: { history: 100 } },
    }),
    fails("a longer note than allowed", "container", "pack.limit", { given: { ...GIVEN, limit: { note: 100 } } }),
    edited("another format", "container", "pack.manifest", {
      by: "evidence/v2",
      member: "manifest.json",
      replace: "evidence/v1",
    }),
    edited("a reason that its type does not allow", "container", "pack.manifest", {
      by: '"why":"erased"',
      member: "manifest.json",
      replace: '"why":"other-project"',
    }),
    edited("_ledger is not complete", "container", "pack.manifest", ledgerIncomplete()),
    edited("bytes that are not those of the manifest", "container", "pack.digest", { flip: 7, member: "proof.bin" }),

    edited(
      "an extension line",
      "checkpoint",
      "checkpoint.malformed",
      { by: "\nmore\n\n\u2014 ", member: "checkpoint", replace: "\n\n\u2014 " },
      AGREE,
    ),
    fails("another log than the policy's", "checkpoint", "checkpoint.origin", {
      given: { ...GIVEN, policy: "policy-other.txt" },
    }),
    fails("another key than the policy's", "checkpoint", "checkpoint.signature", {
      given: { ...GIVEN, policy: "policy-next.txt" },
    }),
    edited(
      "another size than was signed",
      "checkpoint",
      "checkpoint.signature",
      { by: `\n${TRUTH.size + 1}\n`, member: "checkpoint", replace: `\n${TRUTH.size}\n` },
      AGREE,
    ),
    lies("no post-quantum line", "checkpoint", "checkpoint.signature", "pq-classic", {
      policy: "policy-pq.txt",
      "require-pq": true,
    }),
    lies("no post-quantum quorum", "checkpoint", "checkpoint.quorum", "pq-quorum", {
      policy: "policy-pq.txt",
      "require-pq": true,
    }),
    lies("no witness", "checkpoint", "checkpoint.quorum", "uncosigned", GIVEN),
    fails("too old", "checkpoint", "checkpoint.stale", { given: { ...GIVEN, "max-age": 60, now: START_S + 81 } }),
    lies("the ledger's own key as witness", "checkpoint", "policy.duplicate-key", "commit-as-witness", {
      ...GIVEN,
      policy: "policy-commit.txt",
    }),

    edited(
      "a proof that does not lead to the checkpoint",
      "history",
      "consistency.mismatch",
      { by: `{"hashes":["0000000000`, member: "history.jsonl", replace: historyStart() },
      AGREE,
    ),
    fails("history was rewritten", "history", "consistency.mismatch", {
      given: { ...GIVEN, kept: ["kept-rewritten"] },
    }),
    edited(
      "an anchor that says another size",
      "history",
      "checkpoint.signature",
      { by: `\\n${ANCHOR + 1}\\n`, member: "history.jsonl", replace: `\\n${ANCHOR}\\n` },
      AGREE,
    ),
    fails("two trees of one size", "history", "checkpoint.fork", { given: { ...GIVEN, kept: ["kept-fork"] } }),

    edited(
      "an entry of another form",
      "entries",
      "entry.malformed",
      { by: '"v":2}', member: "entries.txt", replace: '"v":1}' },
      AGREE,
    ),
    edited(
      "entries that do not ascend",
      "entries",
      "entry.order",
      { by: entryLine(3) + entryLine(2), member: "entries.txt", replace: entryLine(2) + entryLine(3) },
      AGREE,
    ),
    edited(
      "an index beyond the tree",
      "entries",
      "entry.order",
      { by: `\n${TRUTH.size} {`, member: "entries.txt", replace: `\n${TRUTH.size - 1} {` },
      AGREE,
    ),
    edited(
      "a record that is an entry twice",
      "entries",
      "entry.duplicate",
      { by: at7, member: "entries.txt", replace: TRUTH.item(INDEX.table).id.slice(7) },
      AGREE,
    ),
    edited("a hash of the set proof", "entries", "inclusion.root", { flip: 7, member: "proof.bin" }, AGREE),
    edited(
      "a hash too many",
      "entries",
      "inclusion.root",
      { by: "", member: "proof.bin", replace: "" },
      { insert: "proof.bin", text: "0123456789abcdef0123456789abcdef" },
      AGREE,
    ),
    fails("another ledger", "entries", "ledger.genesis", { given: { ...GIVEN, genesis: "genesis-other" } }),

    edited(
      "a byte of a record",
      "records",
      "record.digest",
      { by: '"name":"tabla"', member: "records.jsonl", replace: '"name":"table"' },
      AGREE,
    ),
    edited(
      "a record that is left out in silence",
      "records",
      "record.missing",
      { by: "\n\n", member: "records.jsonl", replace: `\n${records[INDEX.table]}\n` },
      AGREE,
    ),
    lies("a record of one's own project left out as another's", "records", "record.missing", "own-as-other", GIVEN),
    lies("a record that is not canonical", "records", "record.noncanonical", "noncanonical"),
    lies("a field that its kind does not have", "records", "record.schema", "schema"),
    lies("a text that runs backwards", "records", "record.text", "text"),
    lies("a record of another project than its entry", "records", "record.project", "project"),
    lies("a link to what comes later", "records", "link.order", "order"),
    lies("a link to nothing", "records", "link.dangling", "dangling"),
    edited(
      "another personal value",
      "records",
      "personal.digest",
      { by: "Bea of", member: "personal.jsonl", replace: "Ada of" },
      AGREE,
    ),
    edited(
      "a personal value that is left out in silence",
      "records",
      "personal.missing",
      { remove: "personal.jsonl" },
      AGREE,
    ),
    edited(
      "a personal value that nobody erased",
      "records",
      "erasure.unexplained",
      { remove: "personal.jsonl" },
      personalOutside("erased"),
      AGREE,
    ),
    edited(
      "a personal value that no record names",
      "records",
      "pack.member",
      { insert: "personal.jsonl", text: strangerLine() },
      AGREE,
    ),
    edited("a root that is not here", "records", "pack.manifest", {
      by: `"roots":["${NOWHERE}"]`,
      member: "manifest.json",
      replace: `"roots":["${TRUTH.item(INDEX.combined).id}"]`,
    }),

    lies("no seal", "keys", "seal.missing", "no-seal", GIVEN),
    lies("a seal of another size", "keys", "seal.mismatch", "seal-size"),
    lies("a seal in another project than _system", "keys", "seal.mismatch", "seal-project"),
    lies("another newest ledger record than the seal's", "keys", "key.chain", "seal-ledger"),
    lies("keys that supersede nothing", "keys", "key.chain", "key-chain"),
    lies("a key that is left out of the history", "keys", "key.chain", "key-left-out"),
    lies("a record of _ledger that is left out", "keys", "key.chain", "ledger-withheld", {
      ...GIVEN,
      "allow-outside": ["not-granted"],
    }),
    lies("a key that a stranger endorsed", "keys", "key.endorsement", "key-endorsement"),
    lies("a key that was retired", "keys", "key.retired", "retired"),
    fails("a size that is not trusted any more", "keys", "key.retired", {
      given: { ...GIVEN, "not-after-size": TRUTH.size - 1 },
    }),

    edited(
      "a head that is not in the seal",
      "chains",
      "seal.mismatch",
      { by: '{"count":9', member: "heads.jsonl", replace: '{"count":4' },
      AGREE,
    ),
    lies("heads that the seal does not have", "chains", "seal.mismatch", "seal-heads"),
    lies("more entries than the seal counts", "chains", "seal.mismatch", "count"),
    lies("an entry that is left out", "chains", "chain.gap", "gap", GIVEN),
    lies("a project without its first entry", "chains", "chain.gap", "no-creation", GIVEN),
    lies("another predecessor", "chains", "chain.prev", "prev"),
    lies("two entries of one place", "chains", "chain.fork", "fork"),
    lies("the newest entry is left out", "chains", "tail.truncated", "tail", GIVEN),

    lies("dated after others had seen it", "time", "time.future", "future"),
    lies("dated when others saw the log without it", "time", "time.backdated", "backdated"),

    edited("a byte of an artifact", "blobs", "artifact.digest", { flip: 3, member: blobName }, AGREE),
    edited("an artifact that is left out in silence", "blobs", "artifact.missing", { remove: blobName }, AGREE),
    chunkedBut("a byte of a chunk", "artifact.digest", { flip: 1, member: chunkName }, AGREE),
    chunkedBut("a byte of a manifest", "artifact.digest", { flip: 1, member: manifestName }, AGREE),
    chunkedBut("a chunk that is left out in silence", "artifact.missing", { remove: chunkName }, AGREE),
    chunkedBut(
      "a manifest that is left out in silence, with its chunks",
      "artifact.missing",
      ...[manifestName, ...DISTINCT.map((c) => `blobs/${sha256Hex(c)}`)].map((remove) => ({ remove })),
      AGREE,
    ),
    chunkedBut(
      "chunks of a manifest that is not here",
      "pack.member",
      { remove: manifestName },
      outside({ id: idOf(sha256Hex(formatChunkManifest(MANIFEST))), type: "artifact", why: "not-included" }),
      AGREE,
    ),
    chunkedBut(
      "a blob that neither record nor manifest names",
      "pack.member",
      { insert: `blobs/${sha256Hex(utf8("stranger"))}`, text: "stranger" },
      AGREE,
    ),
    lies("bytes that are no manifest, and are called one", "blobs", "artifact.digest", "chunked-no-manifest"),
    lies("a chunk of another length than its manifest says", "blobs", "artifact.digest", "chunked-length"),
    edited(
      "an artifact that nobody erased",
      "blobs",
      "erasure.unexplained",
      { remove: blobName },
      artifactOutside("erased"),
      AGREE,
    ),
    edited(
      "an artifact that no record names",
      "blobs",
      "pack.member",
      { insert: `blobs/${sha256Hex(utf8("stranger"))}`, text: "stranger" },
      AGREE,
    ),
    edited(
      "an artifact that is here, and called absent",
      "blobs",
      "pack.manifest",
      artifactOutside("not-included"),
      AGREE,
    ),

    lies("a change without a decision", "decisions", "decision.order", "decision.order", GOVERNED),
    lies("a decision without the policy in force", "decisions", "decision.policy", "decision.policy", GOVERNED),
    lies("a decision on what no fact says", "decisions", "decision.input", "decision.input", GOVERNED),
    lies("a decision that its rules do not give", "decisions", "decision.replay", "decision.replay", GOVERNED),
    lies("a vote by who asked for it", "decisions", "approval.self", "approval.self", GOVERNED),
    lies("a vote on something else", "decisions", "approval.count", "approval.count", GOVERNED),
    lies("a run that nothing admitted", "decisions", "run.unbound", "run.unbound", GOVERNED),
    lies("a report that is not the run's", "decisions", "run.identity", "run.identity", GOVERNED),
  ];
}

function ledgerIncomplete(): Edit {
  const { fraud, ledger } = ids(TRUTH);
  const both = [fraud, ledger].toSorted();
  return { by: `"complete":["${fraud}"]`, member: "manifest.json", replace: `"complete":["${both.join('","')}"]` };
}

/** The first byte after the manifest, which does not fill its last block. */
const paddingAt = (): number => 512 + assertDefined(TRUTH.pack(planOf(TRUTH))[0], "a manifest").bytes.length;

const historyStart = (): string => {
  const text = new TextDecoder().decode(
    assertDefined(
      TRUTH.pack(planOf(TRUTH)).find((p) => p.name === "history.jsonl"),
      "history",
    ).bytes,
  );
  return text.slice(0, '{"hashes":["0000000000'.length);
};

/** Stands after every other id with all but certainty. */
function strangerLine(): string {
  for (let k = 0; ; k++) {
    const value = { salt: salt(`stranger ${k}`), value: "nobody" };
    if (personalId(value) > personalId(ADA))
      return `{"id":"${personalId(value)}","salt":"${value.salt}","value":"${value.value}"}\n`;
  }
}
