/** The bucket is looked at without anybody asking: what was changed, hidden, shadowed, shortened or planted is found, and told once. */
import { expect, it } from "vitest";
import type { Index } from "../../src/index/index.ts";
import { Findings } from "../../src/log/findings.ts";
import { type Scrubbed, scrub } from "../../src/log/scrub.ts";
import { CHUNKS_MEDIA_TYPE, formatChunkManifest } from "../../src/record/chunks.ts";
import { type Digest, digestOf } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { artifactKey, checkpointKey, commitKey, recordKey, tileKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { quietLogger, seededRandom } from "../log/world.ts";
import { Lab, sha256 } from "../replicate/lab.ts";

const DAY_MS = 86_400_000;

interface Made {
  readonly lab: Lab;
  readonly store: MemoryStore;
  readonly findings: Findings;
  readonly told: object[];
  readonly look: (store?: ObjectStore, index?: Index) => Promise<Scrubbed>;
  readonly found: () => string[];
}

async function made(): Promise<Made> {
  const store = createMemoryStore({ lock: "compliance" });
  const lab = await Lab.create(store);
  await lab.datasets(270);
  await lab.artifact("rows");
  await lab.log.seal();
  const told: object[] = [];
  const findings = new Findings({ ...quietLogger, error: (fields) => void told.push(fields) });
  return {
    findings,
    found: () =>
      findings
        .unrecorded()
        .map((f) => `${f.code} ${f.object}`)
        .sort(),
    lab,
    look: (from = store, index = lab.log.index) =>
      scrub({
        clock: lab.world.clock,
        findings,
        index,
        objectsPerSecond: 100,
        random: seededRandom(5),
        signal: new AbortController().signal,
        store: from,
      }),
    store,
    told,
  };
}

it("finds nothing in a sound bucket, having seen all of it, at its rate", async () => {
  const { found, lab, look, store } = await made();
  const before = lab.world.clock.monotonic();
  const { counts, size } = await look();
  expect(found()).toEqual([]);
  const objects = store.keys("ledger").length;
  expect(counts).toEqual({ commits: lab.log.index.watermark.n, objects, prolonged: 0, versions: objects });
  expect(size).toBe(lab.log.index.watermark.size);
  expect(lab.world.clock.monotonic() - before).toBeGreaterThanOrEqual(objects * 10);
});

it("finds what was changed, hidden, shadowed, shortened, planted and taken away, each once", async () => {
  const { findings, found, lab, look, store, told } = await made();
  const [a = "", b = "", c = "", d = "", e = ""] = store.keys("ledger").filter((k) => k.startsWith("records/"));
  const artifact = store.keys("ledger").find((k) => k.startsWith("artifacts/")) ?? "";
  const checkpoint = store.keys("ledger").find((k) => k.startsWith("checkpoints/")) ?? "";
  const tile = "tile/entries/000";
  store.tamper("ledger", a, utf8("changed"));
  store.tamper("ledger", tile, utf8("changed"));
  store.tamper("ledger", b, null);
  store.shadow(c, utf8("over it"));
  store.shadow(artifact, utf8("over it"));
  store.hide(d);
  store.hide(checkpoint);
  store.hide(commitKey(4));
  const bytes = (await store.get("ledger", e))?.body ?? utf8("");
  store.tamper("ledger", e, null);
  store.shadow(e, bytes, { lockMode: "COMPLIANCE", retainUntil: lab.world.clock.now() + 100 * DAY_MS });
  const foreign = "strange/key";
  store.tamper("ledger", foreign, utf8("x"));
  const stranger = recordKey("ab".repeat(32) as Digest);
  store.shadow(stranger, utf8("no record"));
  store.shadow(artifactKey("cd".repeat(32) as Digest, "ab".repeat(32) as Digest), utf8("of no project"));
  store.shadow(commitKey(5_000), utf8("far ahead"));
  store.shadow(tileKey("tile/0/077"), utf8("far ahead"));
  store.shadow(checkpointKey(7, "0".repeat(16)), utf8("no seal"));
  await look();
  const expected = [
    `object.changed ${a}`,
    `object.changed ${tile}`,
    `object.hidden ${checkpoint}`,
    `object.hidden ${commitKey(4)}`,
    `object.hidden ${d}`,
    `object.missing ${b}`,
    `object.planted ${artifactKey("cd".repeat(32) as Digest, "ab".repeat(32) as Digest)}`,
    `object.planted ${checkpointKey(7, "0".repeat(16))}`,
    `object.planted ${commitKey(5_000)}`,
    `object.planted ${foreign}`,
    `object.planted ${stranger}`,
    `object.planted tile/0/077`,
    `object.retention ${e}`,
    `object.shadowed ${artifact}`,
    `object.shadowed ${c}`,
  ].sort();
  expect(found()).toEqual(expected);
  expect(told).toHaveLength(expected.length);
  expect(findings.alarm).toBeDefined();
  // It was prolonged, so the next look does not meet it; the others are not told again.
  await look();
  expect(told).toHaveLength(expected.length);
  expect(findings.open().get("object.retention")).toBeUndefined();
  expect(findings.open().get("object.planted")).toBe(6);
  expect((await store.head("ledger", e))?.retainUntil).toBeGreaterThan(lab.world.clock.now() + 360 * DAY_MS);
  // What is not recorded waits, although it is over; what is, is new when it comes again.
  expect(found()).toEqual(expected);
  findings.recorded(findings.unrecorded());
  await look();
  expect(found()).toEqual([]);
  store.tamper("ledger", foreign, null);
  await look();
  store.tamper("ledger", foreign, utf8("x"));
  await look();
  expect(found()).toEqual([`object.planted ${foreign}`]);
});

it("takes repeated writes of the same bytes for what they are", async () => {
  const { found, look, store } = await made();
  const [key = ""] = store.keys("ledger").filter((k) => k.startsWith("records/"));
  const { body } = (await store.get("ledger", key)) ?? { body: utf8("") };
  store.shadow(key, body, { retainUntil: (await store.head("ledger", key))?.retainUntil ?? 0 });
  await look();
  expect(found()).toEqual([]);
});

it("looks at the chunks that an artifact's manifest names", async () => {
  const { found, lab, look, store } = await made();
  const chunks = ["first chunk", "second one."].map((text) => utf8(text));
  const manifest = formatChunkManifest({
    chunkBytes: 11,
    chunks: chunks.map((c) => sha256(c)),
    sha256Claimed: sha256(utf8("first chunksecond one.")),
    sizeBytes: 22,
  });
  const keys = [manifest, ...chunks].map((bytes) => artifactKey(digestOf(lab.project), sha256(bytes)));
  for (const [i, bytes] of [manifest, ...chunks].entries())
    await store.create("ledger", keys[i] ?? "", bytes, { retainUntil: lab.world.clock.now() + 366 * DAY_MS });
  const digest = `sha256:${sha256(manifest)}`;
  await lab.record(
    "artifact",
    { digest, media_type: CHUNKS_MEDIA_TYPE, size_bytes: manifest.length },
    "artifact-in-chunks",
  );
  await look();
  expect(found()).toEqual([]);
  store.tamper("ledger", keys[2] ?? "", utf8("second two."));
  await look();
  expect(found()).toEqual([`object.changed ${keys[2]}`]);
});

it("does not accuse the bucket of an artifact that was erased as the log says", async () => {
  const { found, lab, look, store } = await made();
  const artifact = store.keys("ledger").find((k) => k.startsWith("artifacts/")) ?? "";
  await lab.record("dataset", { classification: "CLASSIFICATION_INTERNAL", name: "another" }, "another");
  const { system } = lab.world.init;
  await lab.log.submit({
    admit: () => ({
      drafts: [
        {
          actor: { method: "system" },
          body: { basis: "a test", digests: [`sha256:${artifact.split("/").at(-1)}`], type: "OPERATION_TYPE_ERASURE" },
          kind: "operation",
          links: [],
          project: system,
          requestId: "erase",
        },
      ],
      value: null,
    }),
    project: system,
  });
  store.tamper("ledger", artifact, null);
  await look();
  expect(found()).toEqual([]);
});

it("finds rows of the index that are not the commit's", async () => {
  const { found, lab, look, store } = await made();
  const { index } = lab.log;
  const wrong: Index = {
    ...index,
    get watermark() {
      return index.watermark;
    },
    reader(asOf) {
      const reader = index.reader(asOf);
      const entry: typeof reader.entry = (i) => {
        const row = reader.entry(i);
        return i === 40 && row !== undefined ? { ...row, entryBytes: utf8("{}") } : row;
      };
      return { ...reader, entry };
    },
  };
  await look(store, wrong);
  expect(found()).toEqual([expect.stringMatching(/^index\.row commits\//), "object.changed tile/entries/000"]);
});

it("tells of an object that the store does not give, and goes on with the others", async () => {
  const { found, look, store } = await made();
  const lost = store.keys("ledger").filter((k) => k.startsWith("records/"))[7] ?? "";
  const refusing: ObjectStore = {
    ...store,
    get: (b, k, o) =>
      k === lost ? Promise.reject(new Fault("STORE_UNAVAILABLE", "read quorum lost")) : store.get(b, k, o),
  };
  const { counts } = await look(refusing);
  expect(found()).toEqual([`object.unreadable ${lost}`]);
  expect(counts.objects).toBe(store.keys("ledger").length);
  await look();
  expect(found()).toEqual([`object.unreadable ${lost}`]);
  // A store that answers for none accuses no object.
  const dead: ObjectStore = {
    ...store,
    get: () => Promise.reject(new Fault("STORE_UNAVAILABLE", "no answer")),
    head: () => Promise.reject(new Fault("STORE_UNAVAILABLE", "no answer")),
  };
  await expect(look(dead)).rejects.toThrow("no answer");
  expect(found()).toHaveLength(1);
});

it("waits for a store that does not answer, and sees everything all the same", async () => {
  const { found, look, store } = await made();
  const faulty = createFaultStore(store, { rates: { "error-before": 0.05, torn: 0.02 }, seed: 3 });
  const { counts } = await look(faulty);
  expect(found()).toEqual([]);
  expect(counts.objects).toBe(store.keys("ledger").length);
});

it("keeps so many findings by name, and counts the rest", async () => {
  const { findings, lab, look, store, told } = await made();
  for (let i = 0; i < 10_050; i++) store.tamper("ledger", `strange/${i}`, utf8("x"));
  await look();
  expect(findings.open().get("object.planted")).toBe(10_050);
  expect(told.length).toBeLessThan(10_010);
  expect(lab.log.health().writing).toBe(true);
}, 120_000);
