/**
 * A check of the ledger's formats that failed. The code is one of the stable codes of the formats (`record.digest`,
 * `checkpoint.signature`, …): the same string in the API, the CLI, metrics and the documentation.
 */
export class Violation extends Error {
  override readonly name = "Violation";
  readonly code: string;
  /** Key of the object that it was found at, where it is one's. */
  readonly at: string | undefined;

  constructor(code: string, detail: string, at?: string) {
    super(detail);
    this.code = code;
    this.at = at;
  }
}
