import { expect, test } from "bun:test";
import type { PluginFile } from "../config/plugin-files.ts";
import { invalidArgument } from "../core/errors.ts";
import { createRecordingLogger } from "../rpc/testing.ts";
import { createReconfiguration, needsRestart } from "./reconfigure.ts";

function setUp() {
  const log = createRecordingLogger();
  const taken: string[] = [];
  const state = { text: "a" };
  const file: PluginFile<string> = {
    kind: "NodeAttestor",
    name: "x",
    hash: "a",
    reread: () => ({
      hash: state.text,
      config() {
        if (state.text === "bad") throw invalidArgument("an option is wrong");
        return state.text;
      },
    }),
  };
  const run = createReconfiguration(
    [file],
    async (plugin, config) => {
      if (config === "restart") throw needsRestart(plugin);
      taken.push(config);
    },
    log,
  );
  const last = () => log.lines.at(-1);
  return { state, taken, run, last, log };
}

test("an unchanged file is skipped, a changed one is taken once", async () => {
  const { state, taken, run, last, log } = setUp();
  await run();
  expect(last()).toMatchObject({
    message: "Plugin not reconfigured since the config is unchanged",
    hash: "a",
  });
  expect(log.lines[0]).toMatchObject({ level: "info", message: "Reconfigure signal received" });
  state.text = "b";
  await run();
  expect(last()).toMatchObject({
    message: "Plugin reconfigured",
    old_hash: "a",
    new_hash: "b",
    plugin_type: "NodeAttestor",
    plugin_name: "x",
  });
  await run();
  expect(last()).toMatchObject({
    message: "Plugin not reconfigured since the config is unchanged",
    hash: "b",
  });
  expect(taken).toEqual(["b"]);
});

test("what doesn't hold, or can't be taken now, changes nothing and is said each time", async () => {
  const { state, taken, run, last } = setUp();
  for (const text of ["bad", "restart"]) {
    state.text = text;
    await run();
    expect(last()).toMatchObject({ level: "error", message: "Failed to reconfigure plugin" });
    await run();
    expect(last()).toMatchObject({ level: "error", message: "Failed to reconfigure plugin" });
  }
  state.text = "c";
  await run();
  expect(taken).toEqual(["c"]);
});

test("signals at the same time lead to rounds one after another", async () => {
  const { state, taken, run, log } = setUp();
  state.text = "b";
  await Promise.all([run(), run()]);
  expect(taken).toEqual(["b"]);
  expect(log.lines.filter(({ message }) => message === "Reconfigure signal received")).toHaveLength(2);
});
