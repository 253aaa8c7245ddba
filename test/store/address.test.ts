/** The address of a ledger's buckets on S3. */
import { expect, it } from "vitest";
import { parseS3Address } from "../../src/store/s3/address.ts";

it.each(["s3://writer:secret@store.example.org/ledger", "s3+http://writer:se/cr@t@store.example.org/ledger"])(
  "refuses credentials in %s, and does not repeat them",
  (text) => {
    let said = "";
    try {
      parseS3Address(text);
    } catch (error) {
      said = String(error);
    }
    expect(said).toContain("s3://");
    expect(said).not.toMatch(/writer|se\/?cr|cret/);
  },
);
