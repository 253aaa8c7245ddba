import { expect, it } from "vitest";
import { formatVkey } from "../../src/note/keys.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { KeyHistory, type KeyRole, keyName, keyStatement } from "../../src/record/key-history.ts";
import { readVector } from "../merkle/model.ts";

interface History {
  readonly name: string;
  readonly origin: string;
  readonly records: { index: number; body: JsonObject }[];
}
interface Vectors {
  readonly statements: { origin: string; role: KeyRole; vkey: string; from: number; to?: number; statement: string }[];
  readonly valid: (History & { inForce: { role: KeyRole; size: number; vkeys: string[] }[] })[];
  readonly invalid: (History & { code: string })[];
}

const { invalid, statements, valid } = readVector("record/keys.json") as Vectors;

const fold = ({ origin, records }: History): KeyHistory =>
  records.reduce((history, { body, index }) => history.apply(index, body), KeyHistory.empty(origin));

it.each(valid)("follows: $name", ({ inForce, ...history }) => {
  const keys = fold(history);
  for (const { role, size, vkeys } of inForce)
    expect(keys.inForce(role, size).map((k) => formatVkey(k.name, k.algorithm, k.publicKey))).toEqual(vkeys);
});

it.each(invalid)("refuses: $name", ({ code, ...history }) => {
  const before = fold({ ...history, records: history.records.slice(0, -1) });
  const stated = before.keys.length;
  const last = history.records.at(-1);
  if (last === undefined) throw new Error("the vector has a record");
  expect(() => before.apply(last.index, last.body)).toThrow(expect.objectContaining({ code }));
  expect(before.keys).toHaveLength(stated);
});

it.each(statements)("states $role from $from", ({ from, origin, role, statement, to, vkey }) => {
  expect(new TextDecoder().decode(keyStatement(origin, role, vkey, from, to))).toBe(statement);
  expect(vkey.startsWith(`${keyName(origin, role)}+`)).toBe(true);
});

it("remembers keys that ended", () => {
  const ended = valid.find((v) => v.inForce.some((f) => f.role === "KEY_ROLE_COMMIT" && f.size === 41));
  if (ended === undefined) throw new Error("the vector is missing");
  const keys = fold(ended);
  expect(keys.ever("KEY_ROLE_COMMIT").length).toBeGreaterThan(keys.inForce("KEY_ROLE_COMMIT", 41).length);
});
