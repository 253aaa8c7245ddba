/** MinIO's security token service: credentials for a while, held to a policy, without its admin interface. */
import { createHash, createHmac } from "node:crypto";
import type { S3Credentials } from "../../src/store/s3/transport.ts";

export interface Assume {
  /** `http://host:port`. */
  readonly endpoint: string;
  readonly root: S3Credentials;
  /** JSON. */
  readonly policy: string;
  readonly seconds?: number | undefined;
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const hmac = (key: string | Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();

/** AssumeRole (AWS STS API, 2011-06-15), signed by SigV4 in the few lines that one request takes. */
export async function assumeRole({ endpoint, policy, root, seconds = 3_600 }: Assume): Promise<S3Credentials> {
  const body = new URLSearchParams({
    Action: "AssumeRole",
    DurationSeconds: String(seconds),
    Policy: policy,
    Version: "2011-06-15",
  }).toString();
  const { host } = new URL(endpoint);
  const date = `${new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;
  const scope = `${date.slice(0, 8)}/us-east-1/sts/aws4_request`;
  const type = "application/x-www-form-urlencoded";
  const names = "content-type;host;x-amz-content-sha256;x-amz-date";
  const canonical = `POST\n/\n\ncontent-type:${type}\nhost:${host}\nx-amz-content-sha256:${sha256(body)}\nx-amz-date:${date}\n\n${names}\n${sha256(body)}`;
  const key = scope.split("/").reduce<string | Buffer>((k, part) => hmac(k, part), `AWS4${root.secretKey}`);
  const signature = hmac(key, `AWS4-HMAC-SHA256\n${date}\n${scope}\n${sha256(canonical)}`).toString("hex");
  const answer = await fetch(endpoint, {
    body,
    headers: {
      authorization: `AWS4-HMAC-SHA256 Credential=${root.accessKey}/${scope}, SignedHeaders=${names}, Signature=${signature}`,
      "content-type": type,
      "x-amz-content-sha256": sha256(body),
      "x-amz-date": date,
    },
    method: "POST",
  });
  const xml = await answer.text();
  const text = (name: string): string => {
    const found = new RegExp(`<${name}>([^<]+)</${name}>`).exec(xml)?.[1];
    if (found === undefined) throw new Error(`AssumeRole ended with ${answer.status}: ${xml.slice(0, 500)}`);
    return found;
  };
  return {
    accessKey: text("AccessKeyId"),
    secretKey: text("SecretAccessKey"),
    sessionToken: text("SessionToken"),
  };
}
