/**
 * The connection to a control plane, and what its faults mean for whoever typed the command.
 */
import { readFileSync } from "node:fs";
import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { AccessService, ProjectService } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { ArtifactService } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { DatasetService, QualityService } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { EvidenceService } from "../../gen/ts/animus/datapilot/v1/evidence_pb.ts";
import { ApprovalService, PolicyService } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { LedgerService } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import { LineageService } from "../../gen/ts/animus/datapilot/v1/lineage_pb.ts";
import { ModelService } from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { ListRequestSchema, ListResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { RetentionService } from "../../gen/ts/animus/datapilot/v1/retention_pb.ts";
import { EnvironmentService, RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { StatusService } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/ts/google/rpc/error_details_pb.ts";
import { Fault, type FaultReason } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import { EXIT, Exit, type Io } from "./io.ts";

export interface ConnectionOptions {
  readonly url?: string;
  readonly token?: string;
  readonly project?: string;
  readonly timeout?: string;
}

const SERVICES = {
  access: AccessService,
  approval: ApprovalService,
  artifact: ArtifactService,
  dataset: DatasetService,
  environment: EnvironmentService,
  evidence: EvidenceService,
  ledger: LedgerService,
  lineage: LineageService,
  model: ModelService,
  policy: PolicyService,
  projects: ProjectService,
  quality: QualityService,
  retention: RetentionService,
  run: RunService,
  status: StatusService,
} as const satisfies Record<string, DescService>;

export type Clients = { readonly [K in keyof typeof SERVICES]: Client<(typeof SERVICES)[K]> };

export interface Connection extends Clients {
  readonly url: string;
  readonly token: string;
  /** The project to work in; an Exit when none was named. */
  readonly project: string;
  /** The same services under another token, such as a run's. */
  as(token: string): Connection;
}

const DEFAULT_URL = "http://127.0.0.1:8420";

function tokenOf(options: ConnectionOptions, io: Io): string {
  if (options.token !== undefined) return options.token;
  const file = io.env["DATAPILOT_TOKEN_FILE"];
  const token = io.env["DATAPILOT_TOKEN"] ?? (file === undefined ? undefined : readFileSync(file, "utf8").trim());
  if (token === undefined || token === "")
    throw new Exit(
      EXIT.notAllowed,
      "TOKEN_INVALID",
      "No token was given. Set DATAPILOT_TOKEN or DATAPILOT_TOKEN_FILE; an administrator makes tokens with: datapilot token create PRINCIPAL",
    );
  return token;
}

export function connect(options: ConnectionOptions, io: Io): Connection {
  const url = options.url ?? io.env["DATAPILOT_URL"] ?? DEFAULT_URL;
  const timeoutMs = Number(options.timeout ?? "60") * 1000;
  if (!Number.isFinite(timeoutMs) || timeoutMs <= 0)
    throw new Exit(EXIT.usage, "REQUEST_INVALID", `--timeout takes seconds, not ${JSON.stringify(options.timeout)}`);
  if (!/^https?:\/\//.test(url))
    throw new Exit(
      EXIT.usage,
      "ADDRESS_INVALID",
      `The address must begin with http:// or https://, not ${JSON.stringify(url)}.`,
    );
  const build = (token: string): Connection => {
    const authenticate: Interceptor = (next) => async (request) => {
      request.header.set("authorization", `Bearer ${token}`);
      return next(request);
    };
    const transport: Transport = createGrpcTransport({
      baseUrl: url,
      defaultTimeoutMs: timeoutMs,
      interceptors: [authenticate],
      readMaxBytes: 64 << 20,
    });
    const clients = Object.fromEntries(
      Object.entries(SERVICES).map(([name, service]) => [name, createClient(service, transport)]),
    ) as unknown as Clients;
    return {
      ...clients,
      as: build,
      get project() {
        const project = options.project ?? io.env["DATAPILOT_PROJECT"];
        if (project === undefined || project === "")
          throw new Exit(
            EXIT.usage,
            "REQUEST_INVALID",
            "No project was named. Give --project NAME or set DATAPILOT_PROJECT.",
          );
        return project;
      },
      token,
      url,
    };
  };
  return build(tokenOf(options, io));
}

/** What is wrong with a file that was named. */
const FILE_FLAWS: Readonly<Record<string, string>> = {
  EACCES: "may not be read or written by you.",
  EISDIR: "is a folder: name a file.",
  ENOENT: "is not there: check the name.",
  ENOTDIR: "goes through a file as if it were a folder: check the name.",
};

const PAGE = 1_000;

/** A whole list, however many pages it has. A page may be empty and not the last. */
export async function listAll(
  list: (request: MessageInitShape<typeof ListRequestSchema>) => Promise<ListResponse>,
  request: MessageInitShape<typeof ListRequestSchema>,
): Promise<ListResponse> {
  const first = await list({ ...request, pageSize: PAGE });
  const resources = [...first.resources];
  for (let pageToken = first.nextPageToken; pageToken !== ""; ) {
    const next = await list({ ...request, pageSize: PAGE, pageToken });
    resources.push(...next.resources);
    pageToken = next.nextPageToken;
  }
  return { ...first, nextPageToken: "", resources };
}

/** Of commands that open a ledger themselves. */
const LOCAL: Readonly<Partial<Record<FaultReason, number>>> = {
  ADDRESS_INVALID: EXIT.usage,
  NAME_INVALID: EXIT.usage,
  NOT_WRITER: EXIT.notRecorded,
  REQUEST_INVALID: EXIT.usage,
  STORE_UNAVAILABLE: EXIT.notRecorded,
};

const REFUSED = new Set(["POLICY_DENIED", "POLICY_ERROR"]);

/** What an error of the control plane means for the caller's exit code. */
export function exitOf(error: unknown): Exit {
  if (error instanceof Exit) return error;
  if (error instanceof Fault)
    return new Exit(LOCAL[error.reason] ?? EXIT.internal, error.reason, error.message, error.metadata);
  if (error instanceof Violation) return new Exit(EXIT.answerIsNo, error.code, error.message);
  if (!(error instanceof ConnectError)) {
    const { code, path } = error as { readonly code?: unknown; readonly path?: unknown };
    const flaw = typeof code === "string" ? FILE_FLAWS[code] : undefined;
    if (flaw !== undefined)
      return new Exit(EXIT.usage, "REQUEST_INVALID", `${typeof path === "string" ? path : "What was named"} ${flaw}`);
    return new Exit(EXIT.internal, "INTERNAL", error instanceof Error ? error.message : String(error));
  }
  const [info] = error.findDetails(ErrorInfoSchema);
  const [bad] = error.findDetails(BadRequestSchema);
  // Most messages say what is wrong with a field; the list is for what they leave out.
  const untold = bad?.fieldViolations.filter((v) => !error.rawMessage.includes(v.description)) ?? [];
  const fields = untold.map((v) => `\n  ${v.field}: ${v.description}`).join("");
  const reason = info?.reason ?? Code[error.code].replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  const message = error.rawMessage + fields;
  const exit = (code: number, text = message): Exit => new Exit(code, reason, text, info?.metadata ?? {});
  if (REFUSED.has(reason)) return exit(EXIT.refused);
  if (reason === "APPROVAL_REQUIRED") return exit(EXIT.pending);
  switch (error.code) {
    case Code.Unauthenticated:
    case Code.PermissionDenied:
      return exit(EXIT.notAllowed);
    case Code.DeadlineExceeded:
      return exit(
        EXIT.timeOut,
        `${message}\nThe request may still take effect; send it again with the same --request-id to learn what became of it.`,
      );
    case Code.Unavailable:
      return exit(
        EXIT.notRecorded,
        info === undefined
          ? `The control plane does not answer: ${message}. Check DATAPILOT_URL, and that the server runs (datapilot doctor).`
          : message,
      );
    case Code.Internal:
    case Code.Unknown:
    case Code.DataLoss:
    case Code.Unimplemented:
      return exit(EXIT.internal);
    case Code.Canceled:
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.AlreadyExists:
    case Code.ResourceExhausted:
    case Code.FailedPrecondition:
    case Code.Aborted:
    case Code.OutOfRange:
      return exit(EXIT.answerIsNo);
    default:
      return exit(EXIT.internal);
  }
}
