/** Commands that ask: lineage, the log, queries; and evidence for outsiders. */

import { once } from "node:events";
import { createWriteStream, readFileSync, renameSync, writeFileSync } from "node:fs";
import { fromJson, toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { AccessAction, type Operation, OperationSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { Outcome } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { ExportEvidenceResponseSchema } from "../../gen/ts/animus/datapilot/v1/evidence_pb.ts";
import {
  GetCheckpointResponseSchema,
  GetConsistencyProofResponseSchema,
  GetHealthResponseSchema,
  WatchEntriesResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import {
  DiffClosuresResponseSchema,
  Direction,
  FindPathsResponseSchema,
  type LineageNode,
  LineageNodeSchema,
} from "../../gen/ts/animus/datapilot/v1/lineage_pb.ts";
import {
  ListResponseSchema,
  ReceiptSchema,
  type Resource,
  WriteResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { formatProofFile } from "../note/proof-file.ts";
import { parseHex, utf8 } from "../std/bytes.ts";
import { listAll } from "./client.ts";
import { AS_OF, type Context, declare, REQUEST_ID, UsageError } from "./command.ts";
import { readJson, required } from "./govern.ts";
import { type Io, paint, progress, shortId, table } from "./io.ts";
import { enumWord, resourceTable } from "./render.ts";

const nodeRow = (n: LineageNode): string[] => [
  String(n.logIndex),
  n.kind,
  n.withheld ? "(withheld)" : n.name,
  [n.status, n.tainted ? "tainted" : ""].filter((x) => x !== "").join(", "),
  String(n.depth),
  shortId(n.record),
];
const nodeTable = (nodes: readonly LineageNode[]): string =>
  nodes.length === 0 ? "none\n" : table(["INDEX", "KIND", "NAME", "STATUS", "DEPTH", "RECORD"], nodes.map(nodeRow));
const OUTCOMES = ["allow", "deny", "require_approval", "error"];
const KINDS: readonly [string, string] = ["--kind <kind>...", "only of this kind"];

async function walk(c: Context, direction: Direction, impact = false): Promise<void> {
  const k = c.connect();
  const nodes: LineageNode[] = [];
  let treeSize = 0;
  let truncated = false;
  const classes = [...c.list("class")];
  if (c.args.length === 0 && classes.length === 0)
    throw new UsageError("Name what to begin at, or give --class to begin at all data that has such fields.");
  const request = {
    asOf: c.number("asOf") ?? 0,
    classes,
    depth: c.number("depth") ?? 0,
    direction,
    kinds: [...c.list("kind")],
    limit: c.number("limit") ?? 0,
    project: k.project,
    roots: [...c.args],
  };
  const shown = progress(c.io, "records");
  for await (const part of impact ? k.lineage.getImpact(request) : k.lineage.traverse(request)) {
    nodes.push(...part.nodes);
    shown.at(nodes.length);
    ({ treeSize } = part);
    truncated ||= part.truncated;
  }
  shown.end();
  c.print(
    {
      nodes: nodes.map((n) => toJson(LineageNodeSchema, n, { useProtoFieldName: true })),
      tree_size: treeSize,
      truncated,
    },
    () =>
      `${nodeTable(nodes)}${paint(c.io, "dim", `tree size ${treeSize}${truncated ? ", cut off by --limit" : ""}\n`)}`,
  );
}

const WALK: readonly (readonly [string, string])[] = [
  KINDS,
  ["--depth <n>", "links at most (default: no limit)"],
  ["--limit <n>", "records at most (default 100,000)"],
  AS_OF,
];

export function addLineage(program: Command, io: Io): void {
  const lineage = program.command("lineage").description("what was made from what");
  declare(lineage, io, {
    example: "datapilot lineage up fraud/scorer@v3",
    options: WALK,
    run: (c) => walk(c, Direction.UP),
    summary: "everything that a record rests on",
    words: "up <ref...>",
  });
  declare(lineage, io, {
    example: "datapilot lineage down --class pii --kind model.version --project fraud",
    options: [["--class <class>...", "begin at all data of the project that has fields of this class"], ...WALK],
    run: (c) => walk(c, Direction.DOWN),
    summary: "everything that rests on a record, or on data of a class",
    words: "down [ref...]",
  });
  declare(lineage, io, {
    example: "datapilot lineage impact fraud/transactions@v7",
    options: WALK,
    run: (c) => walk(c, Direction.DOWN, true),
    summary: "versions in use that a record affects",
    words: "impact <ref...>",
  });
  declare(lineage, io, {
    example: "datapilot lineage path fraud/scorer@v3 fraud/transactions@v7",
    options: [["--limit <n>", "paths at most (default 10)"], AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        FindPathsResponseSchema,
        await k.lineage.findPaths({
          asOf: c.number("asOf") ?? 0,
          from: c.args[0] ?? "",
          limit: c.number("limit") ?? 0,
          project: k.project,
          to: c.args[1] ?? "",
        }),
        (m) =>
          m.paths.length === 0
            ? "no path\n"
            : m.paths
                .map(
                  (p) =>
                    `${p.nodes.map((n, i) => `${i === 0 ? "" : ` ─${p.edges[i - 1]?.rel ?? ""}→ `}${n.name === "" ? `${n.kind} ${shortId(n.record)}` : n.name}`).join("")}\n`,
                )
                .join(""),
      );
    },
    summary: "how one record rests on another",
    words: "path <from> <to>",
  });
  declare(lineage, io, {
    example: "datapilot lineage diff fraud/scorer@v2 fraud/scorer@v3",
    options: [KINDS, AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        DiffClosuresResponseSchema,
        await k.lineage.diffClosures({
          asOf: c.number("asOf") ?? 0,
          kinds: [...c.list("kind")],
          left: c.args[0] ?? "",
          project: k.project,
          right: c.args[1] ?? "",
        }),
        (m) =>
          `only upstream of ${c.args[0]}\n${nodeTable(m.onlyLeft)}only upstream of ${c.args[1]}\n${nodeTable(m.onlyRight)}${m.common} records upstream of both\n`,
      );
    },
    summary: "what one record rests on and another does not",
    words: "diff <left> <right>",
  });
}

function operationIn(file: string): Operation {
  try {
    return fromJson(OperationSchema, readJson(file));
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error) || "code" in error) throw error;
    throw new UsageError(`${file} is not the body of an operation: ${error.message}`);
  }
}

export function addLog(program: Command, io: Io): void {
  const log = program.command("log").description("the log itself");
  declare(log, io, {
    example: "datapilot log show --kind decision --limit 20",
    options: [
      ["--kind <kind>...", "only of this kind"],
      ["--from <index>", "first index"],
      ["--limit <n>", "records at most (default 100)"],
      AS_OF,
    ],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await k.ledger.listRecords({
          asOf: c.number("asOf") ?? 0,
          fromIndex: c.number("from") ?? 0,
          kinds: [...c.list("kind")],
          newestFirst: c.number("from") === undefined,
          pageSize: c.number("limit") ?? 100,
          project: c.text("project") ?? io.env["DATAPILOT_PROJECT"] ?? "",
        }),
        (m) => resourceTable(m.resources),
      );
    },
    summary: "records in log order, newest first",
    words: "show",
  });
  declare(log, io, {
    example: "datapilot log tail --project fraud",
    options: [
      ["--from <index>", "first index"],
      ["--kind <kind>...", "only of this kind"],
    ],
    run: async (c) => {
      for await (const m of c.connect().ledger.watchEntries(
        {
          fromIndex: c.number("from") ?? 0,
          kinds: [...c.list("kind")],
          projects: c.text("project") === undefined ? [] : [c.text("project") ?? ""],
        },
        { signal: io.signal, timeoutMs: 0 },
      ))
        io.out(
          c.json
            ? `${JSON.stringify(toJson(WatchEntriesResponseSchema, m, { useProtoFieldName: true }))}\n`
            : m.entry === ""
              ? `checkpoint ${m.checkpoint.split("\n")[1] ?? ""}\n`
              : `${m.logIndex} ${m.entry}\n`,
        );
    },
    summary: "entries as they come",
    words: "tail",
  });
  declare(log, io, {
    example: "datapilot log checkpoint > kept-checkpoint",
    run: async (c) =>
      c.show(
        GetCheckpointResponseSchema,
        await c.connect().ledger.getCheckpoint({ published: c.options["published"] === true }),
        (m) => m.checkpoint,
      ),
    options: [["--published", "the published one, with cosignatures"]],
    summary: "the newest signed checkpoint; keep it",
    words: "checkpoint",
  });
  declare(log, io, {
    example: "datapilot log consistency --from 120 --to 340",
    options: [
      ["--from <size>", "the smaller size"],
      ["--to <size>", "the larger size"],
    ],
    run: async (c) =>
      c.show(
        GetConsistencyProofResponseSchema,
        await c.connect().ledger.getConsistencyProof({ fromSize: c.number("from") ?? 0, toSize: c.number("to") ?? 0 }),
        (m) => `${m.hashes.join("\n")}\n`,
      ),
    summary: "proof that one tree extends another",
    words: "consistency",
  });
  declare(log, io, {
    example: "datapilot log receipt sha256:0123… --output record.tlog-proof",
    options: [
      ["--output <file>", "write a .tlog-proof file"],
      ["--record-output <file>", "write the record's exact bytes"],
    ],
    run: async (c) => {
      const k = c.connect();
      const receipt = await k.ledger.getReceipt({ record: c.args[0] ?? "" });
      const output = c.text("output");
      const recordOutput = c.text("recordOutput");
      if (output !== undefined)
        writeFileSync(
          output,
          formatProofFile({
            checkpoint: receipt.checkpoint,
            extra: utf8(receipt.entry),
            hashes: receipt.inclusionProof.map((h) => parseHex(h) ?? new Uint8Array()),
            index: receipt.logIndex,
          }),
        );
      if (recordOutput !== undefined)
        writeFileSync(recordOutput, (await k.ledger.getRecord({ record: receipt.record })).record);
      c.show(ReceiptSchema, receipt, (m) => `${m.record} is entry ${m.logIndex} of the tree of size ${m.treeSize}\n`);
    },
    summary: "proof that a record is in the log",
    words: "receipt <record>",
  });
  declare(log, io, {
    example: "datapilot log record-operation verified.json",
    options: [REQUEST_ID, ["--validate-only", "check it, and record nothing"]],
    run: async (c) => {
      const response = await c.connect().ledger.recordOperation({
        operation: operationIn(c.args[0] ?? ""),
        requestId: c.text("requestId") ?? "",
        validateOnly: c.options["validateOnly"] === true,
      });
      c.show(WriteResponseSchema, response, (m) =>
        m.receipt === undefined
          ? "It may be recorded.\n"
          : `${m.receipt.record} is entry ${m.receipt.logIndex} of the tree of size ${m.receipt.treeSize}\n`,
      );
    },
    summary: "record locks that were prolonged, or objects that were compared, outside of the server",
    words: "record-operation <file>",
  });
  declare(log, io, {
    example: "datapilot log health",
    run: async (c) =>
      c.show(
        GetHealthResponseSchema,
        await c.connect().ledger.getHealth({}),
        (m) =>
          `${m.origin}\ngenesis ${m.genesis}\nsize ${m.treeSize}, published ${m.publishedSize}, materialised ${m.materialisedSize}\nstate ${m.stateDigest}\nlock ${m.lock}\n${m.role}${m.role === "follower" ? `, ${m.lagMs} ms behind at most` : ""}\n${m.stopped === "" ? "" : `stopped: ${m.stopped}\n`}${m.alarm === "" ? "" : `alarm: ${m.alarm}\n`}`,
      ),
    summary: "how the ledger fares",
    words: "health",
  });

  const accessTable = (resources: readonly Resource[]): string =>
    resources.length === 0
      ? "none\n"
      : table(
          ["INDEX", "TIME", "WHO", "WHAT", "REASON", "PERMISSION", "CALL", "TIMES"],
          resources.map((r) => {
            const access = r.body.case === "access" ? r.body.value : undefined;
            return [
              String(r.logIndex),
              r.time,
              r.actor === "" ? "-" : shortId(r.actor),
              enumWord(access?.action ?? 0, AccessAction),
              access?.reason ?? "",
              access?.permission ?? "",
              (access?.rpc ?? "").replace(/^animus\.datapilot\.v1\./, ""),
              String(access?.count ?? 1),
            ];
          }),
        );
  const decisionTable = (resources: readonly Resource[]): string =>
    resources.length === 0
      ? "none\n"
      : table(
          ["INDEX", "TIME", "OUTCOME", "TARGET", "DECISION"],
          resources.map((r) => {
            const decision = r.body.case === "decision" ? r.body.value : undefined;
            const outcome = enumWord(decision?.outcome ?? 0, Outcome);
            return [
              String(r.logIndex),
              r.time,
              decision?.preview === true ? `${outcome} (preview)` : outcome,
              decision?.target ?? "",
              r.record,
            ];
          }),
        );
  const query = program.command("query").description("questions about the record");
  declare(query, io, {
    example: "datapilot query denials --project fraud",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.access.listAccess, {
          asOf: c.number("asOf") ?? 0,
          filter: "action = denied",
          project: k.project,
        }),
        (m) => accessTable(m.resources),
      );
    },
    summary: "who was denied",
    words: "denials",
  });
  declare(query, io, {
    example: "datapilot query access fraud/transactions@v7",
    options: [AS_OF],
    run: async (c) => {
      const k = c.connect();
      c.show(
        ListResponseSchema,
        await listAll(k.access.listAccess, {
          asOf: c.number("asOf") ?? 0,
          parent: c.args[0] ?? "",
          project: k.project,
        }),
        (m) => accessTable(m.resources),
      );
    },
    summary: "who downloaded or was denied a resource",
    words: "access [ref]",
  });
  declare(query, io, {
    example: "datapilot query decisions --project fraud",
    options: [["--outcome <outcome>", "allow, deny, require_approval or error"], AS_OF],
    run: async (c) => {
      const k = c.connect();
      const outcome = c.text("outcome")?.toLowerCase();
      if (outcome !== undefined && !OUTCOMES.includes(outcome))
        throw new UsageError(`--outcome must be one of ${OUTCOMES.join(", ")}, not ${JSON.stringify(outcome)}.`);
      c.show(
        ListResponseSchema,
        await listAll(k.policy.listDecisions, {
          asOf: c.number("asOf") ?? 0,
          filter: outcome === undefined ? "" : `outcome = ${outcome}`,
          project: k.project,
        }),
        (m) => decisionTable(m.resources),
      );
    },
    summary: "decisions of a project",
    words: "decisions",
  });

  const evidence = program.command("evidence").description("evidence for outsiders");
  declare(evidence, io, {
    example: "datapilot evidence export fraud/scorer@v3 --output scorer.dpevidence --purpose 'Audit 2026'",
    options: [
      ["--output <file>", "where to write the pack"],
      ["--purpose <text>", "what it is for"],
      ["--recipient <text>", "for whom"],
      ["--complete <project>...", "with every entry of this project"],
      ["--depth <n>", "links upstream at most"],
      ["--blobs", "with the artifacts' bytes"],
      ["--personal", "with personal values, such as printed names"],
      ["--kept <note>...", "checkpoint that the recipient kept"],
    ],
    run: async (c) => {
      const k = c.connect();
      const output = required("--output", c.text("output"));
      const partial = `${output}.partial`;
      const file = createWriteStream(partial);
      const shown = progress(io, "bytes");
      let header: ReturnType<typeof toJson> = null;
      let summary = "";
      let bytes = 0;
      for await (const m of k.evidence.exportEvidence({
        anchors: c.list("kept").map((f) => readFileSync(f, "utf8")),
        complete: [...c.list("complete")],
        depth: c.number("depth") ?? 0,
        includeBlobs: c.options["blobs"] === true,
        includePersonal: c.options["personal"] === true,
        project: k.project,
        purpose: required("--purpose", c.text("purpose")),
        recipient: c.text("recipient") ?? "",
        roots: [...c.args],
      })) {
        if (m.header !== undefined) {
          header = toJson(ExportEvidenceResponseSchema, m, { useProtoFieldName: true });
          summary = `${output}: pack ${m.header.pack}, ${m.header.records} records, ${m.header.omitted} left out, tree size ${m.header.checkpoint.split("\n")[1] ?? ""}\n`;
          if (m.header.proofFile !== "") writeFileSync(`${output}.tlog-proof`, m.header.proofFile);
        }
        shown.at((bytes += m.chunk.length));
        if (m.chunk.length > 0 && !file.write(m.chunk)) await once(file, "drain");
      }
      file.end();
      await once(file, "close");
      shown.end();
      renameSync(partial, output);
      c.print(header, () => summary);
    },
    summary: "write an evidence pack; the export is recorded",
    words: "export <ref...>",
  });
}
