/**
 * Enveloped messages of a stream (Connect, gRPC, gRPC-Web) in JSON, read strictly before Connect sees them: a stream may say no
 * more than a unary request may. Passes on exactly the bytes that it was given, message by message.
 */
import { Fault } from "../std/faults.ts";
import { parseStrictJson } from "./strict-json.ts";

/** One byte of flags and a length in four. */
const PREFIX = 5;
const COMPRESSED = 1;

export interface StreamLimits {
  readonly maxBytes: number;
  /** Of compressed messages; absent when the stream names no compression. */
  readonly decompress?: (bytes: Uint8Array, maxBytes: number) => Promise<Uint8Array>;
}

/** Throws the fault REQUEST_INVALID at the first message that is not strict. What is no envelope is left to the protocol. */
export async function* strictMessages(
  body: AsyncIterable<Uint8Array>,
  limits: StreamLimits,
): AsyncGenerator<Uint8Array> {
  let held: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of body) {
    held.push(piece);
    bytes += piece.length;
    while (bytes >= PREFIX) {
      const [head = new Uint8Array()] = (held = joined(held, PREFIX));
      const length = new DataView(head.buffer, head.byteOffset).getUint32(1);
      if (length > limits.maxBytes) {
        // Refused by the protocol, from the length alone.
        yield* held;
        yield* body;
        return;
      }
      if (bytes < PREFIX + length) break;
      const [whole = new Uint8Array()] = (held = joined(held, PREFIX + length));
      const message = whole.subarray(0, PREFIX + length);
      await check(message, limits);
      yield message;
      held = [whole.subarray(message.length), ...held.slice(1)].filter((p) => p.length > 0);
      bytes -= message.length;
    }
  }
  yield* held;
}

/** The pieces, the first one of at least `size` bytes, which all of them together have. */
function joined(pieces: Uint8Array[], size: number): Uint8Array[] {
  if ((pieces[0]?.length ?? 0) >= size) return pieces;
  return [new Uint8Array(Buffer.concat(pieces))];
}

async function check(envelope: Uint8Array, { decompress, maxBytes }: StreamLimits): Promise<void> {
  const [flags = 0] = envelope;
  let message = envelope.subarray(PREFIX);
  if (flags === COMPRESSED) {
    // Without a compression that was named, or with bytes that are none of it, the protocol refuses the stream.
    const plain = await decompress?.(message, maxBytes).catch(() => undefined);
    if (plain === undefined) return;
    message = plain;
  } else if (flags !== 0) return;
  try {
    parseStrictJson(message);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw new Fault(error.reason, error.message.replace("The body", "A message of the stream"), {
      fields: error.fields,
    });
  }
}
