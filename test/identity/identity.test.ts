/** Tokens, authentication and authorisation over views made by hand. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Binding, Rows, View, ViewReader, ViewRow } from "../../src/fold/view.ts";
import { authenticate } from "../../src/identity/authenticate.ts";
import { authorise, callerPermissions, groupsOf, permissionsOf } from "../../src/identity/authorise.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { KnownTokens } from "../../src/identity/known-tokens.ts";
import {
  LEDGER_ROLES,
  PERMISSIONS,
  permissionsOfRole,
  ROLES,
  RUN_TOKEN_PERMISSIONS,
} from "../../src/identity/roles.ts";
import { createSecret, parseSecret, secretDigest } from "../../src/identity/token.ts";
import type { JsonObject } from "../../src/record/json.ts";
import type { LedgerRecord } from "../../src/record/record.ts";
import type { LogIndex, RecordId, TreeSize } from "../../src/std/brand.ts";
import { Fault } from "../../src/std/faults.ts";
import { seededRandom } from "../log/world.ts";

const id = (n: number): RecordId => `sha256:${n.toString(16).padStart(64, "0")}` as RecordId;
const LEDGER = id(1);
const FRAUD = id(2);
const OTHER = id(3);
const ANN = id(10);
const TOKEN = id(20);
const RUN = id(30);
const START = id(31);
const NOW = Date.parse("2026-11-23T08:00:00.000Z");
const LATER = "2026-11-24T08:00:00.000Z";

class Views implements ViewReader {
  readonly size = 100 as TreeSize;
  readonly rows = new Map<string, unknown>();
  readonly records = new Map<RecordId, JsonObject>();

  set<V extends View>(view: V, key: string, value: Rows[V]): this {
    this.rows.set(`${view} ${key}`, value);
    return this;
  }
  get<V extends View>(view: V, key: string): ViewRow<V> | undefined {
    const value = this.rows.get(`${view} ${key}`);
    return value === undefined ? undefined : { value: value as Rows[V], changedAt: 0 as LogIndex };
  }
  record(of: RecordId): { index: LogIndex; record: LedgerRecord } | undefined {
    const body = this.records.get(of);
    return body === undefined ? undefined : { index: 0 as LogIndex, record: { body } as LedgerRecord };
  }
  *dependents(): Iterable<never> {}
}

const secret = createSecret(seededRandom(3), "token");
const runSecret = createSecret(seededRandom(4), "run-token");

function views(): Views {
  const v = new Views();
  v.set("name", "-/project/_ledger", { id: LEDGER });
  v.set("project", FRAUD, { name: "fraud", status: "active", revision: FRAUD });
  v.set("entity", ANN, { kind: "principal", project: LEDGER, status: "active", revision: ANN, name: "ann" });
  v.set("entity", TOKEN, { kind: "token", project: LEDGER, status: "active", revision: TOKEN });
  v.set("token", secret.sha256, { id: TOKEN, principal: ANN, permissions: [], expires_at: LATER });
  v.set("token", runSecret.sha256, {
    id: START,
    principal: ANN,
    permissions: [],
    expires_at: LATER,
    run: RUN,
    project: FRAUD,
  });
  v.set("run", RUN, { status: "running", batches: 0 });
  v.records.set(ANN, { type: "PRINCIPAL_TYPE_HUMAN", name: "ann" });
  v.records.set(TOKEN, { secret_sha256: secret.sha256 });
  v.records.set(START, { token: { sha256: runSecret.sha256 } });
  return v;
}
const bind = (v: Views, project: RecordId, ...bindings: Omit<Binding, "id">[]): Views =>
  v.set("bindings", project, { bindings: bindings.map((b, i) => ({ ...b, id: id(50 + i) })) });
const origin = { rpc: "s/M", address: "192.0.2.1" };
const flaw = (v: Views, text: string, nowMs = NOW): unknown => {
  try {
    authenticate(v, text, nowMs, origin);
    return "authenticated";
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    expect(error.reason).toBe("TOKEN_INVALID");
    return error.cause;
  }
};

describe("secrets", () => {
  it("are 32 random bytes behind a prefix", () => {
    expect(secret.text).toMatch(/^dp_[A-Za-z0-9_-]{43}$/);
    expect(runSecret.text).toMatch(/^dpr_[A-Za-z0-9_-]{43}$/);
    expect(secret.sha256).toBe(secretDigest(secret.text));
    expect(parseSecret(secret.text)).toBe("token");
    expect(parseSecret(runSecret.text)).toBe("run-token");
  });

  it("are nothing else", () => {
    for (const text of [
      "",
      "dp_",
      "dp_abc",
      `${secret.text}A`,
      `${secret.text}=`,
      ` ${secret.text}`,
      secret.text.slice(3),
    ]) {
      expect(parseSecret(text)).toBeUndefined();
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(parseSecret(text)).toBeUndefined();
        expect(parseSecret(`dp_${text}`) === undefined || text.length === 43).toBe(true);
      }),
    );
  });
});

describe("known tokens", () => {
  const finish = [{ record: { kind: "run.finish" } }];
  const batch = [{ record: { kind: "run.batch" } }, { record: { kind: "artifact" } }];
  const told = (known: KnownTokens, v: Views, text: string, nowMs = NOW): unknown => {
    try {
      return known.authenticate(v, text, nowMs, origin);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      return error.cause;
    }
  };

  it("are told as if they were looked up", () => {
    const known = new KnownTokens();
    for (const text of [secret.text, runSecret.text]) {
      for (const nowMs of [NOW, NOW + 1_000])
        expect(known.authenticate(views(), text, nowMs, origin)).toEqual(authenticate(views(), text, nowMs, origin));
    }
    expect(told(known, views(), "dp_")).toBe("malformed");
  });

  it("are looked up once, until something is recorded that could end them", () => {
    const v = views();
    const known = new KnownTokens();
    known.authenticate(v, runSecret.text, NOW, origin);
    v.set("run", RUN, { status: "succeeded", batches: 0 });
    v.set("entity", TOKEN, { kind: "token", project: LEDGER, status: "revoked", revision: TOKEN });
    known.applied(batch);
    expect(told(known, v, runSecret.text)).toMatchObject({ principal: ANN });
    known.applied(finish);
    expect(told(known, views().set("run", RUN, { status: "planned", batches: 0 }), runSecret.text)).toBe("run_ended");
    expect(told(known, v, secret.text)).toBe("revoked");
  });

  it("are forgotten when a record is not here, and expire", () => {
    const v = views();
    const known = new KnownTokens();
    known.authenticate(v, secret.text, NOW, origin);
    expect(told(known, v, secret.text, Date.parse(LATER) - 1)).toMatchObject({ principal: ANN });
    expect(told(known, v, secret.text, Date.parse(LATER))).toBe("expired");
    v.set("entity", ANN, { kind: "principal", project: LEDGER, status: "disabled", revision: ANN, name: "ann" });
    known.applied([{ record: null }]);
    expect(told(known, v, secret.text)).toBe("disabled");
  });

  it("keep no flaw", () => {
    const v = views();
    const known = new KnownTokens();
    v.set("entity", ANN, { kind: "principal", project: LEDGER, status: "disabled", revision: ANN, name: "ann" });
    expect(told(known, v, secret.text)).toBe("disabled");
    v.set("entity", ANN, { kind: "principal", project: LEDGER, status: "active", revision: ANN, name: "ann" });
    expect(told(known, v, secret.text)).toMatchObject({ principal: ANN });
  });
});

describe("authentication", () => {
  it("says who holds a token", () => {
    expect(authenticate(views(), secret.text, NOW, origin)).toEqual({
      principal: ANN,
      name: "ann",
      method: "token",
      type: "human",
      token: TOKEN,
      permissions: [],
      expiresAt: LATER,
      authenticatedAtMs: NOW,
      ...origin,
    });
    expect(authenticate(views(), runSecret.text, NOW, origin)).toMatchObject({
      method: "run-token",
      token: START,
      run: RUN,
      runProject: FRAUD,
    });
  });

  it("says only that a token is not valid, whatever is wrong with it", () => {
    const messages = new Set<string>();
    for (const text of ["x", createSecret(seededRandom(9), "token").text]) {
      try {
        authenticate(views(), text, NOW, origin);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        messages.add(`${error.message} ${JSON.stringify(error.metadata)}`);
      }
    }
    expect(messages.size).toBe(1);
  });

  it.each<readonly [string, (v: Views) => void]>([
    ["revoked", (v) => v.set("entity", TOKEN, { kind: "token", project: LEDGER, status: "revoked", revision: TOKEN })],
    [
      "disabled",
      (v) => v.set("entity", ANN, { kind: "principal", project: LEDGER, status: "disabled", revision: ANN }),
    ],
    // A row that its own record does not bear out.
    ["unknown", (v) => v.records.set(TOKEN, { secret_sha256: "0".repeat(64) })],
    ["unknown", (v) => v.records.delete(TOKEN)],
  ])("refuses a token that is %s", (reason, change) => {
    const v = views();
    change(v);
    expect(flaw(v, secret.text)).toBe(reason);
  });

  it("refuses at the end of its life, to the millisecond", () => {
    expect(flaw(views(), secret.text, Date.parse(LATER) - 1)).toBe("authenticated");
    expect(flaw(views(), secret.text, Date.parse(LATER))).toBe("expired");
  });

  it("refuses a run's token when the run was refused, and hears only repeated reports once it ended", () => {
    expect(flaw(views().set("run", RUN, { status: "refused", batches: 0 }), runSecret.text)).toBe("run_ended");
    const v = views().set("run", RUN, { status: "succeeded", batches: 0 });
    const who = authenticate(v, runSecret.text, NOW, origin);
    expect([...callerPermissions(v, who, FRAUD, NOW).keys()]).toEqual(["run.report"]);
  });

  it("takes the token of a run that was called lost", () => {
    const v = views().set("run", RUN, { status: "lost", batches: 0 });
    const who = authenticate(v, runSecret.text, NOW, origin);
    expect(callerPermissions(v, who, FRAUD, NOW).has("run.report")).toBe(true);
    expect(flaw(v, runSecret.text, Date.parse(LATER))).toBe("expired");
  });

  it("does not take one kind of token for the other", () => {
    const v = views();
    const digest = secretDigest(`dp_${runSecret.text.slice(4)}`);
    v.set("token", digest, { id: START, principal: ANN, permissions: [], expires_at: LATER, run: RUN, project: FRAUD });
    expect(flaw(v, `dp_${runSecret.text.slice(4)}`)).toBe("unknown");
  });
});

const caller = (more: Partial<Caller> = {}): Caller => ({
  ...authenticate(views(), secret.text, NOW, origin),
  ...more,
});

describe("authorisation", () => {
  it("gives each role exactly what the table says, in its project only", () => {
    for (const role of Object.keys(ROLES)) {
      const v = bind(views(), FRAUD, { role, principal: ANN });
      const here = [...callerPermissions(v, caller(), FRAUD, NOW).keys()];
      expect(here.toSorted()).toEqual([...permissionsOfRole(role)].toSorted());
      expect(callerPermissions(v, caller(), OTHER, NOW).size).toBe(0);
    }
  });

  it("knows every permission by some role or by the run's token", () => {
    const given = new Set<string>([...Object.values(ROLES).flat(), ...RUN_TOKEN_PERMISSIONS]);
    expect([...given].toSorted()).toEqual([...PERMISSIONS].toSorted());
  });

  it("gives an operator no content and no approval", () => {
    for (const p of ["read", "artifact.read", "approve", "dataset.write"]) expect(ROLES.operator).not.toContain(p);
    expect(LEDGER_ROLES).toEqual(["auditor", "operator"]);
  });

  it("lets the ledger's auditor read every project, and do nothing else there", () => {
    const v = bind(views(), LEDGER, { role: "auditor", principal: ANN });
    expect([...callerPermissions(v, caller(), FRAUD, NOW).keys()].toSorted()).toEqual([
      "artifact.read",
      "audit",
      "evidence.export",
      "read",
    ]);
  });

  it("lets no other role of the ledger reach into projects", () => {
    for (const role of ["operator", "project-admin", "policy-author", "steward", "contributor"]) {
      expect(callerPermissions(bind(views(), LEDGER, { role, principal: ANN }), caller(), FRAUD, NOW).size).toBe(0);
    }
  });

  it("lets the ledger's groups of approvers approve everywhere", () => {
    const group = { name: "governance", members: [ANN] };
    const v = bind(views(), LEDGER, { role: "approver", group });
    expect([...callerPermissions(v, caller(), FRAUD, NOW).keys()].toSorted()).toEqual(["approve", "read"]);
    expect(groupsOf(v, ANN, FRAUD, NOW)).toEqual(["governance"]);
  });

  it("lets everybody read the ledger's own project", () => {
    expect([...callerPermissions(views(), caller(), LEDGER, NOW).keys()]).toEqual(["read"]);
  });

  it("ends a binding at its time", () => {
    const v = bind(views(), FRAUD, { role: "viewer", principal: ANN, expires_at: LATER });
    expect(permissionsOf(v, ANN, FRAUD, Date.parse(LATER) - 1).has("read")).toBe(true);
    expect(permissionsOf(v, ANN, FRAUD, Date.parse(LATER)).has("read")).toBe(false);
  });

  it("gives nothing by a role that it does not know, nor to a disabled principal", () => {
    const v = bind(views(), FRAUD, { role: "king", principal: ANN }, { role: "__proto__", principal: ANN });
    expect(permissionsOf(v, ANN, FRAUD, NOW).size).toBe(0);
    const disabled = bind(views(), FRAUD, { role: "viewer", principal: ANN });
    disabled.set("entity", ANN, { kind: "principal", project: LEDGER, status: "disabled", revision: ANN });
    expect(permissionsOf(disabled, ANN, FRAUD, NOW).size).toBe(0);
  });

  it("keeps a token within its permissions, and what was revoked since from everything", () => {
    const v = bind(views(), FRAUD, { role: "contributor", principal: ANN });
    const limited = caller({ permissions: ["read", "policy.write"] });
    expect([...callerPermissions(v, limited, FRAUD, NOW).keys()]).toEqual(["read"]);
    v.set("entity", TOKEN, { kind: "token", project: LEDGER, status: "revoked", revision: TOKEN });
    expect(callerPermissions(v, caller(), FRAUD, NOW).size).toBe(0);
  });

  it("keeps a run's token to its project and to the life of its run", () => {
    const v = bind(views(), OTHER, { role: "project-admin", principal: ANN });
    const run = authenticate(v, runSecret.text, NOW, origin);
    expect([...callerPermissions(v, run, FRAUD, NOW).keys()]).toEqual(RUN_TOKEN_PERMISSIONS);
    expect(callerPermissions(v, run, OTHER, NOW).size).toBe(0);
    v.set("run", RUN, { status: "failed", batches: 0 });
    expect([...callerPermissions(v, run, FRAUD, NOW).keys()]).toEqual(["run.report"]);
    expect(callerPermissions(v, run, OTHER, NOW).size).toBe(0);
  });

  it("says what is lacking to who may see the project, and nothing to who may not", () => {
    const v = bind(views(), FRAUD, { role: "viewer", principal: ANN });
    const reasonOf = (project: RecordId): string => {
      try {
        authorise(v, caller(), project, "dataset.write", NOW);
        return "";
      } catch (error) {
        return error instanceof Fault ? error.reason : "";
      }
    };
    expect(reasonOf(FRAUD)).toBe("PERMISSION_DENIED");
    expect(reasonOf(OTHER)).toBe("NOT_FOUND");
    expect(authorise(v, caller(), FRAUD, "read", NOW)).toEqual({ binding: id(50), role: "viewer" });
  });
});
