/**
 * Trust policies (C2SP tlog-policy): which logs and witnesses are known, and which cosignatures are enough.
 *
 * A group or the quorum names only what stands above it, and a name is member of one group at most: so evaluation is a walk over
 * a tree, and a witness counts once. One public key in two lines, whatever its name or algorithm, is refused: it would let one
 * party count twice, or a log vouch for itself.
 */
import { parseDecimal } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { type KeyAlgorithm, parseVkey, type VerifierKey } from "./keys.ts";

export interface TrustedLog {
  readonly key: VerifierKey;
  readonly url?: string;
}

export interface TrustedWitness {
  /** Name within the policy; the key has its own. */
  readonly name: string;
  readonly key: VerifierKey;
  readonly url?: string;
}

export interface WitnessGroup {
  readonly name: string;
  /** How many of the members must have witnessed. */
  readonly threshold: number;
  readonly members: readonly string[];
}

export interface TrustPolicy {
  readonly logs: readonly TrustedLog[];
  readonly witnesses: readonly TrustedWitness[];
  readonly groups: readonly WitnessGroup[];
  /** Name of a witness or group, or `none`. */
  readonly quorum: string;
}

const MAX_CHARACTERS = 1_048_576;
/** Logs, witnesses and groups together; groups may be nested as deep. */
const MAX_DEFINITIONS = 512;
const NONE = "none";

const LOG_ALGORITHMS: readonly KeyAlgorithm[] = [1, 6];
const WITNESS_ALGORITHMS: readonly KeyAlgorithm[] = [4, 6];

// Every control character but tab and line feed.
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/;

/** Throws the Violation `policy.malformed`, or `policy.duplicate-key`. */
export function parseTrustPolicy(text: string): TrustPolicy {
  if (text.length > MAX_CHARACTERS)
    throw new Violation("policy.malformed", `the policy is over ${MAX_CHARACTERS} characters`);
  if (CONTROL.test(text))
    throw new Violation("policy.malformed", "the policy has a control character other than tab and line feed");
  const reader = new PolicyReader();
  for (const [i, line] of text.split("\n").entries()) {
    const [keyword, ...items] = line.split(/[ \t]+/).filter((item) => item !== "");
    if (keyword !== undefined && !keyword.startsWith("#")) reader.line(i + 1, keyword, items);
  }
  return reader.policy();
}

class PolicyReader {
  readonly #logs: TrustedLog[] = [];
  readonly #witnesses: TrustedWitness[] = [];
  readonly #groups: WitnessGroup[] = [];
  #quorum: string | undefined;
  /** Names defined so far, and whether a group already has them. */
  readonly #names = new Map<string, "free" | "member">();
  readonly #keys = new Set<string>();
  #number = 0;

  line(number: number, keyword: string, items: readonly string[]): void {
    this.#number = number;
    if (this.#logs.length + this.#witnesses.length + this.#groups.length === MAX_DEFINITIONS && keyword !== "quorum")
      throw this.#malformed(`more than ${MAX_DEFINITIONS} definitions`);
    switch (keyword) {
      case "log":
        return this.#log(items);
      case "witness":
        return this.#witness(items);
      case "group":
        return this.#group(items);
      case "quorum":
        return this.#setQuorum(items);
      default:
        throw this.#malformed(`${JSON.stringify(keyword.slice(0, 40))} is not log, witness, group or quorum`);
    }
  }

  policy(): TrustPolicy {
    if (this.#quorum === undefined)
      throw new Violation(
        "policy.malformed",
        "the policy has no quorum line; write `quorum none` to ask for no witnesses",
      );
    return { groups: this.#groups, logs: this.#logs, quorum: this.#quorum, witnesses: this.#witnesses };
  }

  #malformed(detail: string): Violation {
    return new Violation("policy.malformed", `line ${this.#number}: ${detail}`);
  }

  #log([vkey, url, ...rest]: readonly string[]): void {
    if (vkey === undefined || rest.length > 0) throw this.#malformed("log <vkey> [<url>]");
    this.#logs.push({ key: this.#key(vkey, LOG_ALGORITHMS), ...(url === undefined ? {} : { url }) });
  }

  #witness([name, vkey, url, ...rest]: readonly string[]): void {
    if (name === undefined || vkey === undefined || rest.length > 0)
      throw this.#malformed("witness <name> <vkey> [<url>]");
    this.#define(name);
    this.#witnesses.push({ key: this.#key(vkey, WITNESS_ALGORITHMS), name, ...(url === undefined ? {} : { url }) });
  }

  #group([name, k, ...members]: readonly string[]): void {
    if (name === undefined || k === undefined || members.length === 0)
      throw this.#malformed("group <name> all|any|<k> <member>…");
    const threshold = k === "all" ? members.length : k === "any" ? 1 : parseDecimal(k);
    if (threshold === undefined || threshold < 1 || threshold > members.length)
      throw this.#malformed(`${JSON.stringify(k)} is not all, any or a number from 1 to ${members.length}`);
    for (const member of members) {
      const state = this.#names.get(member);
      if (state === undefined) throw this.#malformed(`${JSON.stringify(member)} is not defined above`);
      if (state === "member") throw this.#malformed(`${JSON.stringify(member)} is member of a group already`);
      this.#names.set(member, "member");
    }
    this.#define(name);
    this.#groups.push({ members, name, threshold });
  }

  #setQuorum([name, ...rest]: readonly string[]): void {
    if (name === undefined || rest.length > 0) throw this.#malformed("quorum <name>|none");
    if (this.#quorum !== undefined) throw this.#malformed("a second quorum");
    if (name !== NONE && !this.#names.has(name)) throw this.#malformed(`${JSON.stringify(name)} is not defined above`);
    this.#quorum = name;
  }

  #define(name: string): void {
    if (name === NONE || this.#names.has(name)) throw this.#malformed(`the name ${JSON.stringify(name)} is taken`);
    this.#names.set(name, "free");
  }

  #key(vkey: string, algorithms: readonly KeyAlgorithm[]): VerifierKey {
    const key = parseVkey(vkey);
    if (key === undefined) throw this.#malformed("not a verifier key, or its key id is wrong");
    if (!algorithms.includes(key.algorithm))
      throw this.#malformed(
        `a key of algorithm ${key.algorithm} does not fit this role; use ${algorithms.join(" or ")}`,
      );
    const bytes = formatHex(key.publicKey);
    if (this.#keys.has(bytes))
      throw new Violation(
        "policy.duplicate-key",
        `line ${this.#number}: the public key of ${key.name} stands in this policy already`,
      );
    this.#keys.add(bytes);
    return key;
  }
}

/** Whether the witnesses that cosigned, by their names within the policy, are enough. Always, when the quorum is `none`. */
export function quorumSatisfied(policy: TrustPolicy, cosigned: (witnessName: string) => boolean): boolean {
  if (policy.quorum === NONE) return true;
  const groups = new Map(policy.groups.map((group) => [group.name, group]));
  const witnessed = (name: string): boolean => {
    const group = groups.get(name);
    return group === undefined ? cosigned(name) : group.members.filter(witnessed).length >= group.threshold;
  };
  return witnessed(policy.quorum);
}

/**
 * Quorum time of a note (`docs/formats/packs.md`, time): the smallest timestamp T such that the lines dated ≤ T satisfy the quorum, in
 * seconds. Lines without a time (timestamp 0) and those of `mirrors`, which sign late, count for the quorum but never give T.
 * Undefined when the quorum is not met, or is met by none that states a time, or is `none`.
 */
export function quorumTime(
  policy: TrustPolicy,
  timestamps: ReadonlyMap<string, number>,
  mirrors: ReadonlySet<string>,
): number | undefined {
  if (policy.quorum === NONE) return undefined;
  const timed = new Map([...timestamps].filter(([name, timestamp]) => timestamp > 0 && !mirrors.has(name)));
  const candidates = [...new Set(timed.values())].toSorted((a, b) => a - b);
  return candidates.find((t) => quorumSatisfied(policy, (name) => timestamps.has(name) && (timed.get(name) ?? 0) <= t));
}
