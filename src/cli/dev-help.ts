/** The help of `spire dev`: enough to get from nothing to an SVID without another page. */
import type { Flags } from "./flags.ts";

export function devHelp(calledAs: string, flags: Flags): string {
  return `Runs a SPIFFE server and agent for development, in one process, on this machine only.

Usage:
  ${calledAs} dev [flags]                  until Ctrl-C
  ${calledAs} dev [flags] -- command ...   while the command runs; with its exit code
  eval "$(${calledAs} dev env)"            in another shell: sets the environment of the instance that runs

Programs find the Workload API by the environment variable SPIFFE_ENDPOINT_SOCKET. Go, Python, Java, Rust and
other SPIFFE libraries read it; Node programs use its path with any gRPC client. Without --entry or -f your
processes get spiffe://example.org/<your user name>, because they run under your uid.

Flags:
${flagLines(flags)}
Examples:
  ${calledAs} dev
  ${calledAs} dev -- go test ./...
  ${calledAs} dev --entry /web=unix:uid:$(id -u) --entry /db=unix:user:postgres
  ${calledAs} dev -f entries.yaml --data-dir ./state

  entries.yaml:
    entries:
      - spiffe_id: /web            # or spiffe://example.org/web
        selectors: [unix:uid:1000]
        dns_names: [web.test]

  eval "$(${calledAs} dev env)"
  ${calledAs} agent api fetch x509
  ${calledAs} server entry show
`;
}

function flagLines(flags: Flags): string {
  return Object.entries(flags)
    .map(([name, { kind, usage, shown }]) => {
      const head = `${name.length === 1 ? "-" : "--"}${name}${kind === "" ? "" : ` ${kindWord(name, kind)}`}`;
      return `  ${head.padEnd(24)} ${usage}${shown === "" ? "" : ` (default ${shown})`}\n`;
    })
    .join("");
}

const words: Readonly<Record<string, string>> = {
  entry: "ID=selector",
  f: "FILE",
  output: "FORMAT",
  port: "N",
  name: "NAME",
  bind: "ADDRESS",
  "trust-domain": "NAME",
  "data-dir": "DIR",
  "socket-dir": "DIR",
};

const kindWord = (name: string, kind: string): string => words[name] ?? kind;
