import { expect, it } from "vitest";
import { leafHash } from "../../src/merkle/hash.ts";
import { HashStore } from "../../src/merkle/proofs.ts";
import { encodeBundle, entriesPath, parseBundle, tilePath } from "../../src/merkle/tiles.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { concat, formatHex } from "../../src/std/bytes.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { createDataset, createProject, createWorld, openIn } from "./world.ts";

it("serves every width below the published size, and nothing else", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  await using log = await openIn(world, store);
  const project = assertDefined(
    (await log.submit(createProject("fraud", world.init.system))).committed?.records[0],
    "a project",
  ).id;
  await Promise.all(Array.from({ length: 270 }, (_, k) => log.submit(createDataset(project, `d${k}`))));
  await world.clock.sleep(3_000);
  expect(log.health().published).toBe(273);
  const reader = log.index.reader();
  const entries = Array.from({ length: 273 }, (_, i) => assertDefined(reader.entry(i), "entry").entryBytes);
  const leaves = entries.map(leafHash);
  for (const width of [1, 100, 255, 256]) {
    expect(formatHex(assertDefined(await log.tiles.readTile(tilePath(0, 0, width)), "tile"))).toBe(
      formatHex(concat(...leaves.slice(0, width))),
    );
    expect(parseBundle(assertDefined(await log.tiles.readTile(entriesPath(0, width)), "bundle"))).toEqual(
      parseBundle(encodeBundle(entries.slice(0, width))),
    );
  }
  expect(await log.tiles.readTile(tilePath(0, 1, 17))).not.toBeNull();
  expect(await log.tiles.readTile(tilePath(0, 1, 18))).toBeNull();
  const whole = new HashStore();
  for (const leaf of leaves) whole.append(leaf);
  expect(await log.tiles.readTile(tilePath(1, 0, 1))).toEqual(whole.read(8, 0));
  for (const path of [tilePath(1, 0, 2), tilePath(2, 0, 1), "tile/0/../x", "checkpoint", "tile/0/000.p/256"])
    expect(await log.tiles.readTile(path)).toBeNull();
});
