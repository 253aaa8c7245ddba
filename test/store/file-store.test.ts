/** What only the file store has: `tmp`, locks between processes, WORM times, free space, uploads, and death in the middle. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import type { Digest } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Disk } from "../../src/store/fs/disk.ts";
import { createFileStore, type FileStore } from "../../src/store/fs/file-store.ts";
import { KeyLocks } from "../../src/store/fs/key-lock.ts";
import { artifactKey, commitKey, LEADER, parseCommitKey, recordKey } from "../../src/store/keys.ts";
import { collect, describeObjectStore } from "../contract/object-store.ts";
import { bodyOf, machineClock, machineRandom } from "./machine.ts";

const LATER = Date.UTC(2035, 0, 1, 0, 0, 0, 7);
const roots: string[] = [];
const freshRoot = (): string => {
  const root = mkdtempSync(join(tmpdir(), "datapilot-store-"));
  roots.push(root);
  return root;
};
const openStore = (root: string, minimumFreeBytes = 0): Promise<FileStore> =>
  createFileStore({ root, allowAdvisoryLock: true, minimumFreeBytes, clock: machineClock, random: machineRandom });
const sha256 = (bytes: Uint8Array | string): Digest => createHash("sha256").update(bytes).digest("hex") as Digest;
const unowned = (root: string): string[] => readdirSync(join(root, "tmp")).filter((n) => !n.startsWith("owner-"));

describeObjectStore(
  "the file store",
  async () => {
    const [root, fullRoot] = [
      mkdtempSync(join(tmpdir(), "datapilot-store-")),
      mkdtempSync(join(tmpdir(), "datapilot-store-")),
    ];
    const [store, full] = [await openStore(root), await openStore(fullRoot, Number.MAX_SAFE_INTEGER)];
    return {
      store,
      full,
      async dispose() {
        expect(unowned(root), "left under tmp").toEqual([]);
        await store[Symbol.asyncDispose]();
        await full[Symbol.asyncDispose]();
        expect(readdirSync(join(root, "tmp"))).toEqual([]);
        for (const r of [root, fullRoot]) rmSync(r, { recursive: true });
      },
    };
  },
  { full: true },
);

describe("the file store", () => {
  const children: ChildProcess[] = [];
  const start = (...args: string[]): ChildProcess => {
    const file = fileURLToPath(new URL("./file-store-process.ts", import.meta.url));
    const child = spawn(process.execPath, [file, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    return child;
  };
  afterEach(() => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
    for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
  });

  it("keeps every object that a killed process said was created, whole, and no torn one", async () => {
    const root = freshRoot();
    for (let round = 0; round < 3; round++) {
      rmSync(join(root, "ledger"), { recursive: true, force: true });
      const child = start("create", root);
      let said = "";
      child.stdout?.on("data", (piece: Buffer) => {
        said += piece.toString();
        if (said.length > 20_000) child.kill("SIGKILL");
      });
      const [, signal] = (await once(child, "close")) as [number | null, string | null];
      expect(signal).toBe("SIGKILL");
      await using store = await openStore(root);
      expect(unowned(root), "left under tmp").toEqual([]);
      const keys = said.split("\n").slice(0, -1);
      expect(keys.length).toBeGreaterThan(500);
      for (const key of keys) expect((await store.get("ledger", key))?.body, key).toEqual(bodyOf(key));
      for await (const info of store.list("ledger", "")) {
        expect(parseCommitKey(info.key)).toBeDefined();
        expect((await store.get("ledger", info.key))?.body).toEqual(bodyOf(info.key));
        expect(info.retainUntil).toBe(Date.UTC(2035, 0, 1));
      }
    }
  });

  it("loses no increment of three processes that swap one key", async () => {
    const root = freshRoot();
    const writers = Array.from({ length: 3 }, () => start("count", root, "100"));
    const codes = await Promise.all(writers.map((w) => once(w, "close")));
    expect(codes.map(([code]) => code as number)).toEqual([0, 0, 0]);
    await using store = await openStore(root);
    expect((await store.get("head", LEADER))?.body).toEqual(utf8("300"));
  });

  it("breaks the lock of a dead process, once, and waits for a living one", async () => {
    const root = freshRoot();
    await using first = await openStore(root);
    await using second = await openStore(root);
    const [ownerName = ""] = readdirSync(join(root, "tmp"));
    const owner = JSON.parse(readFileSync(join(root, "tmp", ownerName), "utf8")) as {
      pid: number;
      start: string;
      boot: string;
    };
    const lock = join(root, "tmp", `lock-${sha256(`head/${LEADER}`).slice(0, 32)}`);
    const deaths = [
      { ...owner, boot: "another boot", name: "a".repeat(32) },
      { ...owner, start: "1", name: "b".repeat(32) },
      { ...owner, pid: 4_194_304 + 1, name: "c".repeat(32) },
    ];
    for (const dead of deaths) {
      writeFileSync(lock, JSON.stringify(dead));
      const before = (await first.head("head", LEADER))?.etag ?? null;
      const outcomes = await Promise.all(
        [first, second, first, second].map((s, i) => s.swap("head", LEADER, utf8(`${i}`), before)),
      );
      expect(outcomes.map((o) => o.outcome).sort()).toEqual(["moved", "moved", "moved", "swapped"]);
      expect(unowned(root)).toEqual([]);
    }
    linkSync(join(root, "tmp", ownerName), lock);
    let isDone = false;
    const waiting = first.replace("head", LEADER, utf8("late")).finally(() => {
      isDone = true;
    });
    await machineClock.sleep(150);
    expect(isDone).toBe(false);
    unlinkSync(lock);
    await waiting;
    expect((await second.get("head", LEADER))?.body).toEqual(utf8("late"));
  });

  it("breaks no lock of a living successor when eight break that of one dead process", async () => {
    const root = freshRoot();
    const locks = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const disk = new Disk({ root, minimumFreeBytes: 0, clock: machineClock, random: machineRandom });
        await disk.start([]);
        return new KeyLocks(disk, machineClock);
      }),
    );
    for (const depth of [0, 1]) {
      const dead = JSON.stringify({ name: "f".repeat(32), pid: 1, start: "1", boot: "another boot", pidSpace: "" });
      // The second time the breaker died as well.
      for (const file of ["lock-x", `lock-x-${"f".repeat(32)}`].slice(0, depth + 1))
        writeFileSync(join(root, "tmp", file), dead);
      let inside = 0;
      const work = async (): Promise<void> => {
        expect(++inside).toBe(1);
        await machineClock.sleep(5);
        inside--;
      };
      await Promise.all(locks.map((l) => l.hold("x", undefined, work)));
      expect(unowned(root)).toEqual([]);
    }
  });

  it("sweeps what the dead left under tmp, and nothing of the living", async () => {
    const root = freshRoot();
    await using living = await openStore(root);
    const [ownerName = ""] = readdirSync(join(root, "tmp"));
    const owner = JSON.parse(readFileSync(join(root, "tmp", ownerName), "utf8")) as object;
    const name = ownerName.slice("owner-".length);
    const [dead, gone] = ["d".repeat(32), "e".repeat(32)];
    const write = (file: string, text: string): void => writeFileSync(join(root, "tmp", file), text);
    write(`owner-${dead}`, JSON.stringify({ ...owner, name: dead, boot: "another boot" }));
    write(`${dead}-0`, "torn");
    write(`${gone}-zz`, "torn");
    write(`${name}-zzz`, "in flight");
    write(`starting-${gone}`, "");
    await using second = await openStore(root);
    const left = readdirSync(join(root, "tmp"));
    expect(left.filter((n) => !n.startsWith("owner-")).sort()).toEqual([`${name}-zzz`, `starting-${gone}`]);
    expect(left.filter((n) => n.startsWith("owner-"))).toHaveLength(2);
    expect((await living.create("ledger", commitKey(0), utf8("x"), {})).outcome).toBe("created");
    expect((await second.create("ledger", commitKey(0), utf8("x"), {})).outcome).toBe("exists");
  });

  it("says a lock in the way of WORM volumes: access time, then read-only", async () => {
    const root = freshRoot();
    await using store = await openStore(root);
    expect(store.lock).toBe("advisory");
    await store.create("ledger", commitKey(0), utf8("x"), { retainUntil: LATER });
    await store.create("ledger", commitKey(1), utf8("x"), {});
    const locked = statSync(join(root, "ledger", commitKey(0)));
    expect([Math.round(locked.atimeMs), locked.mode & 0o777]).toEqual([LATER, 0o444]);
    expect(statSync(join(root, "ledger", commitKey(1))).mode & 0o200).toBe(0o200);
    expect(await store.head("ledger", commitKey(1))).not.toHaveProperty("retainUntil");
    await store.extend("ledger", commitKey(1), LATER);
    expect(statSync(join(root, "ledger", commitKey(1))).mode & 0o777).toBe(0o444);
  });

  it("makes a folder again that was there when it last looked", async () => {
    const root = freshRoot();
    await using store = await openStore(root);
    const keys = ["a", "b", "c"].map((text) => recordKey(sha256(text)));
    for (const key of keys) {
      expect((await store.create("ledger", key, utf8(key), {})).outcome).toBe("created");
      rmSync(join(root, "ledger", key, ".."), { recursive: true });
      expect((await store.create("ledger", key, utf8(key), {})).outcome).toBe("created");
      expect((await store.create("ledger", key, utf8(key), {})).outcome).toBe("exists");
    }
    expect((await store.get("ledger", keys[2] ?? ""))?.body).toEqual(utf8(keys[2] ?? ""));
    expect(unowned(root)).toEqual([]);
  });

  it("says what keeps a file from being made, and leaves nothing of it", async () => {
    const root = freshRoot();
    await using store = await openStore(root);
    const key = recordKey(sha256("x"));
    mkdirSync(join(root, "ledger", "records"), { recursive: true });
    // A file where a folder belongs.
    writeFileSync(join(root, "ledger", "records", "sha256"), "");
    await expect(store.create("ledger", key, utf8("x"), {})).rejects.toMatchObject({
      message: expect.stringContaining("ENOTDIR") as string,
      reason: "STORE_UNAVAILABLE",
    });
    expect(unowned(root)).toEqual([]);
    unlinkSync(join(root, "ledger", "records", "sha256"));
    expect((await store.create("ledger", key, utf8("x"), {})).outcome).toBe("created");
  });

  it("makes what can be made of many files, and names what cannot", async () => {
    const root = freshRoot();
    await using store = await openStore(root);
    const blocked = (key: string): boolean => key.startsWith("records/sha256/0");
    mkdirSync(join(root, "ledger", "records", "sha256"), { recursive: true });
    // Files where folders belong.
    for (const digit of "0123456789abcdef") writeFileSync(join(root, "ledger", "records", "sha256", `0${digit}`), "");
    const keys = Array.from({ length: 200 }, (_, i) => recordKey(sha256(`${i}`)));
    const made = await Promise.allSettled(keys.map((key) => store.create("ledger", key, utf8(key), {})));
    expect(made.map((m) => m.status)).toEqual(keys.map((key) => (blocked(key) ? "rejected" : "fulfilled")));
    expect(keys.some(blocked)).toBe(true);
    expect(unowned(root)).toEqual([]);
    for (const digit of "0123456789abcdef") unlinkSync(join(root, "ledger", "records", "sha256", `0${digit}`));
    const again = await Promise.all(keys.map((key) => store.create("ledger", key, utf8(key), {})));
    expect(again.map((a) => a.outcome)).toEqual(keys.map((key) => (blocked(key) ? "created" : "exists")));
    for (const key of keys) expect((await store.get("ledger", key))?.body).toEqual(utf8(key));
  });

  it("does not start on an advisory lock unless told to", async () => {
    const options = {
      root: freshRoot(),
      allowAdvisoryLock: false,
      minimumFreeBytes: 0,
      clock: machineClock,
      random: machineRandom,
    };
    await expect(createFileStore(options)).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      message: expect.stringContaining("leave out --require-lock") as string,
    });
  });

  it("lists strangers, and reads neither them nor links", async () => {
    const root = freshRoot();
    await using store = await openStore(root);
    const digest = sha256("x");
    mkdirSync(join(root, "ledger", "commits", "0000000000000000"), { recursive: true });
    writeFileSync(join(root, "ledger", "commits", "0000000000000000", "junk"), "junk");
    writeFileSync(join(root, "secret"), "secret");
    mkdirSync(join(root, "ledger", recordKey(digest), ".."), { recursive: true });
    symlinkSync(join(root, "secret"), join(root, "ledger", recordKey(digest), "..", digest.replace(/.$/, "")));
    rmSync(join(root, "ledger", recordKey(digest)), { recursive: true, force: true });
    symlinkSync(join(root, "secret"), join(root, "ledger", recordKey(digest)));
    expect((await collect(store.list("ledger", ""))).map((i) => i.key)).toEqual(["commits/0000000000000000/junk"]);
    expect(await store.get("ledger", "commits/0000000000000000/junk")).toBeNull();
    expect(await store.get("ledger", recordKey(digest))).toBeNull();
    expect(await store.create("ledger", recordKey(digest), utf8("x"), {})).toEqual({ outcome: "exists" });
    expect(readFileSync(join(root, "secret"), "utf8")).toBe("secret");
  });

  describe("uploads", () => {
    const body = new Uint8Array(1_000_000).map((_, i) => i * 31);
    const key = artifactKey(sha256("project"), sha256(body));
    const pieces = async function* (bytes: Uint8Array, size = 10_000): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    };

    it("creates what has the length and the digest that were agreed", async () => {
      const root = freshRoot();
      await using store = await openStore(root);
      expect((await store.receive(key, sha256(body), body.length, pieces(body), { retainUntil: LATER })).outcome).toBe(
        "created",
      );
      expect((await store.get("ledger", key))?.body).toEqual(body);
      expect((await store.head("ledger", key))?.retainUntil).toBe(LATER);
      expect(await store.receive(key, sha256(body), body.length, pieces(body), { retainUntil: LATER })).toEqual({
        outcome: "exists",
      });
    });

    it("leaves nothing of a body that is other, shorter, longer, or broken off", async () => {
      const root = freshRoot();
      await using store = await openStore(root);
      const other = body.slice();
      other[500_000] = (other[500_000] ?? 0) ^ 1;
      let taken = 0;
      const endless = async function* (): AsyncGenerator<Uint8Array> {
        for (; ; taken++) yield new Uint8Array(100_000);
      };
      const broken = async function* (): AsyncGenerator<Uint8Array> {
        yield body.subarray(0, 500_000);
        throw new Error("connection reset");
      };
      const receive = (stream: AsyncIterable<Uint8Array>) =>
        store.receive(key, sha256(body), body.length, stream, { retainUntil: LATER });
      expect(await receive(pieces(other))).toMatchObject({
        outcome: "mismatch",
        field: "sha256",
        received: sha256(other),
      });
      expect(await receive(pieces(body.subarray(1)))).toMatchObject({
        outcome: "mismatch",
        field: "length",
        received: "999999",
      });
      expect(await receive(endless())).toMatchObject({ outcome: "mismatch", field: "length" });
      expect(taken).toBeLessThan(12);
      await expect(receive(broken())).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
      await expect(store.receive("../x", sha256(body), 1, pieces(body), {})).rejects.toMatchObject({
        reason: "REQUEST_INVALID",
      });
      expect(existsSync(join(root, "ledger", key))).toBe(false);
      expect(unowned(root)).toEqual([]);
    });

    it("stops when its signal is aborted", async () => {
      const root = freshRoot();
      await using store = await openStore(root);
      const controller = new AbortController();
      const slow = async function* (): AsyncGenerator<Uint8Array> {
        yield body.subarray(0, 10);
        controller.abort();
        yield body.subarray(10);
      };
      await expect(
        store.receive(key, sha256(body), body.length, slow(), { signal: controller.signal }),
      ).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
      expect(await store.head("ledger", key)).toBeNull();
      expect(unowned(root)).toEqual([]);
    });
  });
});
