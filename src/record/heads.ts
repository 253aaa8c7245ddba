/** The heads of all projects as a Merkle tree, so that a seal proves how many entries each project has (`docs/formats/seal.md`). */
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
  const projects = [...heads.keys()].toSorted();
  const tree = new HashStore();
  for (const project of projects) {
    const head = heads.get(project);
    if (head !== undefined) tree.append(leafHash(headLeaf(project, head.count, head.last)));
  }
  return { projects, tree };
}

export const headsRoot = (heads: Heads): Uint8Array => headsTree(heads).tree.root();

export interface HeadProof extends Head {
  readonly project: Digest;
  readonly index: number;
  readonly hashes: readonly Uint8Array[];
}

/** Proofs of the heads of some projects, in their order. */
export function headProofs(heads: Heads, wanted: readonly Digest[]): HeadProof[] {
  const { projects, tree } = headsTree(heads);
  return wanted.flatMap((project) => {
    const head = heads.get(project);
    const index = projects.indexOf(project);
    return head === undefined
      ? []
      : [{ ...head, hashes: inclusionProof(index, projects.length, tree.read), index, project }];
  });
}
