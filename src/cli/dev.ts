/** `spire dev`: a server and an agent for development, alone or beside a command that uses them. */
import { constants } from "node:os";
import { invalidArgument, type SpireError } from "../core/errors.ts";
import { parseTrustDomainOrId, type TrustDomain } from "../core/spiffe-id.ts";
import { type Command, command, type Terminal } from "./command.ts";
import { devHelp } from "./dev-help.ts";
import { type DevReport, formatReportJson, formatScreen } from "./dev-screen.ts";
import { boolFlag, type FlagValues, intFlag, listFlag, nearest, outputFlag, stringFlag } from "./flags.ts";
import { checkPort } from "./run.ts";
import { parentName, usersShell } from "./shell.ts";

/** What an instance is asked for. */
export interface DevRequest {
  readonly trustDomain?: TrustDomain;
  readonly dataDir?: string;
  readonly socketDir?: string;
  readonly bindAddress: string;
  readonly port: number;
  readonly name?: string;
  /** `ID=selector[,selector]`. */
  readonly entries: readonly string[];
  readonly entriesFile?: string;
  readonly version: string;
}

/** An instance that is ready. */
export interface DevSession extends Omit<DevReport, "version" | "pid" | "startupMs"> {
  readonly fallbackDirectory?: string;
  /** Resolves when it can't go on: with the reason, or undefined after `close`. */
  readonly stopped: Promise<SpireError | undefined>;
  close(): Promise<void>;
}

/** What the command drives. */
export interface DevMode {
  /** Words by which the user can call this program again. */
  readonly calledAs: readonly string[];
  start(request: DevRequest, verbose: boolean): Promise<DevSession>;
  /** Runs a command to its end, passing signals on. @returns its exit code. */
  runBeside(argv: readonly string[], session: DevSession, say: (message: string) => void): Promise<number>;
  /** The first signal that asks this process to end, from now on. */
  untilSignal(): Promise<NodeJS.Signals>;
}

const flags = {
  "trust-domain": stringFlag(
    "Trust domain of the SPIFFE IDs; example.org unless the state directory has another",
  ),
  "data-dir": stringFlag("Directory that keeps CA, entries and agent; without it nothing is kept"),
  "socket-dir": stringFlag("Directory of the sockets; a private one of this run if not set"),
  port: intFlag("TCP port of the server on the loopback interface; 0 takes a free one"),
  bind: stringFlag("Loopback address of the server", "127.0.0.1"),
  name: stringFlag('Name of the instance for "dev env"; dev, dev-2, … if not set'),
  entry: listFlag("Identity to hand out: ID=selector[,selector]; may be repeated"),
  f: stringFlag("File of entries, JSON or YAML, as for entry create -data; followed while it is edited"),
  v: boolFlag("Log more to standard error"),
  output: outputFlag,
};

const facts = {
  name: "dev",
  summary: "Runs a server and an agent for development",
  example: "dev -- go test ./...",
  flags,
};

/** @param argv arguments after `--`. */
export const devCommand = (mode: DevMode, version: string): Command => ({
  ...facts,
  execute(args, terminal, calledAs) {
    const end = args.indexOf("--");
    const [own, beside] = end < 0 ? [args, undefined] : [args.slice(0, end), args.slice(end + 1)];
    if (own.some((argument) => /^--?h(elp)?$/.test(argument))) {
      terminal.out(devHelp(calledAs, flags));
      return Promise.resolve(0);
    }
    const inner = command({
      ...facts,
      run: async ({ flags: values, rest }) => {
        refuseWords(rest, calledAs);
        if (beside?.length === 0) throw invalidArgument(`"--" must be followed by a command`);
        const signal = watchSignal(mode.untilSignal());
        const session = await mode.start(requestOf(values, version), values.v);
        try {
          return await serve({ mode, session, beside, values, version, terminal, signal });
        } finally {
          await session.close();
        }
      },
    });
    return inner.execute(own, terminal, calledAs);
  },
});

function refuseWords([word]: readonly string[], calledAs: string): void {
  if (word === undefined) return;
  const near = nearest(word, ["env"]);
  throw invalidArgument(
    near
      ? `unknown command ${word}, did you mean ${near}?`
      : `unexpected argument "${word}"; to run a command beside dev, write: ${calledAs} dev -- ${word} …`,
  );
}

function requestOf(values: FlagValues<typeof flags>, version: string): DevRequest {
  const { "trust-domain": trustDomain, "data-dir": dataDir, "socket-dir": socketDir, name, f } = values;
  return {
    ...(trustDomain && { trustDomain: parseTrustDomainOrId(trustDomain) }),
    ...(dataDir && { dataDir }),
    ...(socketDir && { socketDir }),
    bindAddress: values.bind,
    port: checkPort(values.port, "port", 0),
    ...(name && { name }),
    entries: values.entry,
    ...(f && { entriesFile: f }),
    version,
  };
}

interface SignalWatch {
  readonly received: Promise<NodeJS.Signals>;
  current(): NodeJS.Signals | undefined;
}

function watchSignal(received: Promise<NodeJS.Signals>): SignalWatch {
  let current: NodeJS.Signals | undefined;
  void received.then((signal) => {
    current = signal;
  });
  return { received, current: () => current };
}

interface Serving {
  readonly mode: DevMode;
  readonly session: DevSession;
  /** The command to run; undefined = serve until a signal. */
  readonly beside: readonly string[] | undefined;
  readonly values: FlagValues<typeof flags>;
  readonly version: string;
  readonly terminal: Terminal;
  readonly signal: SignalWatch;
}

/** @returns the exit code. @throws SpireError when the instance can't go on. */
async function serve(serving: Serving): Promise<number> {
  const { mode, session, beside, terminal, signal } = serving;
  // A signal during the start ends it: the command would never hear of it.
  const early = signal.current();
  if (early !== undefined) return beside ? 128 + constants.signals[early] : 0;
  announce(serving);
  if (beside) return mode.runBeside(beside, session, (message) => terminal.err(`spire dev: ${message}\n`));
  const failure = await Promise.race([signal.received.then(() => undefined), session.stopped]);
  if (failure) throw failure;
  return 0;
}

function announce({ mode, session, beside, values, version, terminal }: Serving): void {
  const report = { ...session, version, pid: process.pid, startupMs: Math.round(performance.now()) };
  const show = beside ? terminal.err : terminal.out;
  if (session.fallbackDirectory) {
    terminal.err(
      `spire dev: that path is too long for a socket; the sockets are in ${session.fallbackDirectory}\n`,
    );
  }
  const syntax = usersShell(parentName(), terminal.env["SHELL"]);
  show(values.output === "json" ? formatReportJson(report) : formatScreen(report, syntax, mode.calledAs));
}
