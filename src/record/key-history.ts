/**
 * The keys of a ledger over time, folded from its `ledger` records (`docs/formats/keys.md`). Invariants:
 *
 * - each record states the full set, past keys included, so that none can be left out;
 * - the genesis states keys in force from 0, endorsed by nobody; a later key is in force from above its record's index, and is
 *   endorsed by a key of its role that is in force there;
 * - a range never changes, except that an end may be set once. The key then signs the range with its end, or, when it is lost,
 *   leaves what it signed before; its endorsement stays, or is given anew by another key in force;
 * - no key serves two roles.
 *
 * A history is a value: `apply` gives another one.
 */
import { parseVkey, type VerifierKey } from "../note/keys.ts";
import { pureVerifier, type SignatureVerifier } from "../note/signatures.ts";
import { formatHex, parseHex, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";

export type KeyRole = "KEY_ROLE_LOG" | "KEY_ROLE_LOG_PQ" | "KEY_ROLE_COMMIT";

export interface LedgerKey {
  readonly role: KeyRole;
  readonly key: VerifierKey;
  readonly vkey: string;
  readonly from: number;
  readonly to: number | undefined;
  /** Hex signature by the key itself. */
  readonly possession: string;
  /** Hex signature by an older key of the role; undefined for the keys of the genesis. */
  readonly endorsement: string | undefined;
}

const ALGORITHM: Readonly<Record<KeyRole, number>> = { KEY_ROLE_COMMIT: 1, KEY_ROLE_LOG: 1, KEY_ROLE_LOG_PQ: 6 };
const isRole = (role: Json | undefined): role is KeyRole => typeof role === "string" && Object.hasOwn(ALGORITHM, role);
const isSize = (value: Json | undefined): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

/** What a key signs to show possession, and an older one to endorse it. */
export const keyStatement = (
  origin: string,
  role: KeyRole,
  vkey: string,
  from: number,
  to: number | undefined,
): Uint8Array => utf8(`datapilot-key/v1\n${origin}\n${role}\n${vkey}\n${from}\n${to ?? "-"}\n`);

/** Name under which a role's key signs. */
export const keyName = (origin: string, role: KeyRole): string =>
  role === "KEY_ROLE_COMMIT" ? `${origin}/commit` : origin;

const inForceAt = (key: LedgerKey, size: number): boolean =>
  key.from <= size && (key.to === undefined || size <= key.to);

const chainBroken = (detail: string): Violation => new Violation("key.chain", detail);
const notEndorsed = (detail: string): Violation => new Violation("key.endorsement", detail);

export class KeyHistory {
  readonly origin: string;
  readonly keys: readonly LedgerKey[];
  readonly #verifier: SignatureVerifier;

  private constructor(origin: string, keys: readonly LedgerKey[], verifier: SignatureVerifier) {
    this.origin = origin;
    this.keys = keys;
    this.#verifier = verifier;
  }

  static empty(origin: string, verifier: SignatureVerifier = pureVerifier): KeyHistory {
    return new KeyHistory(origin, [], verifier);
  }

  /** Keys of a role in force at a checkpoint's size, or at a commit's `first`. */
  inForce(role: KeyRole, size: number): VerifierKey[] {
    return this.keys.filter((k) => k.role === role && inForceAt(k, size)).map((k) => k.key);
  }

  /** Every key of a role that ever was, or will be, in force. */
  ever(role: KeyRole): VerifierKey[] {
    return this.keys.filter((k) => k.role === role).map((k) => k.key);
  }

  /** The history after the `ledger` record at `index`. Throws the Violations key.chain and key.endorsement. */
  apply(index: number, body: JsonObject): KeyHistory {
    const { keys: rows, origin } = body;
    if (origin !== this.origin)
      throw chainBroken(`the origin ${JSON.stringify(origin)} is not ${JSON.stringify(this.origin)}`);
    if (!Array.isArray(rows) || rows.length === 0) throw chainBroken("there is no list of keys");
    const keys = (rows as readonly Json[]).map((row) => this.#read(row));
    const owners = new Set(keys.map((k) => formatHex(k.key.publicKey)));
    if (owners.size !== keys.length) throw chainBroken("a key is listed twice, or serves two roles");
    const lost = this.keys.find((k) => !keys.some((n) => n.vkey === k.vkey && n.role === k.role));
    if (lost !== undefined) throw chainBroken(`${lost.vkey} is left out`);
    for (const key of keys) {
      const before = this.keys.find((k) => k.vkey === key.vkey && k.role === key.role);
      if (before === undefined) this.#checkNew(key, index);
      else this.#checkKept(key, before, index);
    }
    return new KeyHistory(this.origin, keys, this.#verifier);
  }

  #read(row: Json): LedgerKey {
    if (!isObject(row)) throw chainBroken("a key is not an object");
    const { endorsement, from_size: from = 0, possession, role, to_size: to, vkey } = row;
    if (!isRole(role) || typeof vkey !== "string" || typeof possession !== "string")
      throw chainBroken("a key has no role, vkey or possession");
    if (endorsement !== undefined && typeof endorsement !== "string") throw chainBroken("an endorsement is not a text");
    if (!isSize(from) || (to !== undefined && (!isSize(to) || to < from)))
      throw chainBroken(`the range of ${vkey} is not one of sizes`);
    const key = parseVkey(vkey);
    if (key === undefined || key.name !== keyName(this.origin, role) || key.algorithm !== ALGORITHM[role])
      throw chainBroken(`${vkey} is not a verifier key with the name and algorithm of ${role}`);
    return { endorsement, from, key, possession, role, to, vkey };
  }

  #checkNew(key: LedgerKey, index: number): void {
    const isGenesis = this.keys.length === 0;
    if (isGenesis ? key.from !== 0 : key.from <= index)
      throw chainBroken(`${key.vkey} is in force from ${key.from}, and its record has index ${index}`);
    const statement = this.#statement(key);
    if (!this.#signed(key.key, key.possession, statement))
      throw notEndorsed(`${key.vkey} did not sign that it is possessed`);
    if (isGenesis ? key.endorsement !== undefined : !this.#endorsed(key, statement, index))
      throw notEndorsed(
        isGenesis
          ? `${key.vkey} is endorsed in the genesis, where no key was before`
          : `${key.vkey} is not endorsed by a key of ${key.role} in force at ${index}`,
      );
  }

  #checkKept(key: LedgerKey, before: LedgerKey, index: number): void {
    if (key.from !== before.from || (before.to !== undefined && key.to !== before.to))
      throw chainBroken(`the range of ${key.vkey} was changed`);
    const statement = this.#statement(key);
    if (key.possession !== before.possession && !this.#signed(key.key, key.possession, statement))
      throw notEndorsed(`${key.vkey} did not sign its range`);
    if (key.endorsement !== before.endorsement && !this.#endorsed(key, statement, index))
      throw notEndorsed(`${key.vkey} has lost its endorsement, or has a false one`);
  }

  #statement(key: LedgerKey): Uint8Array {
    return keyStatement(this.origin, key.role, key.vkey, key.from, key.to);
  }

  /** Whether another key of the role, in force at the record's index, signed the statement. */
  #endorsed(key: LedgerKey, statement: Uint8Array, index: number): boolean {
    const elders = this.keys.filter((k) => k.role === key.role && k.vkey !== key.vkey && inForceAt(k, index));
    return elders.some((elder) => this.#signed(elder.key, key.endorsement, statement));
  }

  #signed(key: VerifierKey, signature: string | undefined, statement: Uint8Array): boolean {
    const bytes = signature === undefined ? undefined : parseHex(signature);
    if (bytes === undefined) return false;
    return key.algorithm === 6
      ? this.#verifier.mlDsa44(key.publicKey, statement, bytes)
      : this.#verifier.ed25519(key.publicKey, statement, bytes);
  }
}
