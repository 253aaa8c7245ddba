/** `make minio-binary`: builds MinIO into the cache when it is not there, and says where it is. */
import { minioBinary } from "./minio.ts";

process.stdout.write(`${await minioBinary()}\n`);
