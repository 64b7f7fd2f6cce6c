/**
 * `npm run soak -- NAME`: a test of the suite `soak-NAME` that goes on for half an hour, or for as many minutes as
 * `--minutes` says. It watches for what only time brings to light.
 */
import { parseArgs } from "node:util";
import { root, run, script, stream } from "./run.ts";

const soaks: Readonly<Record<string, string>> = { rotation: "test/soak/rotation.test.ts" };

script(async () => {
  const { values, positionals } = parseArgs({
    options: { minutes: { type: "string", default: "30" } },
    allowPositionals: true,
  });
  const [name = ""] = positionals;
  const file = soaks[name];
  if (file === undefined || !(Number(values.minutes) > 0)) {
    throw new Error(`usage: npm run soak -- ${Object.keys(soaks).join("|")} [--minutes N]`);
  }
  await run(["npm", "run", "--silent", "build"]);
  const env = { SPIRE_BIN: `${root}/dist/spire`, SPIRE_SOAK_MINUTES: values.minutes };
  process.exitCode = await stream([process.execPath, "test", `./${file}`], { env });
});
