/** Trust policies (C2SP tlog-policy): which logs and witnesses count, and which quorum of witnesses is asked for. */
import { Violation } from "../std/violation.ts";
import { isKeyName, parseVkey, publicKeyText, type VerifierKey } from "./keys.ts";

export interface PolicyLog {
  readonly key: VerifierKey;
  readonly url?: string;
}

export interface PolicyWitness extends PolicyLog {
  readonly name: string;
}

export interface PolicyGroup {
  readonly name: string;
  /** How many members must agree. */
  readonly threshold: number;
  readonly members: readonly string[];
}

export interface TrustPolicy {
  readonly logs: readonly PolicyLog[];
  readonly witnesses: readonly PolicyWitness[];
  readonly groups: readonly PolicyGroup[];
  /** Name of a witness or group, or `none`. */
  readonly quorum: string;
}

const MAX_LINES = 10_000;

export function parseTrustPolicy(text: string): TrustPolicy {
  const logs: PolicyLog[] = [];
  const witnesses: PolicyWitness[] = [];
  const groups: PolicyGroup[] = [];
  let quorum: string | undefined;
  const names = new Set<string>();
  const owners = new Map<string, string>();
  const lines = text.split("\n");
  if (lines.length > MAX_LINES) throw new Violation("policy.malformed", `the policy has more than ${MAX_LINES} lines`);
  for (const [number, line] of lines.entries()) {
    const bad = (detail: string): Violation => new Violation("policy.malformed", `line ${number + 1}: ${detail}`);
    const words = line.split(/[ \t]+/).filter((w) => w !== "");
    const [kind, ...rest] = words;
    if (kind === undefined || kind.startsWith("#")) continue;
    const key = (vkey: string | undefined, role: string, algorithms: readonly number[]): VerifierKey => {
      const parsed = parseVkey(vkey ?? "");
      if (parsed === undefined || !algorithms.includes(parsed.algorithm)) throw bad(`${JSON.stringify(vkey ?? "")} is not a verifier key of a ${kind}`);
      const owner = `${role} ${parsed.name}`;
      const other = owners.get(publicKeyText(parsed));
      if (other !== undefined) throw new Violation("policy.duplicate-key", `line ${number + 1}: one key serves as ${other} and as ${owner}`);
      owners.set(publicKeyText(parsed), owner);
      return parsed;
    };
    const claim = (name: string): string => {
      if (!isKeyName(name) || name === "none" || names.has(name)) throw bad(`the name ${JSON.stringify(name)} is taken or not allowed`);
      names.add(name);
      return name;
    };
    if (kind === "log" && (rest.length === 1 || rest.length === 2)) logs.push({ key: key(rest[0], "log", [1, 6]), ...(rest[1] === undefined ? {} : { url: rest[1] }) });
    else if (kind === "witness" && (rest.length === 2 || rest.length === 3)) witnesses.push({ key: key(rest[1], "witness", [4, 6]), name: claim(rest[0] ?? ""), ...(rest[2] === undefined ? {} : { url: rest[2] }) });
    else if (kind === "group" && rest.length >= 3) {
      const [name = "", rule = "", ...members] = rest;
      const unknown = members.find((m) => !names.has(m));
      if (unknown !== undefined) throw bad(`the member ${JSON.stringify(unknown)} was not named before`);
      if (new Set(members).size !== members.length) throw bad("a member is named twice");
      const threshold = rule === "all" ? members.length : rule === "any" ? 1 : /^[1-9][0-9]{0,4}$/.test(rule) ? Number(rule) : 0;
      if (threshold < 1 || threshold > members.length) throw bad(`${JSON.stringify(rule)} is not all, any, or a number up to ${members.length}`);
      groups.push({ members, name: claim(name), threshold });
    } else if (kind === "quorum" && rest.length === 1 && quorum === undefined) {
      const [name = ""] = rest;
      if (name !== "none" && !names.has(name)) throw bad(`the quorum ${JSON.stringify(name)} was not named before`);
      quorum = name;
    } else throw bad(`${JSON.stringify(line)} is not a line of a policy`);
  }
  if (logs.length === 0) throw new Violation("policy.malformed", "the policy names no log");
  if (quorum === undefined) throw new Violation("policy.malformed", "the policy has no quorum line; write `quorum none` to ask for no witnesses");
  return { groups, logs, quorum, witnesses };
}

/** Whether the witnesses for which `cosigned` holds satisfy the quorum. */
export function quorumSatisfied(policy: TrustPolicy, cosigned: (witness: string) => boolean): boolean {
  const groups = new Map(policy.groups.map((g) => [g.name, g]));
  // Groups name only what was named before, so this ends.
  const holds = (name: string): boolean => {
    const group = groups.get(name);
    return group === undefined ? cosigned(name) : group.members.filter(holds).length >= group.threshold;
  };
  return policy.quorum === "none" || holds(policy.quorum);
}

/**
 * Smallest time T, in seconds, such that the cosignatures dated up to T satisfy the quorum; undefined when none does. A time of 0
 * and cosigners that sign late (`mirrors`) count for the quorum, never for time.
 */
export function quorumTime(policy: TrustPolicy, times: ReadonlyMap<string, number>, mirrors: ReadonlySet<string>): number | undefined {
  if (policy.quorum === "none") return undefined;
  const timeless = (name: string): boolean => times.get(name) === 0 || (times.has(name) && mirrors.has(name));
  const candidates = [...times].filter(([name]) => !timeless(name)).map(([, time]) => time).toSorted((a, b) => a - b);
  return candidates.find((t) => quorumSatisfied(policy, (name) => timeless(name) || (times.get(name) ?? Number.POSITIVE_INFINITY) <= t));
}
