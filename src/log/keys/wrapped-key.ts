/**
 * Private keys at rest under a passphrase (`docs/formats/keys.md`, section 6): whoever copies the files has no keys. A key is bound
 * to its ledger and its role, so that files cannot change places unseen.
 *
 * Version 1: `01 ‖ salt (16) ‖ nonce (12) ‖ AES-256-GCM(PKCS#8) ‖ tag (16)`, the key by scrypt with N = 2^17, r = 8, p = 1: 128 MiB
 * and a few tenths of a second for each guess.
 */
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from "node:crypto";
import { parseBase64, utf8 } from "../../std/bytes.ts";
import { Fault } from "../../std/faults.ts";

const VERSION = 1;
const SALT_BYTES = 16;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const COST = { N: 1 << 17, maxmem: 256 << 20, p: 1, r: 8 } as const;
const BEGIN = "-----BEGIN DATAPILOT WRAPPED PRIVATE KEY-----\n";
const END = "-----END DATAPILOT WRAPPED PRIVATE KEY-----\n";

export const PASSPHRASE_MIN_CHARS = 12;

/** Which key it is. */
export interface KeyPlace {
  readonly origin: string;
  /** `log`, `log-pq` or `commit`. */
  readonly role: string;
}

const associated = ({ origin, role }: KeyPlace): Uint8Array => utf8(`datapilot-wrapped-key/v1\n${origin}\n${role}\n`);

const derive = (passphrase: string, salt: Uint8Array): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    scrypt(passphrase.normalize("NFC"), salt, 32, COST, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });

export const isWrapped = (text: string): boolean => text.startsWith(BEGIN);

/** The file of a key, given as PKCS#8 in DER. */
export async function wrapKey(pkcs8: Uint8Array, passphrase: string, place: KeyPlace): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", await derive(passphrase, salt), nonce);
  cipher.setAAD(associated(place));
  const sealed = Buffer.concat([cipher.update(pkcs8), cipher.final()]);
  const bytes = Buffer.concat([Uint8Array.of(VERSION), salt, nonce, sealed, cipher.getAuthTag()]);
  return `${BEGIN}${bytes.toString("base64").replaceAll(/.{1,64}/g, "$&\n")}${END}`;
}

/** The key in such a file, as PKCS#8 in DER. Throws the fault REQUEST_INVALID. */
export async function unwrapKey(text: string, passphrase: string, place: KeyPlace): Promise<Uint8Array> {
  const flawed = (why: string): Fault =>
    new Fault("REQUEST_INVALID", `The ${place.role} key ${why}: restore the file of this ledger from a backup.`);
  if (!text.startsWith(BEGIN) || !text.endsWith(END)) throw flawed("is not a wrapped key");
  const bytes = parseBase64(text.slice(BEGIN.length, -END.length).replaceAll("\n", ""));
  if (bytes === undefined || bytes.length <= 1 + SALT_BYTES + NONCE_BYTES + TAG_BYTES) throw flawed("is damaged");
  if (bytes[0] !== VERSION) throw flawed(`is wrapped in version ${bytes[0]}, which this program does not know`);
  const salt = bytes.subarray(1, 1 + SALT_BYTES);
  const nonce = bytes.subarray(1 + SALT_BYTES, 1 + SALT_BYTES + NONCE_BYTES);
  const decipher = createDecipheriv("aes-256-gcm", await derive(passphrase, salt), nonce);
  decipher.setAAD(associated(place));
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  const sealed = bytes.subarray(1 + SALT_BYTES + NONCE_BYTES, -TAG_BYTES);
  try {
    return new Uint8Array(Buffer.concat([decipher.update(sealed), decipher.final()]));
  } catch (error) {
    throw new Fault(
      "REQUEST_INVALID",
      `The passphrase does not open the ${place.role} key, or the file is damaged or of another ledger: give the passphrase of this ledger.`,
      { cause: error },
    );
  }
}
