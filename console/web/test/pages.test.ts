/**
 * Every page in both themes: it shows what it is for, axe finds nothing, the policy is kept, nothing is wider than 1280
 * pixels. `UPDATE=1` writes the pictures of docs/pictures.
 */
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { accessible, launch, open, type Theme } from "./browser.ts";
import { play, type Played } from "./server.ts";

const PICTURES = fileURLToPath(new URL("../../../docs/pictures/", import.meta.url));

let browser: Browser;
let server: Played;

beforeAll(async () => {
  browser = await launch();
  server = await play();
  if (process.env["UPDATE"]) mkdirSync(PICTURES, { recursive: true });
});

afterAll(async () => {
  await browser.close();
  await server.close();
});

interface Shown {
  name: string;
  hash: string;
  /** What is there once the page is complete. */
  until: (page: Page) => Promise<void>;
  before?: () => void;
}

const text = (what: string | RegExp) => async (page: Page) => page.getByText(what).first().waitFor();
const heading = (name: string | RegExp) => async (page: Page) => page.getByRole("heading", { name }).first().waitFor();
const row = (name: string | RegExp) => async (page: Page) => page.getByRole("row", { name }).first().waitFor();

const PAGES: Shown[] = [
  { name: "login", hash: "", until: heading("Log in to Sheaf"), before: () => (server.isLoggedIn = false) },
  {
    name: "claim",
    hash: "",
    until: heading("Claim this cluster"),
    before: () => {
      server.isLoggedIn = false;
      server.isClaimable = true;
    },
  },
  { name: "overview", hash: "#/", until: text("12 sectors could not be read; 3 % of its spare blocks are left") },
  { name: "machines", hash: "#/machines", until: row(/web-1 shop .*Running node-1/) },
  { name: "create", hash: "#/create", until: heading("5. Network") },
  { name: "machine", hash: "#/machines/shop/web-1", until: text("Always: started again whenever it ends") },
  {
    name: "machine-screen",
    hash: "#/machines/shop/web-1/screen",
    until: async (page) => page.locator(".sheaf-screen canvas").waitFor(),
  },
  { name: "machine-serial", hash: "#/machines/shop/web-1/serial", until: text("Ctrl+] leaves the terminal") },
  { name: "machine-usage", hash: "#/machines/shop/web-1/usage", until: heading("Network") },
  { name: "machine-disks", hash: "#/machines/shop/web-1/disks", until: row(/root Disk \(virtio\) web-1-root/) },
  {
    name: "machine-add-disk",
    hash: "#/machines/shop/web-1/disks",
    until: async (page) => {
      await page.getByRole("button", { name: "Add disk" }).click();
      await page.getByText("The guest has it within some seconds, without a restart.").waitFor();
    },
  },
  { name: "machine-networks", hash: "#/machines/shop/db/networks", until: text("private, behind the node's address") },
  {
    name: "machine-snapshots",
    hash: "#/machines/shop/db/snapshots",
    until: text("The guest's file systems were frozen"),
  },
  {
    name: "machine-events",
    hash: "#/machines/shop/web-1/events",
    until: text("Started the virtual machine on node-1"),
  },
  {
    name: "machine-yaml",
    hash: "#/machines/shop/web-1/yaml",
    until: async (page) => page.getByLabel("YAML of machine web-1").waitFor(),
  },
  {
    name: "images-upload",
    hash: "#/images",
    until: async (page) => {
      await page.getByRole("button", { name: "Upload an image" }).click();
      await page.getByText("raw, qcow2 or ISO, plain or compressed by xz, zstd or gzip.").waitFor();
    },
  },
  { name: "images", hash: "#/images", until: text("42%") },
  { name: "storage", hash: "#/storage", until: row(/default node-2 .*Degraded/) },
  { name: "disks", hash: "#/disks", until: row(/ZA10X5.*unused, with ext4 on \/dev\/sda1/) },
  { name: "policies", hash: "#/policies", until: row(/uplink Being changed bridge br1 every node 1 of 3/) },
  {
    name: "policy",
    hash: "#/policies/uplink",
    until: heading(/node-2 tries it: \d+ s/),
    before: () => {
      const trial = server.objects
        .get("nodenetworkenactments")
        ?.find(({ metadata }) => metadata.name.endsWith("node-2"));
      if (trial)
        Object.assign(trial, { status: { phase: "Trying", generation: 1, startedAt: new Date().toISOString() } });
    },
  },
  { name: "networks", hash: "#/networks", until: text("VLANs 10, 200–209, tagged by the guest") },
  { name: "nodes", hash: "#/nodes", until: row(/node-3 .*In maintenance/) },
  { name: "node", hash: "#/nodes/node-3", until: heading("Maintenance: new memory") },
  { name: "node-control-plane", hash: "#/nodes/node-1", until: text("sheaf-agent snapshot save control-plane.tar") },
  { name: "node-removed", hash: "#/nodes/node-9", until: heading("Removal of node-9: It was removed") },
  { name: "updates", hash: "#/updates", until: row(/node-2 0\.2\.0 0\.2\.0 On trial healthy for 40 of 90 s/) },
  { name: "administration", hash: "#/administration", until: row(/bob Operate in shop/) },
  {
    name: "projects",
    hash: "#/administration",
    until: async (page) => {
      await page.getByRole("tab", { name: "Projects" }).click();
      await page.getByRole("row", { name: /shop Ready 4 / }).waitFor();
    },
  },
  { name: "missing", hash: "#/roof", until: heading("A page roof is not here") },
];

for (const theme of ["light", "dark"] as Theme[]) {
  test.each(PAGES)(
    `the page $name is accessible and keeps its policy in the ${theme} theme`,
    async ({ name, hash, until, before }) => {
      server.isLoggedIn = true;
      server.isClaimable = false;
      before?.();
      const { page, wrong, close } = await open(browser, `${server.url}${hash}`, theme);
      await until(page);
      await page.evaluate("document.fonts.ready");
      if (process.env["UPDATE"] && theme === "light")
        await page.screenshot({ path: `${PICTURES}console-${name}.png`, animations: "disabled", scale: "css" });
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(1280);
      expect(await page.evaluate("document.documentElement.classList.contains('pf-v6-theme-dark')")).toBe(
        theme === "dark",
      );
      await accessible(page);
      expect(wrong).toEqual([]);
      await close();
    },
  );
}
