/**
 * The objects of one kind as this browser has them, from the changes that `/console/watch` sends.
 *
 * Why here: a stream that connects again begins with everything that is there, so what is not named until `synced` is gone.
 * Those who read are notified at most once in `BATCH`: twenty changes a second are a few renders, not twenty. Pure but for
 * a timer. Route in: lines of the stream. Route out: `useSyncExternalStore`.
 */

/** Between two notifications, in ms. */
const BATCH = 200;

/** What a page reads. */
export interface Objects<T> {
  /** In the order of their keys, which is that of the server. */
  readonly all: readonly T[];
  /** Everything that is there was sent at least once. */
  readonly isWhole: boolean;
}

export class Store<T> {
  readonly #items = new Map<string, T>();
  /** Keys that were there before the stream connected again, and were not named since. */
  #stale = new Set<string>();
  #whole = false;
  #snapshot: Objects<T> = { all: [], isWhole: false };
  readonly #readers = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** The stream connects: what it does not name until `synced` is gone. */
  connect(): void {
    this.#stale = new Set(this.#items.keys());
  }

  set(key: string, object: T): void {
    this.#stale.delete(key);
    this.#items.set(key, object);
    this.#changed();
  }

  gone(key: string): void {
    this.#stale.delete(key);
    if (this.#items.delete(key)) this.#changed();
  }

  /** Everything that is there was sent. */
  synced(): void {
    for (const key of this.#stale) this.#items.delete(key);
    this.#stale.clear();
    this.#whole = true;
    this.#changed();
  }

  /** Another user reads from here on. */
  clear(): void {
    this.#items.clear();
    this.#stale.clear();
    this.#whole = false;
    this.#changed();
  }

  readonly subscribe = (reader: () => void): (() => void) => {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  };

  readonly snapshot = (): Objects<T> => this.#snapshot;

  #changed(): void {
    this.#timer ??= setTimeout(() => this.flush(), BATCH);
  }

  /** Notifies now. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const sorted = [...this.#items].sort(([left], [right]) => (left < right ? -1 : 1));
    this.#snapshot = { all: sorted.map(([, object]) => object), isWhole: this.#whole };
    for (const reader of this.#readers) reader();
  }
}
