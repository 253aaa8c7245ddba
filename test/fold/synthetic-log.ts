/**
 * Logs for tests and benches: valid records of every kind in plausible order, placed and signed as a writer would, drawn from a
 * seed. What is written need not be allowed by any policy; the fold takes what the log has.
 */
import { createHash, generateKeyPairSync, type KeyObject } from "node:crypto";
import { type NativeSigner, nativeSigner } from "../../src/log/keys/native-signer.ts";
import { sha256Hex } from "../../src/merkle/hash.ts";
import { CommitChain, type ValidCommit } from "../../src/record/chain.ts";
import { formatCommit } from "../../src/record/commit.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { keyStatement } from "../../src/record/key-history.ts";
import {
  type Actor,
  formatRecord,
  type LedgerRecord,
  type Link,
  recordId,
  sortLinks,
} from "../../src/record/record.ts";
import { idOf, type RecordId } from "../../src/std/brand.ts";
import { formatHex } from "../../src/std/bytes.ts";
import { formatTime } from "../../src/std/ports.ts";

export const ORIGIN = "test.example/0a1b2c3d";
const START_MS = Date.UTC(2026, 0, 1);

/** mulberry32 */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface Drafted {
  readonly id: RecordId;
  readonly bytes: Uint8Array;
  readonly record: LedgerRecord;
}

export interface RecordParts {
  readonly kind: string;
  readonly body: JsonObject;
  readonly project?: RecordId;
  readonly links?: readonly Link[];
  readonly principal?: RecordId;
  readonly requestId?: string;
}

/** Makes records and remembers how many, so that their salts and times differ. */
export class RecordMaker {
  #made = 0;
  readonly #seed: number;

  constructor(seed = 1) {
    this.#seed = seed;
  }

  make({ kind, body, project, links = [], principal, requestId }: RecordParts): Drafted {
    const n = this.#made++;
    const actor: Actor = principal === undefined ? { method: "init" } : { method: "token", principal };
    const salt = createHash("sha256").update(`${this.#seed}/${n}`).digest().subarray(0, 16).toString("base64url");
    const record: LedgerRecord = {
      actor,
      body,
      kind,
      links: sortLinks(links),
      request_id: requestId ?? `request-${n}`,
      salt,
      time: formatTime(START_MS + 10 * n),
      v: 1,
      ...(project === undefined ? {} : { project }),
    };
    const bytes = formatRecord(record);
    return { bytes, id: recordId(bytes), record };
  }
}

const digestOfText = (text: string): RecordId => idOf(sha256Hex(new TextEncoder().encode(text)));

export interface WrittenCommit extends ValidCommit {
  readonly bytes: Uint8Array;
}

/** Places records in commits as a writer does. */
export class LogWriter {
  chain = CommitChain.genesis();
  readonly commits: WrittenCommit[] = [];
  readonly maker: RecordMaker;
  readonly #signer: NativeSigner;
  readonly genesis: RecordId;
  readonly system: RecordId;

  constructor(seed = 1) {
    this.maker = new RecordMaker(seed);
    const key = (): KeyObject => generateKeyPairSync("ed25519").privateKey;
    this.#signer = nativeSigner(`${ORIGIN}/commit`, 1, key());
    const log = nativeSigner(ORIGIN, 1, key());
    const row = (role: "KEY_ROLE_LOG" | "KEY_ROLE_COMMIT", s: NativeSigner): JsonObject => ({
      possession: formatHex(s.sign(keyStatement(ORIGIN, role, s.vkey, 0, undefined))),
      role,
      vkey: s.vkey,
    });
    const keys = [row("KEY_ROLE_LOG", log), row("KEY_ROLE_COMMIT", this.#signer)];
    const genesis = this.maker.make({ body: { default_retention_days: 3650, keys, origin: ORIGIN }, kind: "ledger" });
    const system = this.maker.make({ body: { name: "_system" }, kind: "project" });
    this.genesis = genesis.id;
    this.system = system.id;
    this.commit([genesis, system]);
  }

  commit(records: readonly Drafted[]): WrittenCommit {
    const next = this.chain.next(records);
    const items = next.items.map((i) => ({ entry: i.entryBytes, record: i.recordBytes }));
    const header = {
      count: items.length,
      epoch: 0,
      first: next.first,
      n: this.chain.n,
      prev: idOf(this.chain.prevHash),
      root: next.root,
      time: formatTime(START_MS + 1000 * this.chain.n),
      voids: [],
      writer: "0".repeat(32),
    };
    const bytes = formatCommit(ORIGIN, header, items, this.#signer);
    const body = JSON.parse(
      new TextDecoder().decode(bytes.subarray(bytes.indexOf(10) + 1, bytes.indexOf(10, bytes.indexOf(10) + 1))),
    ) as WrittenCommit["header"];
    const commit: WrittenCommit = { bytes, hash: sha256Hex(bytes), header: body, items: next.items, n: header.n };
    this.chain = this.chain.advance(commit);
    this.commits.push(commit);
    return commit;
  }
}

/** Draws records one after the other; each refers to what it drew before. */
export class RecordStream {
  readonly #maker: RecordMaker;
  readonly #random: () => number;
  readonly #projects: RecordId[] = [];
  readonly #of = new Map<string, { readonly id: RecordId; readonly project: RecordId }[]>();
  readonly #genesis: RecordId;
  #n = 0;

  constructor(writer: LogWriter, seed: number) {
    this.#maker = writer.maker;
    this.#random = createRandom(seed);
    this.#genesis = writer.genesis;
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)];
  }

  #some(kind: string, project?: RecordId): RecordId | undefined {
    const all = this.#of.get(kind) ?? [];
    // Near ones, as a writer would have it.
    const near = all.slice(-64);
    return this.#pick(project === undefined ? near : near.filter((x) => x.project === project))?.id;
  }

  #make(parts: RecordParts): Drafted {
    const made = this.#maker.make(parts);
    const list = this.#of.get(parts.kind);
    const item = { id: made.id, project: parts.project ?? made.id };
    if (list === undefined) this.#of.set(parts.kind, [item]);
    else list.push(item);
    return made;
  }

  next(): Drafted {
    this.#n++;
    const principal = this.#some("principal");
    if (principal === undefined || this.#random() < 0.002)
      return this.#make({
        body: {
          display_name: `personal:${digestOfText("p")}`,
          name: `person-${this.#n}`,
          type: "PRINCIPAL_TYPE_HUMAN",
        },
        kind: "principal",
        project: this.#genesis,
      });
    if (this.#projects.length === 0 || this.#random() < 0.001) {
      const made = this.#make({ body: { name: `project-${this.#n}` }, kind: "project", principal });
      this.#projects.push(made.id);
      return made;
    }
    const project = this.#pick(this.#projects) as RecordId;
    const links = (...pairs: readonly (readonly [string, RecordId | undefined])[]): Link[] =>
      pairs.flatMap(([rel, to]) => (to === undefined ? [] : [{ rel, to }]));
    const draw = (
      kind: string,
      body: JsonObject,
      ...pairs: readonly (readonly [string, RecordId | undefined])[]
    ): Drafted => this.#make({ body, kind, links: links(...pairs), principal, project });
    const dataset = this.#some("dataset", project);
    if (dataset === undefined) return draw("dataset", { name: `data-${this.#n}` });
    const model = this.#some("model", project);
    if (model === undefined)
      return draw("model", { intended_use: "tests", name: `model-${this.#n}`, tier: "TIER_LOW" });
    const version = this.#some("dataset.version", project);
    const run = this.#some("run", project);
    const choice = this.#random();
    if (version === undefined || choice < 0.05)
      return draw(
        "dataset.version",
        {
          content_digest: digestOfText(`v${this.#n}`),
          custody: "CUSTODY_LEDGER",
          files: [{ digest: digestOfText(`f${this.#n}`), path: "rows.csv", size_bytes: this.#n }],
        },
        ["dataset", dataset],
        ["derived_from", version],
        ["produced_by", run],
      );
    if (run === undefined || choice < 0.12)
      return draw(
        "run",
        {
          inputs: [{ record: version, role: "INPUT_ROLE_TRAIN" }],
          params: [{ key: "depth", value: "3" }],
          purpose: "PURPOSE_EXPLORATION",
        },
        ["input", version],
        ["parent", this.#random() < 0.3 ? run : undefined],
      );
    if (choice < 0.18)
      return draw(
        "run.start",
        { token: { expires_at: formatTime(START_MS), sha256: sha256Hex(new TextEncoder().encode(`t${this.#n}`)) } },
        ["run", run],
      );
    if (choice < 0.7) {
      const metrics = Array.from({ length: 6 }, (_, k) => ({
        key: `metric-${k}`,
        step: this.#n,
        time: formatTime(START_MS + this.#n),
        value: (1 + Math.floor(this.#random() * 1e6)) / 1e6,
      }));
      return draw("run.batch", { metrics, seq: 1 }, ["run", run]);
    }
    if (choice < 0.76)
      return draw(
        "run.finish",
        { batches: 1, status: this.#random() < 0.8 ? "RUN_STATUS_SUCCEEDED" : "RUN_STATUS_LOST" },
        ["run", run],
      );
    if (choice < 0.8)
      return draw(
        "quality.report",
        { complete: true, measurements: [{ name: "nulls", value: 1 }], tool: { name: "check" } },
        ["dataset_version", version],
      );
    if (choice < 0.86) {
      const gate = this.#random() < 0.5;
      const policies = [
        {
          mode: "POLICY_MODE_ACTIVE",
          record: version,
          rules: [
            { id: "r", message: "no", result: this.#random() < 0.5 ? "RULE_OUTCOME_HOLDS" : "RULE_OUTCOME_FAILS" },
          ],
        },
      ];
      const body: JsonObject = {
        engine: "datapilot-cel/v1",
        evaluated_at: formatTime(START_MS),
        input: { v: 1 },
        input_digest: sha256Hex(new Uint8Array()),
        outcome: this.#random() < 0.7 ? "OUTCOME_ALLOW" : "OUTCOME_DENY",
        policies,
        target: gate ? "quality.gate" : "run.start",
        tree_size: 1,
      };
      return draw("decision", body, ["subject", gate ? version : run], ["fact", this.#some("quality.report", project)]);
    }
    if (choice < 0.9)
      return draw(
        "model.version",
        {
          content_digest: digestOfText(`m${this.#n}`),
          files: [{ digest: digestOfText(`w${this.#n}`), path: "model.bin" }],
        },
        ["model", model],
        ["produced_by", run],
        ["parent", this.#some("model.version", project)],
      );
    if (choice < 0.92) return draw("role.binding", { principal, role: "viewer" });
    if (choice < 0.93)
      return draw("policy", { name: "fit", rules: [{ id: "r", message: "no", require: "true" }], target: "run.start" });
    if (choice < 0.95)
      return draw("transition", { from: "draft", reason: "tests", to: this.#random() < 0.5 ? "active" : "shadow" }, [
        "subject",
        this.#some("policy", project),
      ]);
    if (choice < 0.955)
      return draw(
        "transition",
        { from: "registered", reason: "tests", severity: "SEVERITY_INVALIDATES", to: "revoked" },
        ["subject", version],
      );
    if (choice < 0.97)
      return draw("alias", { entity: model, name: "production" }, ["target", this.#some("model.version", project)]);
    if (choice < 0.98)
      return draw(
        "approval.request",
        {
          action: {},
          action_digest: sha256Hex(new Uint8Array()),
          evidence_digest: sha256Hex(new Uint8Array()),
          expires_at: formatTime(START_MS),
          requirements: [
            { approval: { groups: ["g"], meaning: "MEANING_APPROVED", quorum: 1 }, policy: version, rule: "r" },
          ],
          target: "run.start",
        },
        ["subject", run],
      );
    if (choice < 0.985)
      return draw(
        "approval",
        {
          action_digest: sha256Hex(new Uint8Array()),
          meaning: "MEANING_APPROVED",
          signer: { acr: "x", authenticated_at: formatTime(START_MS), printed_name: `personal:${digestOfText("p")}` },
          statement: "tests",
          verdict: this.#random() < 0.5 ? "VERDICT_APPROVE" : "VERDICT_REJECT",
        },
        ["request", this.#some("approval.request", project)],
      );
    if (choice < 0.99) return draw("later.kind", { any: "thing" }, ["about", version]);
    return draw("access", { action: "ACCESS_ACTION_DENIED", count: 1 }, ["subject", run]);
  }
}

/** A log of about `records` records in commits of `perCommit`. */
export function writeLog(records: number, perCommit: () => number, seed = 1): LogWriter {
  const writer = new LogWriter(seed);
  const stream = new RecordStream(writer, seed);
  for (let left = records; left > 0; ) {
    const count = Math.min(left, Math.max(0, perCommit()));
    writer.commit(Array.from({ length: count }, () => stream.next()));
    left -= Math.max(1, count);
  }
  return writer;
}
