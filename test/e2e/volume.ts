/** A small file system that can be filled up, where one can be mounted: Linux, as root. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";

/** Mounts an empty file system at a new folder; false where that is not allowed. */
export function mountVolume(path: string, sizeMib: number): boolean {
  if (process.getuid?.() !== 0) return false;
  try {
    mkdirSync(path, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeMib}m`, "tmpfs", path], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

export const unmountVolume = (path: string): void => void execFileSync("umount", ["--lazy", path]);
