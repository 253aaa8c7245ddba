/**
 * The keys of a ledger over time, folded from its `ledger` records. Each record states the full set, past keys included, so
 * that none can be left out; a new key is endorsed by one of its role that is in force (`docs/formats/keys.md`).
 */
import { parseVkey, type VerifierKey } from "../note/keys.ts";
import { pureVerifier, type SignatureVerifier } from "../note/signatures.ts";
import { parseHex, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";

export type KeyRole = "KEY_ROLE_LOG" | "KEY_ROLE_LOG_PQ" | "KEY_ROLE_COMMIT";

export interface LedgerKey {
  readonly role: KeyRole;
  readonly key: VerifierKey;
  readonly vkey: string;
  readonly from: number;
  readonly to: number | undefined;
}

const ALGORITHM: Readonly<Record<KeyRole, number>> = { KEY_ROLE_COMMIT: 1, KEY_ROLE_LOG: 1, KEY_ROLE_LOG_PQ: 6 };
const isRole = (role: Json | undefined): role is KeyRole => typeof role === "string" && Object.hasOwn(ALGORITHM, role);

/** What a key signs to show possession, and an older one to endorse it. */
export const keyStatement = (origin: string, role: KeyRole, vkey: string, from: number, to: number | undefined): Uint8Array => utf8(`datapilot-key/v1\n${origin}\n${role}\n${vkey}\n${from}\n${to ?? "-"}\n`);

/** Name under which a role's key signs. */
export const keyName = (origin: string, role: KeyRole): string => (role === "KEY_ROLE_COMMIT" ? `${origin}/commit` : origin);

const inForceAt = (key: LedgerKey, size: number): boolean => key.from <= size && (key.to === undefined || size <= key.to);

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

  /** Every key of a role that ever was in force. */
  ever(role: KeyRole): VerifierKey[] {
    return this.keys.filter((k) => k.role === role).map((k) => k.key);
  }

  /** The history after the `ledger` record at `index`. */
  apply(index: number, body: JsonObject): KeyHistory {
    const chain = (detail: string): Violation => new Violation("key.chain", detail);
    if (body["origin"] !== this.origin) throw chain(`the origin ${JSON.stringify(body["origin"])} is not ${JSON.stringify(this.origin)}`);
    const rows = body["keys"];
    if (!Array.isArray(rows)) throw chain("there is no list of keys");
    const genesis = this.keys.length === 0;
    const keys: LedgerKey[] = [];
    for (const row of rows as readonly Json[]) {
      if (!isObject(row)) throw chain("a key is not an object");
      const { role, vkey, from_size: fromSize = 0, to_size: to, possession, endorsement } = row;
      const key = typeof vkey === "string" ? parseVkey(vkey) : undefined;
      if (!isRole(role) || key === undefined || typeof vkey !== "string" || typeof fromSize !== "number" || !Number.isSafeInteger(fromSize) || (to !== undefined && (typeof to !== "number" || !Number.isSafeInteger(to)))) throw chain("a key has another form");
      if (key.name !== keyName(this.origin, role) || key.algorithm !== ALGORITHM[role]) throw chain(`${vkey} has not the name and algorithm of ${role}`);
      if (keys.some((k) => k.key.id === key.id && k.key.name === key.name) || keys.some((k) => k.vkey === vkey)) throw chain(`${vkey} is listed twice`);
      const before = this.keys.find((k) => k.vkey === vkey && k.role === role);
      const end = typeof to === "number" ? to : undefined;
      const statement = keyStatement(this.origin, role, vkey, fromSize, end);
      const open = keyStatement(this.origin, role, vkey, fromSize, undefined);
      if (before === undefined) {
        if (genesis ? fromSize !== 0 : fromSize <= index) throw chain(`${vkey} is in force from ${fromSize}, not from above its record's index ${index}`);
        if (!this.#signed(key, possession, [statement])) throw new Violation("key.endorsement", `${vkey} did not sign that it is possessed`);
        const elders = this.keys.filter((k) => k.role === role && inForceAt(k, index));
        if (genesis ? endorsement !== undefined : !elders.some((k) => this.#signed(k.key, endorsement, [statement]))) throw new Violation("key.endorsement", `${vkey} is not endorsed by a key of ${role} in force at ${index}`);
      } else {
        if (before.from !== fromSize || (before.to !== undefined && before.to !== end)) throw chain(`the range of ${vkey} was changed`);
        if (!this.#signed(key, possession, [statement, open])) throw new Violation("key.endorsement", `${vkey} did not sign its range`);
      }
      keys.push({ from: fromSize, key, role, to: end, vkey });
    }
    const lost = this.keys.find((k) => !keys.some((n) => n.vkey === k.vkey && n.role === k.role));
    if (lost !== undefined) throw chain(`${lost.vkey} is left out`);
    return new KeyHistory(this.origin, keys, this.#verifier);
  }

  #signed(key: VerifierKey, signature: Json | undefined, statements: readonly Uint8Array[]): boolean {
    const bytes = typeof signature === "string" ? parseHex(signature) : undefined;
    if (bytes === undefined) return false;
    const verify = key.algorithm === 6 ? this.#verifier.mlDsa44 : this.#verifier.ed25519;
    return statements.some((s) => verify(key.publicKey, s, bytes));
  }
}
