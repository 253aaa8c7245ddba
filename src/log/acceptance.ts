/**
 * The record of a head that an operator vouched for when the signer's memory was lost. It enters the log with the fence, before
 * anything is signed on top of that head: nobody continues a ledger on his word without the ledger saying so.
 */
import { assertDefined } from "../std/assert.ts";
import { formatHex } from "../std/bytes.ts";
import type { Random } from "../std/ports.ts";
import { type Admission, recordsOf } from "./admission.ts";
import type { Applied } from "./applied.ts";
import type { TreeHead } from "./signer.ts";
import type { Draft } from "./submission.ts";

export function acceptance(
  { knows, reader, size }: Applied,
  head: TreeHead,
  { nowMs, random }: { readonly nowMs: number; readonly random: Random },
): Admission {
  const draft: Draft = {
    // Whoever may start the program with the keys: no principal of the ledger.
    actor: { method: "system" },
    body: { accepted_head: { root: formatHex(head.root), size: head.size }, type: "OPERATION_TYPE_RESTORE" },
    kind: "operation",
    links: [],
    project: assertDefined(reader.entry(1), "entry 1 creates the project _system").record,
    requestId: `accept-head-${size}`,
  };
  const records = recordsOf([draft], { knows, nowMs, random });
  return { bytes: 0, guards: [], records, size, value: null };
}
