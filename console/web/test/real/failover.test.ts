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
/** s from a loss until a page shows what was created after it. */
const SHOWN = 30;
const BANNER = "The console does not answer: what you see may be old.";

let opened: Opened;
let context: BrowserContext;
let close: () => Promise<void>;
let orders: Socket;
let answers: Interface;

beforeAll(async () => {
  orders = createConnection(given("SHEAF_ORDERS"));
  answers = createInterface({ input: orders });
  // The certificate that the operator gave to each node is known to this browser, and no other.
  const browser = await launch([`--ignore-certificate-errors-spki-list=${given("SHEAF_TRUSTED")}`]);
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
  new Promise((done) => {
    answers.once("line", done);
    orders.write(`${what}\n`);
  });

const row = (page: Page, name: string) => page.getByRole("row").filter({ hasText: name });

/** What a page did after a loss, in s; it did not say that the connection is lost if there is no time. */
interface Measured {
  loss: string;
  said: number | undefined;
  shown: number;
}
const measured: Measured[] = [];

test("anna logs in at the address for people", async () => {
  const { page } = opened;
  await page.locator("#pf-login-username-id").fill(given("SHEAF_USER"));
  await page.locator("#pf-login-password-id").fill(given("SHEAF_PASSWORD"));
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
});

test.each(["power", "cable"])(
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
    await form.locator("#key").fill("ssh-ed25519 AAAA of-anna");
    // Both pages have their streams.
    await form.locator("#project option", { hasText: "default" }).first().waitFor({ state: "attached" });

    const unwanted: string[] = [];
    for (const one of [page, form]) {
      one.on("load", () => unwanted.push(`${one.url()} was loaded`));
      one.on("request", (request) => {
        if (request.url().endsWith("/console/login")) unwanted.push("somebody logged in");
      });
    }
    const words = page.getByText(BANNER);
    const lost = await order(`lose ${loss}`);
    const begun = performance.now();
    const seconds = () => (performance.now() - begun) / 1000;
    let said: number | undefined;
    // Where it is never said, the end of the page ends this.
    void words.waitFor().then(
      () => (said = seconds()),
      () => undefined,
    );
    await order(`create after-${loss}`);
    const created = seconds();
    await row(page, `after-${loss}`).waitFor();
    const shown = seconds();
    await words.waitFor({ state: "hidden" });
    const times = [
      `created ${created.toFixed(1)} s`,
      `said ${said?.toFixed(1) ?? "-"} s`,
      `shown ${shown.toFixed(1)} s`,
    ];
    console.log(`${loss} of ${lost} lost: ${times.join(", ")}`);
    measured.push({ loss, said, shown });

    expect(unwanted).toEqual([]);
    await page.getByRole("button", { name: "User anna" }).waitFor();
    expect(await form.locator("#name").inputValue()).toBe(`typed-${loss}`);
    expect(await form.locator("#key").inputValue()).toBe("ssh-ed25519 AAAA of-anna");
    await form.close();
    await order("heal");
  },
);

test("it is shown within 30 s, and meanwhile the page says that the console does not answer", () => {
  expect(measured.map(({ loss }) => loss)).toEqual(["power", "cable"]);
  expect(measured.filter(({ said, shown }) => said === undefined || shown > SHOWN)).toEqual([]);
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(opened.wrong).toEqual([]);
});
