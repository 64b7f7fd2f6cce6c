/** Child process of the crash test: creates batches without end and says which of them the store acknowledged. */
import { systemClock } from "../../src/core/clock.ts";
import { parseSpiffeId } from "../../src/core/spiffe-id.ts";
import { createSqliteStore } from "../../src/plugins/datastores/sqlite/store.ts";

const [path = "", first = "0", size = "50"] = process.argv.slice(2);
const writers = 3;

async function write(path: string, first: number, size: number): Promise<void> {
  const store = await createSqliteStore({ path, clock: systemClock });
  const run = async (start: number) => {
    for (let batch = start; ; batch += writers) {
      const outcomes = await store.entries.create(
        Array.from({ length: size }, (_, at) => ({
          id: `${batch}-${at}`,
          spiffeId: parseSpiffeId(`spiffe://example.org/${batch}/${at}`),
          parentId: parseSpiffeId("spiffe://example.org/spire/agent/a"),
          selectors: [
            { type: "unix", value: "uid:0" },
            { type: "unix", value: `gid:${at}` },
          ],
          x509SvidTtl: 0,
          jwtSvidTtl: 0,
          federatesWith: [],
          admin: false,
          downstream: false,
          expiresAt: 0,
          dnsNames: [],
          storeSvid: false,
          hint: "",
          disableX509SvidPrefetch: false,
          jwtSvidIncludeJti: false,
        })),
        0,
      );
      if (outcomes.every((outcome) => "entry" in outcome && !outcome.existing)) {
        process.stdout.write(`${batch}\n`);
      }
    }
  };
  await Promise.all(Array.from({ length: writers }, (_, at) => run(first + at)));
}

void write(path, Number(first), Number(size));
