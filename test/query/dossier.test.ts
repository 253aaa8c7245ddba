/** Dossiers: what they say is in the log, what they do not know they say, and nobody's text becomes their form. */
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { Ajv } from "ajv";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Tier } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { type ApprovalRequest, Meaning } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { ApproveRequestSchema } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import {
  CreateModelRequestSchema,
  DossierFormat,
  GetDossierRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import { TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { approve } from "../../src/command/approve.ts";
import { createModel } from "../../src/command/create-model.ts";
import { transition } from "../../src/command/transition.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { escapeMarkdown } from "../../src/query/dossier/document.ts";
import { getDossier } from "../../src/query/dossier.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { Lab } from "../command/lab.ts";
import { createWorld, newProject, refused, type World } from "../command/world.ts";

const HOSTILE = "no\n# heading | cell\n[link](http://evil) <script> `code`";

let world: World;
let caller: Caller;
let version = "";
let own = "";
let foreign = "";

beforeAll(async () => {
  const rule = {
    approval: { groups: ["data-stewards"], meaning: "MEANING_APPROVED", quorum: 1 },
    id: "signed",
    message: "Somebody signs.",
    otherwise: "OTHERWISE_REQUIRE_APPROVAL",
    require: "false",
  };
  world = await createWorld({
    approvers: [{ displayName: "Ada Lovelace", name: "ada" }],
    policies: [{ name: "release", rules: [rule], target: "model.version.transition" }],
  });
  await newProject(world, "fraud");
  await newProject(world, "shared");
  caller = await world.member("fraud", "contributor");
  const other = await world.member("shared", "contributor");
  foreign = (await new Lab(world, other, "shared").dataset("codes", "codes")).record;
  await world.bind("shared", "consumer", caller);
  const lab = new Lab(world, caller, "fraud");
  const schema = await lab.schema("s", [{ classes: ["pii"], name: "email", type: "string" }]);
  own = (await lab.dataset("tx", "rows", [], schema.record)).record;
  const run = await lab.running(lab.plan(["fraud/tx@v1", foreign], {}, { params: [{ key: "lr", value: "0.1" }] }));
  const file = await lab.output(run, "weights");
  await lab.batch(run, 1, {
    metrics: [
      { key: "auc", step: 1, value: 0.5 },
      { key: "auc", step: 2, value: 0.75 },
      { key: "auc", slice: "new customers", value: 0.5 },
    ],
  });
  await lab.finish(run, 2);
  const model = { intendedUse: "to tell fraud", limitations: HOSTILE, name: "scorer", tier: Tier.HIGH };
  await createModel(world.deps, caller, create(CreateModelRequestSchema, { model, project: "fraud" }));
  version = (await lab.version("scorer", [file], [run.id])).resource?.record ?? "";
  const move = { name: version, project: "fraud", reason: "it is good", to: "validated" };
  const asked = await transition(world.deps, caller, create(TransitionRequestSchema, move));
  const request = assertDefined(asked.approvalRequest, "a request for approval");
  await approve(
    world.deps,
    world.caller(assertDefined(world.secrets.get("ada"), "ada")),
    create(ApproveRequestSchema, {
      actionDigest: (request.body.value as ApprovalRequest).actionDigest,
      meaning: Meaning.APPROVED,
      project: "fraud",
      request: request.record,
      statement: "I have tried it.",
    }),
  );
});
afterAll(() => world[Symbol.asyncDispose]());

const ask = (format: DossierFormat, more: object = {}, who = caller) =>
  getDossier(world.deps, who, create(GetDossierRequestSchema, { format, name: version, project: "fraud", ...more }));

it.each(["CARD", "ANNEX_IV", "SR_26_2"] as const)(
  "%s names a record for each statement, and no other",
  async (form) => {
    const { content, mediaType, treeSize } = await ask(DossierFormat[form]);
    expect(mediaType).toBe("text/markdown; charset=utf-8");
    expect(treeSize).toBe(world.deps.log.index.watermark.size);
    const [said = "", listed = ""] = content.split("## Records\n");
    const indexes = (text: string): Set<string> => new Set(text.match(/\[\d+\]/g));
    expect(indexes(said)).toEqual(indexes(listed));
    using reader = world.deps.log.index.reader();
    for (const line of listed.split("\n").filter((l) => l.includes("sha256:"))) {
      const index = Number(/\[(\d+)\]/.exec(line)?.[1]);
      const id = /sha256:[0-9a-f]{64}/.exec(line)?.[0];
      expect(reader.entry(index)?.record).toBe(id);
    }
    expect(said).toContain("to tell fraud");
    expect(said).toContain("0.75");
    expect(said).toContain("Ada Lovelace");
  },
);

it("says what is not recorded, and fills no gap", async () => {
  const { content } = await ask(DossierFormat.ANNEX_IV);
  expect(content).toMatch(/## 5\. Risk management system \(Article 9\)\n\nNot recorded\./);
});

it("says whether a validator is a developer", async () => {
  expect((await ask(DossierFormat.SR_26_2)).content).toContain("Independence: no validator is a developer");
});

it("takes no form from what was reported", async () => {
  const { content } = await ask(DossierFormat.CARD);
  expect(content).not.toMatch(/^# heading/m);
  expect(content).not.toContain("[link](");
  expect(content).not.toContain("<script>");
  expect(content).not.toContain("http://");
  expect(escapeMarkdown("a|b\r\n- c\u202e")).toBe("a\\|b - c\ufffd");
});

it("says of what the caller may not read that it is there, and no more", async () => {
  const viewer = await world.member("fraud", "viewer");
  const { content } = await ask(DossierFormat.CARD, {}, viewer);
  expect(content).toContain(foreign);
  expect(content).toContain("not readable by who asked");
  expect(content).not.toContain("codes");
  const stranger = await world.member("shared", "viewer");
  await refused(() => ask(DossierFormat.CARD, {}, stranger), "NOT_FOUND");
  await refused(() => ask(9 as DossierFormat), "REQUEST_INVALID");
});

it("gives an ML-BOM by the schema of CycloneDX 1.7, the same for the same state", async () => {
  const schema = (name: string): object =>
    JSON.parse(
      readFileSync(`node_modules/@cyclonedx/cyclonedx-library/res/schema/${name}.SNAPSHOT.schema.json`, "utf8"),
    ) as object;
  const ajv = new Ajv({ strict: false, validateFormats: false });
  for (const part of ["spdx", "jsf-0.82", "cryptography-defs"])
    ajv.addSchema(schema(part), `http://cyclonedx.org/schema/${part}.SNAPSHOT.schema.json`);
  const validate = ajv.compile(schema("bom-1.7"));
  const { content, treeSize } = await ask(DossierFormat.CYCLONEDX);
  const bom = JSON.parse(content) as { metadata: { component: object }; components: object[] };
  validate(bom);
  expect(validate.errors).toBeNull();
  expect(validate({ ...bom, metadata: { component: { name: 1 } } })).toBe(false);
  expect(bom.metadata.component).toMatchObject({
    "bom-ref": version,
    modelCard: {
      modelParameters: { datasets: expect.arrayContaining([{ ref: own }, { ref: foreign }]) },
      quantitativeAnalysis: {
        performanceMetrics: [
          { type: "auc", value: "0.75" },
          { slice: "new customers", type: "auc", value: "0.5" },
        ],
      },
    },
  });
  expect((await ask(DossierFormat.CYCLONEDX, { asOf: treeSize })).content).toBe(content);
});
