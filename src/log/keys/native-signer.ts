/** Signers of notes over private keys of the platform. */
import { createPublicKey, type KeyObject, sign } from "node:crypto";
import { formatVkey, keyId } from "../../note/keys.ts";
import type { NoteSigner } from "../../note/signatures.ts";

export type SigningAlgorithm = 1 | 6;

const TYPE: Readonly<Record<SigningAlgorithm, string>> = { 1: "ed25519", 6: "ml-dsa-44" };
const PUBLIC_BYTES: Readonly<Record<SigningAlgorithm, number>> = { 1: 32, 6: 1312 };

function publicKeyOf(key: KeyObject, algorithm: SigningAlgorithm): Uint8Array {
  if (key.asymmetricKeyType !== TYPE[algorithm])
    throw new Error(`The key is ${key.asymmetricKeyType ?? "none"}, not ${TYPE[algorithm]}.`);
  // The raw key is the end of its SubjectPublicKeyInfo.
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return new Uint8Array(spki.subarray(spki.length - PUBLIC_BYTES[algorithm]));
}

export interface NativeSigner extends NoteSigner {
  readonly publicKey: Uint8Array;
  readonly vkey: string;
}

export function nativeSigner(name: string, algorithm: SigningAlgorithm, key: KeyObject): NativeSigner {
  const publicKey = publicKeyOf(key, algorithm);
  return {
    algorithm,
    id: keyId(name, algorithm, publicKey),
    name,
    publicKey,
    // Not a Buffer, whose `slice` would share memory with what it was taken from.
    sign: (message) => new Uint8Array(sign(null, message, key)),
    vkey: formatVkey(name, algorithm, publicKey),
  };
}
