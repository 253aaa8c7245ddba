/**
 * Records what an operator did to the ledger outside of the server: locks that he had prolonged, objects that he compared with the
 * log. It lies in the project `_system` beside the server's own, which have no principal; whoever reads it knows whose word it is.
 *
 * Other operations are recorded by what does them, since they are believed: an erasure excuses absent bytes.
 */
import { type Operation, OperationOutcome, OperationType } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import type { RecordOperationRequest } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { LEDGER_PROJECT, SYSTEM_PROJECT } from "../identity/ledger.ts";
import { Fault } from "../std/faults.ts";
import { printableText } from "../store/keys.ts";
import { created, draft } from "./admission.ts";
import { bodyOf, checkTime, invalid } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { checkCount } from "./limits.ts";
import { specOf, write } from "./write.ts";

const MAX_COUNTS = 64;
const MAX_FINDINGS = 100;
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

export async function recordOperation(
  deps: Deps,
  caller: Caller,
  request: RecordOperationRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> {
  const { operation, requestId, validateOnly } = request;
  return write(
    deps,
    caller,
    specOf({ project: SYSTEM_PROJECT, requestId, validateOnly }, "ledger.operate", {
      lane: "control",
      permittedIn: LEDGER_PROJECT,
    }),
    (a) => {
      const body = bodyOf("operation", operation);
      if (operation !== undefined) check(operation, a.reader.size);
      return created(draft(a, "operation", body));
    },
    signal,
  );
}

function check(operation: Operation, size: number): void {
  const { acceptedHead, basis, counts, digests, findings, outcome, personalValues, range, type, until } = operation;
  if (type !== OperationType.RETENTION && type !== OperationType.SCRUB)
    throw invalid(
      "operation.type",
      "is not RETENTION or SCRUB: other operations are recorded by the server that does them",
    );
  if (acceptedHead !== undefined) throw invalid("operation.accepted_head", "is for what a takeover records");
  if (digests.length + personalValues.length > 0 || basis !== undefined)
    throw invalid("operation.digests", "are for what an erasure records, with personal_values and basis");
  if (outcome === OperationOutcome.UNSPECIFIED)
    throw invalid("operation.outcome", "is missing: DONE, INCOMPLETE or FOUND");
  if (range === undefined) throw invalid("operation.range", "is missing: the entries whose objects it was about");
  if (range.from > range.to || range.to > size)
    throw invalid("operation.range", `is not within the log, which has ${size} entries`);
  checkCount("operation.counts", counts.length, MAX_COUNTS);
  checkCount("operation.findings", findings.length, MAX_FINDINGS);
  for (const { name, value } of counts) {
    if (!NAME.test(name))
      throw invalid("operation.counts.name", "is not 1 to 64 of lower-case letters, digits and . _ -");
    if (!Number.isSafeInteger(value) || value < 0)
      throw invalid("operation.counts.value", "is not a whole number from 0");
  }
  for (const { code, object } of findings) {
    if (!NAME.test(code)) throw invalid("operation.findings.code", "is not a code such as object.shadowed");
    if (printableText(object) !== object)
      throw invalid("operation.findings.object", "is not up to 256 printable characters: percent-encode the others");
  }
  if (until !== undefined) checkTime("operation.until", until);
  if ((until !== undefined) !== (type === OperationType.RETENTION))
    throw invalid("operation.until", "belongs to RETENTION, and to that always");
  if (outcome === OperationOutcome.FOUND && findings.length === 0)
    throw new Fault("REQUEST_INVALID", "operation.findings are missing: the outcome FOUND names what was found");
}
