/**
 * The verdict: which checks ran, what failed, what was skipped. `pass` is said only when nothing failed and nothing that
 * applied was skipped; the three values are the exit codes 0, 1 and 2.
 */

export type Verdict = "pass" | "fail" | "incomplete";

export interface Failure {
  /** Where: a member, a line, an object key or a record id. */
  readonly at: string;
  readonly code: string;
  readonly detail: string;
}

export interface Check {
  readonly id: string;
  readonly status: "pass" | "fail" | "skipped";
  readonly failures: readonly Failure[];
  readonly skipped: readonly string[];
}

const MAX_FAILURES = 100;

/** Collects what one stage finds. Of failures beyond the limit only the codes are kept. */
export class Stage {
  readonly id: string;
  readonly #failures: Failure[] = [];
  readonly #skipped: string[] = [];
  readonly #codes = new Set<string>();

  constructor(id: string) {
    this.id = id;
  }

  fail(code: string, at: string, detail: string): void {
    this.#codes.add(code);
    if (this.#failures.length < MAX_FAILURES) this.#failures.push({ at, code, detail });
  }

  skip(what: string): void {
    if (this.#skipped.length < MAX_FAILURES) this.#skipped.push(what);
  }

  get failed(): boolean {
    return this.#codes.size > 0;
  }

  /** Codes of all failures, also of those that are not kept. */
  get codes(): ReadonlySet<string> {
    return this.#codes;
  }

  check(): Check {
    const status = this.failed ? "fail" : this.#skipped.length > 0 ? "skipped" : "pass";
    return { failures: this.#failures, id: this.id, skipped: this.#skipped, status };
  }
}

export function verdictOf(checks: readonly Check[]): Verdict {
  if (checks.some((c) => c.status === "fail")) return "fail";
  return checks.some((c) => c.status === "skipped" || c.skipped.length > 0) ? "incomplete" : "pass";
}

export const exitCodeOf = (verdict: Verdict): 0 | 1 | 2 => (verdict === "pass" ? 0 : verdict === "fail" ? 1 : 2);
