/** Holds the table of sets to what the protos say in words. */
import { globSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { arrangeSet, SETS } from "../../src/record/sets.ts";

/** The comment, name and list of each field, by `Message.field`. */
function fieldsOf(proto: string): Map<string, { comment: string; isList: boolean }> {
  const fields = new Map<string, { comment: string; isList: boolean }>();
  let message = "";
  let comment = "";
  for (const line of proto.split("\n")) {
    message = /^message (\w+) \{/.exec(line)?.[1] ?? message;
    const said = /^\s+\/\/ (.*)$/.exec(line)?.[1];
    const field = /^\s+(repeated |optional )?[\w.]+ (\w+) = \d+/.exec(line);
    if (said !== undefined) comment += `${said} `;
    else if (field !== null) {
      fields.set(`${message}.${field[2] ?? ""}`, { comment, isList: field[1] === "repeated " });
      comment = "";
    } else comment = "";
  }
  return fields;
}

it("lists exactly the lists that the protos call ascending, ordered by what they name", () => {
  const said = new Map<string, readonly string[]>();
  for (const file of globSync("proto/animus/datapilot/record/v1/*.proto"))
    for (const [field, { comment, isList }] of fieldsOf(readFileSync(file, "utf8"))) {
      if (!isList || !comment.includes("ascending")) continue;
      const by = /ascending by (\w+)(?: and (\w+))?/.exec(comment);
      said.set(
        field,
        [by?.[1], by?.[2]].filter((n) => n !== undefined),
      );
    }
  // Said as "path and JSON text, ascending".
  said.set("RuleResult.seen", ["path", "value"]);
  expect(Object.fromEntries(said)).toEqual(SETS);
});

it("orders texts once each, and rows by their keys", () => {
  expect(arrangeSet(["b", "a", "B", "a", "é"], [])).toEqual(["B", "a", "b", "é"]);
  const rows = [{ metric: "m", column: "b" }, { metric: "z" }, { metric: "a", column: "b" }, { metric: "z", value: 1 }];
  expect(arrangeSet(rows, ["column", "metric"])).toEqual([rows[1], rows[3], rows[2], rows[0]]);
});
