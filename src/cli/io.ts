/**
 * What a command says and how it ends. One document on standard output with `--json`, words for people without; progress and
 * errors go to standard error, so that output can always be piped.
 */
import type { JsonValue } from "@bufbuild/protobuf";

/** Exit codes; a wrapped command's own code passes through. */
export const EXIT = {
  answerIsNo: 1,
  done: 0,
  incomplete: 2,
  internal: 125,
  notAllowed: 123,
  notRecorded: 122,
  pending: 121,
  refused: 120,
  timeOut: 124,
  usage: 64,
} as const;

export class Exit extends Error {
  override readonly name = "Exit";
  readonly code: number;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(code: number, reason: string, message: string, metadata: Readonly<Record<string, string>> = {}) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.metadata = metadata;
  }
}

export interface Io {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isTerminal: boolean;
  readonly signal: AbortSignal;
}

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan" | "inverse";
const CODES: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  cyan: [36, 39],
  dim: [2, 22],
  green: [32, 39],
  inverse: [7, 27],
  red: [31, 39],
  yellow: [33, 39],
};

export const paint = (io: Io, style: Style, text: string): string =>
  io.isTerminal && io.env["NO_COLOR"] === undefined
    ? `\u001B[${CODES[style][0]}m${text}\u001B[${CODES[style][1]}m`
    : text;

/** `sha256:0123456789ab…`, enough to recognise and short enough to read. */
export const shortId = (id: string): string =>
  id.startsWith("sha256:") ? `${id.slice(7, 19)}…` : id.length === 64 ? `${id.slice(0, 12)}…` : id;

// Control characters of hostile names must not reach a terminal.
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F\u200E\u200F\u202A-\u202E\u2066-\u2069]/g;
export const printable = (text: string): string =>
  text.replace(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** Rows under headings, columns as wide as their widest cell. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [headings, ...rows].map((row) => row.map(printable));
  const widths = headings.map((_, c) => Math.max(...cells.map((row) => (row[c] ?? "").length)));
  return cells
    .map((row) =>
      row
        .map((cell, c) => (c === row.length - 1 ? cell : cell.padEnd(widths[c] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n")
    .concat("\n");
}

export const document = (value: JsonValue): string => `${JSON.stringify(value, null, 2)}\n`;

/** Shows how far long work has come: a line that is written over on a terminal, nothing elsewhere. */
export function progress(io: Io, what: string): { at: (done: number, of?: number) => void; end: () => void } {
  let shown = 0;
  return {
    at(done, of) {
      const now = performance.now();
      if (!io.isTerminal || now - shown < 100) return;
      shown = now;
      const share =
        of === undefined || of === 0 ? "" : ` of ${of.toLocaleString("en")} (${Math.floor((100 * done) / of)} %)`;
      io.err(`\r\u001B[K${what}: ${done.toLocaleString("en")}${share}`);
    },
    end() {
      if (io.isTerminal && shown > 0) io.err("\r\u001B[K");
    },
  };
}
