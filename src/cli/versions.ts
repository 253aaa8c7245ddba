/** What commands about versions of data, environments and models have in common: content, status, what differs. */
import { type ContentFile } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { type Difference } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { WriteResponseSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { type Context, REQUEST_ID, UsageError } from "./command.ts";
import { required, SEVERITIES } from "./govern.ts";
import { table } from "./io.ts";
import { written } from "./render.ts";
import { uploadFiles } from "./transfer.ts";

export const parse = <T>(what: string, file: string, make: () => T): T => {
  try {
    return make();
  } catch (error) {
    if (error instanceof UsageError || !(error instanceof Error) || "code" in error) throw error;
    throw new UsageError(`${file} is not ${what}: ${error.message}`);
  }
};
export const requestId = (c: Context): string => c.text("requestId") ?? "";
export const choice = <T>(flag: string, text: string, values: Readonly<Record<string, T>>): T => {
  const value = values[text];
  if (value === undefined)
    throw new UsageError(`--${flag} must be one of ${Object.keys(values).join(", ")}, not ${JSON.stringify(text)}.`);
  return value;
};
export const comparison = (c: Context) => ({
  asOf: c.number("asOf") ?? 0,
  left: c.args[0] ?? "",
  project: c.connect().project,
  right: c.args[1] ?? "",
});
export const differences = (rows: readonly Difference[]): string =>
  rows.length === 0
    ? "no difference\n"
    : table(
        ["PATH", "LEFT", "RIGHT"],
        rows.map((d) => [d.path, d.left, d.right]),
      );

/** Uploads files below the given paths; gives them as a version's content. */
export async function contentOf(c: Context, paths: readonly string[]): Promise<ContentFile[]> {
  const uploaded = await uploadFiles(c.io, c.connect(), paths);
  return uploaded.map((f) => ({
    $typeName: "animus.datapilot.record.v1.ContentFile",
    digest: f.digest,
    path: f.path,
    sizeBytes: f.sizeBytes,
  }));
}

export async function transition(c: Context, to: string): Promise<void> {
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
export const REASON: readonly (readonly [string, string])[] = [["--reason <text>", "why"], REQUEST_ID];
export const REVOKE: readonly (readonly [string, string])[] = [
  ...REASON,
  ["--severity <severity>", "informs, or invalidates what was built from it"],
  ["--replaced-by <ref>", "what to use instead"],
];
