/** Who asks, once authentication has answered. A value of this type is made by `authenticate` only. */
import type { RecordId } from "../std/brand.ts";

export interface Caller {
  readonly principal: RecordId;
  readonly name: string;
  readonly method: "token" | "run-token";
  readonly type: "human" | "service";
  /** The `token` record, or the `run.start` record of a run's token. */
  readonly token: RecordId;
  /** What the token is limited to; empty for all of the principal's. */
  readonly permissions: readonly string[];
  /** The run that a run's token serves. */
  readonly run?: RecordId;
  readonly runProject?: RecordId;
  readonly expiresAt: string;
  readonly authenticatedAtMs: number;
  /** Network address and user agent, personal values: never written into a record as they are. */
  readonly address?: string;
  readonly agent?: string;
  /** Full path of the RPC, such as `animus.datapilot.v1.DatasetService/CreateDataset`. */
  readonly rpc: string;
}

/** What the edge knows of a request beside its token. */
export interface Origin {
  readonly rpc: string;
  readonly address?: string;
  readonly agent?: string;
}
