/**
 * How far a copy is whole, kept in its head bucket: where the chain of commits stands, the edge of the tree, and what is still
 * owed. Up to there every object was written, so that the next copy reads only what is new.
 *
 * Nothing in head is trusted. The edge must lead to the root that the copy's last commit states; the keys come from `ledger` records,
 * which their ids fix, and one of them signed that commit. What is left, the heads of the projects, the next seal states; and
 * nothing new is written unless a checkpoint that the policy trusts covers it. What does not fit is worth nothing: then all is
 * compared again.
 */
import { sha256Hex } from "../merkle/hash.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { canonicalBytes, parseCanonical } from "../record/canonical.ts";
import { CommitChain, type ValidItem } from "../record/chain.ts";
import { parseCommit } from "../record/commit.ts";
import type { Head } from "../record/heads.ts";
import { isObject, type Json, type JsonObject } from "../record/json.ts";
import { KeyHistory } from "../record/key-history.ts";
import { parseRecord } from "../record/record.ts";
import { type Digest, digestOf, parseDigest, parseRecordId, type RecordId } from "../std/brand.ts";
import { equalBytes, formatHex, parseHex, parseUtf8, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { commitKey, REPLICA, recordKey } from "../store/keys.ts";
import { placeHead } from "../store/place.ts";
import { Edge } from "./edge.ts";
import { ask, patience, type Sides } from "./ports.ts";

/** The bytes of an artifact that a record names. */
export interface Artifact {
  readonly digest: Digest;
  readonly project: Digest;
  readonly sizeBytes: number;
  /** Whether they are a manifest of chunks, which are to be copied too. */
  readonly isManifest: boolean;
}

/** A size that a seal closes. */
export interface Sealed {
  readonly root: string;
  readonly size: number;
}

export interface Ledger {
  readonly id: RecordId;
  readonly index: number;
}

export interface Watermark {
  readonly chain: CommitChain;
  readonly edge: Edge;
  /** All records of kind `ledger`, which give the keys. */
  readonly ledgers: readonly Ledger[];
  /** Days for which the ledger's objects are locked at least. */
  readonly retentionDays: number;
  /** Artifacts that the source did not have. */
  readonly owed: readonly Artifact[];
  /** Whether preimages of personal values were copied too. */
  readonly personal: boolean;
  /** Sealed sizes whose checkpoints the source had not archived. */
  readonly unarchived: readonly Sealed[];
}

/** More artifacts than this are not remembered; a copy from the start finds them. */
export const MAX_OWED = 10_000;
const MAX_BYTES = 64 << 20;

export const START: Watermark = {
  chain: CommitChain.genesis(),
  edge: Edge.empty(),
  ledgers: [],
  owed: [],
  personal: true,
  retentionDays: 0,
  unarchived: [],
};

/** The same place, for a walk of its own: a chain that was advanced must not be used again. */
export const again = (mark: Watermark): Watermark => ({ ...mark, chain: mark.chain.clone(), edge: mark.edge.clone() });

/** What an entry adds to what is known of the ledger. */
export function noteLedger(mark: Pick<Watermark, "ledgers" | "retentionDays">, { entry, index, record }: ValidItem) {
  if (record?.kind !== "ledger") return mark;
  return { ledgers: [...mark.ledgers, { id: entry.record, index }], retentionDays: daysOf(record.body) };
}

const daysOf = ({ default_retention_days: days }: JsonObject): number => (typeof days === "number" ? days : 0);

function format({ chain, edge, ledgers, owed, personal, unarchived }: Watermark): Uint8Array {
  return canonicalBytes({
    entries: edge.entries.map((e) => parseUtf8(e) ?? ""),
    heads: [...chain.heads].map(([project, { count, last }]) => [project, count, last]),
    ledgers: ledgers.map(({ id, index }) => ({ id, index })),
    n: chain.n,
    owed: owed.map(({ digest, isManifest, project, sizeBytes }) => ({
      digest,
      ...(isManifest ? { manifest: true } : {}),
      project,
      size: sizeBytes,
    })),
    personal,
    tiles: edge.levels.map((hashes) => hashes.map(formatHex)),
    unarchived: unarchived.map(({ root, size }) => ({ root, size })),
    v: 1,
  });
}

export async function writeWatermark({ options, target }: Sides, mark: Watermark): Promise<void> {
  await placeHead({ ...patience(options), store: target }, REPLICA, format(mark));
}

/** Undefined when there is none, or it does not fit the copy. */
export async function readWatermark(sides: Sides): Promise<Watermark | undefined> {
  const { options, target } = sides;
  const { signal, trust } = options;
  const found = await ask(options, () => target.get("head", REPLICA, { signal }));
  if (found === null) return undefined;
  try {
    return await restore(sides, read(parseCanonical(found.body, { maxBytes: MAX_BYTES })), trust.verifier);
  } catch (error) {
    if (error instanceof Violation) return undefined;
    throw error;
  }
}

const unfit = (detail: string): Violation => new Violation("replica.watermark", detail);

interface Kept extends Pick<Watermark, "ledgers" | "owed" | "personal" | "unarchived"> {
  readonly n: number;
  readonly heads: ReadonlyMap<Digest, Head>;
  readonly tiles: readonly (readonly Uint8Array[])[];
  readonly entries: readonly Uint8Array[];
}

const count = (value: Json | undefined): number => {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw unfit("a number is none");
  return value as number;
};
const text = (value: Json | undefined): string => {
  if (typeof value !== "string") throw unfit("a text is none");
  return value;
};
const list = (value: Json | undefined): readonly Json[] => {
  if (!Array.isArray(value)) throw unfit("a list is none");
  return value as readonly Json[];
};
const rows = (value: Json | undefined): JsonObject[] =>
  list(value).map((row) => {
    if (!isObject(row)) throw unfit("a row is none");
    return row;
  });
const hashOf = (value: Json | undefined): Uint8Array => {
  const hash = parseHex(text(value));
  if (hash?.length !== 32) throw unfit("a hash is none");
  return hash;
};
const digest = (value: Json | undefined): Digest => parseDigest(text(value)) ?? fail("a digest is none");
const id = (value: Json | undefined): RecordId => parseRecordId(text(value)) ?? fail("an id is none");
const fail = (detail: string): never => {
  throw unfit(detail);
};

function read(value: Json): Kept {
  if (!isObject(value) || value["v"] !== 1 || typeof value["personal"] !== "boolean") throw unfit("another form");
  return {
    entries: list(value["entries"]).map((e) => utf8(text(e))),
    heads: new Map(
      list(value["heads"]).map((row) => {
        const [project, entries, last] = list(row);
        return [digest(project), { count: count(entries), last: digest(last) }];
      }),
    ),
    ledgers: rows(value["ledgers"]).map((row) => ({ id: id(row["id"]), index: count(row["index"]) })),
    n: count(value["n"]),
    owed: rows(value["owed"]).map((row) => ({
      digest: digest(row["digest"]),
      isManifest: row["manifest"] === true,
      project: digest(row["project"]),
      sizeBytes: count(row["size"]),
    })),
    personal: value["personal"],
    tiles: list(value["tiles"]).map((hashes) => list(hashes).map(hashOf)),
    unarchived: rows(value["unarchived"]).map((row) => ({
      root: formatHex(hashOf(row["root"])),
      size: count(row["size"]),
    })),
  };
}

/** The watermark as the copy's own objects bear it out. Throws Violations. */
async function restore(sides: Sides, kept: Kept, verifier: SignatureVerifier): Promise<Watermark> {
  const { options, target } = sides;
  const { signal } = options;
  const read = async (key: string): Promise<Uint8Array> => {
    const found = await ask(options, () => target.get("ledger", key, { signal }));
    return found?.body ?? fail(`${key} is absent`);
  };
  const [genesis] = kept.ledgers;
  const newest = kept.ledgers.at(-1);
  if (kept.n === 0 || genesis === undefined || newest === undefined) throw unfit("nothing was copied");
  const bytes = await read(commitKey(kept.n - 1));
  const { header, origin, signature, text: signed } = parseCommit(bytes);
  const size = header.first + header.count;
  const edge = Edge.from(size, kept.tiles, kept.entries) ?? fail("the edge is none of the commit's size");
  if (header.n !== kept.n - 1 || !equalBytes(edge.frontier().root(), parseHex(header.root) ?? new Uint8Array()))
    throw unfit("the edge does not lead to the root of the commit");
  let keys = KeyHistory.empty(origin, verifier);
  let before = "";
  let retentionDays = 0;
  for (const ledger of kept.ledgers) {
    const body = await read(recordKey(digestOf(ledger.id)));
    const record = sha256Hex(body) === digestOf(ledger.id) ? parseRecord(body) : fail("a record has another digest");
    const supersedes = record.links.filter((l) => l.rel === "supersedes").map((l) => l.to);
    if (record.kind !== "ledger" || supersedes.join() !== before) throw unfit("the `ledger` records are no chain");
    keys = keys.apply(ledger.index, record.body);
    retentionDays = daysOf(record.body);
    before = ledger.id;
  }
  const isSigned = keys
    .inForce("KEY_ROLE_COMMIT", header.first)
    .some(
      (k) =>
        k.id === signature.id &&
        k.name === signature.name &&
        verifier.ed25519(k.publicKey, signed, signature.signature),
    );
  if (!isSigned) throw unfit("no key of the ledger signed the commit");
  return {
    chain: CommitChain.at({
      epoch: header.epoch,
      frontier: edge.frontier(),
      heads: new Map(kept.heads),
      keys,
      ledger: { genesis: genesis.id, newest: newest.id },
      n: kept.n,
      // The two projects of the genesis come first, as they did in the log.
      own: [...kept.heads.keys()].slice(0, 2),
      prevHash: sha256Hex(bytes),
      time: header.time,
    }),
    edge,
    ledgers: kept.ledgers,
    owed: kept.owed,
    personal: kept.personal,
    retentionDays,
    unarchived: kept.unarchived,
  };
}
