/**
 * Signs checkpoints, and never two that contradict. Owns the memory of the last note that was signed:
 *
 * - the note is on the disk before its signature leaves here;
 * - a smaller size, another root of the same size, or a root that does not extend the last one is refused: `signer.rollback`;
 * - one signing at a time, in the order asked.
 *
 * It knows nothing of commits: the caller gives only trees that are committed and applied.
 */

import { verifyConsistency } from "../merkle/proofs.ts";
import { formatCheckpoint } from "../note/checkpoint.ts";
import { cosignatureMessage, formatCosignature } from "../note/cosignature.ts";
import { formatNote, signatureLine } from "../note/note.ts";
import { equalBytes, utf8 } from "../std/bytes.ts";
import type { Clock } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import type { LastSigned, LedgerKeys } from "./ports.ts";

export interface TreeHead {
  readonly size: number;
  readonly root: Uint8Array;
}

export interface SignedHead extends TreeHead {
  /** The signed note, with the log's Ed25519 line alone. */
  readonly note: Uint8Array;
}

/** The port: signs the tree of `head`, given the proof that it extends the last signed one. */
export interface Signer {
  readonly last: TreeHead | undefined;
  sign(head: TreeHead, prove: (fromSize: number) => readonly Uint8Array[]): Promise<SignedHead>;
  /** The same statement with the log's ML-DSA-44 line too, for publication. */
  complete(signed: SignedHead): Uint8Array;
}

export interface SignerOptions {
  readonly origin: string;
  readonly keys: Pick<LedgerKeys, "log" | "logPq">;
  readonly lastSigned: LastSigned;
  readonly clock: Clock;
  /** What `lastSigned` held, opened under the log's keys by the caller. */
  readonly last: TreeHead | undefined;
}

export function createSigner({ clock, keys, last: remembered, lastSigned, origin }: SignerOptions): Signer {
  let last = remembered;
  let turn: Promise<unknown> = Promise.resolve();

  const lineOf = (text: string): string => signatureLine(keys.log.name, keys.log.id, keys.log.sign(utf8(text)));

  async function signNow(head: TreeHead, prove: (fromSize: number) => readonly Uint8Array[]): Promise<SignedHead> {
    if (last !== undefined) {
      if (head.size < last.size)
        throw new Violation("signer.rollback", `asked to sign size ${head.size} after ${last.size}`);
      const continues =
        head.size === last.size
          ? equalBytes(head.root, last.root)
          : verifyConsistency(last.size, head.size, last.root, head.root, prove(last.size));
      if (!continues)
        throw new Violation(
          "signer.rollback",
          `the tree of size ${head.size} does not extend the one that was signed at size ${last.size}`,
        );
    }
    const text = formatCheckpoint({ origin, root: head.root, size: head.size });
    const note = formatNote(text, [lineOf(text)]);
    await lastSigned.write(note);
    last = { root: head.root, size: head.size };
    return { ...last, note };
  }

  return {
    get last() {
      return last;
    },
    sign(head, prove) {
      const signing = turn.then(() => signNow(head, prove));
      turn = signing.catch(() => undefined);
      return signing;
    },
    complete(signed) {
      const text = formatCheckpoint({ origin, root: signed.root, size: signed.size });
      const seconds = Math.floor(clock.now() / 1000);
      const message = cosignatureMessage(keys.logPq, seconds, text);
      const pq = signatureLine(keys.logPq.name, keys.logPq.id, formatCosignature(seconds, keys.logPq.sign(message)));
      const own = new TextDecoder().decode(signed.note).slice(text.length + 1, -1);
      return formatNote(text, [own, pq]);
    },
  };
}
