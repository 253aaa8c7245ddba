/** What operators watch: counted here, served at `/metrics`. Names follow Prometheus; no label holds what a caller chose freely. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { LogHealth } from "../log/log.ts";

export interface Metrics {
  readonly registry: Registry;
  /** One call of an RPC: its full name, the code it ended with, and how long it took. */
  called(rpc: string, code: string, seconds: number): void;
  denied(reason: string): void;
  uploaded(bytes: number): void;
}

/** What became of uploads, and of what lies in chunks; counted over the life of the process. */
export interface UploadCounts {
  outstanding(): { readonly bytes: number; readonly count: number };
  readonly swept: { readonly abandoned: number; readonly abandoned_bytes: number; readonly completed: number };
  readonly read: { readonly differing: number; readonly unreadable: number; readonly verified: number };
}

export function createMetrics(health: () => LogHealth, uploaded?: UploadCounts): Metrics {
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
  if (uploaded !== undefined) {
    const counted = (
      name: string,
      help: string,
      label: string,
      counts: () => Readonly<Record<string, number>>,
    ): void => {
      void new Gauge({
        collect() {
          for (const [value, count] of Object.entries(counts())) this.labels(value).set(count);
        },
        help,
        labelNames: [label],
        name,
        registers,
      });
    };
    const { outstanding, read, swept } = uploaded;
    gauge("datapilot_uploads_outstanding", "Uploads that were declared and not completed.", () => outstanding().count);
    gauge("datapilot_uploads_outstanding_bytes", "Their bytes.", () => outstanding().bytes);
    gauge(
      "datapilot_uploads_abandoned_bytes_total",
      "Bytes of uploads that were given up.",
      () => swept.abandoned_bytes,
    );
    counted("datapilot_uploads_swept_total", "Uploads whose client was gone.", "outcome", () => ({
      abandoned: swept.abandoned,
      completed: swept.completed,
    }));
    counted("datapilot_chunked_reads_total", "Contents in chunks that were read whole.", "outcome", () => ({
      ...read,
    }));
  }
  return {
    called: (rpc, code, seconds) => calls.labels(rpc, code).observe(seconds),
    denied: (reason) => denials.labels(reason).inc(),
    registry,
    uploaded: (bytes) => uploads.inc(bytes),
  };
}
