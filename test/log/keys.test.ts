/** Key files: what is written is read again, by its owner and with its passphrase, for its ledger and its role only. */
import { chmod, cp, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateKeyFiles, loadKeyFiles, type NativeLedgerKeys } from "../../src/log/keys/key-files.ts";
import { ORIGIN } from "./world.ts";

const PASSPHRASE = "Größe ist Übung 42";
const FILES = ["log.pem", "log-pq.pem", "commit.pem"] as const;
const vkeys = (keys: NativeLedgerKeys): string[] => [keys.log.vkey, keys.logPq.vkey, keys.commit.vkey];

let root: string;
let made: NativeLedgerKeys;
const folder = (name: string): string => join(root, name);
/** A copy of the wrapped keys to damage. */
async function copied(name: string): Promise<string> {
  await cp(folder("wrapped"), folder(name), { recursive: true });
  return folder(name);
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "datapilot-keys-"));
  made = await generateKeyFiles(folder("wrapped"), ORIGIN, PASSPHRASE);
});
afterAll(() => rm(root, { force: true, recursive: true }));

it("are read as they were written, plain ones with or without a passphrase", async () => {
  const keys = await generateKeyFiles(folder("plain"), ORIGIN);
  expect(vkeys(await loadKeyFiles(folder("plain"), ORIGIN))).toEqual(vkeys(keys));
  expect(vkeys(await loadKeyFiles(folder("plain"), ORIGIN, PASSPHRASE))).toEqual(vkeys(keys));
  await expect(generateKeyFiles(folder("plain"), ORIGIN)).rejects.toMatchObject({ code: "EEXIST" });
  await chmod(join(folder("plain"), "log.pem"), 0o640);
  await expect(loadKeyFiles(folder("plain"), ORIGIN)).rejects.toThrow(/chmod 600/);
});

describe("wrapped", () => {
  it("open with their passphrase, in whatever form it was typed", async () => {
    for (const typed of [PASSPHRASE, PASSPHRASE.normalize("NFD")])
      expect(vkeys(await loadKeyFiles(folder("wrapped"), ORIGIN, typed))).toEqual(vkeys(made));
    const message = new TextEncoder().encode("the same key");
    const again = await loadKeyFiles(folder("wrapped"), ORIGIN, PASSPHRASE);
    expect(again.log.sign(message)).toEqual(made.log.sign(message));
  });

  it("hold nothing that another program would take for a key, and differ in salt and nonce", async () => {
    const heads = new Set<string>();
    for (const file of FILES) {
      const path = join(folder("wrapped"), file);
      expect((await stat(path)).mode & 0o777).toBe(0o600);
      const text = await readFile(path, "utf8");
      expect(text).toMatch(
        /^-----BEGIN DATAPILOT WRAPPED PRIVATE KEY-----\n(?:[A-Za-z0-9+/=]{1,64}\n)+-----END DATAPILOT WRAPPED PRIVATE KEY-----\n$/,
      );
      heads.add(text.split("\n")[1]?.slice(0, 38) ?? "");
    }
    expect(heads.size).toBe(3);
  });

  it.each([undefined, "", "another passphrase", `${PASSPHRASE} `])("stay closed with %j", async (passphrase) => {
    const said = passphrase === undefined ? /is wrapped\. Give its passphrase/ : /does not open/;
    await expect(loadKeyFiles(folder("wrapped"), ORIGIN, passphrase)).rejects.toThrow(said);
  });

  it("open for their own ledger and role only", async () => {
    await expect(loadKeyFiles(folder("wrapped"), "other.test/0a1b2c3d", PASSPHRASE)).rejects.toThrow(/does not open/);
    // Both are Ed25519: nothing else would tell them apart before a signature does.
    const swapped = await copied("swapped");
    await rename(join(swapped, "log.pem"), join(swapped, "spare"));
    await rename(join(swapped, "commit.pem"), join(swapped, "log.pem"));
    await rename(join(swapped, "spare"), join(swapped, "commit.pem"));
    await expect(loadKeyFiles(swapped, ORIGIN, PASSPHRASE)).rejects.toThrow(/does not open/);
  });

  it("open whole or not at all", async () => {
    const damaged = await copied("damaged");
    const path = join(damaged, "log.pem");
    const text = await readFile(path, "utf8");
    const [begin = "", ...lines] = text.split("\n");
    const bytes = Buffer.from(lines.slice(0, -2).join(""), "base64");
    const written = (b: Buffer): string => `${begin}\n${b.toString("base64")}\n${lines.at(-2)}\n`;
    await writeFile(path, written(bytes));
    expect(vkeys(await loadKeyFiles(damaged, ORIGIN, PASSPHRASE))).toEqual(vkeys(made));
    // Version, salt, nonce, key, tag.
    for (const at of [0, 1, 17, 29, bytes.length - 17, bytes.length - 1]) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      await writeFile(path, written(flipped));
      await expect(loadKeyFiles(damaged, ORIGIN, PASSPHRASE), String(at)).rejects.toMatchObject({
        reason: "REQUEST_INVALID",
      });
    }
    for (const cut of [text.slice(0, -20), written(bytes.subarray(0, 40)), text.replace("\nA", "\n-")]) {
      await writeFile(path, cut);
      await expect(loadKeyFiles(damaged, ORIGIN, PASSPHRASE)).rejects.toMatchObject({ reason: "REQUEST_INVALID" });
    }
    // Each opening costs a scrypt.
  }, 120_000);
});
