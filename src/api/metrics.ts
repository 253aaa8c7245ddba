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
export interface UpkeepCounts {
  readonly findings: Findings;
  readonly tally: Tally;
}

export function createMetrics(health: () => LogHealth, upkeep?: UpkeepCounts): Metrics {
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
  gauge("datapilot_log_lag_seconds", "How old the state may be; 0 of the leader.", (h) => h.lagMs / 1000);
  gauge("datapilot_log_hidden_commits", "Commits over which something was laid.", (h) => h.hiddenCommits);
  gauge("datapilot_log_alarm", "1 while something in the bucket is wrong, or publishing stopped.", (h) =>
    h.alarm === undefined ? 0 : 1,
  );
  if (upkeep !== undefined) watchUpkeep(registers, upkeep);
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

function watchUpkeep(registers: Registry[], { findings, tally }: UpkeepCounts): void {
  void new Counter({
    collect() {
      this.reset();
      for (const [code, n] of findings.total) this.labels(code).inc(n);
    },
    help: "What was found wrong in the bucket, by code, each thing once.",
    labelNames: ["code"],
    name: "datapilot_findings_total",
    registers,
  });
  void new Gauge({
    collect() {
      this.reset();
      for (const [code, n] of findings.open()) this.labels(code).set(n);
    },
    help: "What is wrong in the bucket now, by code.",
    labelNames: ["code"],
    name: "datapilot_findings",
    registers,
  });
  const counter = (name: string, help: string, read: () => number): void => {
    void new Counter({
      collect() {
        this.reset();
        this.inc(read());
      },
      help,
      name,
      registers,
    });
  };
  counter("datapilot_scrubbed_objects_total", "Objects that were looked at again.", () => tally.scrubbedObjects);
  counter("datapilot_prolonged_locks_total", "Locks that were prolonged.", () => tally.prolongedLocks);
  counter("datapilot_unprolonged_locks_total", "Locks that could not be prolonged.", () => tally.unprolongedLocks);
  void new Gauge({
    collect() {
      this.set(tally.scrubbedAtMs / 1_000);
    },
    help: "When the last look at the whole bucket ended, in seconds since the epoch; 0 before the first.",
    name: "datapilot_scrubbed_timestamp_seconds",
    registers,
  });
}
