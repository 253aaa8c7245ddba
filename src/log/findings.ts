/**
 * What this process found wrong in the ledger bucket: told once in its log, counted for whoever watches, and kept until the leader
 * has recorded it (`upkeep.ts`).
 *
 * - A finding is a code at an object. However often it is met, it is told and recorded once, until a whole look at the bucket met
 *   it no more; then it is new.
 * - An attacker chooses keys and how many: so many findings are kept by name, and the rest is only counted.
 */
import { printableText } from "../store/keys.ts";
import type { Logger } from "./ports.ts";

export interface Finding {
  /** A code of the formats, such as `object.shadowed`. */
  readonly code: string;
  /** Key in the ledger bucket; empty when it is no one object's. */
  readonly object: string;
  readonly detail: string;
}

interface Known extends Finding {
  isOpen: boolean;
  isRecorded: boolean;
  /** Number of the look in which it was met last; absent for what no look finds. */
  look: number | undefined;
}

/** Findings that are known by name at most. */
const MAX_KNOWN = 10_000;
const MAX_DETAIL_CHARACTERS = 240;
/** Codes that a look at the bucket meets again for as long as the cause is there. */
const LOOKED_FOR = /^(?:object|index)\./;

export class Findings {
  readonly #logger: Logger;
  readonly #known = new Map<string, Known>();
  /** How many of each code were met beyond those that are known by name, in the present look and in the one before. */
  #unnamed = new Map<string, number>();
  #unnamedBefore = new Map<string, number>();
  readonly #listeners = new Set<() => void>();
  readonly #total = new Map<string, number>();
  #look = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  report({ code, detail, object }: Finding): void {
    const name = `${code} ${object}`;
    let known = this.#known.get(name);
    if (known === undefined) {
      if (this.#known.size >= MAX_KNOWN) {
        if (this.#unnamed.size + this.#unnamedBefore.size === 0)
          this.#logger.error({ code }, "more is wrong in the bucket than is told one by one; verify the bucket");
        add(this.#unnamed, code, 1);
        add(this.#total, code, 1);
        return;
      }
      const shown = printableText(object);
      known = { code, detail: shortened(detail), isOpen: false, isRecorded: false, look: undefined, object: shown };
      this.#known.set(name, known);
    }
    if (LOOKED_FOR.test(code)) known.look = this.#look;
    if (known.isOpen) return;
    known.isOpen = true;
    add(this.#total, code, 1);
    this.#logger.error(
      { code, detail: known.detail, object: known.object },
      "something in the bucket is not as the log says",
    );
    if (!known.isRecorded) for (const listener of this.#listeners) listener();
  }

  /** The ledger has it already: it is told again, and not recorded again. */
  remember({ code, detail, object }: Finding): void {
    const name = `${code} ${object}`;
    const known = this.#known.get(name);
    if (known !== undefined) known.isRecorded = true;
    else if (this.#known.size < MAX_KNOWN)
      this.#known.set(name, { code, detail, isOpen: false, isRecorded: true, look: 0, object });
  }

  /** A look at the whole bucket begins. */
  beginLook(): void {
    this.#look++;
    this.#unnamedBefore = this.#unnamed;
    this.#unnamed = new Map();
  }

  /** It has seen everything: what it should have met again and did not is over. */
  endLook(): void {
    this.#unnamedBefore = new Map();
    for (const [name, known] of this.#known)
      if (known.look !== undefined && known.look < this.#look) {
        if (known.isOpen)
          this.#logger.info({ code: known.code, object: known.object }, "what was wrong in the bucket is not any more");
        known.isOpen = false;
        if (known.isRecorded) this.#known.delete(name);
      }
  }

  /** What is to be recorded. */
  unrecorded(): Finding[] {
    return [...this.#known.values()].filter((k) => !k.isRecorded);
  }

  /** Takes what `unrecorded` gave. */
  recorded(findings: readonly Finding[]): void {
    const these = new Set(findings);
    for (const [name, known] of this.#known) {
      if (!these.has(known)) continue;
      known.isRecorded = true;
      if (!known.isOpen) this.#known.delete(name);
    }
  }

  /** How many of each code stand now. */
  open(): ReadonlyMap<string, number> {
    const open = new Map<string, number>();
    for (const { code, isOpen } of this.#known.values()) if (isOpen) add(open, code, 1);
    for (const [code, n] of this.#unnamed.size === 0 ? this.#unnamedBefore : this.#unnamed) add(open, code, n);
    return open;
  }

  /** How many of each code were ever met by this process. */
  get total(): ReadonlyMap<string, number> {
    return this.#total;
  }

  /** The code that stands for all of them. */
  get alarm(): string | undefined {
    for (const { code, isOpen } of this.#known.values()) if (isOpen) return code;
    return undefined;
  }

  onUnrecorded(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

const add = (to: Map<string, number>, code: string, n: number): void => void to.set(code, (to.get(code) ?? 0) + n);

/** Fit for a record: one line of what can be printed. */
const shortened = (detail: string): string => printableText(detail, MAX_DETAIL_CHARACTERS);
