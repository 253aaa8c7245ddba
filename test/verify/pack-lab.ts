/**
 * Ledgers and packs in which anything may be a lie, made of fixed keys and salts: what an operator with every key can write, and
 * what a carrier without any can do to a pack. Nothing here is read back by the code that makes it.
 */
import { ed25519 } from "@noble/curves/ed25519.js";
import { ml_dsa44 } from "@noble/post-quantum/ml-dsa.js";
import { memberHeader, padding } from "../../src/evidence/ustar.ts";
import { leafHash, sha256, sha256Hex } from "../../src/merkle/hash.ts";
import { consistencyProof, HashStore, inclusionProof } from "../../src/merkle/proofs.ts";
import { setProof } from "../../src/merkle/set-proof.ts";
import { formatCheckpoint } from "../../src/note/checkpoint.ts";
import { cosignatureMessage, formatCosignature } from "../../src/note/cosignature.ts";
import { formatVkey, type KeyAlgorithm, keyId } from "../../src/note/keys.ts";
import { formatNote, signatureLine } from "../../src/note/note.ts";
import { canonicalBytes, canonicalize } from "../../src/record/canonical.ts";
import { formatEntry } from "../../src/record/entry.ts";
import { headLeaf } from "../../src/record/heads.ts";
import type { Json, JsonObject } from "../../src/record/json.ts";
import { type KeyRole, keyStatement } from "../../src/record/key-history.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { type Digest, digestOf, idOf, type RecordId, ZERO_DIGEST } from "../../src/std/brand.ts";
import { concat, formatBase64Url, formatHex, utf8 } from "../../src/std/bytes.ts";

export const ORIGIN = "datapilot.vectors/00c0ffee";
/** 2026-11-23T08:00:00Z */
export const START_S = 1_795_420_800;
export const at = (seconds: number): string => new Date((START_S + seconds) * 1000).toISOString();

const seedOf = (name: string): Uint8Array => sha256(utf8(`vectors ${name}`));
export const salt = (name: string): string => formatBase64Url(seedOf(`salt ${name}`).subarray(0, 16));

/** A key whose private half is known to everybody. */
export interface LabKey {
  readonly name: string;
  readonly algorithm: KeyAlgorithm;
  readonly id: number;
  readonly publicKey: Uint8Array;
  readonly vkey: string;
  sign(message: Uint8Array): Uint8Array;
  /** A signature line under a checkpoint's text. */
  line(text: string, timeS?: number): string;
}

export function labKey(name: string, algorithm: KeyAlgorithm, seed = `${name} ${algorithm}`): LabKey {
  const secret = seedOf(seed);
  const pq = algorithm === 6 ? ml_dsa44.keygen(secret) : undefined;
  const publicKey = pq?.publicKey ?? ed25519.getPublicKey(secret);
  const id = keyId(name, algorithm, publicKey);
  const sign = (message: Uint8Array): Uint8Array =>
    pq === undefined ? ed25519.sign(message, secret) : ml_dsa44.sign(message, pq.secretKey, { extraEntropy: false });
  return {
    algorithm,
    id,
    line(text, timeS = 0) {
      if (algorithm === 1) return signatureLine(name, id, sign(utf8(text)));
      return signatureLine(
        name,
        id,
        formatCosignature(timeS, sign(cosignatureMessage({ algorithm, name }, timeS, text))),
      );
    },
    name,
    publicKey,
    sign,
    vkey: formatVkey(name, algorithm, publicKey),
  };
}

export const KEYS = {
  commit: labKey(`${ORIGIN}/commit`, 1),
  log: labKey(ORIGIN, 1),
  logPq: labKey(ORIGIN, 6),
  next: labKey(ORIGIN, 1, "the next log key"),
  stranger: labKey(ORIGIN, 1, "a stranger"),
  witness: labKey("witness.example/a", 4),
  witnessPq: labKey("witness.example/b", 6),
} as const;

export interface KeyRow {
  readonly role: KeyRole;
  readonly key: LabKey;
  readonly from?: number;
  readonly to?: number;
  readonly endorsedBy?: LabKey;
}

export const keyRow = ({ endorsedBy, from = 0, key, role, to }: KeyRow): JsonObject => {
  const statement = keyStatement(ORIGIN, role, key.vkey, from, to);
  return {
    ...(endorsedBy === undefined ? {} : { endorsement: formatHex(endorsedBy.sign(statement)) }),
    ...(from === 0 ? {} : { from_size: from }),
    possession: formatHex(key.sign(statement)),
    role,
    ...(to === undefined ? {} : { to_size: to }),
    vkey: key.vkey,
  };
};

export interface Item {
  readonly id: RecordId;
  readonly project: Digest;
  readonly entry: Uint8Array;
  readonly record: Uint8Array;
}

export interface Draft {
  readonly kind: string;
  readonly body?: JsonObject;
  readonly project?: RecordId;
  readonly links?: readonly { rel: string; to: string }[];
  readonly actor?: JsonObject;
  readonly time?: string;
  /** Members that a record does not have, or has otherwise. */
  readonly also?: JsonObject;
}

/** What an entry says when it does not tell the truth. */
export interface EntryLie {
  readonly project?: Digest;
  readonly seq?: number;
  readonly prev?: Digest;
}

export interface Left {
  readonly id: string;
  readonly type: string;
  readonly why: string;
}

export interface PackPlan {
  /** Entries; all below the size when absent. */
  readonly entries?: readonly number[];
  readonly withheld?: ReadonlyMap<number, string>;
  readonly outside?: readonly Left[];
  readonly complete: readonly Digest[];
  readonly roots: readonly RecordId[];
  readonly checkpoint: Uint8Array;
  readonly size: number;
  readonly anchors?: readonly {
    readonly size: number;
    readonly note?: Uint8Array;
    readonly hashes?: readonly Uint8Array[];
  }[];
  readonly personal?: readonly { readonly salt: string; readonly value: string }[];
  readonly blobs?: readonly Uint8Array[];
  /** Heads that the proof is made of, where they are not those of the entries. */
  readonly heads?: ReadonlyMap<string, Head>;
}

interface Head {
  readonly count: number;
  readonly last: string;
}

export class LabLedger {
  readonly items: Item[] = [];
  readonly tree = new HashStore();
  readonly origin: string;

  constructor(origin = ORIGIN) {
    this.origin = origin;
  }

  get size(): number {
    return this.items.length;
  }

  item(index: number): Item {
    return assertDefined(this.items[index], `entry ${index}`);
  }

  /** The bytes of a record; salts follow from the place. */
  record({ actor = { method: "system" }, also = {}, body = {}, kind, links = [], project, time }: Draft): Uint8Array {
    return canonicalBytes({
      actor,
      body,
      kind,
      links: links.toSorted((a, b) => (`${a.rel} ${a.to}` < `${b.rel} ${b.to}` ? -1 : 1)),
      ...(project === undefined ? {} : { project }),
      request_id: `request-${this.size}`,
      salt: salt(String(this.size)),
      time: time ?? at(this.size),
      v: 1,
      ...also,
    });
  }

  add(draft: Draft, lie: EntryLie = {}): RecordId {
    const bytes = this.record(draft);
    return this.append(bytes, digestOf(draft.project ?? idOf(sha256Hex(bytes))), lie);
  }

  append(record: Uint8Array, own: Digest, lie: EntryLie = {}): RecordId {
    const project = lie.project ?? own;
    const before = this.head(project);
    const id = idOf(sha256Hex(record));
    const entry = utf8(
      formatEntry({
        prev: lie.prev ?? (before?.last as Digest | undefined) ?? ZERO_DIGEST,
        project,
        record: id,
        seq: lie.seq ?? before?.count ?? 0,
      }),
    );
    this.items.push({ entry, id, project, record });
    this.tree.append(leafHash(entry));
    return id;
  }

  head(project: string, size = this.size): Head | undefined {
    const own = this.items.slice(0, size).filter((i) => i.project === project);
    const last = own.at(-1);
    return last === undefined ? undefined : { count: own.length, last: formatHex(leafHash(last.entry)) };
  }

  /** Heads of all projects before a seal at `size`. */
  heads(size = this.size): Map<string, Head> {
    const projects = new Set<string>(this.items.slice(0, size).map((i) => i.project));
    return new Map([...projects].toSorted().map((p) => [p, assertDefined(this.head(p, size), "a head")]));
  }

  seal(
    body: JsonObject = {},
    { heads = this.heads(), project = this.item(1).id }: { heads?: ReadonlyMap<string, Head>; project?: RecordId } = {},
  ): RecordId {
    const ledgers = this.items.filter(
      (i) => (JSON.parse(new TextDecoder().decode(i.record)) as JsonObject)["kind"] === "ledger",
    );
    return this.add({
      body: {
        heads: formatHex(headsTree(heads).root()),
        ledger: assertDefined(ledgers.at(-1), "a ledger").id,
        projects: heads.size,
        size: this.size,
        state: "0".repeat(64),
        state_version: 1,
        ...body,
      },
      kind: "ledger.seal",
      project,
    });
  }

  note(
    size = this.size,
    by: readonly LabKey[] = [KEYS.log, KEYS.logPq],
    cosigned: readonly { readonly key: LabKey; readonly timeS: number }[] = [],
    text = formatCheckpoint({ origin: this.origin, root: this.tree.root(size), size }),
  ): Uint8Array {
    return formatNote(text, [...by.map((k) => k.line(text, 0)), ...cosigned.map((c) => c.key.line(text, c.timeS))]);
  }

  pack(plan: PackPlan): Part[] {
    const { blobs = [], complete, heads = this.heads(plan.size - 1), outside = [], personal = [], roots, size } = plan;
    const withheld = plan.withheld ?? new Map<number, string>();
    const chosen = plan.entries ?? Array.from({ length: size }, (_, i) => i);
    const lines = (rows: readonly Json[]): Uint8Array => utf8(rows.map((r) => `${canonicalize(r)}\n`).join(""));
    const parts: Part[] = [{ bytes: plan.checkpoint, name: "checkpoint" }];
    if (plan.anchors !== undefined)
      parts.push({
        bytes: lines(
          plan.anchors.map(({ hashes, note, size: from }) => ({
            hashes: (hashes ?? consistencyProof(from, size, this.tree.read)).map(formatHex),
            ...(note === undefined ? {} : { note: new TextDecoder().decode(note) }),
            size: from,
          })),
        ),
        name: "history.jsonl",
      });
    const sorted = [...heads];
    const tree = headsTree(heads);
    parts.push(
      {
        bytes: concat(...chosen.flatMap((i) => [utf8(`${i} `), this.item(i).entry, LF])),
        name: "entries.txt",
      },
      { bytes: concat(...setProof(size, chosen, this.tree.read)), name: "proof.bin" },
      {
        bytes: lines(
          complete.toSorted().flatMap((project) => {
            const index = sorted.findIndex(([p]) => p === project);
            if (index < 0) return [];
            const head = assertDefined(sorted[index], "a head")[1];
            return [
              { ...head, hashes: inclusionProof(index, sorted.length, tree.read).map(formatHex), index, project },
            ];
          }),
        ),
        name: "heads.jsonl",
      },
      {
        bytes: concat(...chosen.flatMap((i) => (withheld.has(i) ? [LF] : [this.item(i).record, LF]))),
        name: "records.jsonl",
      },
    );
    if (personal.length > 0)
      parts.push({
        bytes: lines(personal.map((p) => ({ id: personalId(p), ...p })).toSorted((a, b) => (a.id < b.id ? -1 : 1))),
        name: "personal.jsonl",
      });
    for (const blob of blobs.toSorted((a, b) => (sha256Hex(a) < sha256Hex(b) ? -1 : 1)))
      parts.push({ bytes: blob, name: `blobs/${sha256Hex(blob)}` });
    const left = [
      ...outside,
      ...[...withheld].map(([i, why]) => ({ id: this.item(i).id as string, type: "record", why })),
    ].toSorted((a, b) => (`${a.id} ${a.type}` < `${b.id} ${b.type}` ? -1 : 1));
    const manifest = {
      complete: complete.toSorted(),
      files: filesOf(parts),
      format: "datapilot-evidence/v1",
      outside: left.map((o) => ({ ...o })),
      roots: roots.toSorted(),
    };
    return [{ bytes: lines([manifest]), name: "manifest.json" }, ...parts];
  }
}

const LF = utf8("\n");

function headsTree(heads: ReadonlyMap<string, Head>): HashStore {
  const tree = new HashStore();
  for (const [project, { count, last }] of heads) tree.append(leafHash(headLeaf(project, count, last)));
  return tree;
}

export const personalId = ({ salt: s, value }: { readonly salt: string; readonly value: string }): string =>
  `personal:${idOf(sha256Hex(canonicalBytes({ salt: s, value })))}`;

/** A member of an archive. */
export interface Part {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const BLOCK = 512;

export const filesOf = (parts: readonly Part[]): JsonObject[] =>
  parts.map(({ bytes, name }) => ({ name, sha256: sha256Hex(bytes), size: bytes.length }));

export const archiveOf = (parts: readonly Part[]): Uint8Array =>
  concat(
    ...parts.flatMap(({ bytes, name }) => [memberHeader(name, bytes.length), bytes, padding(bytes.length)]),
    new Uint8Array(2 * BLOCK),
  );

export function partsOf(archive: Uint8Array): Part[] {
  const parts: Part[] = [];
  for (let from = 0; archive[from] !== 0; ) {
    const header = new TextDecoder().decode(archive.subarray(from, from + BLOCK));
    const size = Number.parseInt(header.slice(124, 135), 8);
    parts.push({
      bytes: archive.slice(from + BLOCK, from + BLOCK + size),
      name: header.slice(0, header.indexOf("\0")),
    });
    from += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return parts;
}

/** Makes the manifest say what the members are, as a liar would. */
export function agreeing(parts: readonly Part[]): Part[] {
  const [manifest, ...rest] = parts;
  const value = JSON.parse(new TextDecoder().decode(manifest?.bytes)) as JsonObject;
  return [{ bytes: utf8(`${canonicalize({ ...value, files: filesOf(rest) })}\n`), name: "manifest.json" }, ...rest];
}
