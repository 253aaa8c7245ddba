/** A document about a model version, made of what the ledger holds: for reviewers and regulators, and for machines. */
import { create } from "@bufbuild/protobuf";
import {
  DossierFormat,
  type GetDossierRequest,
  type GetDossierResponse,
  GetDossierResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { Fault } from "../std/faults.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { formatCyclonedx } from "./dossier/cyclonedx.ts";
import { formatDocument } from "./dossier/document.ts";
import { collectFacts, type DossierFacts } from "./dossier/facts.ts";
import { OUTLINES, type Outline } from "./dossier/outlines.ts";
import { findVisible } from "./get.ts";
import { namesFor, visibleTo } from "./names.ts";

/** Where printed names are kept; undefined for one that was erased. */
interface Names {
  readonly personal: { get(reference: string, signal?: AbortSignal): Promise<string | undefined> };
}

const VERSIONS = { kinds: ["model.version"], collection: "models" } as const;

const DOCUMENTS: Readonly<Record<number, Outline>> = {
  [DossierFormat.UNSPECIFIED]: OUTLINES.CARD,
  [DossierFormat.CARD]: OUTLINES.CARD,
  [DossierFormat.ANNEX_IV]: OUTLINES.ANNEX_IV,
  [DossierFormat.SR_26_2]: OUTLINES.SR_26_2,
};

export async function getDossier(
  reads: Reads & Names,
  caller: Caller,
  request: GetDossierRequest,
  signal?: AbortSignal,
): Promise<GetDossierResponse> {
  const facts = read(reads, caller, request);
  const { treeSize } = facts;
  if (request.format === DossierFormat.CYCLONEDX)
    return create(GetDossierResponseSchema, {
      content: formatCyclonedx(facts),
      mediaType: "application/vnd.cyclonedx+json; version=1.7",
      treeSize,
    });
  const outline = DOCUMENTS[request.format];
  if (outline === undefined)
    throw new Fault("REQUEST_INVALID", "format is none of CARD, ANNEX_IV, SR_26_2 and CYCLONEDX", {
      fields: [{ field: "format", description: "is not known" }],
    });
  const signatures = new Map<string, string>();
  for (const { printedName, record } of facts.votes) {
    const name = await reads.personal.get(printedName, signal);
    if (name !== undefined) signatures.set(record, name);
  }
  return create(GetDossierResponseSchema, {
    content: formatDocument(outline.title, facts, outline.sections(facts, signatures)),
    mediaType: "text/markdown; charset=utf-8",
    treeSize,
  });
}

function read(reads: Reads, caller: Caller, { asOf, minTreeSize, name, project }: GetDossierRequest): DossierFacts {
  using reader = readerAsOf(reads, asOf, minTreeSize);
  const id = findVisible(reads, reader, caller, { name, project }, VERSIONS);
  return collectFacts(reader, id, { mayRead: visibleTo(reads, caller), nameOf: namesFor(reads, caller, reader) });
}
