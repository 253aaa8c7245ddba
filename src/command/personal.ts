/**
 * Personal values, held apart from records (`docs/formats/records.md`): a record holds `personal:sha256:<hex>`, the preimage
 * `{"salt":…,"value":…}` lies in the personal bucket, from where it can be erased.
 *
 * A preimage is stored before the record that names it: what a record names was there. What a refused request stored stays
 * unnamed, and is removed by the caller of `put` when it knows.
 */
import { createHash } from "node:crypto";
import { canonicalBytes, parseCanonical } from "../record/canonical.ts";
import { isObject } from "../record/json.ts";
import { type Digest, parseDigest } from "../std/brand.ts";
import { formatBase64Url } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import type { Random } from "../std/ports.ts";
import { personalKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";

const SALT_BYTES = 16;
const MAX_PREIMAGE_BYTES = 64 * 1_024;
const PREFIX = "personal:sha256:";

export interface PersonalStore {
  /** Stores a value under a fresh salt; the reference that a record may hold. */
  put(value: string, signal?: AbortSignal): Promise<string>;
  /** The value; undefined when it was erased, is not here, or is not what the reference says. */
  get(reference: string, signal?: AbortSignal): Promise<string | undefined>;
  /** The value with its salt, as evidence shows it. */
  preimage(reference: string, signal?: AbortSignal): Promise<Preimage | undefined>;
  remove(reference: string, signal?: AbortSignal): Promise<void>;
}

export interface Preimage {
  readonly salt: string;
  readonly value: string;
}

/** The digest in a reference; undefined for a text that is none. */
export const parsePersonal = (reference: string): Digest | undefined =>
  reference.startsWith(PREFIX) ? parseDigest(reference.slice(PREFIX.length)) : undefined;

const sha256 = (bytes: Uint8Array): Digest => createHash("sha256").update(bytes).digest("hex") as Digest;

export function createPersonalStore(store: ObjectStore, random: Random): PersonalStore {
  const preimage: PersonalStore["preimage"] = async (reference, signal) => {
    const digest = parsePersonal(reference);
    if (digest === undefined) return undefined;
    const found = await store.get("personal", personalKey(digest), { signal });
    if (found === null || sha256(found.body) !== digest) return undefined;
    const parsed = parseCanonical(found.body, { maxBytes: MAX_PREIMAGE_BYTES });
    if (!isObject(parsed)) return undefined;
    const { salt, value } = parsed;
    return typeof salt === "string" && typeof value === "string" ? { salt, value } : undefined;
  };
  return {
    async put(value, signal) {
      const preimage = canonicalBytes({ salt: formatBase64Url(random.bytes(SALT_BYTES)), value });
      if (preimage.length > MAX_PREIMAGE_BYTES) {
        throw new Fault("LIMIT_EXCEEDED", "a personal value is longer than 64 KiB: shorten it");
      }
      const digest = sha256(preimage);
      await store.replace("personal", personalKey(digest), preimage, { signal });
      return `${PREFIX}${digest}`;
    },
    get: async (reference, signal) => (await preimage(reference, signal))?.value,
    preimage,
    async remove(reference, signal) {
      const digest = parsePersonal(reference);
      if (digest !== undefined) await store.remove("personal", personalKey(digest), { signal });
    },
  };
}
