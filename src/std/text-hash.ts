/** 32 bits of a text, from a seed: FNV-1a over its UTF-16 code units. For tables in memory, where equal hashes cost time only. */
export function textHash(text: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}
