/** Version of the program: set when it is bundled, read from the package when it runs from source. */
import { readFileSync } from "node:fs";

declare const __DATAPILOT_VERSION__: string | undefined;

export const VERSION: string =
  typeof __DATAPILOT_VERSION__ === "string"
    ? __DATAPILOT_VERSION__
    : (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }).version;
