/** The words that schemas are written in: options with what the documentation and the checks need to know of them. */
import { z } from "zod";

/** What is known of an option besides its type. */
export interface OptionFacts {
  /** As it would be written; nothing = none, or described. */
  readonly default?: string;
  /** It is refused where it is set; what is missing, such as "audit log". */
  readonly notYet?: string;
  /** With `notYet`: the value that asks for nothing, and is accepted. */
  readonly off?: string | boolean;
  /** It is read, and changes nothing; why. */
  readonly noEffect?: string;
  /** A text in Go's notation of durations. */
  readonly isDuration?: boolean;
}

type Facts = OptionFacts & { readonly description: string };

const withFacts = <T extends z.ZodType>(schema: T, description: string, facts: OptionFacts) => {
  const { default: initial, ...others } = facts;
  const all = { description, ...others, ...(initial !== undefined && { initial }) };
  return schema.optional().meta(all);
};

export const text = (description: string, facts: OptionFacts = {}) =>
  withFacts(z.string(), description, facts);

export const integer = (description: string, facts: OptionFacts = {}) =>
  withFacts(z.number().int(), description, facts);

export const truth = (description: string, facts: OptionFacts = {}) =>
  withFacts(z.boolean(), description, facts);

/** A list of texts. */
export const texts = (description: string, facts: OptionFacts = {}) =>
  withFacts(z.array(z.string()), description, facts);

/** Go's notation: `300ms`, `1h30m`. */
export const duration = (description: string, facts: OptionFacts = {}) =>
  withFacts(z.string(), description, { ...facts, isDuration: true });

/** What SPIRE says to keys that it doesn't know: in most sections it doesn't start, in others it takes no notice. */
export type UnknownKeys = "refuse" | "ignore";

export interface SectionFacts extends OptionFacts {
  /** SPIRE's name for it where it refuses unknown keys; unset = its key. */
  readonly section?: string;
  readonly unknownKeys?: UnknownKeys;
}

/** A block of options. */
export const section = <T extends z.ZodRawShape>(description: string, shape: T, facts: SectionFacts = {}) =>
  withFacts(z.strictObject(shape), description, facts);

/** Any number of blocks of one kind. */
export const sections = <T extends z.ZodRawShape>(description: string, shape: T, facts: SectionFacts = {}) =>
  withFacts(z.array(z.strictObject(shape)), description, facts);

/** Blocks with names of the operator's choice. */
export const named = <T extends z.ZodRawShape>(description: string, shape: T, facts: SectionFacts = {}) =>
  withFacts(z.record(z.string(), z.strictObject(shape)), description, facts);

/** Facts as they were given to the functions above; undefined for a schema that was made otherwise. */
export function factsOf(schema: z.ZodType): (Facts & SectionFacts) | undefined {
  const meta = schema.meta();
  if (typeof meta?.description !== "string") return undefined;
  const { initial, ...others } = meta;
  return {
    ...others,
    description: meta.description,
    ...(typeof initial === "string" && { default: initial }),
  };
}

/** Without `optional`. */
export const inner = (schema: z.ZodType): z.ZodType =>
  schema instanceof z.ZodOptional && schema.unwrap() instanceof z.ZodType
    ? (schema.unwrap() as z.ZodType)
    : schema;

/** The options of a section by name; none for anything else. */
export function optionsOf(schema: z.ZodType): Readonly<Record<string, z.ZodType>> {
  const bare = inner(schema);
  return bare instanceof z.ZodObject ? (bare.shape as Record<string, z.ZodType>) : {};
}
