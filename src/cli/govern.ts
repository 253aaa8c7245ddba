/** Commands about projects, access, policies and approvals. */
import { readFileSync } from "node:fs";
import { create, fromJson, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import {
  type Identity,
  IdentitySchema,
  OfflineMode,
  PrincipalSchema,
  PrincipalType,
  ProjectSchema,
  RetentionMode,
} from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { Meaning, PolicySchema, Severity } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import {
  CreateTokenResponseSchema,
  TestAccessResponseSchema,
  WhoAmIResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import {
  type BacktestPolicyResponse,
  BacktestPolicyResponseSchema,
  type EvaluatePolicyResponse,
  EvaluatePolicyResponseSchema,
  GetApprovalRequestResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import {
  GetResponseSchema,
  ListResponseSchema,
  WriteResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { listAll } from "./client.ts";
import { AS_OF, declare, REQUEST_ID, UsageError } from "./command.ts";
import { EXIT, Exit, type Io, paint, printable, shortId, table } from "./io.ts";
import { decisionText, resourceLine, resourceTable, signatureText, written } from "./render.ts";

const oneOf = <T>(what: string, text: string | undefined, values: Readonly<Record<string, T>>): T => {
  const value = text === undefined ? undefined : values[text.toLowerCase()];
  if (value === undefined)
    throw new UsageError(
      `${what} must be one of ${Object.keys(values).join(", ")}${text === undefined ? "" : `, not ${JSON.stringify(text)}`}.`,
    );
  return value;
};
export const required = (what: string, text: string | undefined): string => {
  if (text === undefined || text === "") throw new UsageError(`${what} is needed.`);
  return text;
};
export const SEVERITIES = { informs: Severity.INFORMS, invalidates: Severity.INVALIDATES };
export const MEANINGS = {
  approved: Meaning.APPROVED,
  responsible: Meaning.RESPONSIBLE,
  reviewed: Meaning.REVIEWED,
  validated: Meaning.VALIDATED,
};

export function readJson(file: string): JsonValue {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as JsonValue;
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`${file} is not JSON: ${error.message}`);
    throw error;
  }
}

/** `https://sso.example=sub=ada`: an issuer has no `=`, a value may. */
function identityOf(text: string): Identity {
  const match = /^([^=]+)=([^=]+)=(.+)$/.exec(text);
  if (match === null) throw new UsageError(`--identity takes ISSUER=CLAIM=VALUE, not ${JSON.stringify(text)}.`);
  const [, issuer = "", claim = "", value = ""] = match;
  return create(IdentitySchema, { claim, issuer, value });
}

export function addAccess(program: Command, io: Io): void {
  const project = program.command("project").description("units of isolation");
  declare(project, io, {
    example: "datapilot project create fraud --description 'Card fraud'",
    options: [
      ["--description <text>", "what it is for"],
      ["--admin <principal>", "who administers it (default: you)"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const description = c.text("description");
      const body = create(ProjectSchema, {
        name: c.args[0] ?? "",
        offline: OfflineMode.NEVER,
        ...(description === undefined ? {} : { description }),
      });
      c.show(
        WriteResponseSchema,
        await c.connect().projects.createProject({
          admin: c.text("admin") ?? "",
          project: body,
          requestId: c.text("requestId") ?? "",
        }),
        (m) => written(io, m),
      );
    },
    summary: "make a project",
    words: "create <name>",
  });
  declare(project, io, {
    example: "datapilot project retain fraud scorers --days 7300 --basis 'Models are kept for twenty years'",
    options: [
      ["--days <days>", "for how long its artifacts are held from when a record names them"],
      ["--basis <text>", "on what grounds"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const [name = "", retention = ""] = c.args;
      const response = await c.connect().retention.createRetention({
        project: name,
        requestId: c.text("requestId") ?? "",
        retention: {
          basis: required("--basis", c.text("basis")),
          days: c.number("days") ?? 0,
          mode: RetentionMode.PERIOD,
          name: retention,
        },
      });
      c.show(WriteResponseSchema, response, (m) => written(io, m));
    },
    summary:
      "hold a project's artifacts for longer than the ledger's own term (`_ledger`: those of all); it is never taken back",
    words: "retain <name> <retention>",
  });
  declare(project, io, {
    example: "datapilot project list",
    options: [AS_OF],
    run: async (c) =>
      c.show(
        ListResponseSchema,
        await listAll(c.connect().projects.listProjects, { asOf: c.number("asOf") ?? 0 }),
        (m) => resourceTable(m.resources),
      ),
    summary: "projects that you may read",
    words: "list",
  });
  declare(project, io, {
    example: "datapilot project archive fraud --reason 'Replaced by fraud-2'",
    options: [["--reason <text>", "why"], REQUEST_ID],
    run: async (c) => {
      const name = c.args[0] ?? "";
      c.show(
        WriteResponseSchema,
        await c.connect().status.transition({
          name: `projects/${name}`,
          project: name,
          reason: required("--reason", c.text("reason")),
          requestId: c.text("requestId") ?? "",
          to: "archived",
        }),
        (m) => written(io, m),
      );
    },
    summary: "archive a project",
    words: "archive <name>",
  });

  const access = program.command("access").description("principals, roles, and who may do what");
  declare(access, io, {
    example: "datapilot access principal create ada --type human --display-name 'Ada Lovelace'",
    options: [
      ["--type <type>", "human or service"],
      ["--display-name <text>", "printed name"],
      ["--identity <issuer=claim=value>...", "how another system names it; update states all of them"],
      ["--etag <revision>", "of update: the newest revision that you know (default: the newest)"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const [word = "", name = ""] = c.args;
      if (word !== "create" && word !== "update")
        throw new UsageError(
          `"access principal ${word}" is not known; there are: access principal create|update NAME.`,
        );
      const { access } = c.connect();
      const principal = create(PrincipalSchema, {
        displayName: c.text("displayName") ?? name,
        identities: c.list("identity").map(identityOf),
        name,
        type: oneOf("--type", c.text("type"), { human: PrincipalType.HUMAN, service: PrincipalType.SERVICE }),
      });
      const requestId = c.text("requestId") ?? "";
      const etag = async (): Promise<string> =>
        c.text("etag") ?? (await access.getPrincipal({ name })).resource?.etag ?? "";
      c.show(
        WriteResponseSchema,
        word === "create"
          ? await access.createPrincipal({ principal, requestId })
          : await access.updatePrincipal({ etag: await etag(), principal, requestId }),
        (m) => written(io, m),
      );
    },
    summary: "make a principal, a person or a service; or state its printed name and identities anew",
    words: "principal <create|update> <name>",
  });
  declare(access, io, {
    example: "datapilot access principals",
    options: [AS_OF],
    run: async (c) =>
      c.show(
        ListResponseSchema,
        await listAll(c.connect().access.listPrincipals, { asOf: c.number("asOf") ?? 0 }),
        (m) => resourceTable(m.resources),
      ),
    summary: "principals of the ledger",
    words: "principals",
  });
  declare(access, io, {
    example: "datapilot access bind contributor --principal ci-fraud --project fraud",
    options: [
      ["--principal <name>", "principal to bind"],
      ["--group <name>", "group of approvers to name instead"],
      ["--member <name>...", "principal of the group"],
      ["--expires-at <time>", "end of the binding"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const k = c.connect();
      c.show(
        WriteResponseSchema,
        await k.access.createRoleBinding({
          expiresAt: c.text("expiresAt") ?? "",
          group: c.text("group") ?? "",
          members: [...c.list("member")],
          principal: c.text("principal") ?? "",
          project: k.project,
          requestId: c.text("requestId") ?? "",
          role: c.args[0] ?? "",
        }),
        (m) => written(io, m),
      );
    },
    summary: "bind a role in a project",
    words: "bind <role>",
  });
  declare(access, io, {
    example: "datapilot access test ada --permission model.transition --project fraud --as-of 1200",
    options: [["--permission <permission>", "the permission"], AS_OF],
    run: async (c) => {
      const k = c.connect();
      const answer = await k.access.testAccess({
        asOf: c.number("asOf") ?? 0,
        permission: required("--permission", c.text("permission")),
        principal: c.args[0] ?? "",
        project: k.project,
      });
      c.show(TestAccessResponseSchema, answer, (m) =>
        m.allowed ? `yes, as ${m.role} by ${m.binding} (tree size ${m.treeSize})\n` : `no (tree size ${m.treeSize})\n`,
      );
      if (!answer.allowed) throw new Exit(EXIT.answerIsNo, "", "");
    },
    summary: "whether a principal has, or had, a permission",
    words: "test <principal>",
  });
  declare(access, io, {
    example: "datapilot access bindings --project fraud",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.access.listRoleBindings, { asOf: c.number("asOf") ?? 0, project: k.project }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "role bindings of a project",
    words: "bindings",
  });
  declare(access, io, {
    example: "datapilot access revoke sha256:0123… --reason 'Left the team' --project fraud",
    options: [["--reason <text>", "why"], REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      c.show(
        WriteResponseSchema,
        await k.status.transition({
          name: c.args[0] ?? "",
          project: k.project,
          reason: required("--reason", c.text("reason")),
          requestId: c.text("requestId") ?? "",
          to: "revoked",
        }),
        (m) => written(io, m),
      );
    },
    summary: "revoke a role binding",
    words: "revoke <binding>",
  });
  for (const [parent, words] of [
    [access, "access whoami"],
    [program, "whoami"],
  ] as const)
    declare(parent, io, {
      example: `datapilot ${words}`,
      run: async (c) =>
        c.show(
          WhoAmIResponseSchema,
          await c.connect().access.whoAmI({}),
          (m) => `${m.name}  ${m.principal}\nby ${m.method} until ${m.expiresAt}\n${m.roles.join("\n")}\n`,
        ),
      summary: "who you are",
      words: "whoami",
    });

  const token = program.command("token").description("secrets that authenticate");
  declare(token, io, {
    example: "datapilot token create ci-fraud --days 30",
    options: [
      ["--days <n>", "days of its life (default 90, at most 400)"],
      ["--permission <permission>...", "limit it to this permission"],
      REQUEST_ID,
    ],
    run: async (c) =>
      c.show(
        CreateTokenResponseSchema,
        await c.connect().access.createToken({
          days: c.number("days") ?? 0,
          permissions: [...c.list("permission")],
          principal: c.args[0] ?? "",
          requestId: c.text("requestId") ?? "",
        }),
        (m) =>
          `${m.secret}\n${paint(io, "dim", `The secret is shown this once only. To revoke it: datapilot token revoke ${m.resource?.record ?? ""} --reason '...'`)}\n`,
      ),
    summary: "make a token; its secret is shown once",
    words: "create <principal>",
  });
  declare(token, io, {
    example: "datapilot token list",
    options: [AS_OF],
    run: async (c) =>
      c.show(ListResponseSchema, await listAll(c.connect().access.listTokens, { asOf: c.number("asOf") ?? 0 }), (m) =>
        m.resources.length === 0
          ? "none\n"
          : table(
              ["INDEX", "PRINCIPAL", "STATUS", "UNTIL", "LIMITED TO", "TOKEN"],
              m.resources.map((r) => {
                const made = r.body.case === "token" ? r.body.value : undefined;
                const principal = r.links.find((l) => l.rel === "principal")?.to ?? r.actor;
                const limits = made?.permissions.join(" ") ?? "";
                return [
                  String(r.logIndex),
                  shortId(principal),
                  r.status,
                  made?.expiresAt ?? "",
                  limits === "" ? "-" : limits,
                  r.record,
                ];
              }),
            ),
      ),
    summary: "tokens of the ledger, without their secrets",
    words: "list",
  });
  declare(token, io, {
    example: "datapilot token revoke sha256:0123… --reason 'Leaked'",
    options: [["--reason <text>", "why"], REQUEST_ID],
    run: async (c) =>
      c.show(
        WriteResponseSchema,
        await c.connect().status.transition({
          name: c.args[0] ?? "",
          project: "_ledger",
          reason: required("--reason", c.text("reason")),
          requestId: c.text("requestId") ?? "",
          to: "revoked",
        }),
        (m) => written(io, m),
      ),
    summary: "revoke a token",
    words: "revoke <token>",
  });
}

const OUTCOMES = ["", "allow", "require_approval", "deny", "error"];
const RESULTS = ["", "holds", "fails", "skipped", "waived", "error"];

function inputIn(file: string): JsonObject {
  const input = readJson(file);
  if (typeof input !== "object" || input === null || Array.isArray(input))
    throw new UsageError(`${file} holds no input: an input is one JSON object.`);
  return input;
}

const testedText = (tests: number): string =>
  `the policy compiles${tests === 0 ? ", and has no tests" : tests === 1 ? ", and its test passes" : `, and its ${tests} tests pass`}\nGive --input FILE to judge an input; datapilot policy explain DECISION --json shows the input of a past decision.\n`;

const judgedText = ({ outcome, rules }: EvaluatePolicyResponse): string =>
  `${OUTCOMES[outcome] ?? ""}\n${rules.map((r) => `  ${printable(r.id)}: ${RESULTS[r.result] ?? ""}${r.message === "" ? "" : `  ${printable(r.message)}`}\n`).join("")}`;

export function addPolicies(program: Command, io: Io): void {
  const policy = program.command("policy").description("rules that admit or refuse");
  const body = (file: string) => {
    try {
      return fromJson(PolicySchema, readJson(file));
    } catch (error) {
      if (error instanceof UsageError || !(error instanceof Error) || "code" in error) throw error;
      throw new UsageError(`${file} is not a policy: ${error.message}`);
    }
  };
  declare(policy, io, {
    example: "datapilot policy create fit.json --project fraud",
    options: [REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      c.show(
        WriteResponseSchema,
        await k.policy.createPolicy({
          policy: body(c.args[0] ?? ""),
          project: k.project,
          requestId: c.text("requestId") ?? "",
        }),
        (m) => written(io, m),
      );
    },
    summary: "make a version of a policy, as a draft; its tests must pass",
    words: "create <file>",
  });
  declare(policy, io, {
    example: "datapilot policy test fit.json --input input.json",
    options: [["--input <file>", "an input to judge; `policy explain DECISION --json` shows those of past decisions"]],
    run: async (c) => {
      const file = c.text("input");
      const input = file === undefined ? undefined : inputIn(file);
      const policy = body(c.args[0] ?? "");
      c.show(
        EvaluatePolicyResponseSchema,
        await c.connect().policy.evaluatePolicy({ policy, ...(input === undefined ? {} : { input }) }),
        (m) =>
          `${input === undefined ? testedText(policy.tests.length) : judgedText(m)}${m.warnings.map((w) => `  ${paint(io, "yellow", "warning")} ${printable(w)}\n`).join("")}`,
      );
    },
    summary: "compile a policy, run its tests, and judge an input when one is given",
    words: "test <file>",
  });
  declare(policy, io, {
    example: "datapilot policy activate fraud/fit@v1 --reason 'Agreed on 3 March'",
    options: [["--reason <text>", "why"], ["--shadow", "record its results only"], REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      c.show(
        WriteResponseSchema,
        await k.status.transition({
          name: c.args[0] ?? "",
          project: k.project,
          reason: required("--reason", c.text("reason")),
          requestId: c.text("requestId") ?? "",
          to: c.options["shadow"] === true ? "shadow" : "active",
        }),
        (m) => written(io, m),
      );
    },
    summary: "put a policy in force",
    words: "activate <policy>",
  });
  declare(policy, io, {
    example: "datapilot policy list --project fraud",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.policy.listPolicies, { asOf: c.number("asOf") ?? 0, project: k.project }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "a project's own policies, drafts too",
    words: "list",
  });
  declare(policy, io, {
    example: "datapilot policy effective --project fraud",
    options: [["--target <target>", "only of this target"], AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await k.policy.listEffectivePolicies({
          asOf: c.number("asOf") ?? 0,
          project: k.project,
          target: c.text("target") ?? "",
        }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "policies that bind a project",
    words: "effective",
  });
  declare(policy, io, {
    example: "datapilot policy explain sha256:0123…",
    run: async (c) =>
      c.show(GetResponseSchema, await c.connect().policy.getDecision({ name: c.args[0] ?? "" }), (m) =>
        m.resource === undefined ? "" : decisionText(io, m.resource, true),
      ),
    summary: "why a decision came out as it did, rule by rule",
    words: "explain <decision>",
  });
  declare(policy, io, {
    example: "datapilot policy backtest fraud/fit@v2 --against fraud/fit@v1",
    options: [
      ["--against <policy>", "compare with this policy instead of the recorded outcomes"],
      ["--from <index>", "first index"],
      ["--to <index>", "end of the range"],
    ],
    run: async (c) => {
      const k = c.connect();
      const all: BacktestPolicyResponse[] = [];
      const word = (o: number): string => ["", "allow", "require approval", "deny", "error"][o] ?? "";
      for await (const m of k.policy.backtestPolicy({
        against: c.text("against") ?? "",
        candidate: c.args[0] ?? "",
        fromIndex: c.number("from") ?? 0,
        project: k.project,
        toIndex: c.number("to") ?? 0,
      })) {
        all.push(m);
        if (c.json || m.decision === undefined) continue;
        io.out(`${word(m.was)} → ${word(m.wouldBe)}  decision #${m.decision.logIndex} ${shortId(m.decision.record)}\n`);
        for (const rule of m.rules)
          if (rule.result === 2)
            io.out(
              `  fails  ${rule.id}: ${rule.message}  ${rule.seen.map((s) => `${s.path} = ${s.value}`).join(", ")}\n`,
            );
        for (const built of m.builtSince) io.out(`  built since: ${resourceLine(io, built)}`);
      }
      const totals = all.at(-1)?.totals;
      c.print(
        all.map((m) => toJson(BacktestPolicyResponseSchema, m, { useProtoFieldName: true })),
        () =>
          `${totals?.evaluated ?? 0} decisions judged again, ${totals?.flips ?? 0} would change, ${totals?.notEvaluable ?? 0} not evaluable\n`,
      );
    },
    summary: "what a candidate would have decided on past inputs",
    words: "backtest <policy>",
  });

  const approval = program.command("approval").description("requests that wait for a person");
  declare(approval, io, {
    example: "datapilot approval list --project fraud",
    options: [["--all", "closed ones too"]],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.approval.listApprovalRequests, {
          filter: c.options["all"] === true ? "" : "status = open",
          project: k.project,
        }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "requests for approval",
    words: "list",
  });
  declare(approval, io, {
    example: "datapilot approval show sha256:0123…",
    run: async (c) => {
      const answer = await c.connect().approval.getApprovalRequest({ name: c.args[0] ?? "" });
      c.show(GetApprovalRequestResponseSchema, answer, (m) => {
        const b = m.request?.body.case === "approvalRequest" ? m.request.body.value : undefined;
        return `${m.request === undefined ? "" : resourceLine(io, m.request)}${m.state}, ${b?.target ?? ""}, until ${b?.expiresAt ?? ""}\nsign this digest: ${paint(io, "bold", b?.actionDigest ?? "")}\nevidence: ${b?.evidenceDigest ?? ""}\n${m.subjects.map((s) => `about: ${resourceLine(io, s)}`).join("")}${m.decision === undefined ? "" : decisionText(io, m.decision)}${m.signatures.map(signatureText).join("")}`;
      });
    },
    summary: "what exactly is asked for, and what it rests on",
    words: "show <request>",
  });
  declare(approval, io, {
    example:
      "datapilot approval approve sha256:0123… --digest 4ab1… --meaning approved --statement 'Read the report of 3 March'",
    options: [
      ["--digest <hex>", "the action digest that was shown to you"],
      ["--meaning <meaning>", "reviewed, validated, approved or responsible"],
      ["--statement <text>", "in your words"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const k = c.connect();
      c.show(
        WriteResponseSchema,
        await k.approval.approve({
          actionDigest: required("--digest", c.text("digest")),
          meaning: oneOf("--meaning", c.text("meaning"), MEANINGS),
          project: k.project,
          request: c.args[0] ?? "",
          requestId: c.text("requestId") ?? "",
          statement: required("--statement", c.text("statement")),
        }),
        (m) => written(io, m),
      );
    },
    summary: "vote for; the deciding vote carries the request out",
    words: "approve <request>",
  });
  declare(approval, io, {
    example: "datapilot approval reject sha256:0123… --digest 4ab1… --statement 'Recall is too low'",
    options: [
      ["--digest <hex>", "the action digest that was shown to you"],
      ["--statement <text>", "in your words"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const k = c.connect();
      c.show(
        WriteResponseSchema,
        await k.approval.reject({
          actionDigest: required("--digest", c.text("digest")),
          project: k.project,
          request: c.args[0] ?? "",
          requestId: c.text("requestId") ?? "",
          statement: required("--statement", c.text("statement")),
        }),
        (m) => written(io, m),
      );
    },
    summary: "vote against",
    words: "reject <request>",
  });
}
