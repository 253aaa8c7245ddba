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
import { createFileStore, type FileStore } from "../store/fs/file-store.ts";
import { probeStore } from "../store/probes.ts";
import { createHome, systemClock, systemRandom } from "./home.ts";
import { assertProbes, openLedger } from "./ledger.ts";
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
}

export interface InitAnswer extends TrustFiles {
  readonly origin: string;
  readonly genesis: RecordId;
  /** What the store makes of locks. */
  readonly lock: FileStore["lock"];
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
  const { logger, root, solo } = request;
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
  const home = await createHome(root);
  const origin = `${request.origin}/${formatHex(systemRandom.bytes(4))}`;
  const keys = await generateKeyFiles(home.keys, origin, request.passphrase);
  const genesis = await (async () => {
    await using lastSigned = await openLastSigned(home.lastSigned);
    await using store = await createFileStore({
      allowAdvisoryLock: request.requireLock !== true,
      clock: systemClock,
      random: systemRandom,
      root,
    });
    assertProbes((await probeStore(store, { random: systemRandom })).filter((p) => p.name !== "genesis"));
    return (
      await initLedger({
        clock: systemClock,
        keys,
        lastSigned,
        origin,
        random: systemRandom,
        retentionDays,
        solo,
        store,
      })
    ).genesis;
  })();
  await using ledger = await openLedger(home, {
    logger,
    ...(request.passphrase === undefined ? {} : { passphrase: request.passphrase }),
  });
  const { log, store } = ledger;
  const { secrets } = await bootstrap(
    { log, personal: createPersonalStore(store, systemRandom), random: systemRandom },
    { admin: request.admin, approvers: request.approvers, policies: baseline({ solo }) },
  );
  const files = trustOf(keys);
  await writeTrust(home.trust, files, genesis);
  await keepCheckpoint(home.trust, (await log.seal()).checkpoint);
  return { ...files, genesis, lock: store.lock, origin, tokens: secrets };
}
