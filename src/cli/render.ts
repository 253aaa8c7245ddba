/** How resources and receipts look in words. */
import type { Signature } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import type { Resource, WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { type Io, paint, printable, shortId, table } from "./io.ts";

const GOOD = new Set(["approved", "active", "succeeded", "validated", "running", "pass", "granted"]);
const BAD = new Set(["refused", "revoked", "rejected", "failed", "lost", "fail", "error", "disabled"]);

export function statusText(io: Io, status: string): string {
  return GOOD.has(status) ? paint(io, "green", status) : BAD.has(status) ? paint(io, "red", status) : status;
}

/** One line: what it is, its status, where in the log. */
export function resourceLine(io: Io, r: Resource): string {
  const marks = [
    r.status === "" ? "" : statusText(io, r.status),
    r.gate === "" ? "" : `gate ${statusText(io, r.gate)}`,
    r.tainted ? paint(io, "red", "tainted") : "",
  ].filter((m) => m !== "");
  return `${paint(io, "bold", printable(r.name === "" ? r.kind : r.name))}${marks.length > 0 ? `  ${marks.join(", ")}` : ""}  ${paint(io, "dim", `#${r.logIndex} ${shortId(r.record)}`)}\n`;
}

export function written(io: Io, response: WriteResponse): string {
  const { resource, receipt, decision } = response;
  const lines: string[] = [];
  if (resource !== undefined)
    lines.push(`${receipt?.existing === true ? "already there: " : "recorded: "}${resourceLine(io, resource)}`);
  if (decision?.body.case === "decision") lines.push(decisionText(io, decision));
  if (receipt !== undefined)
    lines.push(paint(io, "dim", `proof: index ${receipt.logIndex} in the tree of size ${receipt.treeSize}\n`));
  return lines.join("");
}

/** The name of an enum's value, lower-case. */
export const enumWord = (value: number, names: Readonly<Record<string, number | string>>): string => {
  const name = Object.entries(names).find(([, v]) => v === value)?.[0] ?? String(value);
  return name.toLowerCase();
};

const OUTCOMES = { allow: 1, deny: 3, error: 4, require_approval: 2 };
const RESULTS = { error: 5, fails: 2, holds: 1, skipped: 3, waived: 4 };

/** A decision, with the rules that failed and what they saw; with all rules when asked. */
export function decisionText(io: Io, decision: Resource, all = false): string {
  if (decision.body.case !== "decision") return resourceLine(io, decision);
  const body = decision.body.value;
  const outcome = enumWord(body.outcome, OUTCOMES);
  const lines = [
    `${body.preview ? "preview: " : "decision: "}${outcome === "allow" ? paint(io, "green", outcome) : outcome === "require_approval" ? paint(io, "yellow", outcome) : paint(io, "red", outcome)} on ${body.target}  ${paint(io, "dim", `#${decision.logIndex} ${shortId(decision.record)}`)}\n`,
  ];
  for (const policy of body.policies) {
    for (const rule of policy.rules) {
      const result = enumWord(rule.result, RESULTS);
      const isFine = result === "holds" || result === "skipped";
      if (isFine && !all) continue;
      // Approved by those whom it asks, or a warning.
      const isMet = result === "fails" && outcome === "allow";
      const mark = isFine
        ? result
        : paint(io, isMet || result === "waived" ? "yellow" : "red", isMet ? "fails, does not refuse" : result);
      lines.push(`  ${mark}  ${printable(rule.id)}${rule.message === "" ? "" : `: ${printable(rule.message)}`}\n`);
      for (const seen of rule.seen)
        lines.push(paint(io, "dim", `         saw ${printable(seen.path)} = ${printable(seen.value)}\n`));
    }
  }
  for (const requirement of body.requirements)
    lines.push(
      `  ${paint(io, "yellow", "needs")}  ${requirement.approval?.quorum ?? 0} approval(s) of ${requirement.approval?.groups.join(" or ") ?? ""}\n`,
    );
  return lines.join("");
}

export const resourceTable = (resources: readonly Resource[]): string =>
  resources.length === 0
    ? "none\n"
    : table(
        ["INDEX", "KIND", "NAME", "STATUS", "TIME", "RECORD"],
        resources.map((r) => [
          String(r.logIndex),
          r.kind,
          r.name,
          [r.status, r.gate === "" ? "" : `gate ${r.gate}`, r.tainted ? "tainted" : ""]
            .filter((x) => x !== "")
            .join(", "),
          r.time,
          shortId(r.record),
        ]),
      );

/** Who signed what, when, meaning what. */
export const signatureText = ({ meaning, printedName, signedAt, statement, verdict }: Signature): string =>
  `  ${verdict === "reject" ? "rejected" : "approved"} by ${printedName === "" ? "(name erased)" : printable(printedName)} at ${signedAt}, meaning ${meaning}: ${printable(statement)}\n`;
