/**
 * Makes a new ledger: the genesis commit with entry 0, the `ledger` record that names origin and keys, and entry 1, the project
 * `_system`. Everything else that a new ledger needs is submitted to the log once it is open.
 *
 * Safe to repeat: a genesis that these keys made, and that nothing follows, is finished and not made again.
 */

import { type SignatureVerifier } from "../note/signatures.ts";
import { CommitChain, type ValidCommit } from "../record/chain.ts";
import { formatCommit } from "../record/commit.ts";
import type { JsonObject } from "../record/json.ts";
import { type KeyRole, keyName, keyStatement } from "../record/key-history.ts";
import { assert, assertDefined } from "../std/assert.ts";
import { idOf, type RecordId } from "../std/brand.ts";
import { equalBytes, formatHex } from "../std/bytes.ts";
import { type Clock, formatTime, type Random } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { persist } from "../store/place.ts";
import { recordsOf } from "./admission.ts";
import type { NativeSigner } from "./keys/native-signer.ts";
import { nativeVerifier } from "./native-verifier.ts";
import type { LastSigned } from "./ports.ts";
import { createRetention } from "./retention.ts";
import { createSigner } from "./signer.ts";
import { createCommitSlots } from "./slots.ts";

export interface InitOptions {
  readonly store: ObjectStore;
  /** With their public halves, which genesis names. */
  readonly keys: { readonly log: NativeSigner; readonly logPq: NativeSigner; readonly commit: NativeSigner };
  readonly lastSigned: LastSigned;
  /** `<name>/<8 random hex>`; never used again by another ledger. */
  readonly origin: string;
  readonly retentionDays: number;
  /** Whether the baseline policies are installed without approvals. */
  readonly solo?: boolean;
  /** C2SP policy that the ledger asks of verifiers. */
  readonly witnessPolicy?: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly verifier?: SignatureVerifier;
  readonly signal?: AbortSignal;
}

export interface Initialised {
  /** The ledger's id, and the project `_ledger`. */
  readonly genesis: RecordId;
  /** The project `_system`. */
  readonly system: RecordId;
  /** The signed checkpoint of size 2. */
  readonly checkpoint: Uint8Array;
}

const ROLES = { commit: "KEY_ROLE_COMMIT", log: "KEY_ROLE_LOG", logPq: "KEY_ROLE_LOG_PQ" } as const satisfies Record<
  string,
  KeyRole
>;

function ledgerBody({ keys, origin, retentionDays, solo, witnessPolicy }: InitOptions): JsonObject {
  const rows = (["log", "logPq", "commit"] as const).map((role): JsonObject => {
    const key = keys[role];
    const { name, vkey } = key;
    assert(name === keyName(origin, ROLES[role]), `the ${role} key is named for ${origin}`);
    return {
      possession: formatHex(key.sign(keyStatement(origin, ROLES[role], vkey, 0, undefined))),
      role: ROLES[role],
      vkey,
    };
  });
  return {
    default_retention_days: retentionDays,
    keys: rows,
    origin,
    ...(solo === true ? { solo } : {}),
    ...(witnessPolicy === undefined ? {} : { witness_policy: witnessPolicy }),
  };
}

function genesisCommit(options: InitOptions): Uint8Array {
  const { clock, keys, origin, random } = options;
  const nowMs = clock.now();
  const actor = { method: "init" } as const;
  const records = recordsOf(
    [
      { actor, body: ledgerBody(options), kind: "ledger", links: [], requestId: "init" },
      { actor, body: { name: "_system" }, kind: "project", links: [], requestId: "init-system" },
    ],
    { knows: () => false, nowMs, random },
  );
  const chain = CommitChain.genesis();
  const { items, root } = chain.next(records);
  return formatCommit(
    origin,
    {
      count: items.length,
      epoch: 0,
      first: 0,
      n: 0,
      prev: idOf(chain.prevHash),
      root,
      time: formatTime(nowMs),
      voids: [],
      writer: formatHex(random.bytes(16)),
    },
    items.map((i) => ({ entry: i.entryBytes, record: i.recordBytes })),
    keys.commit,
  );
}

export async function initLedger(options: InitOptions): Promise<Initialised> {
  const { clock, keys, lastSigned, origin, retentionDays, store, verifier = nativeVerifier } = options;
  const signal = options.signal ?? new AbortController().signal;
  const slots = createCommitSlots(store, createRetention(clock, retentionDays));
  await persist({ clock, signal }, async () => {
    await slots.assertEnd(0, signal);
    return true;
  });
  const made = genesisCommit(options);
  const outcome = await persist({ clock, signal }, () => slots.create(0, made, signal));
  const bytes = outcome === "created" ? made : await own(options, slots, made, signal);
  const genesis = CommitChain.genesis();
  const commit: ValidCommit = genesis.check(bytes, verifier);
  const chain = genesis.advance(commit);
  const signer = createSigner({ clock, keys, last: undefined, lastSigned, origin });
  const signed = await signer.sign({ root: chain.root(), size: chain.size }, () => []);
  const idAt = (i: number): RecordId => assertDefined(commit.items[i], `entry ${i} of genesis`).entry.record;
  return { checkpoint: signed.note, genesis: idAt(0), system: idAt(1) };
}

/** What slot 0 holds, when it is ours and nothing follows it. */
async function own(
  options: InitOptions,
  slots: ReturnType<typeof createCommitSlots>,
  made: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { clock, keys, origin, verifier = nativeVerifier } = options;
  const exists = new Violation("ledger.exists", "the ledger bucket holds a ledger already");
  const found = await persist({ clock, signal }, () => slots.read(0, signal));
  if (found === null) throw new Violation("commit.hidden", "slot 0 is occupied and reads as absent");
  if (equalBytes(found, made)) return found;
  const next = await persist({ clock, signal }, () => slots.read(1, signal));
  if (next !== null) throw exists;
  const genesis = CommitChain.genesis();
  let chain: CommitChain;
  try {
    chain = genesis.advance(genesis.check(found, verifier));
  } catch {
    throw exists;
  }
  const ours =
    chain.origin === origin &&
    chain.keys.ever("KEY_ROLE_COMMIT").some((k) => equalBytes(k.publicKey, keys.commit.publicKey));
  if (!ours || (await options.lastSigned.read()).length > 0) throw exists;
  return found;
}
