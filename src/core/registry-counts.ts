/** How much a registry holds, as backups and imports tell it. */
export interface RegistryCounts {
  readonly entries: number;
  readonly agents: number;
  /** Of the agents. */
  readonly bannedAgents: number;
  readonly bundles: number;
  readonly federationRelationships: number;
  readonly joinTokens: number;
}
