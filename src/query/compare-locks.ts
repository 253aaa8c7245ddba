/**
 * How two locks of environments differ: images, lock files, runtimes, installed packages. Of packages the ledger knows the digest of
 * their list, and the bill of materials by its artifact; what these list is in their bytes.
 */
import { create } from "@bufbuild/protobuf";
import type { CompareRequest } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { type CompareLocksResponse, CompareLocksResponseSchema } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { Caller } from "../identity/caller.ts";
import type { IndexReader } from "../index/index.ts";
import { canonicalize } from "../record/canonical.ts";
import type { RecordId } from "../std/brand.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { differences } from "./differences.ts";
import { findVisible } from "./get.ts";
import { objects, textOf } from "./json-parts.ts";
import type { Facts } from "./run-facts.ts";

const LOCKS = { kinds: ["environment.lock"], collection: "environments" } as const;
/** Lists of a lock: what names a member, and what pins it. */
const LISTS = [
  ["images", "name", "digest"],
  ["lockfiles", "path", "digest"],
  ["runtimes", "name", "version"],
] as const;

export function compareLocks(reads: Reads, caller: Caller, request: CompareRequest): CompareLocksResponse {
  const { project, left, right } = request;
  using reader = readerAsOf(reads, request.asOf);
  const factsOf = (name: string): Facts =>
    lockFacts(reader, findVisible(reads, reader, caller, { name, project }, LOCKS));
  return create(CompareLocksResponseSchema, {
    differences: differences(factsOf(left), factsOf(right)),
    treeSize: reader.size,
  });
}

function lockFacts(reader: IndexReader, id: RecordId): Facts {
  const record = reader.record(id)?.record;
  const body = record?.body ?? {};
  const facts = new Map<string, string>();
  for (const [list, name, pin] of LISTS)
    for (const member of objects(body[list]))
      facts.set(`${list}.${textOf(member[name])}`, canonicalize(member[pin] ?? ""));
  for (const name of ["hardware", "packages_digest"] as const) {
    const value = body[name];
    if (value !== undefined) facts.set(name, canonicalize(value));
  }
  for (const rel of ["packages", "sbom"]) {
    const to = record?.links.find((l) => l.rel === rel)?.to;
    if (to !== undefined) facts.set(rel, canonicalize(reader.record(to)?.record.body["digest"] ?? to));
  }
  return facts;
}
