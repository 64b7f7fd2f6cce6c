/** `spire version`: what this is, and what it was built from. */
import { version } from "../../package.json";
import { command } from "./command.ts";
import { outputFlag } from "./flags.ts";
import { formatJson } from "./print.ts";

/** Filled in by the build; not there when the program runs from its sources. */
declare const BUILD_COMMIT: string | undefined;
declare const BUILD_DATE: string | undefined;

const built = {
  commit: (typeof BUILD_COMMIT === "string" && BUILD_COMMIT) || "unknown",
  date: (typeof BUILD_DATE === "string" && BUILD_DATE) || "unknown",
};

export const versionCommand = command({
  name: "version",
  summary: "Prints the version",
  example: "version -output json",
  flags: { output: outputFlag },
  run: async ({ flags, terminal }) => {
    const { platform: os, arch } = process;
    const runtime = `bun ${Bun.version}`;
    if (flags.output === "json") terminal.out(`${formatJson({ version, ...built, os, arch, runtime })}\n`);
    else terminal.out(`spire ${version} (${os}-${arch}, ${runtime}, commit ${built.commit})\n`);
    return 0;
  },
});
