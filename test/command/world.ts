/**
 * A whole server below its edge, in a temporary folder: file store, LMDB index, log, commands. Time stands unless a test moves it.
 */

import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { PrincipalSchema, PrincipalType, ProjectSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import * as access from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import * as artifact from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { bootstrap } from "../../src/command/bootstrap.ts";
import { completeArtifact } from "../../src/command/complete-artifact.ts";
import type { BlobUrls, Deps } from "../../src/command/context.ts";
import { createArtifact } from "../../src/command/create-artifact.ts";
import { createPrincipal } from "../../src/command/create-principal.ts";
import { createProject } from "../../src/command/create-project.ts";
import { createRoleBinding } from "../../src/command/create-role-binding.ts";
import { createToken } from "../../src/command/create-token.ts";
import { Denials } from "../../src/command/denials.ts";
import { createPersonalStore } from "../../src/command/personal.ts";
import { authenticate } from "../../src/identity/authenticate.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { initLedger } from "../../src/log/init.ts";
import { ephemeralKeys, type NativeLedgerKeys } from "../../src/log/keys/key-files.ts";
import { openLog } from "../../src/log/log.ts";
import type { Draft } from "../../src/log/submission.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { Fault } from "../../src/std/faults.ts";
import type { Clock } from "../../src/std/ports.ts";
import { createFileStore, type FileStore } from "../../src/store/fs/file-store.ts";
import { createUploadSigner, type UploadSigner } from "../../src/store/fs/upload.ts";
import { MemoryLastSigned, quietLogger, seededRandom } from "../log/world.ts";

export const ORIGIN = "datapilot.test/0a1b2c3d";

/** Wall time moves by hand; sleeps longer than a second end only when they are aborted. */
export class StandingClock implements Clock {
  ms = Date.parse("2026-11-23T08:00:00.000Z");
  now(): number {
    return this.ms;
  }
  monotonic(): number {
    return performance.now();
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = ms > 1_000 ? undefined : setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(signal.reason as Error);
      });
    });
  }
}

export interface World extends AsyncDisposable {
  readonly deps: Deps;
  readonly store: FileStore;
  readonly signer: UploadSigner;
  readonly clock: StandingClock;
  /** Secret of the first administrator. */
  readonly secret: string;
  readonly secrets: ReadonlyMap<string, string>;
  /** Authenticates a secret as the edge does. */
  caller(secret: string, rpc?: string): Caller;
  readonly admin: Caller;
  /** A service account with these roles in a project. */
  member(project: string, ...roles: string[]): Promise<Caller>;
  /** One more role for somebody. */
  bind(project: string, role: string, member: Caller): Promise<void>;
  /** Uploads text and records the artifact; answers its digest, its length and its record. */
  artifact(
    caller: Caller,
    project: string,
    text: string,
  ): Promise<{ digest: string; sizeBytes: number; record: string }>;
}

export interface WorldOptions {
  readonly policies?: readonly JsonObject[];
  readonly approvers?: readonly { name: string; displayName: string }[];
  /** Keys that a test knows; fresh ones when absent. */
  readonly keys?: NativeLedgerKeys;
}

export async function createWorld({
  approvers = [],
  keys = ephemeralKeys(ORIGIN),
  policies = [],
}: WorldOptions = {}): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "datapilot-command-"));
  const clock = new StandingClock();
  const random = seededRandom(7);
  const lastSigned = new MemoryLastSigned();
  const store = await createFileStore({
    root: join(folder, "store"),
    allowAdvisoryLock: true,
    minimumFreeBytes: 0,
    clock,
    random,
  });
  await initLedger({ store, keys, lastSigned, origin: ORIGIN, retentionDays: 365, clock, random });
  const index = await openLmdbIndex({ path: join(folder, "index") });
  const log = await openLog({ store, index, keys, lastSigned, clock, random, logger: quietLogger });
  const personal = createPersonalStore(store, random);
  const denials = new Denials({ log, personal, clock, random, logger: quietLogger });
  const signer = createUploadSigner(random.bytes(32));
  const uploads = blobUrls(signer, clock);
  const deps: Deps = { log, store, personal, uploads, denials, clock, random, logger: quietLogger };
  const { secrets } = await bootstrap(deps, {
    admin: { name: "root", displayName: "Root of All" },
    approvers,
    policies,
  });
  const secret = assertDefined(secrets.get("root"), "the administrator has a secret");
  const caller = (text: string, rpc = "test.Service/Method"): Caller => {
    using reader = log.index.reader();
    return authenticate(reader, text, clock.now(), { rpc, address: "192.0.2.7", agent: "test/1" });
  };
  const admin = caller(secret);
  let members = 0;
  const world: World = {
    deps,
    store,
    signer,
    clock,
    secret,
    secrets,
    caller,
    admin,
    async member(project, ...roles) {
      const name = `member-${++members}`;
      const principal = create(PrincipalSchema, {
        type: PrincipalType.SERVICE,
        name,
        displayName: `Member ${members}`,
      });
      await createPrincipal(deps, admin, create(access.CreatePrincipalRequestSchema, { principal }));
      for (const role of roles) {
        const request = create(access.CreateRoleBindingRequestSchema, { project, role, principal: name });
        await createRoleBinding(deps, admin, request);
      }
      const made = await createToken(deps, admin, create(access.CreateTokenRequestSchema, { principal: name }));
      return caller(made.secret);
    },
    async bind(project, role, { principal }) {
      await createRoleBinding(deps, admin, create(access.CreateRoleBindingRequestSchema, { project, role, principal }));
    },
    async artifact(who, project, text) {
      const bytes = new TextEncoder().encode(text);
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      const body = { digest: `sha256:${sha256}`, sizeBytes: bytes.length };
      const declared = await createArtifact(
        deps,
        who,
        create(artifact.CreateArtifactRequestSchema, { project, artifact: body }),
      );
      if (declared.uploadUrl !== "") await put(world, declared.uploadUrl, bytes);
      const done = await completeArtifact(
        deps,
        who,
        create(artifact.CompleteArtifactRequestSchema, { project, artifact: body }),
      );
      return { ...body, record: assertDefined(done.resource, "an artifact").record };
    },
    async [Symbol.asyncDispose]() {
      await denials[Symbol.asyncDispose]();
      await log[Symbol.asyncDispose]();
      await index[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await rm(folder, { force: true, recursive: true });
    },
  };
  return world;
}

/** Addresses as the server gives them. */
function blobUrls(signer: UploadSigner, clock: Clock): BlobUrls {
  const url = (method: "PUT" | "GET", blob: { key: string; sha256: string; sizeBytes: number }) => {
    const expiresMs = clock.now() + 600_000;
    const headers = method === "PUT" ? [{ name: "content-length", value: String(blob.sizeBytes) }] : [];
    const token = signer.sign({ method, ...blob, expiresAtMs: expiresMs });
    return { url: `http://localhost:8420/blob/${token}`, headers, expiresMs };
  };
  return { get: async (blob) => url("GET", blob), put: async (blob) => url("PUT", blob) };
}

/** PUTs bytes to an address as the HTTP edge does. */
export async function put({ signer, store, clock }: World, url: string, bytes: Uint8Array): Promise<void> {
  const claims = assertDefined(
    signer.verify(url.slice(url.lastIndexOf("/") + 1), "PUT", clock.now()),
    "a signed address",
  );
  const stream = (async function* () {
    await Promise.resolve();
    yield bytes;
  })();
  await store.receive(claims.key, claims.sha256 ?? "", claims.sizeBytes ?? 0, stream, {
    retainUntil: clock.now() + 1e9,
  });
}

export const newProject = async (
  { deps, admin }: World,
  name: string,
  more: MessageInitShape<typeof access.CreateProjectRequestSchema> = {},
) =>
  createProject(
    deps,
    admin,
    create(access.CreateProjectRequestSchema, { project: create(ProjectSchema, { name }), ...more }),
  );

/** Moves a status as the transition of an operator would, past all rules. */
export async function moveStatus({ deps }: World, subject: RecordId, from: string, to: string): Promise<void> {
  using reader = deps.log.index.reader();
  const project = assertDefined(reader.record(subject), "a subject").record.project ?? subject;
  const draft: Draft = {
    kind: "transition",
    project,
    actor: { method: "system" },
    body: { from, to, reason: "a test moves it" },
    links: [{ rel: "subject", to: subject }],
    requestId: `move-${subject.slice(7, 23)}-${to}`,
  };
  await deps.log.submit({ admit: () => ({ drafts: [draft], value: undefined }), project });
}

/** Expects a fault with this reason and gives it. */
export async function refused(work: () => unknown, reason: string): Promise<Fault> {
  let outcome: unknown;
  try {
    outcome = await work();
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    expect(error.reason, error.message).toBe(reason);
    return error;
  }
  return expect.fail(`${reason} was expected, but the answer was ${JSON.stringify(outcome, bigints).slice(0, 300)}`);
}

const bigints = (_: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);

/** Bodies of the `access` records so far, oldest first. */
export function accesses({ deps }: World): JsonObject[] {
  using reader = deps.log.index.reader();
  return reader
    .list({ kinds: ["access"], limit: 1_000 })
    .map(
      (i) => assertDefined(reader.record(assertDefined(reader.entry(i), "an entry").record), "a record").record.body,
    );
}
