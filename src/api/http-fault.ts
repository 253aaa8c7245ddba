/** Answers of the HTTP façades: JSON and faults, with the status that Connect gives the fault's code. */
import type { ServerResponse } from "node:http";
import { Code } from "@connectrpc/connect";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { faultOf, toConnectError } from "./faults.ts";
import type { Response } from "./listen.ts";

export function send(
  response: Response,
  status: number,
  type: string,
  body: string | Uint8Array,
  headers: Readonly<Record<string, string>> = {},
): void {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  (response as ServerResponse).writeHead(status, {
    "cache-control": "no-store",
    "content-length": String(bytes.length),
    "content-type": type,
    "x-content-type-options": "nosniff",
    ...headers,
  });
  (response as ServerResponse).end(bytes);
}

export const sendJson = (
  response: Response,
  status: number,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): void => send(response, status, "application/json", `${JSON.stringify(body)}\n`, headers);

/** Answers an error as `{reason, message, metadata, fields}`; says nothing of what is a bug. */
export function sendFault(response: Response, error: unknown, headers: Readonly<Record<string, string>> = {}): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const shown = toConnectError(error);
  const { reason = codeName(shown.code), metadata = {}, fields = [], retryAfterMs } = faultOf(shown) ?? {};
  // Connect knows no code for a body that is too large; 429 would say that it may be sent again.
  const status = reason === "LIMIT_EXCEEDED" ? 413 : codeToHttpStatus(shown.code);
  sendJson(
    response,
    status,
    { fields, message: shown.rawMessage, metadata, reason },
    {
      ...headers,
      ...(status === 401 ? { "www-authenticate": 'Bearer realm="datapilot"' } : {}),
      ...(retryAfterMs === undefined ? {} : { "retry-after": String(Math.ceil(retryAfterMs / 1_000)) }),
    },
  );
}

const codeName = (code: Code): string =>
  (Code[code] ?? "Unknown").replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
