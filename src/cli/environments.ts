/** Commands about environments and their locks. */
import { create, fromJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { EnvironmentLockSchema, EnvironmentSchema } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { ListResponseSchema, WriteResponseSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { CompareLocksResponseSchema } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { listAll } from "./client.ts";
import { AS_OF, declare, REQUEST_ID } from "./command.ts";
import { readJson } from "./govern.ts";
import { type Io } from "./io.ts";
import { resourceTable, written } from "./render.ts";
import { comparison, differences, parse, REASON, REVOKE, requestId, transition } from "./versions.ts";

export function addEnvironments(program: Command, io: Io): void {
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
}
