/**
 * Builds an evidence pack: a closed set of records with everything that an outsider needs to check them, deterministic given
 * the checkpoint's bytes and the options. The verifier shares no code with this room but the pure rooms.
 */
import type { IndexReader } from "../index/index.ts";
import { leafHash, sha256Hex } from "../merkle/hash.ts";
import { consistencyProof, HashStore, inclusionProof, type NodeReader, subtreeRoot } from "../merkle/proofs.ts";
import { setProof } from "../merkle/set-proof.ts";
import { type Checkpoint, parseCheckpoint } from "../note/checkpoint.ts";
import { parseNote } from "../note/note.ts";
import { canonicalize } from "../record/canonical.ts";
import { chunksOf, isChunked, parseChunkManifest } from "../record/chunks.ts";
import { headLeaf } from "../record/heads.ts";
import type { Json, JsonObject } from "../record/json.ts";
import { assertDefined } from "../std/assert.ts";
import { type Digest, digestOf, parseRecordId, type RecordId, type TreeSize } from "../std/brand.ts";
import { equalBytes, formatHex, utf8 } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import { findBlob } from "../store/find-blob.ts";
import { artifactKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { readSized } from "../store/right-version.ts";
import { type SelectOptions, select, type Why } from "./select.ts";
import { END_OF_ARCHIVE, memberHeader, padding } from "./ustar.ts";

export interface PackRequest extends Omit<SelectOptions, "seal"> {
  /** Signed note at a sealed size: its last entry is the seal. */
  readonly checkpoint: Uint8Array;
  /** Heads of all projects before the seal. */
  readonly heads: ReadonlyMap<Digest, { readonly count: number; readonly last: Digest }>;
  /** Whether the recipient may have the bytes of a project's artifacts; undefined when they are not asked for. */
  readonly blobs: ((project: RecordId) => boolean) | undefined;
  /** Gives the preimage of a personal value; undefined when it is not granted or gone. */
  readonly personal: ((ref: string) => Promise<{ salt: string; value: string } | undefined>) | undefined;
  /** Notes that the recipient kept; those of a smaller size become anchors. */
  readonly anchors: readonly Uint8Array[];
}

export interface BuiltPack {
  readonly id: Digest;
  readonly sizeBytes: number;
  readonly size: TreeSize;
  readonly records: number;
  readonly omitted: number;
  /** The bytes of the archive, in order. */
  stream(signal?: AbortSignal): AsyncGenerator<Uint8Array>;
}

interface Left {
  readonly id: string;
  readonly type: "record" | "artifact" | "personal";
  readonly why: string;
}

interface Blob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly project: RecordId;
  /** Whether the bytes may be had. */
  readonly isGranted: boolean;
  /** Whether the bytes name chunks, which belong to it. */
  readonly isManifest: boolean;
}

const MAY_BE_PERSONAL = Buffer.from("personal:sha256:");
const PERSONAL = /^personal:sha256:[0-9a-f]{64}$/;
const jsonLine = (value: Json): string => `${canonicalize(value)}\n`;

/** Any number of parts in one: more than a call may have arguments. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** References of personal values in a body. */
function personalIn(value: Json, into: Set<string>): void {
  if (typeof value === "string") {
    if (PERSONAL.test(value)) into.add(value);
  } else if (typeof value === "object" && value !== null)
    for (const item of Object.values(value)) personalIn(item, into);
}

/** The lines of what was selected, and what its records refer to. */
class Lines {
  readonly entries: Uint8Array[] = [];
  readonly records: Uint8Array[] = [];
  readonly outside: Left[] = [];
  readonly personal = new Set<string>();
  readonly artifacts = new Map<string, Blob>();
  shown = 0;
  readonly #reader: IndexReader;
  readonly #mayHave: (project: RecordId) => boolean;

  constructor(reader: IndexReader, { blobs }: PackRequest) {
    this.#reader = reader;
    this.#mayHave = blobs ?? (() => false);
  }

  add(index: number, why: Why | undefined): void {
    const entry = assertDefined(this.#reader.entry(index), `entry ${index} is indexed`);
    this.entries.push(utf8(`${index} `), entry.entryBytes, LF);
    if (why !== undefined) {
      this.outside.push({ id: entry.record, type: "record", why });
      this.records.push(LF);
      return;
    }
    const bytes = assertDefined(this.#reader.bytes(index), `the record of entry ${index} is here`);
    this.shown++;
    this.records.push(bytes, LF);
    if (
      entry.kind !== "artifact" &&
      !Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes(MAY_BE_PERSONAL)
    )
      return;
    const { body } = assertDefined(this.#reader.record(entry.record), "a record is in the index").record;
    personalIn(body, this.personal);
    if (entry.kind === "artifact") this.#addArtifact(entry.project, body);
  }

  /** Of two projects with the same content, one that may give it counts. */
  #addArtifact(project: RecordId, body: JsonObject): void {
    const { digest: stated, size_bytes: size } = body;
    const id = typeof stated === "string" ? parseRecordId(stated) : undefined;
    if (id === undefined) return;
    const before = this.artifacts.get(id);
    const isGranted = this.#mayHave(project);
    const isManifest = isChunked(body);
    // Of those, a manifest is the one that needs more.
    if (before !== undefined && (before.isGranted || !isGranted) && (before.isManifest || !isManifest)) return;
    const sizeBytes = typeof size === "number" ? size : 0;
    this.artifacts.set(id, { digest: digestOf(id), isGranted, isManifest, project, sizeBytes });
  }
}

const LF = utf8("\n");

export async function buildPack(
  reader: IndexReader,
  nodes: NodeReader,
  store: ObjectStore,
  request: PackRequest,
): Promise<BuiltPack> {
  const checkpoint = parseCheckpoint(parseNote(request.checkpoint).text);
  const { size } = checkpoint;
  const selection = select(reader, { ...request, seal: size - 1 });
  const lines = new Lines(reader, request);
  for (const index of selection.entries) lines.add(index, selection.withheld.get(index));
  const { outside } = lines;

  const personalLines: string[] = [];
  for (const id of [...lines.personal].toSorted()) {
    const found = await request.personal?.(id);
    if (found === undefined) outside.push({ id, type: "personal", why: "not-granted" });
    else personalLines.push(jsonLine({ id, salt: found.salt, value: found.value }));
  }
  const blobs = await blobsOf(store, [...lines.artifacts.values()]);
  const here = new Set<string>(blobs.map((b) => b.sha256));
  for (const [id, { digest }] of lines.artifacts)
    if (!here.has(digest))
      outside.push({ id, type: "artifact", why: request.blobs === undefined ? "not-included" : "not-granted" });
  for (const blob of blobs)
    if ((await findBlob(store, blob.key, blob.sha256))?.info.sizeBytes !== blob.size) throw absentBlob(blob.sha256);

  const members: { name: string; bytes: Uint8Array }[] = [{ bytes: request.checkpoint, name: "checkpoint" }];
  const history = historyLines(request.anchors, checkpoint, nodes);
  if (history !== "") members.push({ bytes: utf8(history), name: "history.jsonl" });
  members.push(
    { bytes: joined(lines.entries), name: "entries.txt" },
    { bytes: joined(setProof(size, selection.entries, nodes)), name: "proof.bin" },
    { bytes: utf8(headLines(request.heads, selection.complete)), name: "heads.jsonl" },
    { bytes: joined(lines.records), name: "records.jsonl" },
  );
  if (personalLines.length > 0) members.push({ bytes: utf8(personalLines.join("")), name: "personal.jsonl" });

  const roots = request.roots.map((i) => assertDefined(reader.entry(i), "a root is indexed").record as string);
  const manifest = utf8(
    jsonLine({
      complete: [...selection.complete],
      files: [
        ...members.map((m) => ({ name: m.name, sha256: sha256Hex(m.bytes) as string, size: m.bytes.length })),
        ...blobs.map((b) => ({ name: b.name, sha256: b.sha256 as string, size: b.size })),
      ],
      format: "datapilot-evidence/v1",
      outside: outside
        .toSorted((a, b) => (`${a.id} ${a.type}` < `${b.id} ${b.type}` ? -1 : 1))
        .map((o) => ({ id: o.id, type: o.type, why: o.why })),
      roots: [...new Set(roots)].toSorted(),
    }),
  );
  members.unshift({ bytes: manifest, name: "manifest.json" });
  const inBlocks = (n: number): number => 512 + n + padding(n).length;
  return {
    id: sha256Hex(manifest),
    omitted: outside.length,
    records: lines.shown,
    size: size as TreeSize,
    sizeBytes: [...members.map((m) => m.bytes.length), ...blobs.map((b) => b.size)].reduce(
      (total, n) => total + inBlocks(n),
      END_OF_ARCHIVE.length,
    ),
    async *stream(signal) {
      for (const { name, bytes } of members) {
        yield memberHeader(name, bytes.length);
        yield bytes;
        yield padding(bytes.length);
      }
      for (const blob of blobs) {
        signal?.throwIfAborted();
        const found = await findBlob(store, blob.key, blob.sha256, signal);
        const versionId = found?.info.versionId;
        const opened = found === undefined ? null : await store.open("ledger", blob.key, { signal, versionId });
        if (opened?.sizeBytes !== blob.size) throw absentBlob(blob.sha256);
        yield memberHeader(blob.name, blob.size);
        yield* opened.stream;
        yield padding(blob.size);
      }
      yield END_OF_ARCHIVE;
    },
  };
}

interface BlobMember {
  readonly name: string;
  readonly sha256: Digest;
  readonly size: number;
  readonly key: string;
}

/** The members of what may be had, and of the chunks that manifests among it name, ascending. */
async function blobsOf(store: ObjectStore, artifacts: readonly Blob[]): Promise<BlobMember[]> {
  const members = new Map<Digest, BlobMember>();
  const add = (project: RecordId, digest: Digest, size: number): void => {
    if (members.has(digest)) return;
    const key = artifactKey(digestOf(project), digest);
    members.set(digest, { key, name: `blobs/${digest}`, sha256: digest, size });
  };
  for (const { digest, isGranted, isManifest, project, sizeBytes } of artifacts) {
    if (!isGranted) continue;
    add(project, digest, sizeBytes);
    if (!isManifest) continue;
    const key = artifactKey(digestOf(project), digest);
    const bytes = await readSized(store, key, sizeBytes, (body) => sha256Hex(body) === digest);
    if (bytes === undefined) throw absentBlob(digest);
    for (const [chunk, size] of chunksOf(parseChunkManifest(bytes))) add(project, chunk, size);
  }
  return [...members.values()].toSorted((a, b) => (a.sha256 < b.sha256 ? -1 : 1));
}

const absentBlob = (digest: Digest): Fault =>
  new Fault(
    "STORE_UNAVAILABLE",
    `The bytes of artifact sha256:${digest} are not in the store; run "datapilot verify bucket" and restore them from a replica.`,
  );

function parseAnchor(note: Uint8Array): Checkpoint {
  try {
    return parseCheckpoint(parseNote(note).text);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    throw new Fault("REQUEST_INVALID", `An anchor is no signed checkpoint: ${error.message}`, { cause: error });
  }
}

/**
 * A consistency proof from each kept note to the checkpoint, ascending by size. A note of another tree gets a proof all the same,
 * with which whoever keeps it finds the contradiction; but it is no anchor of this one, and its text stays out.
 */
function historyLines(anchors: readonly Uint8Array[], { origin, size }: Checkpoint, nodes: NodeReader): string {
  const bySize = new Map<number, string | undefined>();
  for (const bytes of anchors) {
    const anchor = parseAnchor(bytes);
    if (anchor.size < 1 || anchor.size >= size) continue;
    const isOurs = anchor.origin === origin && equalBytes(anchor.root, subtreeRoot(0, anchor.size, nodes));
    bySize.set(anchor.size, isOurs ? new TextDecoder().decode(bytes) : bySize.get(anchor.size));
  }
  return [...bySize]
    .toSorted(([a], [b]) => a - b)
    .map(([from, note]) => {
      const hashes = consistencyProof(from, size, nodes).map(formatHex);
      return jsonLine(note === undefined ? { hashes, size: from } : { hashes, note, size: from });
    })
    .join("");
}

/** Proof that the head of each complete project is in the seal. */
function headLines(all: PackRequest["heads"], complete: readonly Digest[]): string {
  const heads = [...all].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const tree = new HashStore();
  for (const [project, head] of heads) tree.append(leafHash(headLeaf(project, head.count, head.last)));
  return complete
    .map((project) => {
      const index = heads.findIndex(([p]) => p === project);
      const head = assertDefined(heads[index]?.[1], "a complete project has a head");
      return jsonLine({
        count: head.count,
        hashes: inclusionProof(index, heads.length, tree.read).map(formatHex),
        index,
        last: head.last,
        project,
      });
    })
    .join("");
}
