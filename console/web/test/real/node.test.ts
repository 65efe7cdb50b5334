/**
 * The pages against the console of a node: nothing is played. `tests/tests/console_browser.rs` starts the node and this.
 *
 * Why here: that pages, server, API server, agent and guest agree is shown by all of them together alone. Route in: the console's
 * address, the code on the node's screen, an image. Route out: an administrator, an image that was sent in, a machine that
 * boots from it, its screen and serial port, a snapshot and the way back to it, the node's journal.
 */
import { expect, test } from "vitest";
import { PATIENT } from "../browser.ts";
import { given, ground, ORIGIN } from "./ground.ts";

const CODE = given("SHEAF_CODE");
const IMAGE = given("SHEAF_IMAGE");

const on = ground();

test("the cluster is claimed by the code on the node's screen", async () => {
  await on.desk.claim(CODE, "anna");
  await on.desk.accessible();
});

test("an image is sent in, and a machine made of it boots", async () => {
  const { page, at, button, select } = on.desk;
  // An API server that was just started does not know all kinds at once.
  const volumes = `${ORIGIN}/api/apis/cdi.kubevirt.io/v1beta1/datavolumes`;
  await expect.poll(async () => (await page.request.get(volumes)).status(), { timeout: PATIENT }).toBe(200);
  await at("/images");
  await button("Upload an image").click();
  await page.locator("input[type=file]").setInputFiles(IMAGE);
  await page.locator("#upload-name").fill("guest");
  await page.locator("#upload-project").selectOption("default");
  await button("Upload").click();
  await page.getByRole("row", { name: /guest default .*Ready/ }).waitFor();

  await at("/machines");
  await page.getByRole("link", { name: "Create machine" }).first().click();
  await page.locator("#name").fill("web");
  await page.locator("#project").selectOption("default");
  await select("image", "guest");
  await page.locator("#disk").fill("1");
  await select("size", "u1.nano");
  await button("Create and start").click();
  await page.getByRole("heading", { name: "web" }).waitFor();
  await page.getByText("Running", { exact: true }).first().waitFor();
});

test("the guest is seen on its screen and heard on its serial port", async () => {
  const { page, at } = on.desk;
  await at("/machines/default/web/serial");
  await page
    .locator(".xterm-rows")
    .getByText(/guest: /)
    .first()
    .waitFor();
  await at("/machines/default/web/screen");
  const canvas = page.locator(".sheaf-screen canvas");
  await canvas.waitFor();
  const isLit = () =>
    canvas.evaluate((one) => {
      const { width, height } = one as HTMLCanvasElement;
      const { data } = (one as HTMLCanvasElement).getContext("2d")!.getImageData(0, 0, width, height);
      return data.some((value, at) => at % 4 !== 3 && value > 0);
    });
  await expect.poll(isLit, { timeout: PATIENT }).toBe(true);
});

test("a snapshot is taken, and the machine goes back to it", async () => {
  const { page, at, button } = on.desk;
  await at("/machines/default/web/snapshots");
  await button("Take snapshot").click();
  const taken = page.getByRole("row", { name: /^web-[0-9-]+ .*Ready/ });
  await taken.waitFor();
  const name = (await taken.textContent())?.match(/web-[0-9]+-[0-9]+/)?.[0] ?? "";
  await button(`Actions of ${name}`).click();
  await page.getByRole("menuitem", { name: "Restore" }).click();
  await page.getByRole("dialog").getByRole("textbox").fill("web");
  await page.getByRole("dialog").getByRole("button", { name: "Restore" }).click();
  // It is shut down, goes back, and is started by who wants it to run.
  await at("/machines/default/web");
  await button("Start").click();
  await page.getByText("Running", { exact: true }).first().waitFor();
});

test("the node's journal is read, and its support bundle saved", async () => {
  const { page, at, button } = on.desk;
  await at("/nodes/node1");
  await button("Show journal").click();
  await page.getByText(/sheaf-agent\[[0-9]+\]: /).waitFor();
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "Download support bundle" }).click();
  expect((await download).suggestedFilename()).toBe("support-node1.tar.gz");
  expect(await (await download).failure()).toBeNull();
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(on.wrong()).toEqual([]);
});
