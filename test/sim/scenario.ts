/** What clients do in a simulation, and what the domain promises of it. */
import type { Log } from "../../src/log/log.ts";
import type { ValidItem } from "../../src/record/chain.ts";
import type { MemoryStore } from "../fakes/memory-store.ts";
import type { Acknowledgement } from "./history.ts";
import type { Process } from "./machine.ts";
import type { Scheduler } from "./scheduler.ts";

/** A process as a client reaches it. */
export interface Service {
  readonly log: Log;
  readonly process: Process;
  /** Where bytes of artifacts are put, past the server. */
  readonly store: MemoryStore;
}

/** Gives what the client is told of. Rejects with a Fault, as the edge would answer it. */
export type Work = (service: Service) => Promise<readonly Acknowledgement[]>;

/** The client does not go on: what it would ask for is not to be had. */
export class GaveUp extends Error {}

export interface Client {
  readonly scheduler: Scheduler;
  /**
   * Sends a request to some process that takes requests; again, and with the same id, while its outcome is unknown and the client
   * is `patient`. Whether it was answered with success.
   */
  ask(request: string, patient: boolean, work: Work): Promise<boolean>;
}

export interface Scenario {
  /** Records of the largest group that it writes. */
  readonly largestGroup: number;
  /** What is there before anything fails. */
  readonly prepare?: (service: Service) => Promise<void>;
  clients(client: Client): readonly (() => Promise<void>)[];
  /** A change that a new machine writes at the end. */
  lastChange(): Work;
  /** I9: what admission decided is so at the place of each entry. */
  holdGuards(items: readonly ValidItem[]): void;
}
