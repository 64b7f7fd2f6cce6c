/** What is known of a plugin: its options, whether it runs here, what its options must fulfil. */
import { z } from "zod";
import type { UnknownKeys } from "./schema.ts";

export interface PluginFacts {
  readonly description: string;
  /** Its options, all optional. */
  readonly options: z.ZodObject;
  readonly unknownKeys?: UnknownKeys;
  /** Whether it runs here. */
  readonly here?: boolean;
  /** What these options ask for that isn't there yet. */
  readonly notYet?: (data: Readonly<Record<string, unknown>>) => string | undefined;
  /** What is wrong with the options, in SPIRE's words. */
  readonly check?: (data: Readonly<Record<string, unknown>>) => readonly string[];
}

export interface PluginKind {
  /** How many there must be, and may be. */
  readonly least: number;
  readonly most: number;
  readonly plugins: Readonly<Record<string, PluginFacts>>;
}

export type PluginKinds = Readonly<Record<string, PluginKind>>;

export const plugin = (
  description: string,
  options: z.ZodRawShape = {},
  more: Omit<PluginFacts, "description" | "options"> = {},
): PluginFacts => ({ description, options: z.strictObject(options), ...more });
