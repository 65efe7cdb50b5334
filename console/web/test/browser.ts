/** A browser, a page in a theme, and what a page must not do: break the policy, throw, or fail axe. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { expect } from "vitest";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** ms for a condition of a page: the machine may be busy. */
export const PATIENT = 300_000;

export async function launch(): Promise<Browser> {
  const executablePath = execFileSync(fileURLToPath(new URL("chromium", import.meta.url)), { encoding: "utf8" }).trim();
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
    timeout: PATIENT,
  });
}

export type Theme = "light" | "dark";

export interface Opened {
  page: Page;
  /** Errors of the page and breaches of its policy, so far. */
  wrong: string[];
  close: () => Promise<void>;
}

export async function open(browser: Browser, url: string, theme: Theme = "light"): Promise<Opened> {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 720 },
    // A node made its own certificate.
    ignoreHTTPSErrors: true,
    colorScheme: theme,
    reducedMotion: "reduce",
    locale: "en-GB",
    timezoneId: "UTC",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENT);
  const wrong: string[] = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => {
    // A refusal that a test asks for is a failed request, not an error of the page.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) wrong.push(message.text());
  });
  await page.goto(url);
  return { page, wrong, close: () => context.close() };
}

interface Violation {
  id: string;
  impact: string;
  nodes: { html: string; failureSummary?: string }[];
}

/** Nothing that axe finds: WCAG 2.2 A and AA, and its best practices. */
export async function accessible(page: Page): Promise<void> {
  // Colours change over some milliseconds; axe is to see the last ones. One that is broken off has ended, too.
  await page.evaluate(
    "Promise.allSettled(document.getAnimations().filter((one) => one instanceof CSSTransition).map((one) => one.finished))",
  );
  // The policy forbids scripts in the page; the debugger may run them.
  await page.evaluate(AXE);
  const found = await page.evaluate<Violation[]>(
    "axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations)",
  );
  const told = found.map(
    (one) =>
      `${one.id} (${one.impact}): ${one.nodes.map((node) => `${node.html.slice(0, 200)} ${node.failureSummary ?? ""}`).join(" | ")}`,
  );
  expect(told).toEqual([]);
}
