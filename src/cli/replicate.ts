/** `datapilot replicate`: a copy of a ledger somewhere else, made whole, kept up to date. */
import type { JsonValue } from "@bufbuild/protobuf";
import type { Command } from "commander";
import type { SignatureVerifier } from "../note/signatures.ts";
import type { Source, Target } from "../replicate/ports.ts";
import { type ReplicaReport, replicate } from "../replicate/replicate.ts";
import type { Clock } from "../std/ports.ts";
import { declare } from "./command.ts";
import { EXIT, Exit, type Io, paint, printable, progress } from "./io.ts";
import { asked, GENESIS, genesisOf, POLICY, trustOf } from "./verify.ts";

export interface ReplicatePorts {
  readonly clock: Clock;
  readonly verifier: SignatureVerifier;
  openSource(place: string): Promise<Source & AsyncDisposable>;
  /** `from` is the place of the source. */
  openTarget(place: string, from: string, source: Source): Promise<Target & AsyncDisposable>;
}

const CODES: Readonly<Record<ReplicaReport["verdict"], number>> = {
  CONTRADICTED: EXIT.answerIsNo,
  COPIED: EXIT.done,
  INCOMPLETE: EXIT.incomplete,
};

function words(io: Io, report: ReplicaReport): string {
  const { findings, from, notes, origin, published, to, verdict, written } = report;
  const word =
    verdict === "COPIED"
      ? paint(io, "green", verdict)
      : verdict === "INCOMPLETE"
        ? paint(io, "yellow", verdict)
        : paint(io, "inverse", paint(io, "red", ` ${verdict} `));
  return [
    `${printable(origin)}: entries ${from.entries} to ${to.entries}, commits ${from.commits} to ${to.commits}; the copy's checkpoint has size ${published}\n`,
    `written: ${written.commits} commits, ${written.records} records, ${written.artifacts} artifacts (${written.artifact_bytes} bytes), ${written.tiles} tiles, ${written.checkpoints} checkpoints, ${written.personal} personal values\n`,
    ...findings.map((f) => `  ${paint(io, "red", f.code)} ${printable(f.at)}: ${printable(f.detail)}\n`),
    ...notes.map((n) => `  note: ${printable(n)}\n`),
    `verdict: ${word}\n`,
  ].join("");
}

export function addReplicate(program: Command, io: Io, ports: ReplicatePorts): void {
  declare(program, io, {
    example: "datapilot replicate /srv/ledger /backup/ledger --policy trust/policy.txt --genesis trust/genesis",
    options: [
      POLICY,
      GENESIS,
      ["--kept <note>...", "a checkpoint that you kept: nothing is taken from a source that contradicts it"],
      ["--personal", "copy the preimages of personal values too; erase there as well"],
      ["--from-start", "compare everything again, not only what is new"],
      ["--concurrency <n>", "objects in flight at each side (default 32)"],
    ],
    remote: false,
    run: async (c) => {
      const [from = "", to = ""] = c.args;
      const trust = trustOf(c, { now: () => ports.clock.now(), verifier: ports.verifier });
      const genesis = genesisOf(c);
      const concurrency = Math.max(1, c.number("concurrency") ?? 32);
      await using source = await ports.openSource(from);
      await using target = await ports.openTarget(to, from, source);
      const shown = progress(io, "entries");
      try {
        const report = await asked(() =>
          replicate(source, target, {
            clock: ports.clock,
            concurrency,
            fromStart: c.options["fromStart"] === true,
            genesis,
            personal: c.options["personal"] === true,
            progress: (done, of) => shown.at(done, of),
            signal: io.signal,
            trust,
          }),
        );
        shown.end();
        c.print(report as unknown as JsonValue, () => words(io, report));
        if (report.verdict !== "COPIED") throw new Exit(CODES[report.verdict], "", "");
      } catch (error) {
        if (!io.signal.aborted) throw error;
        throw new Exit(EXIT.incomplete, "", "The copy was stopped. Run it again: it goes on where it is.");
      }
    },
    summary: "copy a ledger to another place, or bring a copy up to date: verified, locked, resumable",
    words: "replicate <source> <target>",
  });
}
