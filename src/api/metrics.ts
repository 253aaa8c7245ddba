/** What operators watch: counted here, served at `/metrics`. Names follow Prometheus; no label holds what a caller chose freely. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Findings } from "../log/findings.ts";
import type { LogHealth } from "../log/log.ts";
import type { Tally } from "../log/upkeep.ts";

export interface Metrics {
  readonly registry: Registry;
  /** One call of an RPC: its full name, the code it ended with, and how long it took. */
  called(rpc: string, code: string, seconds: number): void;
  denied(reason: string): void;
  uploaded(bytes: number): void;
}

/** What the leader's upkeep counts, and what this process found wrong. */
interface UpkeepCounts {
  readonly findings: Findings;
  readonly tally: Tally;
}

/** What became of uploads, and of what lies in chunks; counted over the life of the process. */
interface UploadCounts {
  readonly outstanding: () => { readonly bytes: number; readonly count: number };
  readonly swept: { readonly abandoned: number; readonly abandoned_bytes: number; readonly completed: number };
  readonly read: { readonly differing: number; readonly unreadable: number; readonly verified: number };
}

/** What this process does beside answering. */
export interface Duties {
  readonly upkeep: UpkeepCounts;
  readonly uploads: UploadCounts;
}

export function createMetrics(health: () => LogHealth, duties?: Duties): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const calls = new Histogram({
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
    help: "Duration of RPCs.",
    labelNames: ["rpc", "code"],
    name: "datapilot_rpc_seconds",
    registers,
  });
  const denials = new Counter({
    help: "Denied requests by reason.",
    labelNames: ["reason"],
    name: "datapilot_denials_total",
    registers,
  });
  const uploads = new Counter({
    help: "Bytes of artifacts taken by the embedded store.",
    name: "datapilot_upload_bytes_total",
    registers,
  });
  const gauge = (name: string, help: string, read: (h: LogHealth) => number): void => {
    void new Gauge({
      collect() {
        this.set(read(health()));
      },
      help,
      name,
      registers,
    });
  };
  gauge("datapilot_log_size", "Entries that are applied.", (h) => h.size);
  gauge("datapilot_log_signed_size", "Entries below the newest signed checkpoint.", (h) => h.signed);
  gauge("datapilot_log_materialised_size", "Entries whose records are objects of their own.", (h) => h.materialised);
  gauge("datapilot_log_published_size", "Entries below the published checkpoint.", (h) => h.published);
  gauge("datapilot_log_queued_records", "Records that wait to be sequenced.", (h) => h.queuedRecords);
  gauge("datapilot_log_queued_bytes", "Bytes that wait to be sequenced.", (h) => h.queuedBytes);
  gauge("datapilot_log_waiting_seconds", "How long the oldest change has waited.", (h) => h.waitingMs / 1000);
  gauge("datapilot_log_writing", "1 while changes are taken.", (h) => (h.writing ? 1 : 0));
  gauge("datapilot_log_leading", "1 while this process is the writer.", (h) => (h.role === "leader" ? 1 : 0));
  gauge("datapilot_log_lag_seconds", "How old the state may be.", (h) => h.lagMs / 1000);
  gauge("datapilot_log_hidden_commits", "Commits over which something was laid.", (h) => h.hiddenCommits);
  gauge("datapilot_log_alarm", "1 while something in the bucket is wrong, or publishing stopped.", (h) =>
    h.alarm === undefined ? 0 : 1,
  );
  if (duties !== undefined) {
    watchUpkeep(registers, duties.upkeep);
    watchUploads(registers, duties.uploads);
  }
  // Names of RPCs and codes: as many as there are of both.
  const byLabels = new Map<string, Pick<Histogram.Internal<string>, "observe">>();
  return {
    called(rpc, code, seconds) {
      const key = `${rpc} ${code}`;
      let observed = byLabels.get(key);
      if (observed === undefined) byLabels.set(key, (observed = calls.labels(rpc, code)));
      observed.observe(seconds);
    },
    denied: (reason) => denials.labels(reason).inc(),
    registry,
    uploaded: (bytes) => uploads.inc(bytes),
  };
}

/** A metric whose values are kept elsewhere: read whenever somebody looks. */
function watch(
  Kind: typeof Counter | typeof Gauge,
  registers: Registry[],
  [name, help, label]: readonly [name: string, help: string, label?: string],
  read: () => number | Iterable<readonly [value: string, count: number]>,
): void {
  void new Kind({
    collect() {
      const now = read();
      this.reset();
      if (typeof now === "number") this.inc(now);
      else for (const [value, count] of now) this.labels(value).inc(count);
    },
    help,
    labelNames: label === undefined ? [] : [label],
    name,
    registers,
  });
}

function watchUpkeep(registers: Registry[], { findings, tally }: UpkeepCounts): void {
  const what = "What was found wrong in the bucket, by code, each thing once.";
  watch(Counter, registers, ["datapilot_findings_total", what, "code"], () => findings.total);
  watch(Gauge, registers, ["datapilot_findings", "What is wrong in the bucket now, by code.", "code"], () =>
    findings.open(),
  );
  const counter = (name: string, help: string, read: () => number): void =>
    watch(Counter, registers, [name, help], read);
  counter("datapilot_scrubbed_objects_total", "Objects that were looked at again.", () => tally.scrubbedObjects);
  counter("datapilot_prolonged_locks_total", "Locks that were prolonged.", () => tally.prolongedLocks);
  counter("datapilot_unprolonged_locks_total", "Locks that could not be prolonged.", () => tally.unprolongedLocks);
  const when = "When the last look at the whole bucket ended, in seconds since the epoch; 0 before the first.";
  watch(Gauge, registers, ["datapilot_scrubbed_timestamp_seconds", when], () => tally.scrubbedAtMs / 1_000);
}

function watchUploads(registers: Registry[], { outstanding, read, swept }: UploadCounts): void {
  const open = "Uploads that were declared and not completed.";
  watch(Gauge, registers, ["datapilot_uploads_outstanding", open], () => outstanding().count);
  watch(Gauge, registers, ["datapilot_uploads_outstanding_bytes", "Their bytes."], () => outstanding().bytes);
  const given = "Bytes of uploads that were given up.";
  watch(Counter, registers, ["datapilot_uploads_abandoned_bytes_total", given], () => swept.abandoned_bytes);
  watch(Counter, registers, ["datapilot_uploads_swept_total", "Uploads whose client was gone.", "outcome"], () =>
    Object.entries({ abandoned: swept.abandoned, completed: swept.completed }),
  );
  const whole = "Contents in chunks that were read whole.";
  watch(Counter, registers, ["datapilot_chunked_reads_total", whole, "outcome"], () => Object.entries(read));
}
