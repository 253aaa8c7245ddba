/** Signed headers: the example that AWS publishes, and any request as the library signs it that signs addresses for clients. */
import { createHash, createHmac } from "node:crypto";
import { SignatureV4 } from "@smithy/signature-v4";
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { encodePath, encodeQuery, HeaderSigner } from "../../src/store/s3/sign.ts";

const EMPTY = createHash("sha256").digest("hex");

it("signs the published example of GET Object", () => {
  // Amazon S3 API, "Signature calculations for the authorization header", example GET Object.
  const signer = new HeaderSigner(
    { accessKey: "AKIAIOSFODNN7EXAMPLE", secretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" },
    "us-east-1",
  );
  const { authorization } = signer.sign({
    headers: { host: "examplebucket.s3.amazonaws.com", range: "bytes=0-9", "x-amz-content-sha256": EMPTY },
    method: "GET",
    nowMs: Date.UTC(2013, 4, 24),
    path: "/test.txt",
    query: "",
  });
  expect(authorization).toBe(
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
  );
});

class Sha256 {
  readonly #hash: { update(data: Uint8Array | string): unknown; digest(): Buffer };
  constructor(secret?: string | Uint8Array) {
    this.#hash = secret === undefined ? createHash("sha256") : createHmac("sha256", secret);
  }
  update(data: Uint8Array | string): void {
    this.#hash.update(data);
  }
  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#hash.digest());
  }
  reset(): void {}
}

const word = fc.stringMatching(/^[a-z0-9-]{1,20}$/);
const text = fc.stringMatching(/^[!-~]([ -~]{0,3}[!-~]){0,5}$/).map((value) => value.replaceAll(/ +/g, " "));

it("signs as the library does, on one day and on the next", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        accessKey: word,
        headers: fc.dictionary(
          word.map((name) => `x-amz-${name}`),
          text,
          { maxKeys: 6 },
        ),
        method: fc.constantFrom("GET", "HEAD", "PUT", "DELETE"),
        path: fc.array(text, { maxLength: 4, minLength: 1 }).map((parts) => parts.join("/")),
        query: fc.dictionary(word, text, { maxKeys: 4 }),
        region: word,
        secretKey: text,
        sessionToken: fc.option(text, { nil: undefined }),
        times: fc.array(fc.integer({ max: Date.UTC(2099, 0, 1), min: Date.UTC(2000, 0, 1) }), {
          maxLength: 3,
          minLength: 1,
        }),
      }),
      async ({ accessKey, headers, method, path, query, region, secretKey, sessionToken, times }) => {
        const own = new HeaderSigner({ accessKey, secretKey, sessionToken }, region);
        const library = new SignatureV4({
          credentials: {
            accessKeyId: accessKey,
            secretAccessKey: secretKey,
            ...(sessionToken === undefined ? {} : { sessionToken }),
          },
          region,
          service: "s3",
          sha256: Sha256 as never,
          uriEscapePath: false,
        });
        const given = { ...headers, host: "store:9000", "x-amz-content-sha256": EMPTY };
        for (const nowMs of times) {
          const theirs = await library.sign(
            { headers: given, hostname: "store", method, path: encodePath(path), protocol: "https:", query },
            { signingDate: new Date(nowMs) },
          );
          expect(
            own.sign({ headers: given, method, nowMs, path: encodePath(path), query: encodeQuery(query) }),
          ).toEqual(theirs.headers);
        }
      },
    ),
  );
});
