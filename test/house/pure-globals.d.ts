/** The globals that Node and browsers share and that pure rooms may use; everything else does not compile there. */
declare global {
  class TextEncoder {
    encode(text?: string): Uint8Array;
    encodeInto(text: string, into: Uint8Array): { read: number; written: number };
  }
  class TextDecoder {
    constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
    decode(input?: Uint8Array): string;
  }
  function btoa(binary: string): string;
  function atob(base64: string): string;
  class AbortSignal {
    readonly aborted: boolean;
    readonly reason: unknown;
    throwIfAborted(): void;
  }
}

export {};
