/**
 * Templates of agents' SPIFFE ID paths, as SPIRE's node attestors take them: Go's text/template with
 * missingkey=error and the functions of sprig that have no effects.
 */
import { invalidArgument, SpireError } from "./errors.ts";
import { fillTemplate } from "./go-template/evaluate.ts";
import { functionsWith, isFunction } from "./go-template/functions.ts";
import { parseTemplate } from "./go-template/parse.ts";
import { regexFunctionNames } from "./go-template/regexes.ts";
import type { GoStruct, Value } from "./go-template/values.ts";
import { quote } from "./go-text.ts";
import { nearest } from "./nearest.ts";
import { agentId, type SpiffeId, type TrustDomain } from "./spiffe-id.ts";

export interface AgentPathTemplate {
  /** @throws SpireError INVALID_ARGUMENT when it names fields of its data besides these. */
  requireFields(known: readonly string[]): void;
  /** @throws SpireError INVALID_ARGUMENT for a field that isn't there, and for what a function refuses. */
  fill(data: TemplateData): Promise<string>;
  /** As above, as the path of an agent's ID. @throws SpireError INTERNAL, also for what is no path. */
  agentId(trustDomain: TrustDomain, data: TemplateData): Promise<SpiffeId>;
}

/** The fields that a template may name. */
export type TemplateData = Readonly<Record<string, Value>>;

/** @throws SpireError INVALID_ARGUMENT for a mistake in the template, with what is wrong. */
export function parseAgentPathTemplate(text: string): AgentPathTemplate {
  const names = new Set<string>();
  const tree = parseTemplate(text, (name) => {
    names.add(name);
    return isFunction(name);
  });
  const needsRegex = !names.isDisjointFrom(regexFunctionNames);

  async function fill(fields: TemplateData): Promise<string> {
    const engine = needsRegex ? (await import("re2js")).RE2JS : undefined;
    const data: GoStruct = { kind: "struct", type: "agent path data", fields };
    return fillTemplate(tree, data, functionsWith(engine));
  }

  return {
    requireFields(known) {
      const unknown = [...tree.fields].find((name) => !known.includes(name));
      if (unknown === undefined) return;
      const near = nearest(unknown, known);
      const remedy = near === undefined ? `there are ${known.join(", ")}` : `did you mean ".${near}"?`;
      throw invalidArgument(`agent_path_template names ".${unknown}", which isn't there; ${remedy}`);
    },
    fill,
    async agentId(trustDomain, data) {
      try {
        const path = await fill(data);
        if (!path.startsWith("/")) throw invalidArgument(`agent path ${quote(path)} has no leading slash`);
        return agentId(trustDomain, path);
      } catch (error) {
        const { message } = SpireError.from(error);
        throw new SpireError("INTERNAL", `failed to make spiffe id: ${message}`, { cause: error });
      }
    },
  };
}
