/** The network address of a caller, however the call came in. */
import { createContextKey, type HandlerContext } from "@connectrpc/connect";

/** Set by both listeners at the start of a call. */
export const PEER = createContextKey<string | undefined>(undefined, { description: "network address of the client" });

export const peerOf = (context: HandlerContext): string | undefined => context.values.get(PEER);
