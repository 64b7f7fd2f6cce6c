/** Proves a backup by what it is for: a scratch server, without listeners, is started on what is restored from it. */
import { readdirSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, unixSeconds } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import { exportPublicKeyInfo, generateKey } from "../../core/keys.ts";
import { nullLogger } from "../../core/log.ts";
import { serverId, type TrustDomain } from "../../core/spiffe-id.ts";
import { emptyBundle } from "../../core/trust-bundle.ts";
import { verifySvidChain } from "../../core/x509/verify.ts";
import type { Store } from "../../plugins/datastores/index.ts";
import { inspectDatabase } from "../../plugins/datastores/sqlite/snapshot.ts";
import { createSqliteStore } from "../../plugins/datastores/sqlite/store.ts";
import { createDiskKeyManager } from "../../plugins/key-managers/disk.ts";
import { createMemoryKeyManager } from "../../plugins/key-managers/memory.ts";
import { createAuthority } from "../../server/authority.ts";
import { type Archive, openArchive } from "../../server/backup/archive.ts";
import { refuseForeignData } from "../../server/data-dir.ts";
import { createRegistry } from "../../server/registry.ts";
import { defaultServerSettings } from "../server/settings.ts";

/**
 * @param directory a private one; what is put there is removed.
 * @throws SpireError saying what a restore would have met.
 */
export async function proveBackup(
  path: string,
  directory: string,
  trustDomain: TrustDomain,
  clock: Clock,
): Promise<void> {
  const database = join(directory, "scratch.sqlite3");
  const keysPath = join(directory, "scratch-keys.json");
  const archive = await openArchive(path);
  try {
    await archive.extractDatabase(database);
    compareWithManifest(archive, database);
    const keys = await archive.readKeys();
    if (keys) await writeFile(keysPath, keys, { mode: 0o600 });
    const store = await createSqliteStore({ path: database, clock });
    try {
      await refuseForeignData(store, trustDomain);
      await startScratchServer(store, trustDomain, clock, keys ? keysPath : undefined);
    } finally {
      await store.close();
    }
  } finally {
    await archive.close();
    for (const name of readdirSync(directory).filter((name) => name.startsWith("scratch"))) {
      rmSync(join(directory, name), { force: true });
    }
  }
}

/** @throws SpireError DATA_LOSS when the database does not hold what the manifest says. */
export function compareWithManifest({ manifest }: Archive, database: string): void {
  const { schemaVersion, sequence, ...counts } = inspectDatabase(database);
  const said = { schemaVersion: manifest.schemaVersion, sequence: manifest.sequence, ...manifest.counts };
  const found = { schemaVersion, sequence, ...counts };
  const sorted = (value: object) => JSON.stringify(Object.entries(value).sort());
  if (sorted(said) === sorted(found)) return;
  throw new SpireError(
    "DATA_LOSS",
    `the backup does not hold what it says: ${JSON.stringify(found)} in place of ${JSON.stringify(said)}`,
  );
}

/** Everything that a server has in memory and what it signs with; one SVID is signed and verified. */
async function startScratchServer(
  store: Store,
  trustDomain: TrustDomain,
  clock: Clock,
  keysPath: string | undefined,
): Promise<void> {
  const log = nullLogger;
  const registry = await createRegistry({ store, trustDomain, clock, log });
  try {
    const { caTtlSeconds, caKeyType, jwtKeyType, defaultX509SvidTtlSeconds, defaultJwtSvidTtlSeconds } =
      defaultServerSettings;
    const authority = await createAuthority({
      trustDomain,
      keyManager: keysPath ? createDiskKeyManager({ path: keysPath }) : createMemoryKeyManager(),
      registry,
      clock,
      log,
      caTtlSeconds,
      caKeyType,
      jwtKeyType,
      x509SvidTtlSeconds: defaultX509SvidTtlSeconds,
      jwtSvidTtlSeconds: defaultJwtSvidTtlSeconds,
      agentTtlSeconds: defaultX509SvidTtlSeconds,
    });
    if (keysPath && (await store.journals.list()).length > 0 && !authority.state("x509", "active")) {
      throw new SpireError(
        "FAILED_PRECONDITION",
        "its keys are not those of the authorities in its database",
      );
    }
    const { publicKey } = await generateKey("ec-p256");
    const { chain } = await authority.signServerSvid(exportPublicKeyInfo(publicKey));
    const bundle = registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
    if (verifySvidChain(chain, bundle, unixSeconds(clock)).id !== serverId(trustDomain)) {
      throw new SpireError("INTERNAL", "the scratch server signed for another ID");
    }
  } finally {
    await registry.close();
  }
}
