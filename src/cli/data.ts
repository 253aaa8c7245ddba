/** Commands about artifacts, schemas, datasets and their quality. */
import { create, fromJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import {
  Classification,
  Custody,
  DatasetSchema,
  DatasetVersionSchema,
  QualityReportSchema,
  SchemaSchema,
} from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { Otherwise } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { BatchGetDownloadUrlsResponseSchema } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import {
  CompareDatasetVersionsResponseSchema,
  CompareSchemasResponseSchema,
  GetGateResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import {
  GetResponseSchema,
  ListResponseSchema,
  type Resource,
  WriteResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { parseEitherId } from "../std/brand.ts";
import { listAll } from "./client.ts";
import { AS_OF, declare, REQUEST_ID } from "./command.ts";
import { readJson } from "./govern.ts";
import { EXIT, Exit, type Io, table } from "./io.ts";
import { enumWord, resourceLine, resourceTable, statusText, written } from "./render.ts";
import { contentBytes, download, splittingOf, uploadFiles } from "./transfer.ts";
import {
  choice,
  comparison,
  contentOf,
  differences,
  parse,
  REASON,
  REVOKE,
  requestId,
  transition,
} from "./versions.ts";

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
}
