/** What a process is told of a MinIO: credentials by duty, as the program reads them from its environment. */
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import type { Minio } from "./minio.ts";

export type Environment = Readonly<Record<string, string>>;

export const variables = (prefix: string, { accessKey, secretKey, sessionToken }: S3Credentials): Environment => ({
  [`${prefix}ACCESS_KEY`]: accessKey,
  [`${prefix}SECRET_KEY`]: secretKey,
  ...(sessionToken === undefined ? {} : { [`${prefix}SESSION_TOKEN`]: sessionToken }),
});

/** Of a server, which may write and presign. */
export const serverOf = async (minio: Minio, name: string): Promise<Environment> => ({
  ...variables("DATAPILOT_S3_", await minio.as("writer", name)),
  ...variables("DATAPILOT_S3_PRESIGNER_", await minio.as("presigner", name)),
});

/** Of `init`, which makes the buckets. */
export const administratorOf = (minio: Minio): Environment => variables("DATAPILOT_S3_ADMIN_", minio.root);

export const readerOf = async (minio: Minio, name: string): Promise<Environment> =>
  variables("DATAPILOT_S3_READER_", await minio.as("reader", name));
