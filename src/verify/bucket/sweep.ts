/**
 * Goes through what lies under the keys of a bucket with versions. Under each key there is one content: identical versions of it,
 * which a repeated write leaves, are noted; other contents and delete markers are findings, whether or not they are on top.
 */
import type { ObjectInfo, ObjectStore, ObjectVersion } from "../../store/object-store.ts";
import { hasVersions } from "../../store/right-version.ts";
import type { Stage } from "../report.ts";

/** Stages in which it is told what lies under keys. */
type Place = "artifacts" | "checkpoints" | "commits" | "records" | "tiles";

export interface Swept {
  readonly store: Pick<ObjectStore, "head"> &
    Partial<Pick<ObjectStore, "versions">> & {
      list(bucket: "ledger", prefix: string): AsyncIterable<Pick<ObjectInfo, "key">>;
    };
  readonly stages: Readonly<Record<Place, Pick<Stage, "fail">>>;
}

/** Of keys with redundant versions, this many are named. */
const SHOWN = 3;

const STAGES: Readonly<Record<string, Place>> = {
  artifacts: "artifacts",
  checkpoints: "checkpoints",
  commits: "commits",
  records: "records",
  tile: "tiles",
};

export class Sweep {
  /** Keys that were looked at closely: a second listing does not tell of them again. */
  readonly #told = new Set<string>();
  readonly #redundant: string[] = [];

  /** Keys below a prefix, ascending; a key that only a marker is left of is told, and not given. */
  async *keys({ stages, store }: Swept, prefix: string): AsyncGenerator<string> {
    if (!hasVersions(store)) {
      for await (const { key } of store.list("ledger", prefix)) yield key;
      return;
    }
    let group: ObjectVersion[] = [];
    const end = async (): Promise<string | undefined> => {
      const [first] = group;
      if (first === undefined) return undefined;
      if (group.length > 1 || first.isMarker) await this.#look(store, group, stages);
      return group.some((v) => !v.isMarker) ? first.key : undefined;
    };
    for await (const version of store.versions("ledger", prefix)) {
      if (group[0] !== undefined && group[0].key !== version.key) {
        const key = await end();
        if (key !== undefined) yield key;
        group = [];
      }
      group.push(version);
    }
    const last = await end();
    if (last !== undefined) yield last;
  }

  async #look(store: Swept["store"], group: readonly ObjectVersion[], stages: Swept["stages"]): Promise<void> {
    const key = group[0]?.key ?? "";
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const stage = stages[STAGES[key.split("/", 1)[0] ?? ""] ?? "records"];
    const data = group.filter((v) => !v.isMarker);
    if (data.length < group.length)
      stage.fail(
        "object.hidden",
        key,
        group[0]?.isMarker === true ? "a delete marker lies over it" : "a delete marker lies among its versions",
      );
    if (data.length < 2) return;
    const contents = await contentsOf(store, key, data);
    if (contents > 1) stage.fail("object.shadowed", key, `has ${data.length} versions with ${contents} contents`);
    else this.#redundant.push(key);
  }

  note(notes: string[]): void {
    const count = this.#redundant.length;
    if (count === 0) return;
    const more = count > SHOWN ? ` and ${count - SHOWN} more` : "";
    notes.push(
      `object.redundant-version: the same bytes more than once under ${this.#redundant.slice(0, SHOWN).join(", ")}${more}`,
    );
  }
}

/** Number of different contents among versions: by the digests that the store keeps, else by its tags. */
async function contentsOf(store: Swept["store"], key: string, versions: readonly ObjectVersion[]): Promise<number> {
  const tags = new Set(versions.map((v) => `${v.sizeBytes} ${v.etag}`));
  if (tags.size === 1) return 1;
  const digests = new Set<string>();
  for (const { versionId } of versions) {
    const info = await store.head("ledger", key, { versionId });
    if (info?.sha256 === undefined) return tags.size;
    digests.add(info.sha256);
  }
  return digests.size;
}
