/** Graphs as logs: entries of a made-up kind with links and nothing else, for walks over many of them. */
import type { AppliedCommit } from "../../src/index/index.ts";
import { Frontier } from "../../src/merkle/frontier.ts";
import { leafHash } from "../../src/merkle/hash.ts";
import type { ValidItem } from "../../src/record/chain.ts";
import { entryBytes } from "../../src/record/entry.ts";
import { type Digest, digestOf, idOf, type LogIndex, type RecordId, ZERO_DIGEST } from "../../src/std/brand.ts";
import { formatHex } from "../../src/std/bytes.ts";

export interface GraphNode {
  /** Lower numbers. */
  readonly targets: readonly number[];
  /** Projects count from 0 in the order of their first nodes. */
  readonly project: number;
}

export const nodeId = (i: number): RecordId =>
  idOf(
    ((i * 2_654_435_761) % 2 ** 32)
      .toString(16)
      .padStart(8, "0")
      .repeat(6)
      .concat(i.toString(16).padStart(16, "0")) as Digest,
  );

/** Commits of `perCommit` nodes; the node i is entry i. */
export function* graphCommits(nodes: Iterable<GraphNode>, perCommit: number): Iterable<AppliedCommit> {
  const frontier = Frontier.empty();
  const projects: { readonly digest: Digest; seq: number }[] = [];
  let items: ValidItem[] = [];
  let n = 0;
  let i = 0;
  const commit = (): AppliedCommit => {
    const header = {
      first: i - items.length,
      root: formatHex(frontier.root()),
      time: "2026-01-01T00:00:00.000Z",
    } as AppliedCommit["header"];
    const made: AppliedCommit = { hash: ZERO_DIGEST, header, items, n: n++ };
    items = [];
    return made;
  };
  for (const { targets, project } of nodes) {
    const record = nodeId(i);
    const owner = (projects[project] ??= { digest: digestOf(record), seq: 0 });
    const entry = { prev: ZERO_DIGEST, project: owner.digest, record, seq: owner.seq++ };
    const bytes = entryBytes(entry);
    const leaf = leafHash(bytes);
    frontier.append(leaf);
    const links = targets.map((target) => ({ rel: target % 2 === 0 ? "even" : "odd", to: nodeId(target) }));
    items.push({
      entry,
      entryBytes: bytes,
      index: i as LogIndex,
      leaf,
      record: {
        actor: { method: "init" },
        body: {},
        kind: "node",
        links,
        request_id: "graph",
        salt: "",
        time: "",
        v: 1,
      },
      recordBytes: null,
    });
    i++;
    if (items.length === perCommit) yield commit();
  }
  if (items.length > 0) yield commit();
}
