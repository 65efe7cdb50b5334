/**
 * A browser on a real console, for a file of page tests each of which goes on where the one before ended.
 *
 * Why here: files against a node and against a control plane begin, choose, look and fail in the same way. Route in: the console's
 * address, from the case that starts npm (`tests/src/pages.rs`). Route out: a page; what the API server answers to its user; a picture of the page
 * that failed.
 */
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { Thing } from "../../src/types/meta.ts";
import { accessible, launch, open, type Opened, PATIENT } from "../browser.ts";

/** What the case says; it is an error to start a file without it. */
export function given(name: string): string {
  const value = process.env[name];
  if (!value)
    throw new Error(`${name} is not set: start this by a case of tests/tests (console_browser, console_pages)`);
  return value;
}

export const ORIGIN = given("SHEAF_CONSOLE");
/** Of all users here. */
export const PASSWORD = "correct horse battery";
/** A public key, as people paste it. */
export const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";

/** What is entered for a new machine, which gets a disk of 1 GiB and the size u1.nano. */
export interface Entries {
  name: string;
  project: string;
  image: string;
  /** As its choice has it: `masquerade`, `default/lan100`. */
  network: string;
}

/** A page of one user, and what is done on it again and again. */
export class Desk {
  constructor(readonly opened: Opened) {}

  get page(): Page {
    return this.opened.page;
  }

  /** Opens the page at a hash. */
  at = (hash: string) => this.page.goto(`${ORIGIN}/#${hash}`);

  /** A page that has nothing yet has its buttons twice. */
  button = (name: string | RegExp) =>
    this.page.getByRole("button", { name, ...(typeof name === "string" ? { exact: true } : {}) }).first();

  get dialog() {
    return this.page.getByRole("dialog");
  }

  /** A button of the dialog. */
  agree = (name: string) => this.dialog.getByRole("button", { name, exact: true }).click();

  heading = (name: string | RegExp) =>
    this.page
      .getByRole("heading", { name, ...(typeof name === "string" ? { exact: true } : {}) })
      .first()
      .waitFor();

  /** Waits until the dialog says so. */
  says = (what: string | RegExp) => this.dialog.getByText(what).first().waitFor();

  text = (what: string | RegExp) => this.page.getByText(what).first().waitFor();

  row = (name: RegExp) => this.page.getByRole("row", { name }).first().waitFor();

  /** Waits until there is no such row; behind a dialog there is none for anybody. */
  async gone(name: RegExp): Promise<void> {
    await this.dialog.waitFor({ state: "detached" });
    await this.page.getByRole("row", { name }).first().waitFor({ state: "detached" });
  }

  /** An act of a row or of a page. */
  async choose(of: string, act: string): Promise<void> {
    await this.page.getByRole("button", { name: `Actions of ${of}`, exact: true }).click();
    await this.page.getByRole("menuitem", { name: act, exact: true }).click();
  }

  /** Chooses by its value what is offered once it is read. */
  select = async (id: string, value: string): Promise<void> => {
    await this.page.locator(`#${id} option[value="${value}"]`).waitFor({ state: "attached" });
    await this.page.locator(`#${id}`).selectOption(value);
  };

  /** Claims the cluster by the code of its node. */
  async claim(code: string, user: string): Promise<void> {
    await this.page.locator("#code").fill(code);
    await this.page.locator("#user").fill(user);
    await this.newPassword(PASSWORD);
    await this.button("Become the administrator").click();
    await this.heading("Overview");
  }

  /** Types it into both entries. */
  async newPassword(password: string): Promise<void> {
    await this.page.locator("#new-password").fill(password);
    await this.page.locator("#new-password-again").fill(password);
  }

  /** Types name and password at the login. */
  async present(user: string, password = PASSWORD): Promise<void> {
    await this.page.locator("#pf-login-username-id").fill(user);
    await this.page.locator("#pf-login-password-id").fill(password);
    await this.page.keyboard.press("Enter");
  }

  /** The five entries of a new machine, each of what is offered. */
  async enter({ name, project, image, network }: Entries): Promise<void> {
    await this.page.locator("#name").fill(name);
    await this.select("project", project);
    await this.select("image", image);
    await this.page.locator("#disk").fill("1");
    await this.select("size", "u1.nano");
    await this.page.locator("#key").fill(KEY);
    await this.select("network", network);
  }

  /** The page is that of the address, as before the login. */
  isIn = (user: string) => this.button(`User ${user}`).waitFor();

  async logIn(user: string, password = PASSWORD): Promise<void> {
    await this.present(user, password);
    await this.isIn(user);
  }

  /** Status of what the console answers to the user of this page, without a change. */
  status = async (path: string): Promise<number> => (await this.page.request.get(`${ORIGIN}${path}`)).status();

  /** What the API server says: an object, or a list. */
  async read<T = Thing & Record<string, any>>(path: string): Promise<T> {
    const answer = await this.page.request.get(`${ORIGIN}/api${path}`);
    if (!answer.ok()) throw new Error(`${path}: ${answer.status()} ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  /** Waits until the object has what is expected. */
  async becomes(path: string, expected: object): Promise<void> {
    await expect
      .poll(() => this.read(path).catch((error: unknown) => String(error)), { timeout: PATIENT, interval: 500 })
      .toMatchObject(expected);
  }

  /** Waits until there is no such object. */
  async vanishes(path: string): Promise<void> {
    await expect.poll(() => this.status(`/api${path}`), { timeout: PATIENT, interval: 500 }).toBe(404);
  }

  /** As axe finds it. A notice of success goes by itself after six seconds; while it fades, its contrast is none of a page. */
  async accessible(): Promise<void> {
    try {
      await accessible(this.page);
    } catch {
      await expect
        .poll(() => this.page.locator(".pf-v6-c-alert-group .pf-m-success").count(), { timeout: PATIENT })
        .toBe(0);
      await accessible(this.page);
    }
  }
}

export interface Ground {
  /** Of the administrator. */
  readonly desk: Desk;
  /** Of somebody else, who has not logged in; closed with the file. */
  visitor: () => Promise<Desk>;
  /** Errors of all pages of the file, and breaches of their policy. */
  wrong: () => string[];
}

/** To be called once in a file, outside of its tests. Whoever is named logs in before the first of them. */
export function ground(user?: string): Ground {
  let browser: Browser;
  const desks: Desk[] = [];
  const visitor = async () => {
    const desk = new Desk(await open(browser, `${ORIGIN}/`));
    desks.push(desk);
    return desk;
  };
  beforeAll(async () => {
    browser = await launch();
    const desk = await visitor();
    if (user) await desk.logIn(user);
  });
  afterAll(() => browser.close());
  // What was on the page when a test failed, beside the logs of the case.
  afterEach(async ({ task }) => {
    if (task.result?.state !== "fail") return;
    const picture = given("SHEAF_SCREENSHOT");
    for (const [index, { page }] of desks.filter(({ page }) => !page.isClosed()).entries())
      await page.screenshot({ path: index === 0 ? picture : picture.replace(/\.png$/, `-${index}.png`) });
  });
  return {
    get desk() {
      return desks[0] as Desk;
    },
    visitor,
    wrong: () => desks.flatMap(({ opened }) => opened.wrong),
  };
}
