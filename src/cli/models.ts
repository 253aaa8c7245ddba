/** Commands about models: versions, releases, aliases, dossiers. */
import { writeFileSync } from "node:fs";
import { create, toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { ModelSchema, ModelVersionSchema, Tier } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { SignatureSchema } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import {
  CompareModelVersionsResponseSchema,
  DossierFormat,
  GetDossierResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import {
  GetResponseSchema,
  ListResponseSchema,
  type Resource,
  WriteResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { parseTime } from "../std/ports.ts";
import { listAll } from "./client.ts";
import { AS_OF, declare, REQUEST_ID, UsageError } from "./command.ts";
import { required } from "./govern.ts";
import { type Io } from "./io.ts";
import { resourceLine, resourceTable, signatureText, written } from "./render.ts";
import { choice, contentOf, differences, REVOKE, requestId, transition } from "./versions.ts";

const DOSSIERS = {
  "annex-iv": DossierFormat.ANNEX_IV,
  card: DossierFormat.CARD,
  cyclonedx: DossierFormat.CYCLONEDX,
  "sr-26-2": DossierFormat.SR_26_2,
};

/** The last millisecond of a date, or the moment of a time. */
function endOf(at: string): number {
  const ms = parseTime(/^\d{4}-\d\d-\d\d$/.test(at) ? `${at}T23:59:59.999Z` : at);
  if (ms === undefined) throw new UsageError(`--at takes a date or a time such as 2026-05-01T12:00:00Z, not ${at}.`);
  return ms;
}

/** The newest record of each alias that is not younger than the given time. */
function aliasesAt(history: readonly Resource[], untilMs: number): Resource[] {
  const newest = new Map<string, Resource>();
  for (const r of history)
    if (r.body.case === "alias" && (parseTime(r.time) ?? Number.POSITIVE_INFINITY) <= untilMs)
      newest.set(r.body.value.name, r);
  return [...newest.values()];
}

export function addModels(program: Command, io: Io): void {
  const model = program.command("model").description("models, versions, releases");
  declare(model, io, {
    example: "datapilot model create scorer --tier medium --intended-use 'Tells penguins apart'",
    options: [
      ["--tier <tier>", "high, medium or low"],
      ["--intended-use <text>", "what it may be used for"],
      ["--limitations <text>", "what it must not be used for"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const k = c.connect();
      const limitations = c.text("limitations");
      c.show(
        WriteResponseSchema,
        await k.model.createModel({
          model: create(ModelSchema, {
            intendedUse: required("--intended-use", c.text("intendedUse")),
            name: c.args[0] ?? "",
            tier: choice("tier", c.text("tier") ?? "medium", { high: Tier.HIGH, low: Tier.LOW, medium: Tier.MEDIUM }),
            ...(limitations === undefined ? {} : { limitations }),
          }),
          project: k.project,
          requestId: requestId(c),
        }),
        (m) => written(io, m),
      );
    },
    summary: "make a model",
    words: "create <name>",
  });
  declare(model, io, {
    example: "datapilot model register scorer model/ --produced-by sha256:0123…",
    options: [
      ["--produced-by <run>...", "run that made it"],
      ["--framework <text>", "framework that reads it"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const k = c.connect();
      const [name = "", ...paths] = c.args;
      const framework = c.text("framework");
      c.show(
        WriteResponseSchema,
        await k.model.createModelVersion({
          model: name,
          producedBy: [...c.list("producedBy")],
          project: k.project,
          requestId: requestId(c),
          version: create(ModelVersionSchema, {
            files: await contentOf(c, paths),
            ...(framework === undefined ? {} : { framework }),
          }),
        }),
        (m) => written(io, m),
      );
    },
    summary: "upload files and register them as the next version",
    words: "register <model> <path...>",
  });
  declare(model, io, {
    example: "datapilot model show scorer@v1 --approvals",
    options: [["--approvals", "who approved it, on what evidence, meaning what"], AS_OF],
    run: async (c) => {
      const k = c.connect();
      const asOf = c.number("asOf") ?? 0;
      const answer = await k.model.getModelVersion({ asOf, name: c.args[0] ?? "", project: k.project });
      const requests =
        c.options["approvals"] === true && answer.resource !== undefined
          ? (
              await listAll(k.approval.listApprovalRequests, {
                asOf,
                parent: answer.resource.record,
                project: k.project,
              })
            ).resources
          : [];
      const details = await Promise.all(requests.map((r) => k.approval.getApprovalRequest({ asOf, name: r.record })));
      const votes = details.flatMap((d) => d.votes);
      const signatures = details.flatMap((d) => d.signatures);
      if (c.options["approvals"] === true)
        c.print(
          {
            approvals: votes.map((v) =>
              toJson(GetResponseSchema, create(GetResponseSchema, { resource: v }), { useProtoFieldName: true }),
            ),
            resource: toJson(GetResponseSchema, answer, { useProtoFieldName: true }),
            signatures: signatures.map((x) => toJson(SignatureSchema, x, { useProtoFieldName: true })),
          },
          () =>
            `${answer.resource === undefined ? "" : resourceLine(io, answer.resource)}${signatures.length === 0 ? "  nobody has signed\n" : signatures.map(signatureText).join("")}`,
        );
      else c.show(GetResponseSchema, answer, (m) => (m.resource === undefined ? "" : resourceLine(io, m.resource)));
    },
    summary: "one version",
    words: "show <version>",
  });
  declare(model, io, {
    example: "datapilot model dossier scorer@v1 --format annex-iv --output dossier.md",
    options: [
      ["--format <format>", "card (default), annex-iv, sr-26-2 or cyclonedx"],
      ["--output <file>", "where to write it (default: standard output)"],
      AS_OF,
    ],
    run: async (c) => {
      const k = c.connect();
      const answer = await k.model.getDossier({
        asOf: c.number("asOf") ?? 0,
        format: choice("format", c.text("format") ?? "card", DOSSIERS),
        name: c.args[0] ?? "",
        project: k.project,
      });
      const output = c.text("output");
      if (output !== undefined) writeFileSync(output, answer.content);
      c.show(GetDossierResponseSchema, answer, (m) =>
        output === undefined ? m.content : `${output}: ${m.mediaType}, tree size ${m.treeSize}\n`,
      );
    },
    summary: "a document about a version, of what the ledger holds: each statement names its record",
    words: "dossier <version>",
  });
  declare(model, io, {
    example: "datapilot model versions scorer",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.model.listModelVersions, {
          asOf: c.number("asOf") ?? 0,
          parent: c.args[0] ?? "",
          project: k.project,
        }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "versions of a model",
    words: "versions <model>",
  });
  declare(model, io, {
    example: "datapilot model diff scorer@v1 scorer@v2",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        CompareModelVersionsResponseSchema,
        await k.model.compareModelVersions({
          asOf: c.number("asOf") ?? 0,
          left: c.args[0] ?? "",
          project: k.project,
          right: c.args[1] ?? "",
        }),
        (m) => differences(m.differences),
      );
    },
    summary: "why two versions differ",
    words: "diff <left> <right>",
  });
  declare(model, io, {
    example: "datapilot model promote scorer@v1 --to approved --reason 'Validated'",
    options: [["--to <status>", "validated, approved, deprecated or revoked"], ...REVOKE],
    run: (c) => transition(c, required("--to", c.text("to"))),
    summary: "move a version to another status",
    words: "promote <version>",
  });
  declare(model, io, {
    example: "datapilot model alias production scorer@v1",
    options: [REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      c.show(
        WriteResponseSchema,
        await k.status.setAlias({
          alias: c.args[0] ?? "",
          project: k.project,
          requestId: requestId(c),
          target: c.args[1] ?? "",
        }),
        (m) => written(io, m),
      );
    },
    summary: "point an alias at a version",
    words: "alias <name> <version>",
  });
  declare(model, io, {
    example: "datapilot model aliases scorer production --at 2026-05-01",
    options: [
      ["--history", "all that they ever pointed at"],
      ["--at <time>", "what they pointed at then: a date (its end, in UTC), or a time as in RFC 3339"],
      AS_OF,
    ],
    run: async (c) => {
      const k = c.connect();
      const [parent = "", name] = c.args;
      const at = c.text("at");
      const untilMs = at === undefined ? undefined : endOf(at);
      const terms = [
        ...(c.options["history"] === true || at !== undefined ? ["history = true"] : []),
        ...(name === undefined ? [] : [`name = ${JSON.stringify(name)}`]),
      ];
      const all = await listAll(k.status.listAliases, {
        asOf: c.number("asOf") ?? 0,
        filter: terms.join(" AND "),
        parent,
        project: k.project,
      });
      if (untilMs !== undefined) all.resources = aliasesAt(all.resources, untilMs);
      c.show(ListResponseSchema, all, (m) => resourceTable(m.resources));
    },
    summary: "aliases of a model, now or at a time",
    words: "aliases <model> [alias]",
  });
}
