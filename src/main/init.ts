/** `datapilot init`: a new ledger in a new home, with keys, baseline policies and one administrator, whose token is shown once. */

import { bootstrap, type Person } from "../command/bootstrap.ts";
import { createPersonalStore } from "../command/personal.ts";
import { initLedger } from "../log/init.ts";
import { generateKeyFiles } from "../log/keys/key-files.ts";
import { openLastSigned } from "../log/keys/last-signed-file.ts";
import type { Logger } from "../log/ports.ts";
import { baseline } from "../policy/baseline.ts";
import { parseName } from "../record/names.ts";
import type { RecordId } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { createHome, findOrigin, type Home, homeOf, rememberStore, systemClock, systemRandom } from "./home.ts";
import { assertProbes, openLedger, openStore, whileAnswered } from "./ledger.ts";
import type { S3Access } from "./s3.ts";
import { keepCheckpoint, type TrustFiles, trustOf, writeTrust } from "./trust.ts";

export interface InitRequest {
  readonly root: string;
  /** Name before the random part of the origin. */
  readonly origin: string;
  readonly retentionDays: number;
  readonly solo: boolean;
  readonly admin: Person;
  /** Further persons of the groups that the policies name, so that nobody approves what he asks for. */
  readonly approvers: readonly Person[];
  /** Wraps the keys; absent for keys that are readable by whoever may read their files. */
  readonly passphrase?: string;
  /** Whether a store that only notes locks is refused. */
  readonly requireLock?: boolean;
  readonly logger: Logger;
  /** Where the buckets are to be; in the home when absent. */
  readonly s3?: S3Access;
}

export interface InitAnswer extends TrustFiles {
  readonly origin: string;
  readonly genesis: RecordId;
  /** What the store makes of locks. */
  readonly lock: "advisory" | "compliance";
  /** Secrets by the name of the person. */
  readonly tokens: ReadonlyMap<string, string>;
}

const ORIGIN_NAME = /^[A-Za-z0-9][A-Za-z0-9.-]{0,199}$/;

/** A hundred years. */
const MAX_RETENTION_DAYS = 36_525;

/** Before anything is made: what is made cannot be made again in the same folder. */
function checkPeople(people: readonly Person[]): void {
  const names = new Set<string>();
  for (const { name } of people) {
    if (parseName(name) === undefined)
      throw new Fault(
        "REQUEST_INVALID",
        `${JSON.stringify(name)} is not a name for a principal: take small letters, digits and . _ -, and put the printed name behind it, as in --approver 'vera=Vera Lindqvist'.`,
      );
    if (names.has(name)) throw new Fault("REQUEST_INVALID", `${name} is named twice: each person has a name.`);
    names.add(name);
  }
}

export async function init(request: InitRequest): Promise<InitAnswer> {
  const { root } = request;
  if (!ORIGIN_NAME.test(request.origin))
    throw new Fault(
      "REQUEST_INVALID",
      `--origin takes a name of letters, digits, dots and hyphens, such as ledger.example.org, not ${JSON.stringify(request.origin)}.`,
    );
  const { retentionDays } = request;
  if (retentionDays < 1 || retentionDays > MAX_RETENTION_DAYS)
    throw new Fault(
      "REQUEST_INVALID",
      `--retention-days takes 1 to ${MAX_RETENTION_DAYS}, not ${retentionDays}: what is locked stays locked.`,
    );
  checkPeople([request.admin, ...request.approvers]);
  // What the buckets may refuse comes before anything is made here.
  if (request.s3 !== undefined) await prepareBuckets(homeOf(root), request.s3, retentionDays);
  const home = await createHome(root);
  try {
    return await make(request, home);
  } catch (error) {
    if (!(error instanceof Fault) || error.reason !== "STORE_UNAVAILABLE" || request.s3 === undefined) throw error;
    throw new Fault(
      "STORE_UNAVAILABLE",
      `${error.message}\nThe ledger was begun and is not whole; nobody can have used it. Remove ${root} and run init again; if the store then holds a ledger already, choose another name at the end of --store.`,
      { cause: error },
    );
  }
}

async function make(request: InitRequest, home: Home): Promise<InitAnswer> {
  const { logger, retentionDays, solo } = request;
  if (request.s3 !== undefined) await rememberStore(home, request.s3.address.text);
  const origin = `${request.origin}/${formatHex(systemRandom.bytes(4))}`;
  const keys = await generateKeyFiles(home.keys, origin, request.passphrase);
  const genesis = await (async () => {
    await using lastSigned = await openLastSigned(home.lastSigned);
    await using buckets = await openStore(home, request);
    if (request.s3 === undefined) assertProbes((await buckets.probe()).filter((p) => p.name !== "genesis"));
    const { genesis } = await whileAnswered(buckets.s3?.store, logger, (signal) =>
      initLedger({
        clock: systemClock,
        keys,
        lastSigned,
        origin,
        random: systemRandom,
        retentionDays,
        signal,
        solo,
        store: buckets.store,
      }),
    );
    return genesis;
  })();
  await using ledger = await openLedger(home, {
    logger,
    ...(request.passphrase === undefined ? {} : { passphrase: request.passphrase }),
    ...(request.s3 === undefined ? {} : { isProbed: true, s3: request.s3 }),
  });
  const { buckets, log, store } = ledger;
  const files = trustOf(keys);
  const tokens = await whileAnswered(buckets.s3?.store, logger, async (signal) => {
    const { secrets } = await bootstrap(
      { log, personal: createPersonalStore(store, systemRandom), random: systemRandom },
      { admin: request.admin, approvers: request.approvers, policies: baseline({ solo }), signal },
    );
    await writeTrust(home.trust, files, genesis);
    await keepCheckpoint(home.trust, (await log.seal(signal)).checkpoint);
    return secrets;
  });
  return { ...files, genesis, lock: store.lock, origin, tokens };
}

/** Makes the buckets that are missing, when there are credentials for it, and refuses those that cannot carry a new ledger. */
async function prepareBuckets(home: Home, s3: S3Access, retentionDays: number): Promise<void> {
  const { address, ca } = s3;
  if (s3.has("administrator")) {
    const { makeBuckets } = await import("../store/s3/buckets.ts");
    await makeBuckets({ address, ca, credentials: s3.credentials("administrator") }, retentionDays);
  }
  await using buckets = await openStore(home, { s3 });
  assertProbes(await buckets.probe());
  const origin = await findOrigin(buckets.store);
  if (origin !== null)
    throw new Fault(
      "REQUEST_INVALID",
      `${address.text} holds the ledger ${origin} already. Choose another name at the end of --store; a ledger is never made over another.`,
    );
}
