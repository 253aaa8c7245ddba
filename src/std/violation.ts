/**
 * A check of the ledger's formats that failed. The code is one of the stable codes of the formats (`record.digest`,
 * `checkpoint.signature`, …): the same string in the API, the CLI, metrics and the documentation.
 */
export class Violation extends Error {
  override readonly name = "Violation";
  readonly code: string;

  constructor(code: string, detail: string) {
    super(detail);
    this.code = code;
  }
}
