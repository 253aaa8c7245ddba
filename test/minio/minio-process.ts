/** `make minio`: a MinIO on loopback for a person who tries things, until it is interrupted. */
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startMinio } from "./minio.ts";

const NAME = "ledger";
/** As long as MinIO lets a session last by default. */
const WEEK_SECONDS = 7 * 86_400;

const folder = process.argv[2] ?? join(tmpdir(), "datapilot-minio");
await mkdir(folder, { recursive: true });
const minio = await startMinio({ folder, port: 9000 });
const writer = await minio.as("writer", NAME, WEEK_SECONDS);
process.stdout.write(`MinIO at http://127.0.0.1:${minio.port}, with its data in ${folder}. Ctrl-C ends it.

# Of the administrator, for \`init\` only:
export DATAPILOT_S3_ADMIN_ACCESS_KEY=${minio.root.accessKey}
export DATAPILOT_S3_ADMIN_SECRET_KEY=${minio.root.secretKey}
# Of the server, held to deploy/iam/writer.json, for a week:
export DATAPILOT_S3_ACCESS_KEY=${writer.accessKey}
export DATAPILOT_S3_SECRET_KEY=${writer.secretKey}
export DATAPILOT_S3_SESSION_TOKEN=${writer.sessionToken}

datapilot init --dir ./home --store ${minio.address(NAME)} --retention-days 1 --solo
datapilot server --dir ./home
`);
const ending = Promise.withResolvers<void>();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => ending.resolve());
await ending.promise;
await minio[Symbol.asyncDispose]();
