/** The heads of all projects as a Merkle tree, so that a seal proves how many entries each project has (`docs/formats/seals.md`). */
import { leafHash } from "../merkle/hash.ts";
import { HashStore, inclusionProof } from "../merkle/proofs.ts";
import type { Digest } from "../std/brand.ts";
import { utf8 } from "../std/bytes.ts";

export interface Head {
  readonly count: number;
  /** Leaf hash of the project's last entry. */
  readonly last: Digest;
}

export type Heads = ReadonlyMap<Digest, Head>;

export const headLeaf = (project: string, count: number, last: string): Uint8Array =>
  utf8(`datapilot-head/v1\n${project}\n${count}\n${last}\n`);

function headsTree(heads: Heads): { projects: Digest[]; tree: HashStore } {
  const sorted = [...heads].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const tree = new HashStore();
  for (const [project, head] of sorted) tree.append(leafHash(headLeaf(project, head.count, head.last)));
  return { projects: sorted.map(([project]) => project), tree };
}

/** Root over one leaf per project, sorted by project. */
export const headsRoot = (heads: Heads): Uint8Array => headsTree(heads).tree.root();

export interface HeadProof extends Head {
  readonly project: Digest;
  /** Place of the project among all, and the inclusion proof from there. */
  readonly index: number;
  readonly hashes: readonly Uint8Array[];
}

/** Proves a project's head; undefined for a project that has none. */
export function headProof(heads: Heads, project: Digest): HeadProof | undefined {
  const head = heads.get(project);
  if (head === undefined) return undefined;
  const { projects, tree } = headsTree(heads);
  const index = projects.indexOf(project);
  return { ...head, hashes: inclusionProof(index, projects.length, tree.read), index, project };
}
