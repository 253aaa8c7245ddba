/** What replication asks of both sides. */
import type { RecordId } from "../std/brand.ts";
import type { Clock } from "../std/ports.ts";
import type {
  Bucket,
  ListOptions,
  ObjectInfo,
  ObjectStore,
  ReceivingStore,
  StoredObject,
} from "../store/object-store.ts";
import { persist } from "../store/place.ts";
import { type ContentReader, describeOver, type Found, readRight } from "../store/right-version.ts";
import type { Trust } from "../verify/checkpoint.ts";

/** Read, never written. Versions are known where the store keeps them. */
export interface Source
  extends Pick<ObjectStore, "get" | "head" | "open" | "lock">,
    Partial<Pick<ObjectStore, "versions">> {
  list(bucket: Bucket, prefix: string, options?: Pick<ListOptions, "after">): AsyncIterable<Pick<ObjectInfo, "key">>;
}

export type Target = ReceivingStore;

export interface ReplicaOptions {
  readonly trust: Trust;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Objects in flight at each side. */
  readonly concurrency: number;
  /** What the genesis must be. */
  readonly genesis?: RecordId | undefined;
  /** Whether preimages of personal values are copied too. */
  readonly personal: boolean;
  /** Passes the copy's watermark over: everything is compared again. */
  readonly fromStart: boolean;
  /** Records between two watermarks of a long copy. */
  readonly stride?: number;
  readonly progress?: (done: number, of: number | undefined, what: "read" | "copied") => void;
}

export interface Sides {
  readonly source: Source;
  readonly target: Target;
  readonly options: ReplicaOptions;
  /** What is worth telling, and stops nothing. */
  readonly notes: Set<string>;
}

/** How long a side that does not answer is asked again. A copy goes on where it stopped, so it need not wait for ever. */
const PATIENCE_MS = 30_000;

export const patience = ({ clock, signal }: ReplicaOptions) => ({ clock, patienceMs: PATIENCE_MS, signal });

/** The version of a ledger object that has the right bytes; what lies over it is told. */
export async function readContent(
  { notes, options }: Sides,
  side: ContentReader,
  key: string,
  isRight: (body: Uint8Array) => boolean,
  newest?: StoredObject | null,
): Promise<Found | null> {
  const { signal } = options;
  const found = await ask(options, () =>
    readRight(side, key, isRight, { signal, ...(newest === undefined ? {} : { newest }) }),
  );
  if (found?.over !== undefined) notes.add(`${found.over}: ${key}: ${describeOver(found.over)}, which was taken`);
  return found;
}

/** Asks a side until it answers. */
export const ask = <T>(options: ReplicaOptions, work: () => Promise<T>): Promise<T> =>
  persist<T>(patience(options), work);
