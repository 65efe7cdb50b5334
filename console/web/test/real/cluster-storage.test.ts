/**
 * The pages on a real control plane: pools, disks, images, networks and links of nodes. `tests/tests/console_pages.rs` starts the control
 * plane and this, after `cluster-people.test.ts`.
 *
 * Why here: pages write objects whose rules are the API server's and sheaf-controller's, and show what agents report of them. The agents are real;
 * LVM, disks, links and servers of images are in memory. So is a node's call of its API server, which nobody answers: no trial of links begins
 * (`network.rs`). Route in: `anna`, and three nodes with three disks each. Route out: the pools `default` of fleet-0000 and `fast` of
 * fleet-0001, the image `small` of default, the networks `lan100` of default and `trunk` of shop.
 */
import { expect, test } from "vitest";
import { PATIENT } from "../browser.ts";
import type { BlockDevice, NodeNetworkEnactment, StoragePool } from "../../src/types/crds.ts";
import type { List } from "../../src/types/meta.ts";
import { given, ground } from "./ground.ts";

const SHEAF = "/apis/sheaf.dev/v1alpha1";
const IMAGES = "/apis/cdi.kubevirt.io/v1beta1/namespaces/default/datavolumes";
const URL = given("SHEAF_IMAGE_URL");
const SHA256 = given("SHEAF_IMAGE_SHA256");

const on = ground("anna");

/** The object of a disk, by its serial. */
async function disk(serial: string): Promise<BlockDevice> {
  const all = await on.desk.read<List<BlockDevice>>(`${SHEAF}/blockdevices`);
  const found = all.items.find(({ status }) => status?.serial === serial);
  if (!found) throw new Error(`no disk has the serial ${serial}`);
  return found;
}

test("the administrator sees the disks of all nodes with what is on them", async () => {
  const { desk } = on;
  await desk.at("/disks");
  await desk.row(/fleet-0000-A Unknown unused/);
  await desk.row(/fleet-0002-B Unknown unused, with ext4 on \/dev\/vdb/);
  await desk.accessible();
});

test("a pool is made of an empty disk, and grows by another one", async () => {
  const { desk } = on;
  await desk.at("/storage");
  await desk.button("Create pool").click();
  await desk.select("pool-node", "fleet-0000");
  await desk.page.locator("#pool-pool").fill("default");
  const { name } = (await disk("fleet-0000-A")).metadata;
  await desk.dialog.getByLabel(`${name}:`).check();
  await desk.accessible();
  await desk.agree("Create");
  await desk.row(/default fleet-0000 Ready/);
  const path = `${SHEAF}/storagepools/default.fleet-0000`;
  await desk.becomes(path, { spec: { devices: [name] }, status: { phase: "Ready" } });
  const { status: before } = await desk.read<StoragePool>(path);

  await desk.choose("pool default.fleet-0000", "Add a disk");
  const more = (await disk("fleet-0000-C")).metadata.name;
  await desk.dialog.getByLabel(`${more}:`).check();
  await desk.accessible();
  await desk.agree("Add");
  const grown = async () => (await desk.read<StoragePool>(path)).status?.totalBytes ?? 0;
  await expect.poll(grown, { timeout: PATIENT, interval: 500 }).toBeGreaterThan(before?.totalBytes ?? 0);
  await desk.row(new RegExp(`default fleet-0000 Ready .*${name}, ${more}`));
  await desk.accessible();
});

test("a disk with contents is taken only once its serial is typed, and machines are offered the pool", async () => {
  const { desk } = on;
  const { name } = (await disk("fleet-0001-B")).metadata;
  await desk.at("/disks");
  await desk.choose(`disk ${name}`, "Create a pool of it");
  await desk.page.locator("#pool-pool").fill("fast");
  await desk.agree("Create");
  await desk.says("Type fleet-0001-B: what is on the disk is erased.");
  await desk.accessible();
  expect(await desk.status(`/api${SHEAF}/storagepools/fast.fleet-0001`)).toBe(404);
  await desk.dialog.getByLabel("Type the serial fleet-0001-B to erase what is on it").fill("fleet-0001-B");
  await desk.agree("Create");
  await desk.at("/storage");
  await desk.row(/fast fleet-0001 Ready/);
  await desk.becomes("/apis/storage.k8s.io/v1/storageclasses/fast", {
    provisioner: "lvm.sheaf.dev",
    parameters: { pool: "fast" },
  });
  await desk.becomes(`${SHEAF}/blockdevices/${name}`, {
    status: { usedBy: "pool fast", wiped: { confirmSerial: "fleet-0001-B" } },
  });
});

test("a pool is kept free of further disks, and one is deleted by its name", async () => {
  const { desk } = on;
  const fast = `${SHEAF}/storagepools/fast.fleet-0001`;
  await desk.choose("pool fast.fleet-0001", "Place no further disks here");
  await desk.becomes(fast, { spec: { evictionRequested: true } });
  await desk.choose("pool fast.fleet-0001", "Place disks here again");
  await desk.becomes(fast, { spec: { evictionRequested: false } });

  await desk.button("Create pool").click();
  await desk.select("pool-node", "fleet-0002");
  await desk.page.locator("#pool-pool").fill("scrap");
  await desk.dialog.getByLabel(`${(await disk("fleet-0002-A")).metadata.name}:`).check();
  await desk.agree("Create");
  await desk.row(/scrap fleet-0002 Ready/);
  await desk.choose("pool scrap.fleet-0002", "Delete");
  const sure = desk.dialog.getByRole("button", { name: "Delete", exact: true });
  expect(await sure.isDisabled()).toBe(true);
  await desk.dialog.getByRole("textbox").fill("scrap.fleet-0002");
  await desk.accessible();
  await sure.click();
  await desk.gone(/scrap fleet-0002/);
  await desk.vanishes(`${SHEAF}/storagepools/scrap.fleet-0002`);
});

test("a disk is erased with its serial typed", async () => {
  const { desk } = on;
  const { name } = (await disk("fleet-0002-B")).metadata;
  await desk.at("/disks");
  await desk.choose(`disk ${name}`, "Erase");
  await desk.says("Lost: ext4 on /dev/vdb");
  await desk.dialog.getByRole("textbox").fill("fleet-0002-b");
  expect(await desk.dialog.getByRole("button", { name: "Erase", exact: true }).isDisabled()).toBe(true);
  await desk.dialog.getByRole("textbox").fill("fleet-0002-B");
  await desk.accessible();
  await desk.agree("Erase");
  await desk.row(/fleet-0002-B Unknown unused(?!, with)/);
  await desk.becomes(`${SHEAF}/blockdevices/${name}`, { status: { wiped: { confirmSerial: "fleet-0002-B" } } });
});

test("an image whose checksum is another one fails in the words of the node, and the right one is ready", async () => {
  const { desk } = on;
  const { page } = desk;
  const create = async (name: string, checksum: string) => {
    await desk.button("Create image").click();
    await page.locator("#image-url").fill(URL);
    expect(await page.locator("#image-name").inputValue()).toBe("small");
    await page.locator("#image-checksum").fill(checksum);
    await page.locator("#image-name").fill(name);
    await page.locator("#image-size").fill("1");
  };
  await desk.at("/images");
  await create("wrong", "0".repeat(64));
  await desk.accessible();
  await desk.agree("Create");
  await desk.row(/wrong default .*(checksum|SHA-256)/);
  await desk.accessible();
  await create("small", SHA256);
  await desk.agree("Create");
  await desk.row(/small default Disk image Ready/);
  await desk.becomes(`${IMAGES}/small`, {
    metadata: { labels: { "console.sheaf.dev/image": "disk" } },
    status: { phase: "Succeeded" },
  });
  await desk.choose("default/wrong", "Delete");
  await desk.dialog.getByRole("textbox").fill("wrong");
  await desk.agree("Delete");
  await desk.gone(/wrong default/);
  await desk.vanishes(`${IMAGES}/wrong`);
});

test("a network is a bridge that is picked and a number; a bridge without VLANs takes none", async () => {
  const { desk } = on;
  const { page } = desk;
  const networks = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions";
  await desk.at("/networks");
  await desk.button("Create network").click();
  await page.locator("#network-name").fill("lan100");
  await desk.select("network-bridge", "br0");
  await page.locator("#network-vlans").fill("100");
  await desk.agree("Create");
  await desk.says("VLANs need a bridge that filters them on every node");
  await desk.select("network-bridge", "br1");
  await desk.accessible();
  await desk.agree("Create");
  await desk.row(/lan100 default br1 VLAN 100 every project/);
  await desk.accessible();
  const config = JSON.stringify({ cniVersion: "0.3.1", type: "bridge", bridge: "br1", vlan: 100 });
  await desk.becomes(`${networks}/lan100`, { spec: { config } });

  // A name that is taken is refused at its entry, by the server.
  await desk.button("Create network").click();
  await page.locator("#network-name").fill("lan100");
  await desk.select("network-bridge", "br1");
  await page.locator("#network-tagging").selectOption("trunk");
  await page.locator("#network-vlans").fill("10, 200-209");
  await desk.agree("Create");
  await desk.says(/already exists/);
  await page.locator("#network-name").fill("trunk");
  await desk.select("network-project", "shop");
  await page.locator("#network-shared").check();
  await desk.agree("Create");
  await desk.row(/trunk shop br1 VLANs 10, 200–209, tagged by the guest every project/);

  await desk.button("Create network").click();
  await page.locator("#network-name").fill("spare");
  await desk.select("network-bridge", "br1");
  await page.locator("#network-tagging").selectOption("untagged");
  await desk.agree("Create");
  await desk.row(/spare default br1 untagged/);
  await desk.choose("network spare", "Delete");
  await desk.accessible();
  await desk.agree("Delete");
  await desk.gone(/spare default/);
  await desk.vanishes(`${networks}/spare`);
});

test("a change of links is refused by each node with the reason, changed in its YAML, waits on the first node, and is deleted", async () => {
  const { desk } = on;
  const { page } = desk;
  await desk.at("/policies");
  await desk.text("Nodes have the links of their node.toml");
  await desk.accessible();
  await desk.button("Change links").click();
  await page.locator("#policy-name").fill("storage");
  await page.locator("#policy-kind").selectOption("bridge");
  await page.locator("#policy-link").fill("br5");
  await page.locator("#policy-ports").fill("eth0");
  await desk.accessible();
  await desk.agree("Start the change");
  await desk.heading("storage");
  await desk.heading(/fleet-0000: refused/);
  await desk.text(/\(eth0\) is a port of bridge br0 \(node\.toml\), so it cannot be one of bridge br5/);
  await desk.accessible();

  await desk.button("YAML").click();
  const area = page.getByRole("textbox", { name: "YAML of change storage" });
  await expect.poll(() => area.inputValue(), { timeout: PATIENT }).toContain("eth0");
  await desk.accessible();
  await area.fill((await area.inputValue()).replace("eth0", "eth1"));
  await desk.agree("Save");
  await expect.poll(() => area.inputValue(), { timeout: PATIENT }).toContain("eth1");
  await page.keyboard.press("Escape");
  await desk.row(/fleet-0000 .*the API server does not answer, so nothing is changed now/);
  await desk.row(/fleet-0001 .*waiting for its turn/);
  await desk.accessible();
  const states = async () => {
    const all = await desk.read<List<NodeNetworkEnactment>>(`${SHEAF}/nodenetworkenactments`);
    return all.items.map(({ spec, status }) => [spec.policy, status?.phase]);
  };
  expect(await states()).toEqual(Array(3).fill(["storage", "Pending"]));
  await desk.button("Delete").click();
  await desk.accessible();
  await desk.agree("Delete");
  await desk.text("Nodes have the links of their node.toml");
  await desk.vanishes(`${SHEAF}/nodenetworkpolicies/storage`);
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(on.wrong()).toEqual([]);
});
