/** What reports say of the checkpoint that a verdict rests on. */
import { formatHex } from "../std/bytes.ts";
import type { Witnessed } from "./checkpoint.ts";

export interface CheckpointReport {
  readonly origin: string;
  readonly quorum: boolean;
  readonly root: string;
  readonly size: number;
  readonly split_view: "excluded" | "not-excluded";
}

export function describeCheckpoint({ checkpoint, quorum }: Witnessed): CheckpointReport {
  const { origin, root, size } = checkpoint;
  const isSeen = quorum === true;
  return { origin, quorum: isSeen, root: formatHex(root), size, split_view: isSeen ? "excluded" : "not-excluded" };
}

export const splitViewNote = (tree: Witnessed | undefined): string[] =>
  tree?.quorum === null
    ? [
        "The policy asks for no witnesses: a split view (another history shown to others) is not excluded beyond the notes that were kept.",
      ]
    : [];
