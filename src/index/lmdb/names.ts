/** Numbers for names that come again and again: kinds and relations. Kept in table `meta`, in the order in which they appeared. */
import { assert, assertDefined } from "../../std/assert.ts";
import type { Tables, WriteSet } from "./tables.ts";

/** Leaves the highest number for "any". */
const MAX_NAMES = 0xfffe;

export class Names {
  readonly #key: Buffer;
  #names: string[];
  #numbers: Map<string, number>;
  #dirty = false;

  constructor(tables: Tables, key: string) {
    this.#key = Buffer.from(key);
    const stored = tables.get("meta", this.#key);
    this.#names = stored === undefined ? [] : (JSON.parse(stored.toString()) as string[]);
    this.#numbers = new Map(this.#names.map((name, i) => [name, i]));
  }

  /** Gives a number to a new name. */
  intern(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    const number = this.#names.length;
    assert(number < MAX_NAMES, "names fit 16 bits");
    this.#names.push(name);
    this.#numbers.set(name, number);
    this.#dirty = true;
    return number;
  }

  number(name: string): number | undefined {
    return this.#numbers.get(name);
  }

  name(number: number): string {
    return assertDefined(this.#names[number], "a stored number has a name");
  }

  collect(set: WriteSet): void {
    if (this.#dirty) set.put("meta", this.#key, Buffer.from(JSON.stringify(this.#names)));
    this.#dirty = false;
  }
}
