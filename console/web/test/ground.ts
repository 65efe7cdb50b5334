/**
 * A browser for a file of page tests, and for each test a played server and a page.
 *
 * Why here: every file of tasks begins and ends in the same way, and what a page does wrong on the way is an error of each test.
 * Route in: a hash. Route out: the page, the server, what it was asked.
 */
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { launch, open, type Opened, PATIENT } from "./browser.ts";
import { play, type Played } from "./server.ts";

export interface Ground {
  readonly server: Played;
  readonly browser: Browser;
  /** Opens the page at a hash. */
  at: (hash: string) => Promise<Page>;
  /** The changes that were asked for, once there are so many. */
  asked: (count?: number) => Promise<Played["asked"]>;
}

/** To be called once in a file, outside of its tests. */
export function ground(): Ground {
  let browser: Browser;
  let server: Played;
  let opened: Opened | undefined;
  beforeAll(async () => {
    browser = await launch();
  });
  beforeEach(async () => {
    server = await play();
  });
  afterEach(async () => {
    expect(opened?.wrong ?? []).toEqual([]);
    await opened?.close();
    opened = undefined;
    await server.close();
  });
  afterAll(async () => {
    await browser.close();
  });
  return {
    get server() {
      return server;
    },
    get browser() {
      return browser;
    },
    at: async (hash) => {
      opened = await open(browser, `${server.url}${hash}`);
      return opened.page;
    },
    asked: async (count = 1) => {
      await expect.poll(() => server.asked.length, { timeout: PATIENT }).toBeGreaterThanOrEqual(count);
      return server.asked;
    },
  };
}
