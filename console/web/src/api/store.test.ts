import { expect, test, vi } from "vitest";
import { Store } from "./store.ts";

test("twenty changes are one notification", () => {
  vi.useFakeTimers();
  const store = new Store<number>();
  let notified = 0;
  const end = store.subscribe(() => (notified += 1));
  for (let number = 0; number < 20; number += 1) store.set(`shop/${number}`, number);
  expect(store.snapshot().all).toEqual([]);
  vi.advanceTimersByTime(250);
  expect(notified).toBe(1);
  expect(store.snapshot().all).toHaveLength(20);
  end();
  store.gone("shop/3");
  vi.advanceTimersByTime(250);
  expect(notified).toBe(1);
  vi.useRealTimers();
});

test("what is not named after a reconnect is gone, and stays until everything was sent", () => {
  const store = new Store<string>();
  store.set("a", "a1");
  store.set("b", "b1");
  store.synced();
  store.connect();
  store.set("b", "b2");
  store.flush();
  expect(store.snapshot()).toEqual({ all: ["a1", "b2"], isWhole: true });
  store.synced();
  store.flush();
  expect(store.snapshot()).toEqual({ all: ["b2"], isWhole: true });
});

test("the snapshot is the same object until something changes", () => {
  const store = new Store<string>();
  store.set("a", "a1");
  store.flush();
  expect(store.snapshot()).toBe(store.snapshot());
  store.clear();
  store.flush();
  expect(store.snapshot()).toEqual({ all: [], isWhole: false });
});
