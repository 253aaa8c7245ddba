/** What is asked of every call: its network address, and single headers, however the call came in. */
import { createContextKey, type HandlerContext } from "@connectrpc/connect";

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
