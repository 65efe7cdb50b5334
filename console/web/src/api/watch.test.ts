/** A stream that is silent is opened again; one of a server that gives no sign of life is left alone. */
import { renderToStaticMarkup } from "react-dom/server";
import { createElement } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { closeWatch, onStreamEnd, useConnected, want } from "./watch.ts";

class Played {
  static readonly CLOSED = 2;
  static opened: Played[] = [];
  readyState = 0;
  onopen?: () => void;
  onmessage?: (event: { data: string }) => void;
  onerror?: () => void;
  alive?: () => void;
  constructor(readonly url: string) {
    Played.opened.push(this);
  }
  addEventListener(_: "alive", listener: () => void): void {
    this.alive = listener;
  }
  close(): void {
    this.readyState = Played.CLOSED;
  }
}

const isConnected = () =>
  renderToStaticMarkup(createElement(() => (useConnected() ? "connected" : "lost"))) === "connected";
const last = () => Played.opened[Played.opened.length - 1]!;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("EventSource", Played);
  Played.opened = [];
  want(["machines"]);
  vi.advanceTimersByTime(0);
});
afterEach(() => {
  closeWatch();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a stream that was alive and falls silent is opened again, and the page says so until it is heard", () => {
  last().onopen?.();
  last().alive?.();
  vi.advanceTimersByTime(11_000);
  last().onmessage?.({ data: '{"kind":"machines","change":"synced"}' });
  vi.advanceTimersByTime(11_000);
  expect([Played.opened.length, isConnected()]).toEqual([1, true]);
  const dead = last();
  vi.advanceTimersByTime(1_000);
  expect([Played.opened.length, isConnected(), dead.readyState]).toEqual([2, false, Played.CLOSED]);
  last().onopen?.();
  expect(isConnected()).toBe(true);
});

test("an address that does not answer is tried again, and again", () => {
  vi.advanceTimersByTime(12_000);
  vi.advanceTimersByTime(12_000);
  expect([Played.opened.length, isConnected()]).toEqual([3, false]);
});

test("a server that gives no sign of life is not taken for dead while nothing changes", () => {
  last().onopen?.();
  vi.advanceTimersByTime(60_000);
  expect([Played.opened.length, isConnected()]).toEqual([1, true]);
});

test("when a stream ends, or is refused, it is asked at once whether the session has ended, and once", () => {
  const ask = vi.fn(async () => {});
  onStreamEnd(ask);
  const ended = last();
  ended.onopen?.();
  ended.onerror?.();
  expect([ask.mock.calls.length, isConnected()]).toEqual([1, false]);
  // The browser opens it again, and does not reach the console.
  ended.onerror?.();
  expect(ask.mock.calls.length).toBe(1);
  ended.readyState = Played.CLOSED;
  ended.onerror?.();
  expect(ask.mock.calls.length).toBe(2);
  onStreamEnd(async () => {});
});

test("who logs in after a stream was lost is not told that the console does not answer", () => {
  last().onopen?.();
  last().onerror?.();
  expect(isConnected()).toBe(false);
  closeWatch();
  expect(isConnected()).toBe(true);
});

test("nothing is opened again once the user has logged out", () => {
  last().onopen?.();
  last().alive?.();
  closeWatch();
  vi.advanceTimersByTime(60_000);
  expect(Played.opened.length).toBe(1);
});
