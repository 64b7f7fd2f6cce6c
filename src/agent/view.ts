/** What workloads with equal selectors see: their identities and messages, shared by all their streams. */
import type { Entry } from "../core/entry.ts";
import { formatSelector, type Selector } from "../core/selector.ts";
import type { EncodedMessage } from "../rpc/service.ts";

/** What a stream of the Workload API sends. */
export type StreamKind = "x509-svids" | "x509-bundles" | "jwt-bundles";

/** What a message is made of. */
export interface Content {
  /** Equal exactly when the messages are. */
  readonly key: string;
  /** Unix seconds from when on it must not be sent any more. */
  readonly goodUntil: number;
}

/** Where views take their content from. */
export interface ViewSource {
  /** Unix seconds. */
  now(): number;
  match(selectors: readonly Selector[]): readonly Entry[];
  /** Undefined while something that belongs into the message is missing. */
  content(kind: StreamKind, entries: readonly Entry[]): Content | undefined;
  encode(kind: StreamKind, entries: readonly Entry[], content: Content): EncodedMessage;
}

export interface WorkloadView {
  /** The entries that match, ordered by ID, each hint once; the first is the default identity. */
  entries(): readonly Entry[];
  /**
   * The newest message of a kind; undefined while one of the identities waits for its SVID. The same object as
   * long as the content is the same.
   */
  message(kind: StreamKind): EncodedMessage | undefined;
  /** Calls back after each change that may concern this view; returns how to end that. */
  listen(listener: () => void): () => void;
}

/** A view as the index of views holds it. */
export interface IndexedView extends WorkloadView {
  /** The selector set as one text. */
  readonly key: string;
  readonly selectorKeys: ReadonlySet<string>;
  hasListeners(): boolean;
  /** Forgets what may have changed; listeners are told by `notify`. */
  invalidate(): void;
  notify(): void;
}

interface Product {
  readonly content: Content;
  readonly message: EncodedMessage;
  /** Whether something changed since it was compared. */
  stale: boolean;
}

/** `onListen` is called when the first listener comes, `onIdle` when the last one goes. */
export function createView(
  key: string,
  selectors: readonly Selector[],
  source: ViewSource,
  hooks: { onListen(view: IndexedView): void; onIdle(view: IndexedView): void },
): IndexedView {
  const listeners = new Set<() => void>();
  const products = new Map<StreamKind, Product>();
  let matched: readonly Entry[] | undefined;

  const entries = (): readonly Entry[] => {
    matched ??= source.match(selectors);
    return matched;
  };

  function message(kind: StreamKind): EncodedMessage | undefined {
    const known = products.get(kind);
    if (known && !known.stale && source.now() < known.content.goodUntil) return known.message;
    const content = source.content(kind, entries());
    if (!content) return undefined;
    const same = known?.content.key === content.key;
    const made = same ? known.message : source.encode(kind, entries(), content);
    products.set(kind, { content, message: made, stale: false });
    return made;
  }

  const view: IndexedView = {
    key,
    selectorKeys: new Set(selectors.map(formatSelector)),
    entries,
    message,
    listen(listener) {
      if (listeners.size === 0) hooks.onListen(view);
      listeners.add(listener);
      return () => {
        if (listeners.delete(listener) && listeners.size === 0) hooks.onIdle(view);
      };
    },
    hasListeners: () => listeners.size > 0,
    invalidate() {
      matched = undefined;
      for (const product of products.values()) product.stale = true;
    },
    notify() {
      for (const listener of [...listeners]) listener();
    },
  };
  return view;
}
