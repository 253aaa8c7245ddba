/** Commands about artifacts, schemas, datasets, quality, environments and models. */
import { writeFileSync } from "node:fs";
import { create, fromJson, toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import {
  Classification,
  type ContentFile,
  Custody,
  DatasetSchema,
  DatasetVersionSchema,
  QualityReportSchema,
  SchemaSchema,
} from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import {
  EnvironmentLockSchema,
  EnvironmentSchema,
  ModelSchema,
  ModelVersionSchema,
  Tier,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { Otherwise } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { BatchGetDownloadUrlsResponseSchema } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import {
  CompareDatasetVersionsResponseSchema,
  CompareSchemasResponseSchema,
  type Difference,
  GetGateResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
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
import { CompareLocksResponseSchema } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { parseEitherId } from "../std/brand.ts";
import { parseTime } from "../std/ports.ts";
import { listAll } from "./client.ts";
import { AS_OF, type Context, declare, REQUEST_ID, UsageError } from "./command.ts";
import { readJson, required, SEVERITIES } from "./govern.ts";
import { EXIT, Exit, type Io, table } from "./io.ts";
import { enumWord, resourceLine, resourceTable, signatureText, statusText, written } from "./render.ts";
import { contentBytes, download, splittingOf, uploadFiles } from "./transfer.ts";

const parse = <T>(what: string, file: string, make: () => T): T => {
  try {
    return make();
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error) || "code" in error) throw error;
    throw new UsageError(`${file} is not ${what}: ${error.message}`);
  }
};
const requestId = (c: Context): string => c.text("requestId") ?? "";
const choice = <T>(flag: string, text: string, values: Readonly<Record<string, T>>): T => {
  const value = values[text];
  if (value === undefined)
    throw new UsageError(`--${flag} must be one of ${Object.keys(values).join(", ")}, not ${JSON.stringify(text)}.`);
  return value;
};
const comparison = (c: Context) => ({
  asOf: c.number("asOf") ?? 0,
  left: c.args[0] ?? "",
  project: c.connect().project,
  right: c.args[1] ?? "",
});
const differences = (rows: readonly Difference[]): string =>
  rows.length === 0
    ? "no difference\n"
    : table(
        ["PATH", "LEFT", "RIGHT"],
        rows.map((d) => [d.path, d.left, d.right]),
      );

/** Uploads files below the given paths; gives them as a version's content. */
async function contentOf(c: Context, paths: readonly string[]): Promise<ContentFile[]> {
  const uploaded = await uploadFiles(c.io, c.connect(), paths);
  return uploaded.map((f) => ({
    $typeName: "animus.datapilot.record.v1.ContentFile",
    digest: f.digest,
    path: f.path,
    sizeBytes: f.sizeBytes,
  }));
}

async function transition(c: Context, to: string): Promise<void> {
  const k = c.connect();
  const severity = c.text("severity");
  c.show(
    WriteResponseSchema,
    await k.status.transition({
      name: c.args[0] ?? "",
      project: k.project,
      reason: required("--reason", c.text("reason")),
      replacedBy: c.text("replacedBy") ?? "",
      requestId: requestId(c),
      to,
      ...(severity === undefined ? {} : { severity: choice("severity", severity, SEVERITIES) }),
    }),
    (m) => written(c.io, m),
  );
}
const DOSSIERS = {
  "annex-iv": DossierFormat.ANNEX_IV,
  card: DossierFormat.CARD,
  cyclonedx: DossierFormat.CYCLONEDX,
  "sr-26-2": DossierFormat.SR_26_2,
};

const rulesTable = (policies: readonly Resource[]): string => {
  const rows = policies.flatMap((r) =>
    r.body.case !== "policy"
      ? []
      : r.body.value.rules.map((rule) => [
          r.name,
          rule.id,
          rule.when ?? "",
          rule.require,
          enumWord(rule.otherwise, Otherwise),
        ]),
  );
  return rows.length === 0 ? "none\n" : table(["POLICY", "RULE", "WHEN", "REQUIRES", "OTHERWISE"], rows);
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

const REASON: readonly (readonly [string, string])[] = [["--reason <text>", "why"], REQUEST_ID];
const REVOKE: readonly (readonly [string, string])[] = [
  ...REASON,
  ["--severity <severity>", "informs, or invalidates what was built from it"],
  ["--replaced-by <ref>", "what to use instead"],
];

export function addData(program: Command, io: Io): void {
  const artifact = program.command("artifact").description("bytes that the ledger holds");
  declare(artifact, io, {
    example: "datapilot artifact put report.html model/",
    options: [
      ["--chunk-above <bytes>", "split longer files (DATAPILOT_CHUNK_ABOVE, default 1 GiB)"],
      ["--chunk-size <bytes>", "length of a chunk (DATAPILOT_CHUNK_SIZE, default 256 MiB, 1 GiB above 1 TiB)"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const splitting = splittingOf(io, { above: c.number("chunkAbove"), chunk: c.number("chunkSize") });
      const files = await uploadFiles(io, c.connect(), c.args, splitting);
      c.print(
        files.map((f) => ({
          ...(f.chunked === undefined
            ? {}
            : {
                content: {
                  chunk_bytes: f.chunked.chunkBytes,
                  chunk_count: f.chunked.chunks.length,
                  sha256_claimed: `sha256:${f.chunked.sha256Claimed}`,
                  size_bytes: f.chunked.sizeBytes,
                },
              }),
          digest: f.digest,
          path: f.path,
          record: f.record,
          size_bytes: f.sizeBytes,
        })),
        () =>
          table(
            ["DIGEST", "BYTES", "CHUNKS", "PATH"],
            files.map((f) => [f.digest, String(contentBytes(f)), String(f.chunked?.chunks.length ?? "-"), f.path]),
          ),
      );
    },
    summary: "upload files; what the store has is not sent again",
    words: "put <path...>",
  });
  declare(artifact, io, {
    example: "datapilot artifact get sha256:0123… --output model.json",
    options: [["--output <file>", "where to write the bytes"]],
    run: async (c) => {
      const k = c.connect();
      const asked = c.args[0] ?? "";
      const id = parseEitherId(asked);
      const answer = await k.artifact.batchGetDownloadUrls({ artifacts: [id ?? asked], project: k.project });
      const [url] = answer.urls;
      const output = c.text("output");
      // A digest names the record or the content, and nothing else will do.
      if (url !== undefined && id !== undefined && url.artifact !== id && url.digest !== id)
        throw new Exit(EXIT.internal, "DIGEST_MISMATCH", `The control plane answered ${url.digest} for ${id}.`);
      if (url !== undefined && output !== undefined) await download(io, k, url, output);
      c.show(BatchGetDownloadUrlsResponseSchema, answer, (m) =>
        output === undefined
          ? m.urls.map((u) => `${u.downloadUrl}\n`).join("")
          : `${output}: ${url?.digest ?? ""}${url?.content === undefined ? "" : `, ${url.content.chunkCount} chunks and the whole`}, verified\n`,
      );
    },
    summary: "download bytes and check them; the download is recorded",
    words: "get <artifact>",
  });

  const schema = program.command("schema").description("fields of datasets");
  declare(schema, io, {
    example: "datapilot schema import penguins.schema.json --project zoo",
    options: [REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      const file = c.args[0] ?? "";
      c.show(
        WriteResponseSchema,
        await k.dataset.createSchema({
          project: k.project,
          requestId: requestId(c),
          schema: parse("a schema", file, () => fromJson(SchemaSchema, readJson(file))),
        }),
        (m) => written(io, m),
      );
    },
    summary: "record a schema",
    words: "import <file>",
  });
  declare(schema, io, {
    example: "datapilot schema show zoo/penguins",
    run: async (c) => {
      const k = c.connect();
      c.show(GetResponseSchema, await k.dataset.getSchema({ name: c.args[0] ?? "", project: k.project }), (m) =>
        m.resource?.body.case === "schema"
          ? resourceLine(io, m.resource) +
            table(
              ["FIELD", "TYPE", "NULLABLE"],
              m.resource.body.value.fields.map((f) => [f.name, f.type, String(f.nullable)]),
            )
          : "",
      );
    },
    summary: "one schema",
    words: "show <schema>",
  });
  declare(schema, io, {
    example: "datapilot schema diff penguins-raw penguins",
    options: [AS_OF],
    run: async (c) =>
      c.show(CompareSchemasResponseSchema, await c.connect().dataset.compareSchemas(comparison(c)), (m) =>
        differences(m.fields),
      ),
    summary: "fields that differ between two schemas",
    words: "diff <left> <right>",
  });

  const dataset = program.command("dataset").description("data and its versions");
  declare(dataset, io, {
    example: "datapilot dataset create penguins --classification public",
    options: [
      ["--description <text>", "what it holds"],
      ["--classification <class>", "public, internal, confidential or personal"],
      ["--license <text>", "license of the data"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const k = c.connect();
      const description = c.text("description");
      const license = c.text("license");
      const classification = choice("classification", c.text("classification") ?? "internal", {
        confidential: Classification.CONFIDENTIAL,
        internal: Classification.INTERNAL,
        personal: Classification.PERSONAL,
        public: Classification.PUBLIC,
      });
      c.show(
        WriteResponseSchema,
        await k.dataset.createDataset({
          dataset: create(DatasetSchema, {
            classification,
            name: c.args[0] ?? "",
            ...(description === undefined ? {} : { description }),
            ...(license === undefined ? {} : { license }),
          }),
          project: k.project,
          requestId: requestId(c),
        }),
        (m) => written(io, m),
      );
    },
    summary: "make a dataset",
    words: "create <name>",
  });
  declare(dataset, io, {
    example: "datapilot dataset register penguins data/ --schema penguins --rows 344",
    options: [
      ["--schema <ref>", "its schema"],
      ["--rows <n>", "number of rows"],
      ["--derived-from <ref>...", "version that it was made from"],
      ["--produced-by <run>", "run that made it"],
      REQUEST_ID,
    ],
    run: async (c) => {
      const k = c.connect();
      const [name = "", ...paths] = c.args;
      const rows = c.number("rows");
      const version = create(DatasetVersionSchema, {
        custody: Custody.LEDGER,
        files: await contentOf(c, paths),
        ...(rows === undefined ? {} : { rows }),
      });
      c.show(
        WriteResponseSchema,
        await k.dataset.createDatasetVersion({
          dataset: name,
          derivedFrom: [...c.list("derivedFrom")],
          producedBy: c.text("producedBy") ?? "",
          project: k.project,
          requestId: requestId(c),
          schema: c.text("schema") ?? "",
          version,
        }),
        (m) => written(io, m),
      );
    },
    summary: "upload files and register them as the next version",
    words: "register <dataset> <path...>",
  });
  declare(dataset, io, {
    example: "datapilot dataset list",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.dataset.listDatasets, { asOf: c.number("asOf") ?? 0, project: k.project }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "datasets of a project",
    words: "list",
  });
  declare(dataset, io, {
    example: "datapilot dataset versions penguins",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.dataset.listDatasetVersions, {
          asOf: c.number("asOf") ?? 0,
          parent: c.args[0] ?? "",
          project: k.project,
        }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "versions of a dataset",
    words: "versions <dataset>",
  });
  declare(dataset, io, {
    example: "datapilot dataset diff penguins@v1 penguins@v2",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        CompareDatasetVersionsResponseSchema,
        await k.dataset.compareDatasetVersions({
          asOf: c.number("asOf") ?? 0,
          left: c.args[0] ?? "",
          project: k.project,
          right: c.args[1] ?? "",
        }),
        (m) => `files\n${differences(m.files)}fields\n${differences(m.fields)}statistics\n${differences(m.statistics)}`,
      );
    },
    summary: "what differs between two versions",
    words: "diff <left> <right>",
  });
  for (const [word, to, summary, options] of [
    ["approve", "approved", "approve a version", REASON],
    ["deprecate", "deprecated", "advise against a version", REASON],
    ["revoke", "revoked", "withdraw a version for good", REVOKE],
  ] as const)
    declare(dataset, io, {
      example: `datapilot dataset ${word} penguins@v2 --reason 'Checked'${word === "revoke" ? " --severity invalidates" : ""}`,
      options,
      run: (c) => transition(c, to),
      summary,
      words: `${word} <version>`,
    });

  const quality = program.command("quality").description("measurements and gates");
  declare(quality, io, {
    example: "datapilot quality rules --project zoo",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await k.policy.listEffectivePolicies({
          asOf: c.number("asOf") ?? 0,
          project: k.project,
          target: "quality.gate",
        }),
        (m) => rulesTable(m.resources),
      );
    },
    summary: "the rules in force that gates judge by; `policy create` makes more",
    words: "rules",
  });
  declare(quality, io, {
    example: "datapilot quality report penguins@v1 measurements.json",
    options: [["--run <run>", "run that measured"], REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      const file = c.args[1] ?? "";
      c.show(
        WriteResponseSchema,
        await k.quality.reportQuality({
          datasetVersion: c.args[0] ?? "",
          project: k.project,
          report: parse("a quality report", file, () => fromJson(QualityReportSchema, readJson(file))),
          requestId: requestId(c),
          run: c.text("run") ?? "",
        }),
        (m) => written(io, m),
      );
    },
    summary: "report measurements; the gate's decision is recorded with them",
    words: "report <version> <file>",
  });
  declare(quality, io, {
    example: "datapilot quality evaluate penguins@v1",
    options: [REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      c.show(
        WriteResponseSchema,
        await k.quality.evaluateGate({ datasetVersion: c.args[0] ?? "", project: k.project, requestId: requestId(c) }),
        (m) => written(io, m),
      );
    },
    summary: "judge the newest complete report by the rules in force",
    words: "evaluate <version>",
  });
  declare(quality, io, {
    example: "datapilot quality gate penguins@v1",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        GetGateResponseSchema,
        await k.quality.getGate({ asOf: c.number("asOf") ?? 0, name: c.args[0] ?? "", project: k.project }),
        (m) => `gate ${statusText(io, m.gate)} (tree size ${m.treeSize})\n`,
      );
    },
    summary: "the gate of a version",
    words: "gate <version>",
  });

  const env = program.command("env").description("environments and their locks");
  declare(env, io, {
    example: "datapilot env create node24",
    options: [["--description <text>", "what it is for"], REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      const description = c.text("description");
      c.show(
        WriteResponseSchema,
        await k.environment.createEnvironment({
          environment: create(EnvironmentSchema, {
            name: c.args[0] ?? "",
            ...(description === undefined ? {} : { description }),
          }),
          project: k.project,
          requestId: requestId(c),
        }),
        (m) => written(io, m),
      );
    },
    summary: "make an environment",
    words: "create <name>",
  });
  declare(env, io, {
    example: "datapilot env lock node24 lock.json",
    options: [["--sbom <artifact>", "bill of materials"], REQUEST_ID],
    run: async (c) => {
      const k = c.connect();
      const { lockOf } = await import("./observe.ts");
      const file = c.args[1];
      const lock =
        file === undefined
          ? lockOf(process.cwd())
          : parse("a lock", file, () => fromJson(EnvironmentLockSchema, readJson(file)));
      c.show(
        WriteResponseSchema,
        await k.environment.createEnvironmentLock({
          environment: c.args[0] ?? "",
          lock,
          project: k.project,
          requestId: requestId(c),
          sbom: c.text("sbom") ?? "",
        }),
        (m) => written(io, m),
      );
    },
    summary: "pin an environment: a file, or what is seen in this folder",
    words: "lock <environment> [file]",
  });
  declare(env, io, {
    example: "datapilot env list",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.environment.listEnvironments, { asOf: c.number("asOf") ?? 0, project: k.project }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "environments of a project",
    words: "list",
  });
  declare(env, io, {
    example: "datapilot env locks node24",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.environment.listEnvironmentLocks, {
          asOf: c.number("asOf") ?? 0,
          parent: c.args[0] ?? "",
          project: k.project,
        }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "locks of an environment",
    words: "locks <environment>",
  });
  declare(env, io, {
    example: "datapilot env diff node24@v1 node24@v2",
    options: [AS_OF],
    run: async (c) =>
      c.show(CompareLocksResponseSchema, await c.connect().environment.compareLocks(comparison(c)), (m) =>
        differences(m.differences),
      ),
    summary: "what differs between two locks: images, lock files, runtimes, packages",
    words: "diff <left> <right>",
  });
  declare(env, io, {
    example: "datapilot env approve node24@v1 --reason 'Scanned'",
    options: REASON,
    run: (c) => transition(c, "approved"),
    summary: "approve a lock",
    words: "approve <lock>",
  });
  declare(env, io, {
    example: "datapilot env revoke node24@v1 --reason 'CVE-2026-1'",
    options: REVOKE,
    run: (c) => transition(c, "revoked"),
    summary: "withdraw a lock for good",
    words: "revoke <lock>",
  });

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
