/**
 * What the log needs of its surroundings beside store, index, clock and chance.
 */
import type { NoteSigner } from "../note/signatures.ts";

/** The three private keys of a ledger. Never shared across roles or ledgers. */
export interface LedgerKeys {
  /** Ed25519 line of checkpoints; its name is the origin. */
  readonly log: NoteSigner;
  /** ML-DSA-44 line of published checkpoints; its name is the origin. */
  readonly logPq: NoteSigner;
  /** Ed25519 line of commits; its name is the origin and `/commit`. */
  readonly commit: NoteSigner;
}

/**
 * The signer's memory against rollback: the last note that it signed. It lies beside the keys and not beside the index, because
 * deleting the index must not delete it.
 */
export interface LastSigned {
  /** Notes that may be the last one, in any order: a torn write leaves the one before. */
  read(): Promise<readonly Uint8Array[]>;
  /** Resolves when the note is on the disk. */
  write(note: Uint8Array): Promise<void>;
}

export interface Logger {
  /** Whether lines of a level are kept; all are when it does not say. */
  isLevelEnabled?(level: "debug"): boolean;
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
