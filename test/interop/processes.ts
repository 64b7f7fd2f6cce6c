/** Child processes of the interoperability tests: their lines of JSON, and their end. */

export interface LineReader {
  /** The next line, parsed. @throws Error when the process ends first, with what it wrote to stderr. */
  next(): Promise<unknown>;
}

export interface Child extends LineReader, AsyncDisposable {
  readonly pid: number;
  /** The exit code; the standard error output is complete then. */
  readonly exited: Promise<number>;
  stderr(): string;
  kill(signal?: NodeJS.Signals): void;
}

/** Starts a process whose standard output is JSON, a value a line. */
export function startChild(command: readonly string[], env: Readonly<Record<string, string>> = {}): Child {
  const child = Bun.spawn([...command], {
    env: { ...process.env, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  let errors = "";
  const collected = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) errors += decoder.decode(chunk, { stream: true });
  })();
  const lines = linesOf(child.stdout);
  const exited = Promise.all([child.exited, collected]).then(([exitCode]) => exitCode);
  return {
    pid: child.pid,
    exited,
    stderr: () => errors,
    kill: (signal) => child.kill(signal),
    async next() {
      const { value, done } = await lines.next();
      if (done) throw new Error(`${command.join(" ")} ended with ${await exited}: ${errors}`);
      return JSON.parse(value);
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await exited;
    },
  };
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
  if (rest !== "") yield rest;
}

/** Runs a process that prints one line of JSON. @throws Error unless it ends with exit code 0. */
export async function runForJson(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  await using child = startChild(command, env);
  const value = await child.next();
  const exitCode = await child.exited;
  if (exitCode !== 0) throw new Error(`${command.join(" ")} ended with ${exitCode}: ${child.stderr()}`);
  return value;
}
