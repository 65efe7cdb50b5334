/**
 * The pages while the control-plane node that they speak to is lost: nothing is played. `tests/tests/console_failover.rs` starts three
 * nodes, this, and loses a node when this asks for it.
 *
 * Why here: that a page goes on by itself is about connections which end without a word, and only a browser keeps such. Route in:
 * the address for people, a user, a socket that takes orders. Route out: how long a page showed what was old, and what it
 * said meanwhile.
 */
import { createConnection, type Socket } from "node:net";
import { createInterface, type Interface } from "node:readline";
import type { BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { launch, open, type Opened, PATIENT } from "../browser.ts";

const given = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: start this by tests/tests/console_failover.rs`);
  return value;
};
const ORIGIN = given("SHEAF_CONSOLE");
/** How the node is lost, one after the other. */
const LOSSES = given("SHEAF_LOSSES").split(" ");
/** s from a loss until a page shows what was created after it. */
const SHOWN = 30;
/** s after which a page is not waited for any more. */
const LONGEST = 120;
const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVua25vd24 of anna";
const BANNER = "The console does not answer: what you see may be old.";

let opened: Opened;
let context: BrowserContext;
let close: () => Promise<void>;
let orders: Socket;
let answers: Interface;

beforeAll(async () => {
  orders = createConnection(given("SHEAF_ORDERS"));
  answers = createInterface({ input: orders });
  // This browser was told to trust a certificate, and knows no other.
  const trusted = Buffer.from(given("SHEAF_TRUSTED"), "hex").toString("base64");
  const browser = await launch([`--ignore-certificate-errors-spki-list=${trusted}`]);
  close = () => browser.close();
  opened = await open(browser, `${ORIGIN}/`, "light", "known");
  context = opened.page.context();
});
afterAll(async () => {
  await close();
  orders.end();
});
afterEach(async ({ task }) => {
  if (task.result?.state === "fail") await opened.page.screenshot({ path: given("SHEAF_SCREENSHOT") });
});

/** Asks for something; it is done when there is an answer. */
const order = (what: string): Promise<string> =>
  new Promise((done, failed) => {
    const ended = () => failed(new Error(`${what}: it was not done; the case says why`));
    orders.once("close", ended);
    answers.once("line", (line) => {
      orders.off("close", ended);
      done(line);
    });
    orders.write(`${what}\n`);
  });

const row = (page: Page, name: string) => page.getByRole("row").filter({ hasText: name });

/** What a page did after a loss, in s; what has no time did not happen. */
interface Measured {
  loss: string;
  said: number | undefined;
  shown: number | undefined;
}
const measured: Measured[] = [];

test("anna logs in at the address for people", async () => {
  const { page } = opened;
  await page.locator("#pf-login-username-id").fill(given("SHEAF_USER"));
  await page.locator("#pf-login-password-id").fill(given("SHEAF_PASSWORD"));
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
});

test.each(LOSSES)(
  "a page shows what was created after its node was lost (%s), without a reload and a login",
  async (loss) => {
    const { page } = opened;
    await order(`create before-${loss}`);
    await page.goto(`${ORIGIN}/#/machines`);
    await row(page, `before-${loss}`).waitFor();
    const form = await context.newPage();
    form.setDefaultTimeout(PATIENT);
    await form.goto(`${ORIGIN}/#/create`);
    await form.locator("#name").fill(`typed-${loss}`);
    await form.locator("#key").fill(KEY);
    // Both pages have their streams.
    await form.locator("#project option", { hasText: "default" }).first().waitFor({ state: "attached" });

    const unwanted: string[] = [];
    for (const one of [page, form]) {
      one.on("load", () => unwanted.push(`${one.url()} was loaded`));
      one.on("request", (request) => {
        if (request.url().endsWith("/console/login")) unwanted.push("somebody logged in");
      });
    }
    // Words that are there for a moment are seen, too.
    await page.evaluate((banner) => {
      const saw = () => (saidAt ||= document.body.innerText.includes(banner) ? Date.now() : 0);
      let saidAt = 0;
      new MutationObserver(saw).observe(document.body, { subtree: true, childList: true });
      Object.assign(globalThis, { saidAt: () => saidAt });
    }, BANNER);
    const lost = await order(`lose ${loss}`);
    const begun = Date.now();
    const seconds = (at: number) => (at - begun) / 1000;
    await order(`create after-${loss}`);
    const created = seconds(Date.now());
    const shown = await row(page, `after-${loss}`)
      .waitFor({ timeout: LONGEST * 1000 })
      .then(
        () => seconds(Date.now()),
        () => undefined,
      );
    const saidAt = await page.evaluate<number>("saidAt()");
    const said = saidAt ? seconds(saidAt) : undefined;
    const time = (one: number | undefined) => (one === undefined ? "never" : `after ${one.toFixed(1)} s`);
    const times = [`created ${time(created)}`, `said ${time(said)}`, `shown ${time(shown)}`];
    console.log(`${loss} of ${lost} lost: ${times.join(", ")}`);
    measured.push({ loss, said, shown });

    expect(unwanted).toEqual([]);
    await page.getByRole("button", { name: "User anna" }).waitFor();
    expect(await form.locator("#name").inputValue()).toBe(`typed-${loss}`);
    expect(await form.locator("#key").inputValue()).toBe(KEY);
    // What is not shown by now is the matter of the next test.
    if (shown !== undefined) {
      await page.getByText(BANNER).waitFor({ state: "hidden" });
      await form.locator("#source").selectOption("registry");
      await form.locator("#image").fill("quay.io/containerdisks/debian:13");
      await form.getByRole("button", { name: "Create and start", exact: true }).click();
      await form.getByRole("heading", { name: `typed-${loss}` }).waitFor();
      await row(page, `typed-${loss}`).waitFor();
    }
    await form.close();
    if (loss !== LOSSES.at(-1)) await order("heal");
  },
);

test("it is shown within 30 s, and meanwhile the page says that the console does not answer", () => {
  expect(measured.map(({ loss }) => loss)).toEqual(LOSSES);
  expect(measured.filter(({ said, shown }) => said === undefined || !(shown! <= SHOWN))).toEqual([]);
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(opened.wrong).toEqual([]);
});
