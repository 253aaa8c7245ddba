/**
 * Builds an evidence pack: a closed set of records with everything that an outsider needs to check them, deterministic given
 * the checkpoint's bytes and the options. The verifier shares no code with this room but the pure rooms.
 */
import type { IndexReader } from "../index/index.ts";
import { leafHash, sha256Hex } from "../merkle/hash.ts";
import { consistencyProof, HashStore, inclusionProof, type NodeReader } from "../merkle/proofs.ts";
import { setProof } from "../merkle/set-proof.ts";
import { parseCheckpoint } from "../note/checkpoint.ts";
import { parseNote } from "../note/note.ts";
import { canonicalize } from "../record/canonical.ts";
import { headLeaf } from "../record/heads.ts";
import type { Json } from "../record/json.ts";
import { assertDefined } from "../std/assert.ts";
import { type Digest, digestOf, parseRecordId, type TreeSize } from "../std/brand.ts";
import { concat, formatHex, utf8 } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { artifactKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { type SelectOptions, select } from "./select.ts";
import { END_OF_ARCHIVE, memberHeader, padding } from "./ustar.ts";

export interface PackRequest extends Omit<SelectOptions, "seal"> {
  /** Signed note at a sealed size: its last entry is the seal. */
  readonly checkpoint: Uint8Array;
  /** Heads of all projects before the seal. */
  readonly heads: ReadonlyMap<Digest, { readonly count: number; readonly last: Digest }>;
  readonly includeBlobs: boolean;
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

const PERSONAL = /"personal:sha256:[0-9a-f]{64}"/g;
const jsonLine = (value: Json): string => `${canonicalize(value)}\n`;

export async function buildPack(
  reader: IndexReader,
  nodes: NodeReader,
  store: ObjectStore,
  request: PackRequest,
): Promise<BuiltPack> {
  const { size } = parseCheckpoint(parseNote(request.checkpoint).text);
  const selection = select(reader, { ...request, seal: size - 1 });
  const outside: Left[] = [];
  const entryLines: Uint8Array[] = [];
  const recordLines: Uint8Array[] = [];
  const LF = utf8("\n");
  const personalRefs = new Set<string>();
  const artifacts = new Map<string, { key: string; sizeBytes: number }>();
  let shown = 0;
  for (const index of selection.entries) {
    const entry = assertDefined(reader.entry(index), `entry ${index} is indexed`);
    entryLines.push(utf8(`${index} `), entry.entryBytes, LF);
    const why = selection.withheld.get(index);
    const bytes = why === undefined ? reader.bytes(index) : undefined;
    if (bytes === undefined) {
      outside.push({ id: entry.record, type: "record", why: why ?? "not-granted" });
      recordLines.push(LF);
      continue;
    }
    shown++;
    recordLines.push(bytes, LF);
    for (const [match] of new TextDecoder().decode(bytes).matchAll(PERSONAL)) personalRefs.add(match.slice(1, -1));
    if (entry.kind !== "artifact") continue;
    const body = reader.record(entry.record)?.record.body;
    const digest = typeof body?.["digest"] === "string" ? parseRecordId(body["digest"]) : undefined;
    if (digest !== undefined)
      artifacts.set(digestOf(digest), {
        key: artifactKey(digestOf(entry.project), digestOf(digest)),
        sizeBytes: typeof body?.["size_bytes"] === "number" ? body["size_bytes"] : 0,
      });
  }

  const personalLines: string[] = [];
  for (const id of [...personalRefs].toSorted()) {
    const found = await request.personal?.(id);
    if (found === undefined) outside.push({ id, type: "personal", why: "not-granted" });
    else personalLines.push(jsonLine({ id, ...found }));
  }
  const blobs: { name: string; sha256: Digest; size: number; key: string }[] = [];
  for (const [digest, { key, sizeBytes }] of [...artifacts].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (request.includeBlobs) blobs.push({ key, name: `blobs/${digest}`, sha256: digest as Digest, size: sizeBytes });
    else outside.push({ id: `sha256:${digest}`, type: "artifact", why: "not-included" });
  }

  const members: { name: string; bytes: Uint8Array }[] = [{ bytes: request.checkpoint, name: "checkpoint" }];
  const history = historyLines(request.anchors, size, nodes);
  if (history !== "") members.push({ bytes: utf8(history), name: "history.jsonl" });
  members.push(
    { bytes: concat(...entryLines), name: "entries.txt" },
    { bytes: concat(...setProof(size, selection.entries, nodes)), name: "proof.bin" },
    { bytes: utf8(headLines(request.heads, selection.complete)), name: "heads.jsonl" },
    { bytes: concat(...recordLines), name: "records.jsonl" },
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
      outside: outside.toSorted((a, b) => (a.id < b.id ? -1 : 1)).map((o) => ({ id: o.id, type: o.type, why: o.why })),
      roots: [...new Set(roots)].toSorted(),
    }),
  );
  members.unshift({ bytes: manifest, name: "manifest.json" });
  const inBlocks = (n: number): number => 512 + n + padding(n).length;
  return {
    id: sha256Hex(manifest),
    omitted: outside.length,
    records: shown,
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
        const opened = await store.open("ledger", blob.key);
        if (opened === null || opened.sizeBytes !== blob.size)
          throw new Fault(
            "STORE_UNAVAILABLE",
            `The bytes of artifact sha256:${blob.sha256} are not in the store; run "datapilot verify bucket" and restore them from a replica.`,
          );
        yield memberHeader(blob.name, blob.size);
        yield* opened.stream;
        yield padding(blob.size);
      }
      yield END_OF_ARCHIVE;
    },
  };
}

/** A consistency proof from each kept note to the checkpoint, ascending by size. */
function historyLines(anchors: readonly Uint8Array[], size: number, nodes: NodeReader): string {
  const bySize = new Map(
    anchors.map((note) => [parseCheckpoint(parseNote(note).text).size, new TextDecoder().decode(note)] as const),
  );
  return [...bySize]
    .filter(([from]) => from > 0 && from < size)
    .toSorted(([a], [b]) => a - b)
    .map(([from, note]) => jsonLine({ hashes: consistencyProof(from, size, nodes).map(formatHex), note, size: from }))
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
