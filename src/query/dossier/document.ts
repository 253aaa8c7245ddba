/**
 * Documents about a model version, of sections with statements that name their records, as Markdown. Texts in them come from whoever
 * reported them, and stand behind a label or in a cell: none can make a link, markup, another row or an invisible character.
 */
import type { DossierFacts, Source } from "./facts.ts";

/** A statement, and the records that say it. */
export interface Statement {
  readonly label: string;
  readonly text: string;
  readonly sources: readonly Source[];
}

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly { readonly cells: readonly string[]; readonly sources: readonly Source[] }[];
}

export interface Section {
  readonly title: string;
  /** What a form asks for and the ledger does not hold. */
  readonly absent?: string;
  readonly statements?: readonly Statement[];
  readonly tables?: readonly Table[];
}

/** Control characters, and those that reorder or hide text (UAX #9, default ignorables). */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu;

export const escapeMarkdown = (text: string): string =>
  text
    .replaceAll(/\r?\n/g, " ")
    .replaceAll(UNPRINTABLE, "\uFFFD")
    .replaceAll(/[\\`*_[\]|<>~&@]|:(?=\/\/)|(?<=www)\./g, "\\$&");

const cite = (sources: readonly Source[]): string =>
  [...new Set(sources.map((s) => s.index))]
    .toSorted((a, b) => a - b)
    .map((i) => ` [${i}]`)
    .join("");

export function formatDocument(title: string, facts: DossierFacts, sections: readonly Section[]): string {
  const { origin, treeSize, version } = facts;
  const parts = [
    `# ${title}: ${escapeMarkdown(version.name)}\n`,
    `Made from the ledger ${escapeMarkdown(origin)} at tree size ${treeSize}. Numbers in brackets are log indexes of the records that say so; they are listed at the end.\n`,
    ...sections.map(sectionText),
    sourcesText(sections),
  ];
  return parts.join("\n");
}

function sectionText({ absent, statements = [], tables = [], title }: Section): string {
  const said = statements.filter((s) => s.text !== "");
  const shown = tables.filter((t) => t.rows.length > 0);
  const nothing = said.length === 0 && shown.length === 0;
  return [
    `## ${title}\n`,
    ...(nothing ? [`Not recorded.${absent === undefined ? "" : ` ${absent}`}\n`] : []),
    ...(said.length === 0
      ? []
      : [`${said.map((s) => `- ${s.label}: ${escapeMarkdown(s.text)}${cite(s.sources)}`).join("\n")}\n`]),
    ...shown.map(tableText),
    ...(nothing || absent === undefined ? [] : [`${absent}\n`]),
  ].join("\n");
}

function tableText({ head, rows }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  return [
    line([...head, "Record"]),
    line([...head, "Record"].map(() => "---")),
    ...rows.map(({ cells, sources }) => line([...cells.map(escapeMarkdown), cite(sources).trim()])),
  ].join("");
}

/** Every record that a document names, once, by index. */
export function sourcesOf(sections: readonly Section[]): Source[] {
  const found = new Map<number, Source>();
  for (const { statements = [], tables = [] } of sections)
    for (const s of [...statements, ...tables.flatMap((t) => t.rows)].flatMap((x) => x.sources)) found.set(s.index, s);
  return [...found.values()].toSorted((a, b) => a.index - b.index);
}

const sourcesText = (sections: readonly Section[]): string =>
  [
    "## Records\n",
    tableText({
      head: ["Kind", "Time", "Id"],
      rows: sourcesOf(sections).map((s) => ({ cells: [s.kind, s.time, s.record], sources: [s] })),
    }),
    "To check this document, export evidence for the version with `datapilot evidence export` and verify it with `datapilot verify pack`.\n",
  ].join("\n");
