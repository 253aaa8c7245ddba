/**
 * Time and chance, injected: code outside adapters never asks the machine for either, so that a simulation can give both.
 */
export interface Clock {
  /** Milliseconds since the Unix epoch, of the wall clock. */
  now(): number;
  /** Milliseconds of a clock that never goes back. */
  monotonic(): number;
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface Random {
  /** Cryptographically strong bytes. */
  bytes(length: number): Uint8Array;
}

/** `YYYY-MM-DDTHH:MM:SS.mmmZ`, the only form of time in the ledger. */
export function formatTime(ms: number): string {
  if (ms !== formatted.ms) formatted = { ms, text: new Date(ms).toISOString() };
  return formatted.text;
}

/** The time that was formatted last: what is admitted in one millisecond has one. */
let formatted = { ms: Number.NaN, text: "" };

const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

/** The minute of the time that was parsed last: neighbours in a log are often of one. */
let minute = { startMs: 0, text: "never" };
const SECONDS = /^[0-5][0-9]\.[0-9]{3}Z$/;
const MINUTE_LENGTH = "YYYY-MM-DDTHH:MM:".length;

/** Milliseconds of a time in the ledger's form; undefined for another form or a date that does not exist. */
export function parseTime(text: string): number | undefined {
  if (text.startsWith(minute.text)) {
    const seconds = text.slice(MINUTE_LENGTH);
    return SECONDS.test(seconds) ? minute.startMs + Math.round(1_000 * Number(seconds.slice(0, -1))) : undefined;
  }
  const ms = parseWhole(text);
  if (ms !== undefined) minute = { startMs: 60_000 * Math.floor(ms / 60_000), text: text.slice(0, MINUTE_LENGTH) };
  return ms;
}

function parseWhole(text: string): number | undefined {
  if (!TIME.test(text)) return undefined;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) return undefined;
  // Parsing takes the 31st of a shorter month, and an hour 24, for the next day.
  const mayRoll = text.slice(8, 10) > "28" || text.slice(11, 13) > "23";
  return mayRoll && formatTime(ms) !== text ? undefined : ms;
}
