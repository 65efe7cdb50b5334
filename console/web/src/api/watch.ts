/**
 * One stream of changes for all kinds that pages of this browser have asked for.
 *
 * Why here: HTTP/1.1 has six connections a host, so kinds share one `EventSource`. A page that needs a further kind makes the
 * stream open again with all of them; a kind stays once it was asked for, so going back to a page shows it at once. Route
 * in: `useObjects("machines")`. Route out: `GET /console/watch`, stores.
 */
import { useEffect, useSyncExternalStore } from "react";
import type { Kind, Kinds } from "./kinds.ts";
import { Store, type Objects } from "./store.ts";

/** A kind that is not complete after so many ms is shown as far as it is: its API may be missing in the cluster. */
const WHOLE = 5000;
/** Before a closed stream is opened again, in ms. */
const RETRY = 3000;
/**
 * A stream that is opened, or whose server says that it is alive (every 5 s), and that brings nothing for so many ms is dead: a node that
 * lost its power ends no connection, and the browser notices only after a minute.
 */
const SILENT = 12_000;

interface Line {
  kind: Kind;
  change: "set" | "gone" | "synced";
  key?: string;
  object?: unknown;
}

const stores = new Map<Kind, Store<unknown>>();
const wanted = new Set<Kind>();
let source: EventSource | undefined;
let opening: ReturnType<typeof setTimeout> | undefined;
let waiting: ReturnType<typeof setTimeout> | undefined;
let silence: ReturnType<typeof setTimeout> | undefined;
let isConnected = true;
const readers = new Set<() => void>();
let ended: () => Promise<void> = async () => {};

/** Where the objects of a kind are. */
export function store<K extends Kind>(kind: K): Store<Kinds[K]> {
  const there = stores.get(kind) ?? new Store<unknown>();
  stores.set(kind, there);
  return there as Store<Kinds[K]>;
}

function connected(value: boolean): void {
  if (isConnected === value) return;
  isConnected = value;
  for (const reader of readers) reader();
}

/** What is asked when a stream ends or is refused; it finds out whether the session has ended. */
export function onStreamEnd(then: () => Promise<void>): void {
  ended = then;
}

/** The stream is to bring something in time, from now on. */
function listening(): void {
  clearTimeout(silence);
  silence = setTimeout(() => {
    connected(false);
    open();
  }, SILENT);
}

function open(): void {
  source?.close();
  clearTimeout(silence);
  clearTimeout(opening);
  clearTimeout(waiting);
  opening = undefined;
  if (wanted.size === 0) return;
  const kinds = [...wanted].sort();
  const stream = new EventSource(`/console/watch?kinds=${kinds.join(",")}`);
  source = stream;
  let isCounted = true;
  let isOpen = false;
  const heard = () => {
    if (source === stream && isCounted) listening();
  };
  heard();
  stream.addEventListener("alive", () => {
    isCounted = true;
    heard();
  });
  stream.onopen = () => {
    isOpen = true;
    connected(true);
    // A server of before says nothing while nothing changes.
    isCounted = false;
    clearTimeout(silence);
    for (const kind of kinds) store(kind).connect();
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const kind of kinds) if (!store(kind).snapshot().isWhole) store(kind).synced();
    }, WHOLE);
  };
  stream.onmessage = (event: MessageEvent<string>) => {
    heard();
    const line = JSON.parse(event.data) as Line;
    if (line.change === "synced") store(line.kind).synced();
    else if (line.change === "gone") store(line.kind).gone(line.key ?? "");
    else store(line.kind).set(line.key ?? "", line.object as Kinds[typeof line.kind]);
  };
  stream.onerror = () => {
    connected(false);
    // The browser opens it again, and that is to succeed in time.
    isCounted = true;
    heard();
    if (source !== stream) return;
    // A refusal closes the stream for good; a connection that broke is opened again by the browser.
    if (stream.readyState !== EventSource.CLOSED) {
      // The server ends a stream when the session has ended (`console/src/watch/stream.rs`): that is known before it is opened again.
      if (isOpen) void ended();
      isOpen = false;
      return;
    }
    clearTimeout(silence);
    void ended().finally(() => {
      if (source === stream) opening = setTimeout(open, RETRY);
    });
  };
}

/** Ends the stream and forgets what it brought: another user logs in. */
export function closeWatch(): void {
  source?.close();
  source = undefined;
  clearTimeout(silence);
  clearTimeout(opening);
  clearTimeout(waiting);
  opening = undefined;
  // The next user has no stream that was lost.
  connected(true);
  wanted.clear();
  for (const there of stores.values()) there.clear();
}

/** Asks for these kinds; a page does so by {@link useObjects}. */
export function want(kinds: readonly Kind[]): void {
  const before = wanted.size;
  for (const kind of kinds) wanted.add(kind);
  if (wanted.size === before && source) return;
  // Kinds of all parts of a page come together.
  clearTimeout(opening);
  opening = setTimeout(open, 0);
}

/** The objects of a kind that the user may see, as they are now. */
export function useObjects<K extends Kind>(kind: K): Objects<Kinds[K]> {
  const there = store(kind);
  useEffect(() => want([kind]), [kind]);
  // The third is for tests, which render pages to text.
  return useSyncExternalStore(there.subscribe, there.snapshot, there.snapshot);
}

const connection = (): boolean => isConnected;

/** Whether changes arrive. */
export function useConnected(): boolean {
  return useSyncExternalStore(
    (reader) => {
      readers.add(reader);
      return () => readers.delete(reader);
    },
    connection,
    connection,
  );
}
