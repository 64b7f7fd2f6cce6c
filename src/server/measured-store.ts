/** A store whose calls are counted and timed, under the names that SPIRE gives to those of its datastore. */
import { notFound, SpireError } from "../core/errors.ts";
import { type Metrics, nullMetrics, startCall } from "../core/metrics.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import type { BundleStore, Store } from "../plugins/datastores/index.ts";

type Groups = Parameters<Parameters<Store["transaction"]>[0]>[0];

interface Measure {
  /** After `datastore`. */
  readonly name: readonly string[];
  /** What an answer that is no error counts as. */
  readonly failure?: (answer: unknown) => SpireError | undefined;
}

type Measures<G> = { readonly [M in keyof G]?: Measure };

const named = (...name: string[]): Measure => ({ name });

/** Nothing was there to be changed. */
const orNotFound = (...name: string[]): Measure => ({
  name,
  failure: (answer) => (answer === undefined || answer === false ? notFound("") : undefined),
});

/** A batch counts as the first of its items that failed. */
const batch = (...name: string[]): Measure => ({
  name,
  failure: (answer) => (Array.isArray(answer) ? answer.map(itemFailure).find(Boolean) : undefined),
});

function itemFailure(item: unknown): SpireError | undefined {
  if (item === false) return notFound("");
  if (typeof item !== "object" || item === null) return undefined;
  if ("error" in item && item.error instanceof SpireError) return item.error;
  return "existing" in item && item.existing === true ? new SpireError("ALREADY_EXISTS", "") : undefined;
}

const measures: { readonly [G in keyof Groups]?: Measures<Groups[G]> } = {
  entries: {
    create: batch("registration_entry", "create"),
    update: batch("registration_entry", "update"),
    delete: batch("registration_entry", "delete"),
    get: named("registration_entry", "fetch"),
    list: named("registration_entry", "list"),
    count: named("registration_entry", "count"),
    pruneExpired: named("registration_entry", "prune"),
  },
  nodes: {
    put: named("node", "create"),
    get: named("node", "fetch"),
    update: orNotFound("node", "update"),
    delete: orNotFound("node", "delete"),
    list: named("node", "list"),
    count: named("node", "count"),
  },
  bundles: {
    get: named("bundle", "fetch"),
    list: named("bundle", "list"),
    count: named("bundle", "count"),
    delete: named("bundle", "delete"),
  },
  federation: {
    get: named("federation_relationship", "fetch"),
    list: named("federation_relationship", "list"),
    create: named("federation_relationship", "create"),
    update: orNotFound("federation_relationship", "update"),
    delete: orNotFound("federation_relationship", "delete"),
  },
  joinTokens: {
    create: named("join_token", "create"),
    take: named("join_token", "fetch"),
    pruneExpired: named("join_token", "prune"),
  },
  journals: {
    find: named("ca_journal", "fetch"),
    put: named("ca_journal", "set"),
    delete: named("ca_journal", "prune"),
  },
};

/** The store itself when nothing is collected. */
export function measureStore(store: Store, metrics: Metrics): Store {
  if (metrics === nullMetrics) return store;
  return {
    ...store,
    ...measureGroups(store, metrics),
    transaction: (work) => store.transaction((groups) => work(measureGroups(groups, metrics))),
  };
}

function measureGroups<G extends Groups>(groups: G, metrics: Metrics): G {
  const measured = Object.entries(measures).map(([name, methods]) => {
    const group = groups[name as keyof Groups];
    return [name, measureMethods(group, methods, metrics)];
  });
  const all: G = { ...groups, ...Object.fromEntries(measured) };
  return { ...all, bundles: { ...all.bundles, mutate: measureMutation(groups.bundles, metrics) } };
}

/** A bundle that wasn't there is created, any other updated. */
function measureMutation(bundles: BundleStore, metrics: Metrics): BundleStore["mutate"] {
  return async (trustDomain, change, version) => {
    let isNew = false;
    const noting = (current: TrustBundle | undefined) => {
      isNew = current === undefined;
      return change(current);
    };
    const ends = {
      create: startCall(metrics, ["datastore", "bundle", "create"]),
      update: startCall(metrics, ["datastore", "bundle", "update"]),
    };
    const end = (failure?: unknown) => ends[isNew ? "create" : "update"](failure);
    try {
      const bundle = await bundles.mutate(trustDomain, noting, version);
      end();
      return bundle;
    } catch (error) {
      end(error);
      throw error;
    }
  };
}

type Method = (...given: readonly unknown[]) => Promise<unknown>;

function measureMethods(group: object, methods: Readonly<Record<string, Measure>>, metrics: Metrics): object {
  const measured = Object.entries(methods).map(([name, measure]) => {
    const method = Reflect.get(group, name) as Method;
    return [name, measureMethod(method.bind(group), measure, metrics)];
  });
  return { ...group, ...Object.fromEntries(measured) };
}

function measureMethod(method: Method, { name, failure }: Measure, metrics: Metrics): Method {
  const full = ["datastore", ...name];
  return async (...given) => {
    const end = startCall(metrics, full);
    try {
      const answer = await method(...given);
      end(failure?.(answer));
      return answer;
    } catch (error) {
      end(error);
      throw error;
    }
  };
}
