/** What administrators do with nodes, updates, pools, disks and networks; each dialog by axe in both themes. */
import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import type { Thing } from "../src/types/meta.ts";
import { accessible, PATIENT } from "./browser.ts";
import { ground } from "./ground.ts";

const on = ground();
const { at, asked } = on;

/** axe in both themes: the page follows the system's. */
async function accessibleInBoth(page: Page): Promise<void> {
  for (const colorScheme of ["dark", "light"] as const) {
    await page.emulateMedia({ colorScheme });
    await expect
      .poll(() => page.evaluate("document.documentElement.classList.contains('pf-v6-theme-dark')"), {
        timeout: PATIENT,
      })
      .toBe(colorScheme === "dark");
    await accessible(page);
  }
}

const find = (plural: string, name: string): Thing => {
  const found = on.server.objects.get(plural)?.find(({ metadata }) => metadata.name === name);
  if (!found) throw new Error(`there is no ${plural}/${name}`);
  return found;
};

async function choose(page: Page, of: string, item: string): Promise<void> {
  await page.getByRole("button", { name: `Actions of ${of}`, exact: true }).click();
  await page.getByRole("menuitem", { name: item, exact: true }).click();
}

test("a node is added with a table that the console makes, and one of the control plane by a command", async () => {
  const page = await at("#/nodes");
  await page.getByRole("button", { name: "Add a node" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.locator("#add-name").fill("node-4");
  await dialog.locator("#add-role-control-plane").check();
  await dialog.getByText("sheaf-agent token create --control-plane --node node-4").waitFor();
  await accessibleInBoth(page);
  expect(on.server.asked).toEqual([]);
  await dialog.locator("#add-role-machines").check();
  await dialog.getByRole("button", { name: "Make token" }).click();
  await dialog.getByText('token = "abcdef.0123456789abcdef"').waitFor();
  await dialog.getByText(/Valid for one node, for (59|60) more minutes/).waitFor();
  expect((await asked())[0]).toEqual({ method: "POST", path: "/console/join-tokens", body: { node: "node-4" } });
  await accessibleInBoth(page);
});

test("who may not add a node is told so in the dialog", async () => {
  const page = await at("#/nodes");
  await page.getByRole("button", { name: "Add a node" }).click();
  on.server.refuse = {
    code: 403,
    reason: "Forbidden",
    message: "only administrators of the cluster make tokens for nodes",
  };
  await page.getByRole("dialog").getByRole("button", { name: "Make token" }).click();
  await page.getByText("only administrators of the cluster make tokens for nodes").waitFor();
});

test("a maintenance is started, shows each machine, and is cancelled and ended from the page of the node", async () => {
  const page = await at("#/nodes/node-1");
  await page.getByRole("button", { name: "Start maintenance" }).click();
  await page.getByRole("dialog").getByText("2 machines shut down").waitFor();
  await page.locator("#maintenance-deadline").fill("30");
  await accessibleInBoth(page);
  await page.getByRole("dialog").getByRole("button", { name: "Start maintenance" }).click();
  expect((await asked())[0]).toMatchObject({
    body: {
      kind: "NodeMaintenance",
      metadata: { name: "node-1" },
      spec: { nodeName: "node-1", deadlineSeconds: 1800 },
    },
  });
  await page.getByRole("button", { name: "Cancel maintenance" }).waitFor();
  on.server.set("nodemaintenances", {
    ...find("nodemaintenances", "node-1"),
    status: {
      phase: "Blocked",
      message: "shop/web-1 is in the way",
      blockers: [{ what: "VM shop/web-1", why: "its runStrategy is Once", remedy: "stop or delete it" }],
      stopping: ["shop/db: is asked to power off, and ended at 2026-11-30T12:00:00Z"],
    },
  } as Thing);
  await page.getByText("VM shop/web-1: its runStrategy is Once.").waitFor();
  await page.getByRole("row", { name: /shop\/db Shuts down is asked to power off/ }).waitFor();
  await accessibleInBoth(page);
  on.server.set("nodemaintenances", {
    ...find("nodemaintenances", "node-1"),
    status: { phase: "InMaintenance", message: "no VM runs here" },
  } as Thing);
  await page.getByRole("button", { name: "End maintenance" }).click();
  await page.getByRole("button", { name: "Start maintenance" }).waitFor();
  expect(on.server.asked[1]).toMatchObject({
    method: "DELETE",
    path: "/apis/sheaf.dev/v1alpha1/nodemaintenances/node-1",
  });
});

test("the journal of a node is shown by unit and pattern, its config without secrets, and a bundle is saved", async () => {
  const page = await at("#/nodes/node-1");
  const logs = page.getByRole("form", { name: "Journal of node-1" });
  await logs.locator("#logs-unit").selectOption("libvirtd");
  await logs.locator("#logs-lines").fill("0");
  await logs.getByRole("button", { name: "Show journal" }).click();
  await logs.getByText("From 1 to 100000 lines.").waitFor();
  await logs.locator("#logs-lines").fill("50");
  const request = page.waitForRequest((one) => one.url().includes("/proxy/logs?"));
  await logs.getByRole("button", { name: "Show journal" }).click();
  expect(new URL((await request).url()).search).toBe("?query=libvirtd&tailLines=50&boot=0");
  await logs.getByText("libvirtd[812]: the lease was renewed").waitFor();
  await accessibleInBoth(page);
  await logs.getByRole("button", { name: "Show node.toml" }).click();
  await logs.getByText('token = "***"').waitFor();
  const download = page.waitForEvent("download");
  await logs.getByRole("link", { name: "Download support bundle" }).click();
  expect((await download).suggestedFilename()).toBe("support-node-1.tar.gz");
});

test("one node is updated alone once no update of all nodes goes on", async () => {
  on.server.objects.set("clusterupdates", []);
  on.server.objects.set("nodeupdates", []);
  const page = await at("#/nodes/node-1");
  await choose(page, "node-1", "Update this node");
  const dialog = page.getByRole("dialog");
  expect(await dialog.getByText("Nodes at a time").count()).toBe(0);
  await dialog.locator("#update-version").fill("0.2.0");
  await dialog.locator("#update-at").fill("https://releases.example.org/sheaf-0.2.0");
  await accessibleInBoth(page);
  await dialog.getByRole("button", { name: "Start update" }).click();
  expect((await asked())[0]).toMatchObject({
    method: "POST",
    path: "/apis/sheaf.dev/v1alpha1/nodeupdates",
    body: {
      metadata: { name: "node-1" },
      spec: {
        nodeName: "node-1",
        version: "0.2.0",
        source: { url: "https://releases.example.org/sheaf-0.2.0" },
      },
    },
  });
});

test("a node is removed once what is lost was read and confirmed by its name", async () => {
  const page = await at("#/nodes/node-2");
  await choose(page, "node-2", "Remove node");
  const dialog = page.getByRole("dialog");
  await dialog.locator("#removal-wipes").check();
  await dialog.locator("#removal-wipes-pools").check();
  await accessibleInBoth(page);
  await dialog.getByRole("button", { name: "Start removal" }).click();
  await dialog.getByText("Type node-2: what the node has is erased.").waitFor();
  expect(on.server.asked).toEqual([]);
  await dialog.locator("#removal-typed").fill("node-2");
  await dialog.getByRole("button", { name: "Start removal" }).click();
  expect((await asked())[0]).toMatchObject({
    method: "POST",
    path: "/apis/sheaf.dev/v1alpha1/noderemovals",
    body: { metadata: { name: "node-2" }, spec: { wipe: { confirmNode: "node-2", pools: true } } },
  });
  on.server.set("noderemovals", {
    ...find("noderemovals", "node-2"),
    status: {
      phase: "Blocked",
      message: "2 things would be lost",
      blockers: [
        { what: "LocalVolume/pvc-1", why: "is on node-2 only (claim shop/data, 20Gi)", remedy: "copy it away" },
        { what: "Node node-2", why: "is being updated", remedy: "wait for its end" },
      ],
      losses: [
        { name: "LocalVolume/pvc-1", what: "claim shop/data", bytes: 20 * 2 ** 30 },
        { name: "StoragePool/default.node-2", what: "a pool that is erased, with whatever is in it" },
      ],
    },
  } as Thing);
  await page.getByText("disk shop/data (20 GiB)").waitFor();
  await page.getByText("Node node-2: is being updated.").waitFor();
  expect(await page.getByText("LocalVolume/pvc-1").count()).toBe(0);
  await accessibleInBoth(page);
  await page.getByRole("button", { name: "Confirm 2 losses" }).click();
  const confirm = page.getByRole("dialog").getByRole("button", { name: "Confirm losses" });
  expect(await confirm.isDisabled()).toBe(true);
  await page.getByRole("dialog").getByRole("textbox").fill("node-2");
  await accessibleInBoth(page);
  await confirm.click();
  expect((await asked(2))[1]).toEqual({
    method: "PATCH",
    path: "/apis/sheaf.dev/v1alpha1/noderemovals/node-2",
    body: { spec: { acceptLoss: ["LocalVolume/pvc-1", "StoragePool/default.node-2"] } },
  });
  await page.getByText("Confirmed as lost:").waitFor();
  await page.getByRole("button", { name: "Cancel removal" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel removal" }).click();
  expect((await asked(3))[2]).toMatchObject({ method: "DELETE" });
});

test("the name of a node that was removed is released, and its record deleted", async () => {
  const page = await at("#/nodes");
  await page.getByRole("button", { name: "Release the name" }).click();
  await page.getByRole("dialog").getByRole("textbox").fill("node-9");
  await page.getByRole("dialog").getByRole("button", { name: "Release" }).click();
  expect((await asked())[0]).toEqual({
    method: "PATCH",
    path: "/api/v1/namespaces/sheaf-system/configmaps/node-identities",
    body: { data: { "node-9": '{"released":true}' } },
  });
  await page.getByRole("button", { name: "Delete the record" }).click();
  expect((await asked(2))[1]).toMatchObject({ path: "/apis/sheaf.dev/v1alpha1/noderemovals/node-9" });
  await expect.poll(() => page.getByText("Removal of node-9").count(), { timeout: PATIENT }).toBe(0);
});

test("an update is paused, resumed and cancelled, and a node that rolled it back is tried again", async () => {
  const page = await at("#/updates");
  await page.getByRole("button", { name: "Pause" }).click();
  expect((await asked())[0]).toEqual({
    method: "PATCH",
    path: "/apis/sheaf.dev/v1alpha1/clusterupdates/sheaf-0.2.0",
    body: { spec: { paused: true } },
  });
  await page.getByRole("button", { name: "Resume" }).click();
  expect((await asked(2))[1]).toMatchObject({ body: { spec: { paused: false } } });
  on.server.set("nodeupdates", {
    ...find("nodeupdates", "node-2"),
    status: { phase: "RolledBack", message: "libvirt does not answer", running: { slot: "a", version: "0.1.0" } },
  } as Thing);
  await page.getByRole("row", { name: /node-2 0\.1\.0 0\.2\.0 Rolled back libvirt does not answer/ }).waitFor();
  await choose(page, "node-2", "Try again");
  expect((await asked(3))[2]).toMatchObject({ method: "DELETE", path: "/apis/sheaf.dev/v1alpha1/nodeupdates/node-2" });
  await page.getByRole("button", { name: "Cancel update" }).click();
  await accessibleInBoth(page);
  await page.getByRole("dialog").getByRole("button", { name: "Cancel update" }).click();
  expect((await asked(4))[3]).toMatchObject({ body: { spec: { cancelled: true } } });
});

test("the request of one node is withdrawn once it was read what the node still does, and not what an update of all nodes asks", async () => {
  on.server.set("nodeupdates", {
    ...find("nodeupdates", "node-3"),
    spec: { nodeName: "node-3", version: "0.2.1" },
    status: { phase: "Staging", message: "root: 40 % of 1 GiB", running: { slot: "a", version: "0.1.0" } },
  } as Thing);
  const page = await at("#/updates");
  await page.getByRole("button", { name: "Actions of node-3" }).waitFor();
  // node-2 restarts for sheaf-0.2.0, which is cancelled instead.
  for (const node of ["node-1", "node-2"])
    expect(await page.getByRole("button", { name: `Actions of ${node}` }).count()).toBe(0);
  await choose(page, "node-3", "Withdraw update");
  const dialog = page.getByRole("dialog");
  await dialog.getByText("The release is written to the other slot to its end").waitFor();
  await dialog.getByText("The update of all nodes to 0.2.0 goes on").waitFor();
  await accessibleInBoth(page);
  on.server.set("nodeupdates", {
    ...find("nodeupdates", "node-3"),
    status: { phase: "Restarting", running: { slot: "a", version: "0.1.0" } },
  } as Thing);
  await dialog.getByText("It is too late to stop the node").waitFor();
  on.server.refuse = { code: 403, reason: "Forbidden", message: "nodeupdates is forbidden" };
  await dialog.getByRole("button", { name: "Withdraw" }).click();
  await dialog.getByText("nodeupdates is forbidden").waitFor();
  await dialog.getByRole("button", { name: "Withdraw" }).click();
  expect((await asked(2))[1]).toMatchObject({ method: "DELETE", path: "/apis/sheaf.dev/v1alpha1/nodeupdates/node-3" });
  await page.getByText("The update of node-3 is withdrawn").waitFor();
  await expect
    .poll(() => page.getByRole("button", { name: "Actions of node-3" }).count(), { timeout: PATIENT })
    .toBe(0);
});

test("an update is started with a time for it, and what the server refuses stands at its entry", async () => {
  const page = await at("#/updates");
  await page.getByRole("button", { name: "Update nodes" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Start update" }).click();
  await dialog.getByText("A version is as 0.2.0 or 0.2.0-rc.1.").waitFor();
  await dialog.locator("#update-version").fill("0.3.0");
  await dialog.locator("#update-at").fill("https://releases.example.org/sheaf-0.3.0");
  await dialog.locator("#update-window").check();
  await dialog.locator("#update-day-Sunday").check();
  await accessibleInBoth(page);
  on.server.refuse = {
    code: 422,
    reason: "Invalid",
    message: 'ClusterUpdate "sheaf-0.3.0" is invalid',
    causes: [{ field: "spec.source.url", message: "holds no user name or password", reason: "FieldValueForbidden" }],
  };
  await dialog.getByRole("button", { name: "Start update" }).click();
  await expect
    .poll(() => dialog.locator("#update-at-help").textContent(), { timeout: PATIENT })
    .toContain("holds no user name or password");
  await dialog.getByRole("button", { name: "Start update" }).click();
  expect((await asked(2))[1]).toMatchObject({
    method: "POST",
    body: {
      metadata: { name: "sheaf-0.3.0" },
      spec: { version: "0.3.0", window: { days: ["Sunday"], from: "22:00", until: "04:00" } },
    },
  });
  await page.getByRole("heading", { name: "Update to 0.3.0" }).waitFor();
});

test("a pool is made of a disk with contents only once its serial is typed, and machines are offered it", async () => {
  const page = await at("#/storage");
  await page.getByRole("button", { name: "Create pool" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.locator("#pool-node").selectOption("node-1");
  await dialog.locator("#pool-pool").fill("slow");
  await dialog.getByText("With contents: ext4 on /dev/sda1").waitFor();
  await dialog.locator("#pool-disks").check();
  await accessibleInBoth(page);
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  await dialog.getByText("Type ZA10X5: what is on the disk is erased.").waitFor();
  expect(on.server.asked).toEqual([]);
  await dialog.getByLabel("Type the serial ZA10X5 to erase what is on it").fill("ZA10X5");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  const disk = "node-1.wwn-5000c500a1b2c3d4";
  expect((await asked(3)).map(({ method, path }) => `${method} ${path}`)).toEqual([
    "POST /apis/sheaf.dev/v1alpha1/storagepools",
    "POST /apis/storage.k8s.io/v1/storageclasses",
    `PATCH /apis/sheaf.dev/v1alpha1/blockdevices/${disk}`,
  ]);
  expect(on.server.asked[0]?.body).toMatchObject({
    metadata: { name: "slow.node-1" },
    spec: { nodeName: "node-1", pool: "slow", devices: [disk] },
  });
  expect(on.server.asked[2]?.body).toEqual({ spec: { wipe: { confirmSerial: "ZA10X5" } } });
  await page.getByRole("row", { name: /slow node-1 Pending/ }).waitFor();
});

test("a disk that fails is replaced in one change, and nothing is erased when the server refuses it", async () => {
  const page = await at("#/storage");
  await choose(page, "pool default.node-2", "Replace a disk");
  const dialog = page.getByRole("dialog");
  expect(await dialog.locator("#disks-instead").inputValue()).toBe("node-2.nvme-b");
  await dialog.locator("#disks-disks").check();
  await accessibleInBoth(page);
  on.server.refuse = { code: 409, reason: "Conflict", message: "the object has been modified" };
  await dialog.getByRole("button", { name: "Replace", exact: true }).click();
  await dialog.getByText("It was changed meanwhile; read it again and repeat the change.").waitFor();
  await dialog.getByRole("button", { name: "Replace", exact: true }).click();
  expect((await asked(2))[1]).toEqual({
    method: "PATCH",
    path: "/apis/sheaf.dev/v1alpha1/storagepools/default.node-2",
    body: {
      metadata: { resourceVersion: "7" },
      spec: { devices: ["node-2.wwn-5000c500a1b2c3d5"] },
    },
  });
});

test("a disk is erased with its serial typed, and the request is withdrawn", async () => {
  const page = await at("#/disks");
  await choose(page, "disk node-1.wwn-5000c500a1b2c3d4", "Erase");
  const erase = page.getByRole("dialog").getByRole("button", { name: "Erase" });
  await page.getByText("Lost: ext4 on /dev/sda1").waitFor();
  await page.getByRole("dialog").getByRole("textbox").fill("za10x5");
  expect(await erase.isDisabled()).toBe(true);
  await page.getByRole("dialog").getByRole("textbox").fill("ZA10X5");
  await accessibleInBoth(page);
  await erase.click();
  expect((await asked())[0]?.body).toEqual({ spec: { wipe: { confirmSerial: "ZA10X5" } } });
  await page.getByRole("row", { name: /ZA10X5 .*is to be erased/ }).waitFor();
  await choose(page, "disk node-1.wwn-5000c500a1b2c3d4", "Withdraw the erasure");
  expect((await asked(2))[1]?.body).toEqual({ spec: { wipe: null } });
});

test("a network of machines is a bridge that is picked and a number", async () => {
  const page = await at("#/networks");
  await page.getByRole("button", { name: "Create network" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.locator("#network-name").fill("lan200");
  await dialog.locator("#network-bridge").selectOption("br0");
  await dialog.locator("#network-vlans").fill("200");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  await dialog.getByText("VLANs need a bridge that filters them on every node").waitFor();
  await dialog.locator("#network-bridge").selectOption("br1");
  await accessibleInBoth(page);
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  expect((await asked())[0]).toMatchObject({
    method: "POST",
    path: "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions",
    body: { spec: { config: '{"cniVersion":"0.3.1","type":"bridge","bridge":"br1","vlan":200}' } },
  });
  await page.getByRole("row", { name: /lan200 default br1 VLAN 200 every project/ }).waitFor();
});

test("a change of links is started, counts its trial down, and says why a node rolled it back", async () => {
  const page = await at("#/policies");
  await page.getByRole("button", { name: "Change links" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.locator("#policy-name").fill("storage");
  await dialog.locator("#policy-kind").selectOption("vlan");
  await dialog.locator("#policy-link").fill("stor");
  await dialog.locator("#policy-id").fill("777");
  await dialog.locator("#policy-parent").fill("br1");
  await dialog.locator("#policy-dhcp").check();
  await accessibleInBoth(page);
  await dialog.getByRole("button", { name: "Start the change" }).click();
  expect((await asked())[0]).toMatchObject({
    method: "POST",
    path: "/apis/sheaf.dev/v1alpha1/nodenetworkpolicies",
    body: {
      metadata: { name: "storage" },
      spec: { network: { vlans: [{ name: "stor", id: 777, parent: "br1", dhcp: true }] } },
    },
  });
  await page.getByRole("heading", { name: "storage", exact: true }).waitFor();
  const enactment = (status: object): Thing =>
    ({
      apiVersion: "sheaf.dev/v1alpha1",
      kind: "NodeNetworkEnactment",
      metadata: { name: "storage.node-1" },
      spec: { nodeName: "node-1", policy: "storage" },
      status,
    }) as Thing;
  on.server.set("nodenetworkenactments", enactment({ phase: "Trying", startedAt: new Date().toISOString() }));
  await page.getByRole("heading", { name: /node-1 tries it: \d+ s/ }).waitFor();
  on.server.set(
    "nodenetworkenactments",
    enactment({ phase: "RolledBack", message: "vlan stor has no address: DHCP does not answer; rolled back" }),
  );
  await page.getByRole("heading", { name: "node-1: rolled back" }).waitFor();
  await page.getByText("vlan stor has no address: DHCP does not answer; rolled back").first().waitFor();
  await accessibleInBoth(page);
  // It is changed in its YAML.
  await page.getByRole("button", { name: "YAML" }).click();
  await page.getByLabel("YAML of change storage").waitFor();
});
