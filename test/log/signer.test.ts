import { mkdtemp, readFile, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { generateKeyFiles, loadKeyFiles } from "../../src/log/keys/key-files.ts";
import { openLastSigned } from "../../src/log/keys/last-signed-file.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { createSigner } from "../../src/log/signer.ts";
import { leafHash } from "../../src/merkle/hash.ts";
import { consistencyProof, HashStore } from "../../src/merkle/proofs.ts";
import { openCheckpoint } from "../../src/note/checkpoint.ts";
import { parseVkey } from "../../src/note/keys.ts";
import { pureVerifier } from "../../src/note/signatures.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { JumpingClock, MemoryLastSigned, ORIGIN, testKeys } from "./world.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "datapilot-signer-"));
});
afterAll(() => rm(folder, { force: true, recursive: true }));

function tree(size: number, salt = ""): HashStore {
  const store = new HashStore();
  for (let i = 0; i < size; i++) store.append(leafHash(utf8(`${salt}${i}`)));
  return store;
}
const head = (store: HashStore, size: number) => ({ root: store.root(size), size });
const signer = (lastSigned = new MemoryLastSigned()) =>
  createSigner({ clock: new JumpingClock(), keys: testKeys, last: undefined, lastSigned, origin: ORIGIN });

it("signs what extends, and refuses what does not", async () => {
  const one = signer();
  const honest = tree(20);
  const prove = (to: number) => (from: number) => consistencyProof(from, to, honest.read);
  await one.sign(head(honest, 7), prove(7));
  await one.sign(head(honest, 7), prove(7));
  await one.sign(head(honest, 20), prove(20));
  await expect(one.sign(head(honest, 19), prove(19))).rejects.toMatchObject({ code: "signer.rollback" });
  await expect(one.sign(head(tree(20, "x"), 20), prove(20))).rejects.toMatchObject({ code: "signer.rollback" });
  await expect(
    one.sign(head(tree(30, "x"), 30), () => consistencyProof(20, 30, tree(30, "x").read)),
  ).rejects.toMatchObject({ code: "signer.rollback" });
});

it("keeps the note before it lets the signature go", async () => {
  const lastSigned = new MemoryLastSigned();
  lastSigned.write = () => Promise.reject(new Error("the disk is full"));
  const one = signer(lastSigned);
  await expect(one.sign(head(tree(3), 3), () => [])).rejects.toThrow("full");
  expect(one.last).toBeUndefined();
});

it("adds an ML-DSA-44 line that both verifiers take", async () => {
  const one = signer();
  const note = one.complete(await one.sign(head(tree(3), 3), () => []));
  const keys = [testKeys.log.vkey, testKeys.logPq.vkey].map((v) => assertDefined(parseVkey(v), v));
  for (const verifier of [nativeVerifier, pureVerifier])
    expect(openCheckpoint(note, keys, verifier).signedBy).toHaveLength(2);
});

it("writes two files in turn, so that a torn one leaves the other", async () => {
  const path = join(folder, "last-signed");
  const one = signer();
  const honest = tree(1_100);
  {
    await using file = await openLastSigned(path);
    for (const size of [9, 999, 1_000, 1_001])
      await file.write((await one.sign(head(honest, size), (from) => consistencyProof(from, size, honest.read))).note);
  }
  const sizes = async (): Promise<(string | undefined)[]> => {
    await using file = await openLastSigned(path);
    return (await file.read()).map((n) => new TextDecoder().decode(n).split("\n")[1]);
  };
  expect(new Set(await sizes())).toEqual(new Set(["1000", "1001"]));
  // The next write goes over the older one.
  {
    await using file = await openLastSigned(path);
    await file.write(utf8(new TextDecoder().decode((await file.read())[0]).replace(/\n\d+\n/, "\n1002\n")));
  }
  expect(new Set(await sizes())).toEqual(new Set(["1001", "1002"]));
  const newest = (await readFile(path, "utf8")).includes("\n1002\n") ? path : `${path}.alternate`;
  await truncate(newest, 40);
  {
    await using file = await openLastSigned(path);
    await file.write(utf8("datapilot.test/0a1b2c3d\n1003\nroot\n\n-\n"));
  }
  expect(await sizes()).toEqual(expect.arrayContaining(["1001", "1003"]));
});

it("generates and loads keys that only their owner reads", async () => {
  const made = await generateKeyFiles(join(folder, "keys"), ORIGIN);
  const loaded = await loadKeyFiles(join(folder, "keys"), ORIGIN);
  expect([loaded.log.vkey, loaded.logPq.vkey, loaded.commit.vkey]).toEqual([
    made.log.vkey,
    made.logPq.vkey,
    made.commit.vkey,
  ]);
  expect(new Set([loaded.log.vkey, loaded.logPq.vkey, loaded.commit.vkey].map((v) => v.slice(-40))).size).toBe(3);
  await expect(generateKeyFiles(join(folder, "keys"), ORIGIN)).rejects.toThrow("EEXIST");
  const { chmod } = await import("node:fs/promises");
  await chmod(join(folder, "keys", "log.pem"), 0o640);
  await expect(loadKeyFiles(join(folder, "keys"), ORIGIN)).rejects.toThrow("chmod 600");
});

it("leaves a Buffer as it was", () => {
  for (let i = 0; i < 16; i++) {
    const message = utf8(`message ${i}`);
    const signature = Buffer.from(testKeys.log.sign(message));
    for (let k = 0; k < 2; k++) expect(nativeVerifier.ed25519(testKeys.log.publicKey, message, signature)).toBe(true);
  }
});

it("verifies as the pure verifier does", () => {
  const message = utf8("a message");
  const signature = testKeys.log.sign(message);
  const torsion = new Uint8Array(32);
  torsion[0] = 1;
  for (const verifier of [nativeVerifier, pureVerifier]) {
    expect(verifier.ed25519(testKeys.log.publicKey, message, signature)).toBe(true);
    expect(verifier.ed25519(testKeys.log.publicKey, utf8("another"), signature)).toBe(false);
    expect(verifier.ed25519(torsion, message, new Uint8Array(64))).toBe(false);
    expect(verifier.ed25519(testKeys.log.publicKey, message, signature.subarray(1))).toBe(false);
  }
});
