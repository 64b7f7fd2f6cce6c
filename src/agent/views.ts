/** All views of an agent, found by selector set and by the entries that concern them. */
import type { Entry } from "../core/entry.ts";
import { formatSelector, type Selector, selectorSetKey } from "../core/selector.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import { createView, type IndexedView, type ViewSource, type WorkloadView } from "./view.ts";

export interface Views {
  open(selectors: readonly Selector[]): WorkloadView;
  /** Notes the views that an entry concerns, in the form that it had or has. */
  touchEntry(entry: Entry): void;
  /** Notes the views with an identity that federates with the trust domain. */
  touchFederation(trustDomain: TrustDomain): void;
  touchAll(): void;
  /** Tells the listeners of all views that were noted since the last call. */
  notify(): void;
  /** IDs of the entries that somebody listens for. */
  activeEntryIds(): ReadonlySet<string>;
}

/** Views that nobody listens to are kept for the next caller, up to this many. */
const mostIdle = 256;

export function createViews(source: ViewSource): Views {
  const byKey = new Map<string, IndexedView>();
  const all = new Set<IndexedView>();
  const idle = new Set<IndexedView>();
  const bySelector = new Map<string, Set<IndexedView>>();
  const touched = new Set<IndexedView>();
  const keys = new WeakMap<readonly Selector[], string>();

  /** Attestors give the same array for the same process facts, so most keys are made once. */
  function keyOf(selectors: readonly Selector[]): string {
    let key = keys.get(selectors);
    if (key === undefined) {
      key = selectorSetKey(selectors);
      keys.set(selectors, key);
    }
    return key;
  }

  function add(view: IndexedView): void {
    byKey.set(view.key, view);
    all.add(view);
    for (const key of view.selectorKeys) {
      const holders = bySelector.get(key);
      if (holders) holders.add(view);
      else bySelector.set(key, new Set([view]));
    }
    onIdle(view);
  }

  function remove(view: IndexedView): void {
    if (byKey.get(view.key) === view) byKey.delete(view.key);
    all.delete(view);
    idle.delete(view);
    touched.delete(view);
    for (const key of view.selectorKeys) {
      const holders = bySelector.get(key);
      holders?.delete(view);
      if (holders?.size === 0) bySelector.delete(key);
    }
  }

  function onIdle(view: IndexedView): void {
    idle.delete(view);
    idle.add(view);
    const [oldest] = idle;
    if (idle.size > mostIdle && oldest) remove(oldest);
  }

  /** A view that was dropped while its caller still held it comes back with its first listener. */
  function onListen(view: IndexedView): void {
    if (!all.has(view)) {
      add(view);
      view.invalidate();
    }
    idle.delete(view);
  }

  function touch(view: IndexedView): void {
    view.invalidate();
    touched.add(view);
  }

  return {
    open(selectors) {
      const key = keyOf(selectors);
      const known = byKey.get(key);
      if (known) return known;
      const view = createView(key, selectors, source, { onListen, onIdle });
      add(view);
      return view;
    },
    touchEntry({ selectors }) {
      const entryKeys = selectors.map(formatSelector);
      const holders = entryKeys.map((key) => bySelector.get(key) ?? new Set<IndexedView>());
      const smallest = holders.reduce((least, set) => (set.size < least.size ? set : least));
      for (const view of smallest) {
        if (entryKeys.every((key) => view.selectorKeys.has(key))) touch(view);
      }
    },
    touchFederation(trustDomain) {
      for (const view of all) {
        if (view.entries().some(({ federatesWith }) => federatesWith.includes(trustDomain))) touch(view);
      }
    },
    touchAll() {
      for (const view of all) touch(view);
    },
    notify() {
      const told = [...touched];
      touched.clear();
      for (const view of told) view.notify();
    },
    activeEntryIds() {
      const active = [...all].filter((view) => view.hasListeners());
      return new Set(active.flatMap((view) => view.entries().map(({ id }) => id)));
    },
  };
}
