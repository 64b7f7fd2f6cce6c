/** The command tree, and the programs that the binary can be called as. Every command is loaded when it is run. */
import { version } from "../package.json";
import type { Group } from "./cli/command.ts";
import { type Programs, runProcess } from "./cli/process.ts";

const completion: Group = {
  summary: "Completion of commands for shells",
  commands: {
    bash: {
      summary: "Prints the completion of commands for bash",
      load: async () => (await import("./cli/completion.ts")).completionCommand("bash", () => spire),
    },
    zsh: {
      summary: "Prints the completion of commands for zsh",
      load: async () => (await import("./cli/completion.ts")).completionCommand("zsh", () => spire),
    },
    fish: {
      summary: "Prints the completion of commands for fish",
      load: async () => (await import("./cli/completion.ts")).completionCommand("fish", () => spire),
    },
  },
};

const server: Group = {
  summary: "The SPIFFE server",
  isProgram: true,
  commands: {
    completion,
    run: {
      summary: "Runs the server",
      load: async () => {
        const [{ runServer }, { serveServer }] = await Promise.all([
          import("./cli/run-server.ts"),
          import("./modes/run.ts"),
        ]);
        return runServer(serveServer);
      },
    },
    validate: {
      summary: "Validates a SPIRE server configuration file",
      load: async () => (await import("./cli/run-server.ts")).validateServer,
    },
    backup: {
      summary: "Writes the registry to a file",
      load: async () => {
        const [{ backupCommand }, { runBackup }] = await Promise.all([
          import("./cli/backup.ts"),
          import("./modes/backup/commands.ts"),
        ]);
        return backupCommand(runBackup);
      },
    },
    restore: {
      summary: "Puts a backup in the place of the registry",
      load: async () => {
        const [{ restoreCommand }, { runRestore }] = await Promise.all([
          import("./cli/restore.ts"),
          import("./modes/backup/commands.ts"),
        ]);
        return restoreCommand(runRestore);
      },
    },
    import: {
      summary: "Takes over the data of a stock SPIRE server",
      load: async () => {
        const [{ importCommand }, { runImport }] = await Promise.all([
          import("./cli/import.ts"),
          import("./modes/backup/commands.ts"),
        ]);
        return importCommand(runImport);
      },
    },
    healthcheck: {
      summary: "Determines server health status",
      load: async () => (await import("./cli/healthcheck.ts")).serverHealthcheck,
    },
    entry: {
      summary: "Registration entries",
      commands: {
        create: {
          summary: "Creates registration entries",
          load: async () => (await import("./cli/entry.ts")).entryCreate,
        },
        show: {
          summary: "Displays configured registration entries",
          load: async () => (await import("./cli/entry.ts")).entryShow,
        },
        update: {
          summary: "Updates registration entries",
          load: async () => (await import("./cli/entry.ts")).entryUpdate,
        },
        count: {
          summary: "Counts registration entries",
          load: async () => (await import("./cli/entry.ts")).entryCount,
        },
        delete: {
          summary: "Deletes registration entries",
          load: async () => (await import("./cli/entry.ts")).entryDelete,
        },
      },
    },
    agent: {
      summary: "Attested agents",
      commands: {
        list: {
          summary: "Lists attested agents and their SPIFFE IDs",
          load: async () => (await import("./cli/agent.ts")).agentList,
        },
        show: {
          summary: "Shows the details of an attested agent",
          load: async () => (await import("./cli/agent.ts")).agentShow,
        },
        count: {
          summary: "Counts attested agents",
          load: async () => (await import("./cli/agent.ts")).agentCount,
        },
        ban: {
          summary: "Bans an attested agent",
          load: async () => (await import("./cli/agent.ts")).agentBan,
        },
        evict: {
          summary: "Evicts an attested agent",
          load: async () => (await import("./cli/agent.ts")).agentEvict,
        },
        purge: {
          summary: "Evicts expired agents",
          load: async () => (await import("./cli/agent.ts")).agentPurge,
        },
        activity: {
          summary: "Lists agents with their versions and when each was last seen",
          load: async () => (await import("./cli/agent-activity.ts")).agentActivity,
        },
      },
    },
    bundle: {
      summary: "Trust bundles",
      commands: {
        show: {
          summary: "Prints the server's own trust bundle",
          load: async () => (await import("./cli/bundle.ts")).bundleShow,
        },
        list: {
          summary: "Lists federated bundles",
          load: async () => (await import("./cli/bundle.ts")).bundleList,
        },
        set: {
          summary: "Creates or replaces a federated bundle",
          load: async () => (await import("./cli/bundle.ts")).bundleSet,
        },
        delete: {
          summary: "Deletes a federated bundle",
          load: async () => (await import("./cli/bundle.ts")).bundleDelete,
        },
        count: { summary: "Counts bundles", load: async () => (await import("./cli/bundle.ts")).bundleCount },
        history: {
          summary: "Lists the versions of the server's own trust bundle",
          load: async () => (await import("./cli/bundle-history.ts")).bundleHistory,
        },
        restore: {
          summary: "Brings back authorities of an earlier version",
          load: async () => (await import("./cli/bundle-history.ts")).bundleRestore,
        },
      },
    },
    token: {
      summary: "Join tokens",
      commands: {
        generate: {
          summary: "Generates a join token",
          load: async () => (await import("./cli/token.ts")).tokenGenerate,
        },
      },
    },
    x509: {
      summary: "X.509-SVIDs without an entry",
      commands: {
        mint: { summary: "Mints an X.509-SVID", load: async () => (await import("./cli/x509.ts")).x509Mint },
      },
    },
    jwt: {
      summary: "JWT-SVIDs without an entry",
      commands: {
        mint: { summary: "Mints a JWT-SVID", load: async () => (await import("./cli/jwt.ts")).jwtMint },
      },
    },
    wit: {
      summary: "WIT-SVIDs without an entry",
      featureFlag: "wit-svid",
      commands: {
        mint: { summary: "Mints a WIT-SVID", load: async () => (await import("./cli/wit.ts")).witMint },
      },
    },
    federation: {
      summary: "Federation relationships",
      commands: {
        create: {
          summary: "Creates federation relationships",
          load: async () => (await import("./cli/federation.ts")).federationCreate,
        },
        update: {
          summary: "Replaces federation relationships",
          load: async () => (await import("./cli/federation.ts")).federationUpdate,
        },
        list: {
          summary: "Lists federation relationships",
          load: async () => (await import("./cli/federation.ts")).federationList,
        },
        show: {
          summary: "Shows a federation relationship",
          load: async () => (await import("./cli/federation.ts")).federationShow,
        },
        delete: {
          summary: "Deletes a federation relationship",
          load: async () => (await import("./cli/federation.ts")).federationDelete,
        },
        refresh: {
          summary: "Fetches the bundle of a federated trust domain now",
          load: async () => (await import("./cli/federation.ts")).federationRefresh,
        },
      },
    },
    localauthority: {
      summary: "The server's own authorities",
      commands: {
        x509: {
          summary: "X.509 authorities",
          commands: {
            show: {
              summary: "Shows the X.509 authorities",
              load: async () => (await import("./cli/local-authority.ts")).x509AuthorityCommands.show,
            },
            prepare: {
              summary: "Makes the next X.509 authority",
              load: async () => (await import("./cli/local-authority.ts")).x509AuthorityCommands.prepare,
            },
            activate: {
              summary: "Begins to sign with the prepared X.509 authority",
              load: async () => (await import("./cli/local-authority.ts")).x509AuthorityCommands.activate,
            },
            taint: {
              summary: "Marks the old X.509 authority",
              load: async () => (await import("./cli/local-authority.ts")).x509AuthorityCommands.taint,
            },
            revoke: {
              summary: "Takes the tainted old X.509 authority out of the trust bundle",
              load: async () => (await import("./cli/local-authority.ts")).x509AuthorityCommands.revoke,
            },
          },
        },
        jwt: {
          summary: "JWT authorities",
          commands: {
            show: {
              summary: "Shows the JWT authorities",
              load: async () => (await import("./cli/local-authority.ts")).jwtAuthorityCommands.show,
            },
            prepare: {
              summary: "Makes the next JWT authority",
              load: async () => (await import("./cli/local-authority.ts")).jwtAuthorityCommands.prepare,
            },
            activate: {
              summary: "Begins to sign with the prepared JWT authority",
              load: async () => (await import("./cli/local-authority.ts")).jwtAuthorityCommands.activate,
            },
            taint: {
              summary: "Marks the old JWT authority",
              load: async () => (await import("./cli/local-authority.ts")).jwtAuthorityCommands.taint,
            },
            revoke: {
              summary: "Takes the tainted old JWT authority out of the trust bundle",
              load: async () => (await import("./cli/local-authority.ts")).jwtAuthorityCommands.revoke,
            },
          },
        },
      },
    },
    rotate: {
      summary: "Replaces the server's own authorities",
      commands: {
        status: {
          summary: "Shows the rotation under way, or the last one",
          load: async () => (await import("./cli/rotate.ts")).rotateStatus,
        },
        stop: {
          summary: "Keeps the rotation under way where it is",
          load: async () => (await import("./cli/rotate.ts")).rotateStop,
        },
        resume: {
          summary: "Goes on with a rotation that was stopped",
          load: async () => (await import("./cli/rotate.ts")).rotateResume,
        },
        undo: {
          summary: "Goes back to the old authorities",
          load: async () => (await import("./cli/rotate.ts")).rotateUndo,
        },
      },
      main: {
        summary: "Replaces the server's own authorities",
        load: async () => (await import("./cli/rotate.ts")).rotateStart,
      },
    },
    upstreamauthority: {
      summary: "The authority above the server",
      commands: {
        taint: {
          summary: "Marks an X.509 upstream authority",
          load: async () => (await import("./cli/upstream-authority.ts")).upstreamAuthorityTaint,
        },
        revoke: {
          summary: "Takes a tainted X.509 upstream authority out of the trust bundle",
          load: async () => (await import("./cli/upstream-authority.ts")).upstreamAuthorityRevoke,
        },
      },
    },
    logger: {
      summary: "The log level of the running server",
      commands: {
        get: {
          summary: "Shows the log level",
          load: async () => (await import("./cli/logger.ts")).loggerGet,
        },
        set: {
          summary: "Sets the log level",
          load: async () => (await import("./cli/logger.ts")).loggerSet,
        },
        reset: {
          summary: "Sets the log level back",
          load: async () => (await import("./cli/logger.ts")).loggerReset,
        },
      },
    },
    debug: {
      summary: "Facts about the running server",
      commands: {
        getinfo: {
          summary: "Shows debug information",
          load: async () => (await import("./cli/debug.ts")).serverDebugGetInfo,
        },
      },
    },
  },
};

const agent: Group = {
  summary: "The SPIFFE agent",
  isProgram: true,
  commands: {
    completion,
    run: {
      summary: "Runs the agent",
      load: async () => {
        const [{ runAgent }, { serveAgent }] = await Promise.all([
          import("./cli/run-agent.ts"),
          import("./modes/run.ts"),
        ]);
        return runAgent(serveAgent);
      },
    },
    validate: {
      summary: "Validates a SPIRE agent configuration file",
      load: async () => (await import("./cli/run-agent.ts")).validateAgent,
    },
    healthcheck: {
      summary: "Determines agent health status",
      load: async () => (await import("./cli/healthcheck.ts")).agentHealthcheck,
    },
    api: {
      summary: "The Workload API",
      commands: {
        fetch: {
          summary: "Fetches SVIDs from the Workload API; X.509-SVIDs unless said",
          commands: {
            x509: {
              summary: "Fetches X.509-SVIDs",
              load: async () => (await import("./cli/api.ts")).fetchX509,
            },
            jwt: { summary: "Fetches a JWT-SVID", load: async () => (await import("./cli/api.ts")).fetchJwt },
          },
          main: {
            summary: "Fetches X.509-SVIDs",
            load: async () => (await import("./cli/api.ts")).fetchX509,
          },
        },
        validate: {
          summary: "Validates SVIDs",
          commands: {
            jwt: {
              summary: "Validates a JWT-SVID",
              load: async () => (await import("./cli/api.ts")).validateJwt,
            },
          },
        },
        watch: {
          summary: "Prints X.509-SVID updates as they come",
          load: async () => (await import("./cli/api.ts")).watch,
        },
      },
    },
  },
};

const spire: Group = {
  summary: "SPIFFE identity for every workload",
  commands: {
    server,
    agent,
    completion,
    dev: {
      summary: "Runs server and agent for development, in one process",
      commands: {
        env: {
          summary: "Prints the environment of the development instance that runs",
          load: async () => {
            const [{ devEnv }, { listOwnInstances }] = await Promise.all([
              import("./cli/dev-env.ts"),
              import("./modes/dev/instances.ts"),
            ]);
            return devEnv(listOwnInstances);
          },
        },
        "exec-tied": {
          summary: "Starts the command of `dev -- command`",
          isInternal: true,
          load: async () => {
            const [{ devExecTied }, { execTied }] = await Promise.all([
              import("./cli/dev-exec-tied.ts"),
              import("./modes/dev/tied-exec.ts"),
            ]);
            return devExecTied(execTied);
          },
        },
      },
      main: {
        summary: "Runs server and agent for development, in one process",
        load: async () => {
          const [{ devCommand }, { createDevProcess }] = await Promise.all([
            import("./cli/dev.ts"),
            import("./modes/dev/mode.ts"),
          ]);
          return devCommand(createDevProcess(), version);
        },
      },
    },
    config: {
      summary: "Configuration files of server and agent",
      commands: {
        schema: {
          summary: "Prints the JSON Schema of a configuration file",
          load: async () => (await import("./cli/config.ts")).configSchema,
        },
        convert: {
          summary: "Prints a configuration file as HCL, YAML or JSON",
          load: async () => (await import("./cli/config.ts")).configConvert,
        },
      },
    },
    version: {
      summary: "Prints the version",
      load: async () => (await import("./cli/version.ts")).versionCommand,
    },
  },
};

export const programs: Programs = {
  version,
  trees: { spire, "spire-server": server, "spire-agent": agent },
};

if (import.meta.main) void runProcess(programs);
