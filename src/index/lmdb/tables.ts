/**
 * The LMDB environment and its tables: bytes under bytes, keys big-endian so that their order is that of their numbers. Owns how
 * a transaction is made, and nothing about what is in it.
 *
 * With overlappingSync a crash of the process leaves the last transaction and a crash of the machine the last flushed one, always
 * whole. Reads copy: nothing holds a page of the map, so no reader pins old pages.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Database, open, type RootDatabase } from "lmdb";

const MAP_BYTES = 2 ** 40;
const MAX_READERS = 512;

/** Abortable, committed when it returns, flushed later. */
const TRANSACTION_FLAGS: number = 0x1_0003;

export const TABLE_NAMES = [
  "entry",
  "record",
  "digest",
  "out",
  "in",
  "list",
  "project",
  "view",
  "history",
  "tile",
  "commit",
  "tail",
  "meta",
] as const;
export type TableName = (typeof TABLE_NAMES)[number];

export interface Range {
  readonly start: Buffer;
  /** Exclusive. */
  readonly end?: Buffer;
  readonly reverse?: boolean;
  readonly limit?: number;
}

export type Row = { readonly key: Buffer; readonly value: Buffer };

/** What one transaction writes. Later puts of a key win. Rows that come in order meet in the same pages. */
export class WriteSet {
  readonly puts: Record<TableName, Row[]>;
  readonly removes: { readonly table: TableName; readonly key: Buffer }[] = [];

  constructor() {
    this.puts = Object.fromEntries(TABLE_NAMES.map((name) => [name, []])) as unknown as Record<TableName, Row[]>;
  }

  put(table: TableName, key: Buffer, value: Uint8Array): void {
    this.puts[table].push({ key, value: value as Buffer });
  }

  remove(table: TableName, key: Buffer): void {
    this.removes.push({ key, table });
  }
}

interface Environment {
  readonly root: RootDatabase<Buffer, Buffer>;
  readonly tables: Readonly<Record<TableName, Database<Buffer, Buffer>>>;
}

function openEnvironment(path: string): Environment {
  const root = open<Buffer, Buffer>({
    cache: false,
    encoding: "binary",
    keyEncoding: "binary",
    mapSize: MAP_BYTES,
    maxDbs: TABLE_NAMES.length + 1,
    maxReaders: MAX_READERS,
    overlappingSync: true,
    path: join(path, "index.mdb"),
  });
  const openTable = (name: string): Database<Buffer, Buffer> =>
    root.openDB<Buffer, Buffer>({ cache: false, encoding: "binary", keyEncoding: "binary", name });
  const tables = Object.fromEntries(TABLE_NAMES.map((name) => [name, openTable(name)])) as unknown as Record<
    TableName,
    Database<Buffer, Buffer>
  >;
  return { root, tables };
}

export class Tables {
  readonly #path: string;
  #env: Environment;

  constructor(path: string) {
    mkdirSync(path, { recursive: true });
    this.#path = path;
    this.#env = openEnvironment(path);
  }

  /** Maps the file anew: pages that were read count as this process's memory as long as they are mapped. */
  async remap(): Promise<void> {
    await this.close();
    this.#env = openEnvironment(this.#path);
  }

  get(table: TableName, key: Buffer): Buffer | undefined {
    return this.#env.tables[table].getBinary(key);
  }

  *range(table: TableName, { start, end, reverse = false, limit }: Range): Iterable<Row> {
    const options = { limit: limit ?? Number.POSITIVE_INFINITY, reverse, snapshot: false, start };
    for (const row of this.#env.tables[table].getRange(end === undefined ? options : { ...options, end })) yield row;
  }

  /** Writes all of it or nothing. */
  write(set: WriteSet): void {
    const { root, tables } = this.#env;
    root.transactionSync(() => {
      for (const { table, key } of set.removes) tables[table].removeSync(key);
      for (const name of TABLE_NAMES) {
        const table = tables[name];
        for (const { key, value } of set.puts[name]) table.putSync(key, value);
      }
    }, TRANSACTION_FLAGS);
  }

  clear(): void {
    this.#env.root.transactionSync(() => {
      for (const name of TABLE_NAMES) this.#env.tables[name].clearSync();
    }, TRANSACTION_FLAGS);
  }

  async flush(): Promise<void> {
    await this.#env.root.flushed;
  }

  async close(): Promise<void> {
    await this.#env.root.flushed;
    await this.#env.root.close();
  }
}
