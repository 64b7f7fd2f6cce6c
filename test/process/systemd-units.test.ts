/** The example units: what the documentation shows, and valid for systemd. */
import { expect, test } from "bun:test";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { createSandbox, finish } from "../dev/program.ts";

const docs = join(import.meta.dir, "../../docs");
const names = ["spire-server", "spire-agent"];

test.each(names)("the documentation shows the unit of %s as it is", async (name) => {
  const unit = await Bun.file(join(docs, `examples/systemd/${name}.service`)).text();
  expect(await Bun.file(join(docs, "systemd.md")).text()).toContain(`\`\`\`ini\n${unit}\`\`\``);
});

test.each(names)("systemd has nothing against the unit of %s", async (name) => {
  const sandbox = createSandbox();
  try {
    const text = await Bun.file(join(docs, `examples/systemd/${name}.service`)).text();
    // It looks whether the program is there, too.
    const program = join(sandbox.directory, name);
    await Bun.write(program, "#!/bin/sh\n");
    await chmod(program, 0o755);
    const unit = join(sandbox.directory, `${name}.service`);
    const analyze = ["systemd-analyze", "verify", "--man=no", unit];
    expect(text).toContain(`/usr/local/bin/${name}`);
    await Bun.write(unit, text.replace(`/usr/local/bin/${name}`, program));
    expect(await finish(sandbox.start(analyze))).toMatchObject({ code: 0, err: "" });
    await Bun.write(unit, text.replace("Type=notify", "Type=notified"));
    expect((await finish(sandbox.start(analyze))).err).toContain("notified");
  } finally {
    await sandbox.close();
  }
});
