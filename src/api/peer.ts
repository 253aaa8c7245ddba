/**
 * What is asked of every call, however it came in: the network address of who asks, and single headers.
 *
 * A replica says whose call it hands on, and signs that with the commit key, as the lease is signed: what a client writes into the
 * header is nobody's word. The signature is over the address, the credential that it came with, and the time, so that it fits no
 * other caller's call, and none of another hour.
 */
import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import { sha256Hex } from "../merkle/hash.ts";
import type { VerifierKey } from "../note/keys.ts";
import type { NoteSigner, SignatureVerifier } from "../note/signatures.ts";
import { utf8 } from "../std/bytes.ts";

/** Set by both listeners at the start of a call. */
export const PEER = createContextKey<string | undefined>(undefined, { description: "network address of the client" });

/** A call that tells its address and single headers without making its Headers and its context values for them. */
export interface PlainCall {
  readonly address: string | undefined;
  /** As `Headers.get`. */
  header(name: string): string | null;
}

export const PLAIN_CALL: unique symbol = Symbol("plain call");

const plainCallOf = (context: HandlerContext): PlainCall | undefined =>
  (context as { readonly [PLAIN_CALL]?: PlainCall })[PLAIN_CALL];

export function peerOf(context: HandlerContext): string | undefined {
  const plain = plainCallOf(context);
  return plain === undefined ? context.values.get(PEER) : plain.address;
}

export function headerOf(context: HandlerContext, name: string): string | null {
  const plain = plainCallOf(context);
  return plain === undefined ? context.requestHeader.get(name) : plain.header(name);
}

/** Set by a replica: `<address> <seconds since the epoch> <key id> <base64 of the signature>`. */
export const FORWARDED_FOR = "datapilot-forwarded-for";

const FORM = /^([0-9A-Za-z.:%[\]]{1,64}) ([1-9][0-9]{0,11}) ([0-9]{1,10}) ([A-Za-z0-9+/]{86}==)$/;
/** Clocks of servers may differ by this much. */
const MAX_AGE_S = 300;

export interface ForwardedBy {
  readonly origin: string;
  /** Keys whose word is taken now. */
  readonly keys: readonly VerifierKey[];
  readonly verifier: SignatureVerifier;
  readonly nowMs: number;
}

const textOf = (origin: string, address: string, seconds: string | number, credential: string | null): Uint8Array =>
  utf8(`${origin}/forwarded\n${address}\n${seconds}\n${sha256Hex(utf8(credential ?? ""))}\n`);

export function formatForwardedFor(
  address: string,
  credential: string | null,
  { key, nowMs, origin }: { readonly key: NoteSigner; readonly nowMs: number; readonly origin: string },
): string {
  const seconds = Math.floor(nowMs / 1_000);
  const signature = Buffer.from(key.sign(textOf(origin, address, seconds, credential))).toString("base64");
  return `${address} ${seconds} ${key.id} ${signature}`;
}

/** The address; undefined for what no server of this ledger signed, just now and for this credential. An attacker may control all. */
export function parseForwardedFor(
  header: string | null,
  credential: string | null,
  { keys, nowMs, origin, verifier }: ForwardedBy,
): string | undefined {
  const [, address, seconds, id, signature] = FORM.exec(header ?? "") ?? [];
  if (address === undefined || seconds === undefined || signature === undefined) return undefined;
  if (Math.abs(nowMs / 1_000 - Number(seconds)) > MAX_AGE_S) return undefined;
  const text = textOf(origin, address, seconds, credential);
  const bytes = Buffer.from(signature, "base64");
  const isSigned = keys.some((k) => String(k.id) === id && verifier.ed25519(k.publicKey, text, bytes));
  return isSigned ? address : undefined;
}
