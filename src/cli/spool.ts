/** What a run reported while the control plane could not be reached: kept in order, hash-chained, and delivered later. */
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import {
  type RunBatch,
  RunBatchSchema,
  type RunFinish,
  RunFinishSchema,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { type ConnectionOptions, connect } from "./client.ts";
import { declare, UsageError } from "./command.ts";
import type { Io } from "./io.ts";
import { resourceLine } from "./render.ts";
import { type LocalFile, upload } from "./transfer.ts";

export interface Spooled {
  readonly batches: readonly RunBatch[];
  readonly files: readonly LocalFile[];
  readonly finish: RunFinish;
  readonly project: string;
  readonly requestId: string;
  readonly run: string;
  readonly token: string;
}

const chain = (before: string, line: string): string => createHash("sha256").update(before).update(line).digest("hex");

/** Writes a spool file, readable by its owner only since it holds the run's token; gives its path. */
export function spool(folder: string, s: Spooled): string {
  mkdirSync(folder, { mode: 0o700, recursive: true });
  const file = join(folder, `${s.run.slice(7, 23)}.spool`);
  const items: JsonValue[] = [
    {
      files: s.files.map(({ chunked, digest, file: at, path, sizeBytes }) => ({
        digest,
        file: resolve(at),
        path,
        sizeBytes,
        ...(chunked === undefined ? {} : { chunked: { ...chunked, chunks: [...chunked.chunks] } }),
      })),
      project: s.project,
      requestId: s.requestId,
      run: s.run,
      token: s.token,
    },
    ...s.batches.map((b) => ({ batch: toJson(RunBatchSchema, b) })),
    { finish: toJson(RunFinishSchema, s.finish) },
  ];
  let link = "";
  for (const item of items) {
    const line = JSON.stringify(item);
    link = chain(link, line);
    appendFileSync(file, `${link} ${line}\n`, { mode: 0o600 });
  }
  return file;
}

const textOf = (value: JsonValue | undefined): string => (typeof value === "string" ? value : "");

export function readSpool(file: string): Spooled {
  let link = "";
  const items = readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((text) => {
      const line = text.slice(65);
      link = chain(link, line);
      if (text.slice(0, 64) !== link)
        throw new UsageError(
          `${file} was changed after it was written: its chain of hashes is broken. Nothing was delivered.`,
        );
      return JSON.parse(line) as Record<string, JsonValue>;
    });
  const [head, ...rest] = items;
  const finish = rest.at(-1)?.["finish"];
  if (head === undefined || finish === undefined) throw new UsageError(`${file} is not a whole spool file.`);
  return {
    batches: rest.slice(0, -1).map((i) => fromJson(RunBatchSchema, i["batch"] ?? {})),
    files: head["files"] as unknown as LocalFile[],
    finish: fromJson(RunFinishSchema, finish),
    project: textOf(head["project"]),
    requestId: textOf(head["requestId"]),
    run: textOf(head["run"]),
    token: textOf(head["token"]),
  };
}

export function addSpool(program: Command, io: Io): void {
  const command = program.command("spool").description("reports that could not be delivered");
  declare(command, io, {
    example: "datapilot spool push .datapilot/spool/0123456789abcdef.spool",
    run: async (c) => {
      const s = readSpool(c.args[0] ?? "");
      const connection = connect({ ...(c.options as ConnectionOptions), project: s.project, token: s.token }, io);
      await upload(io, connection, s.files);
      await connection.run.batchAppendRunEvents({
        batches: s.batches.map((b) => create(RunBatchSchema, { ...b, late: true })),
        project: s.project,
        requestId: `${s.requestId}.0`,
        run: s.run,
      });
      const finished = await connection.run.finishRun({
        finish: create(RunFinishSchema, { ...s.finish, late: true }),
        project: s.project,
        requestId: `${s.requestId}.finish`,
        run: s.run,
      });
      c.print(
        { run: s.run },
        () => `delivered ${finished.resource === undefined ? s.run : resourceLine(io, finished.resource)}`,
      );
    },
    summary: "deliver a spool file, marked as late",
    words: "push <file>",
  });
}
