/** A ledger for tests: fixed keys, and the records of its genesis. */
import { ed25519 } from "@noble/curves/ed25519.js";
import { formatVkey, keyId } from "../../src/note/keys.ts";
import type { NoteSigner } from "../../src/note/signatures.ts";
import type { NextRecord } from "../../src/record/chain.ts";
import { type KeyRole, keyName, keyStatement } from "../../src/record/key-history.ts";
import { formatRecord, type LedgerRecord, recordId } from "../../src/record/record.ts";
import { formatHex } from "../../src/std/bytes.ts";

export const ORIGIN = "datapilot.local/1a2b3c4d";

function signerOf(role: KeyRole, seed: number): NoteSigner & { readonly vkey: string } {
  const secret = new Uint8Array(32).fill(seed);
  const publicKey = ed25519.getPublicKey(secret);
  const name = keyName(ORIGIN, role);
  return {
    algorithm: 1,
    id: keyId(name, 1, publicKey),
    name,
    sign: (message) => ed25519.sign(message, secret),
    vkey: formatVkey(name, 1, publicKey),
  };
}

export const logSigner = signerOf("KEY_ROLE_LOG", 1);
export const commitSigner = signerOf("KEY_ROLE_COMMIT", 3);

export function genesisRecords(): NextRecord[] {
  const keys = (
    [
      ["KEY_ROLE_LOG", logSigner],
      ["KEY_ROLE_COMMIT", commitSigner],
    ] as const
  ).map(([role, signer]) => ({
    possession: formatHex(signer.sign(keyStatement(ORIGIN, role, signer.vkey, 0, undefined))),
    role,
    vkey: signer.vkey,
  }));
  const make = (kind: string, body: LedgerRecord["body"], salt: string): NextRecord => {
    const record: LedgerRecord = {
      actor: { method: "init" },
      body,
      kind,
      links: [],
      request_id: "init",
      salt: salt.repeat(21) + "A",
      time: "2026-11-23T08:00:00.000Z",
      v: 1,
    };
    const bytes = formatRecord(record);
    return { bytes, id: recordId(bytes), record };
  };
  return [
    make("ledger", { default_retention_days: 3650, keys, origin: ORIGIN }, "a"),
    make("project", { name: "_system" }, "b"),
  ];
}
