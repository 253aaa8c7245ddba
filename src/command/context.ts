/**
 * What a use case is given: the parts of the server that it may use, and who asks.
 *
 * How to write a command (`command/create-dataset.ts` is the shortest, `command/create-dataset-version.ts` a full one):
 *
 *   export const createThing = (deps: Deps, caller: Caller, request: CreateThingRequest, signal?: AbortSignal) =>
 *     write(deps, caller, specOf(request, "thing.write"), (a) => {
 *       const body = bodyOf("thing", request.thing);        // ProtoJSON, sets sorted, checked: REQUEST_INVALID
 *       const parent = resolve(a, request.parent, ["parent"], "field");   // NOT_FOUND, CROSS_PROJECT_DENIED
 *       …domain rules: throw new Fault(reason, what to do next)…
 *       return created(draft(a, "thing", body, [{ rel: "parent", to: parent }]));
 *     }, signal);
 *
 * - The function given to `write` runs inside admission: synchronous, pure over `a.reader`, `a.nowMs` its only clock. It may
 *   run several times, also against the past, to compare a repeat with what was recorded. Slow work (hashing, personal
 *   values, secrets) is done before and closed over.
 * - `write` authorises, answers repeats, checks limits, records denials, and makes resources and receipts.
 * - Identity N: `named(a, draft)`; identity C: `byContent(a, draft)`; both answer the existing record.
 * - Policy: `decide(a, …)` of `decide.ts` gives the drafts of a decision and what follows from its outcome.
 * - The first draft of a group lies in the project of the request: repeats are found by it.
 * - A refusal by policy is an answer (`decision`, no `resource`), not a fault, so that it is committed.
 * - Answers of another shape than WriteResponse: `perform` gives the group, `Written.resource(position)` its resources.
 */
import type { Log } from "../log/log.ts";
import type { Logger } from "../log/ports.ts";
import type { Clock, Random } from "../std/ports.ts";
import type { ObjectStore } from "../store/object-store.ts";
import type { Denials } from "./denials.ts";
import type { PersonalStore } from "./personal.ts";

export type { Caller } from "../identity/caller.ts";

export interface SignedUrl {
  readonly url: string;
  readonly headers: readonly { readonly name: string; readonly value: string }[];
  /** Milliseconds since the epoch. */
  readonly expiresMs: number;
}

export interface Blob {
  /** Key of the ledger bucket. */
  readonly key: string;
  /** Hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** Addresses at which clients put and get the bytes of artifacts; they never pass through a command. */
export interface BlobUrls {
  /** For bytes of exactly this key, digest (hex) and length. */
  put(blob: Blob): Promise<SignedUrl>;
  /** Throws the Fault ERASED when the store holds no such bytes. */
  get(blob: Blob): Promise<SignedUrl>;
}

export interface Deps {
  readonly log: Log;
  readonly store: ObjectStore;
  readonly personal: PersonalStore;
  readonly uploads: BlobUrls;
  /** Bytes of a project that may be declared and not completed; `UPLOAD_QUOTA_BYTES` when absent. */
  readonly uploadQuotaBytes?: number;
  readonly denials: Denials;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}
