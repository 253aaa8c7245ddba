import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { indexContract } from "./contract.ts";

indexContract("the index on LMDB", (path) => openLmdbIndex({ path }));
