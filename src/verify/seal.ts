/** Stages 6 and 7: the keys of the ledger, and the completeness of the projects that the pack offers whole. */

import { leafHash } from "../merkle/hash.ts";
import { verifyInclusion } from "../merkle/proofs.ts";
import type { VerifierKey } from "../note/keys.ts";
import { parseCanonical } from "../record/canonical.ts";
import { headLeaf } from "../record/heads.ts";
import type { JsonObject } from "../record/json.ts";
import { KeyHistory } from "../record/key-history.ts";
import { idOf, parseDigest, ZERO_DIGEST } from "../std/brand.ts";
import { equalBytes, formatHex, parseHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import type { Witnessed } from "./checkpoint.ts";
import { endsWithLineFeed, type Limits, linesOf } from "./limits.ts";
import type { Manifest } from "./manifest.ts";
import type { PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

export interface Seal {
  readonly index: number;
  readonly heads: Uint8Array;
  readonly projects: number;
  readonly ledger: string;
}

/** The seal that closes the pack's checkpoint; undefined when there is none. */
export function readSeal(records: readonly PackRecord[], tree: Witnessed, stage: Stage): Seal | undefined {
  const last = records.at(-1);
  const index = tree.checkpoint.size - 1;
  if (last === undefined || last.index !== index || last.record?.kind !== "ledger.seal")
    return stage.fail("seal.missing", `entry ${index}`, "the last entry of the checkpoint is not a seal") as undefined;
  const { size, heads, projects, ledger } = last.record.body;
  const root = typeof heads === "string" ? parseHex(heads) : undefined;
  const system = records.find((r) => r.index === 1);
  if (size !== index || root?.length !== 32 || typeof projects !== "number" || typeof ledger !== "string")
    return stage.fail(
      "seal.mismatch",
      last.entry.record,
      `seals size ${JSON.stringify(size)} at index ${index}`,
    ) as undefined;
  if (system !== undefined && last.entry.project !== system.entry.project)
    stage.fail("seal.mismatch", last.entry.record, "is not of the project _system");
  return { heads: root, index, ledger, projects };
}

/** The chain of `ledger` records from the genesis to the newest, checked; the keys that were ever in force come out. */
export function checkKeys(
  records: readonly PackRecord[],
  seal: Seal | undefined,
  tree: Witnessed,
  notAfterSize: number | undefined,
  stage: Stage,
): KeyHistory | undefined {
  const { origin, size } = tree.checkpoint;
  const genesis = records[0];
  const chain = records.filter((r) => r.entry.project === genesis?.entry.project && r.record?.kind === "ledger");
  const withheld = records.find((r) => r.entry.project === genesis?.entry.project && r.record === undefined);
  if (withheld !== undefined)
    stage.fail("key.chain", withheld.entry.record, "a record of _ledger is withheld; its keys cannot be followed");
  let history = KeyHistory.empty(origin);
  let before: PackRecord | undefined;
  for (const item of chain) {
    const supersedes = item.record?.links.filter((l) => l.rel === "supersedes").map((l) => l.to) ?? [];
    if (supersedes.join() !== (before?.entry.record ?? ""))
      stage.fail("key.chain", item.entry.record, "does not supersede the `ledger` record before it");
    try {
      history = history.apply(item.index, item.record?.body ?? {});
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code, item.entry.record, error.message);
    }
    before = item;
  }
  if (before === undefined)
    return stage.fail("key.chain", "entry 0", "the genesis is not a `ledger` record") as undefined;
  if (seal !== undefined && seal.ledger !== before.entry.record)
    stage.fail("key.chain", before.entry.record, `the seal names ${seal.ledger} as the newest \`ledger\` record`);
  const same = (a: VerifierKey, b: VerifierKey): boolean =>
    a.id === b.id && a.name === b.name && equalBytes(a.publicKey, b.publicKey);
  const inForce = history.inForce("KEY_ROLE_LOG", size);
  if (!tree.signedBy.some((k) => inForce.some((f) => same(f, k))))
    stage.fail("key.retired", "checkpoint", `no log key that signed it is in force at size ${size}`);
  if (notAfterSize !== undefined && size > notAfterSize)
    stage.fail("key.retired", "checkpoint", `size ${size} is above --not-after-size ${notAfterSize}`);
  return history;
}

interface Head {
  readonly count: number;
  readonly last: string;
}

function checkHeads(
  heads: Uint8Array,
  seal: Seal,
  manifest: Manifest,
  limits: Limits,
  stage: Stage,
): Map<string, Head> {
  const found = new Map<string, Head>();
  if (!endsWithLineFeed(heads)) stage.fail("pack.malformed", "heads.jsonl", "does not end with a line feed");
  let before = "";
  for (const line of linesOf(heads)) {
    try {
      const row = parseCanonical(line, { maxBytes: limits.line }) as JsonObject;
      const { count, hashes, index, last, project } = row;
      const proof = Array.isArray(hashes)
        ? hashes.map((h) => (typeof h === "string" && h.length === 64 ? parseHex(h) : undefined))
        : [undefined];
      if (
        Object.keys(row).join() !== "count,hashes,index,last,project" ||
        typeof count !== "number" ||
        typeof index !== "number" ||
        typeof last !== "string" ||
        typeof project !== "string" ||
        parseDigest(project) === undefined ||
        parseDigest(last) === undefined ||
        proof.includes(undefined) ||
        project <= before
      )
        throw new Violation("pack.malformed", "a line of heads.jsonl has another form, or projects do not ascend");
      before = project;
      const leaf = leafHash(headLeaf(project, count, last));
      if (
        !Number.isSafeInteger(index) ||
        !verifyInclusion(
          index,
          seal.projects,
          leaf,
          proof.filter((p) => p !== undefined),
          seal.heads,
        )
      )
        stage.fail("seal.mismatch", project, "its head is not in the seal");
      else found.set(project, { count, last });
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code.startsWith("pack.") ? error.code : "pack.malformed", "heads.jsonl", error.message);
    }
  }
  const extra = [...found.keys()].find((p) => !manifest.complete.has(p));
  if (extra !== undefined) stage.fail("pack.manifest", extra, "has a head, and is not listed as complete");
  return found;
}

export function checkChains(
  heads: Uint8Array,
  records: readonly PackRecord[],
  seal: Seal | undefined,
  manifest: Manifest,
  wanted: readonly string[],
  limits: Limits,
  stage: Stage,
): void {
  if (seal === undefined) {
    stage.skip("chains: there is no seal to measure them by");
    return;
  }
  const proven = checkHeads(heads, seal, manifest, limits, stage);
  const genesis = records[0]?.entry.project as string | undefined;
  if (genesis !== undefined && !manifest.complete.has(genesis))
    stage.fail("pack.manifest", genesis, "_ledger is not listed as complete");
  const byProject = new Map<string, PackRecord[]>();
  for (const item of records) {
    const run = byProject.get(item.entry.project) ?? [];
    run.push(item);
    byProject.set(item.entry.project, run);
  }
  for (const [project, run] of byProject) {
    const first = run[0];
    // The creation record certifies the start of the chain; every pack carries it.
    if (first?.entry.seq !== 0) stage.fail("chain.gap", project, "the project's first entry is not here");
    for (const [i, { entry }] of run.entries()) {
      const before = run[i - 1];
      const starts = entry.record === idOf(entry.project);
      if ((entry.seq === 0) !== starts || (entry.seq === 0) !== (entry.prev === ZERO_DIGEST))
        stage.fail("chain.prev", entry.record, "only the project's creation record has seq 0 and no entry before it");
      if (before === undefined) continue;
      if (entry.seq === before.entry.seq)
        stage.fail("chain.fork", entry.record, `two entries of the project have seq ${entry.seq}`);
      else if (entry.seq < before.entry.seq) stage.fail("chain.prev", entry.record, "seq falls");
      else if (entry.seq === before.entry.seq + 1 && entry.prev !== formatHex(before.leaf))
        stage.fail("chain.prev", entry.record, "prev is not the leaf hash of the entry before it");
    }
  }
  for (const project of manifest.complete) {
    const head = proven.get(project);
    if (head === undefined) {
      stage.fail("seal.mismatch", project, "is listed as complete, and has no proven head");
      continue;
    }
    const run = (byProject.get(project) ?? []).filter((r) => r.index < seal.index);
    const seqs = new Set(run.map((r) => r.entry.seq));
    const present = run.at(-1);
    const missing = Array.from({ length: Math.min(head.count, run.length + 1) }, (_, k) => k).find((k) => !seqs.has(k));
    if (present !== undefined && present.entry.seq >= head.count)
      stage.fail("seal.mismatch", project, `the seal counts ${head.count} entries, here is seq ${present.entry.seq}`);
    else if (missing !== undefined && run.every((r) => r.entry.seq < missing))
      stage.fail(
        "tail.truncated",
        project,
        `the seal counts ${head.count} entries, here are ${run.length}: the newest ${head.count - run.length} are missing`,
      );
    else if (missing !== undefined) stage.fail("chain.gap", project, `seq ${missing} is missing`);
    else if (present === undefined || formatHex(present.leaf) !== head.last)
      stage.fail("seal.mismatch", project, "the last entry is not the one that the seal names");
  }
  for (const project of wanted)
    if (!manifest.complete.has(project))
      stage.skip(`project ${project} is not offered complete by the pack: export with --complete ${project}`);
}
