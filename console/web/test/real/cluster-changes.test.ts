/**
 * The pages on a real control plane: disks, NICs, snapshots and copies of a machine, its end, and the machine of a user of one project.
 * `tests/tests/console_pages.rs` starts the control plane and this, after `cluster-machines.test.ts`.
 *
 * Why here: what comes and goes while a machine runs is agreed upon by the API server, sheaf-controller and an agent. Disks and NICs are added to
 * a domain in memory; nobody is in it who would refuse to release them. A node serves no downloads here: an export is asked for, and
 * ended. Route in: `anna`, `bob`, the machine `web`, the network `trunk`. Route out: no machine is left but bob's `till` of shop.
 */
import { expect, test } from "vitest";
import { PATIENT } from "../browser.ts";
import type { VirtualMachineInstance } from "../../src/types/crds.ts";
import type { List, Thing } from "../../src/types/meta.ts";
import { given, ground } from "./ground.ts";

const KUBEVIRT = "/apis/kubevirt.io/v1/namespaces/default";
const WEB = `${KUBEVIRT}/virtualmachines/web`;
const INSTANCE = `${KUBEVIRT}/virtualmachineinstances/web`;
const DISKS = "/apis/cdi.kubevirt.io/v1beta1/namespaces/default/datavolumes";

const on = ground("anna");

/** Which run of the machine it is. */
const run = async () => (await on.desk.read<VirtualMachineInstance>(INSTANCE).catch(() => undefined))?.metadata.uid;

test("a disk is added to a machine that runs, grows, is removed and stays, and is deleted by its name", async () => {
  const { desk } = on;
  const { page } = desk;
  await desk.at("/machines/default/web/disks");
  await desk.row(/root Disk \(virtio\) web-root/);
  await desk.button("Add disk").click();
  await page.locator("#disk-name").fill("data");
  await page.locator("#disk-size").fill("1");
  await desk.accessible();
  await desk.agree("Add");
  await desk.row(/data Disk \(scsi\) web-data 1 GiB sda Ready/);
  await desk.accessible();
  await desk.becomes(`${DISKS}/web-data`, { status: { phase: "Succeeded" } });
  await desk.choose("data", "Grow");
  await page.locator("#grow-size").fill("1");
  await desk.agree("Grow");
  await desk.says("More than the 1 GiB that it has: a disk cannot shrink.");
  await page.locator("#grow-size").fill("2");
  await desk.accessible();
  await desk.agree("Grow");
  await desk.becomes("/api/v1/namespaces/default/persistentvolumeclaims/web-data", {
    status: { capacity: { storage: "2Gi" } },
  });
  await desk.choose("data", "Remove");
  await desk.says("Disk web-data stays with what is on it, and can be added again.");
  await desk.agree("Remove");
  await desk.row(/^web-data created empty/);
  await desk.accessible();
  await desk.choose("web-data", "Add to web");
  await page.locator("#disk-name").fill("again");
  await desk.agree("Add");
  await desk.row(/again Disk \(scsi\) web-data .*Ready/);
  await desk.choose("again", "Remove");
  await desk.agree("Remove");
  await desk.choose("web-data", "Delete");
  await desk.dialog.getByRole("textbox").fill("web-data");
  await desk.accessible();
  await desk.agree("Delete");
  await desk.gone(/^web-data /);
  await desk.vanishes(`${DISKS}/web-data`);
});

test("a NIC is added, its cable is pulled, and it is removed", async () => {
  const { desk } = on;
  const nic = (more: object) => ({
    spec: { template: { spec: { domain: { devices: { interfaces: [{ name: "default" }, more] } } } } },
  });
  await desk.at("/machines/default/web/networks");
  await desk.button("Add NIC").click();
  await desk.select("nic-network", "shop/trunk");
  await desk.accessible();
  await desk.agree("Add");
  await desk.row(/trunk shop\/trunk .*Up/);
  await desk.accessible();
  await desk.choose("trunk", "Disconnect");
  await desk.row(/trunk shop\/trunk .*Down/);
  await desk.becomes(WEB, nic({ name: "trunk", state: "down" }));
  await desk.choose("trunk", "Connect");
  await desk.row(/trunk shop\/trunk .*Up/);
  await desk.choose("trunk", "Remove");
  await desk.says("Connections through it end.");
  await desk.agree("Remove");
  await desk.row(/trunk shop\/trunk .*Removed/);
  await desk.choose("trunk", "Remove");
  await desk.agree("Remove");
  await desk.gone(/trunk shop\/trunk/);
});

test("a snapshot is taken, its disks are asked for, the machine is cloned and goes back to it", async () => {
  const { desk } = on;
  const { page } = desk;
  const snapshots = "/apis/snapshot.kubevirt.io/v1beta1/namespaces/default";
  await desk.at("/machines/default/web/snapshots");
  await desk.accessible();
  await desk.button("Take snapshot").click();
  const taken = page.getByRole("row", { name: /^web-[0-9-]+ .*Ready/ });
  await taken.waitFor();
  await desk.accessible();
  const name = (await taken.textContent())?.match(/web-[0-9]{8}-[0-9]{6}/)?.[0] ?? "";
  await desk.becomes(`${snapshots}/virtualmachinesnapshots/${name}`, {
    status: { readyToUse: true, snapshotVolumes: { includedVolumes: ["root"] } },
  });

  const exports = "/apis/export.kubevirt.io/v1beta1/namespaces/default/virtualmachineexports";
  await desk.choose(name, "Download disks");
  await desk.dialog.getByRole("button", { name: "End downloads" }).waitFor();
  await desk.accessible();
  const made = await desk.read<List<Thing>>(exports);
  expect(made.items).toMatchObject([{ spec: { source: { kind: "VirtualMachineSnapshot", name } } }]);
  await desk.agree("End downloads");
  await desk.vanishes(`${exports}/${made.items[0]?.metadata.name}`);

  await desk.choose("default/web", "Download disks");
  await desk.says("The machine runs");
  await desk.accessible();
  await desk.dialog.getByRole("button", { name: "Close", exact: true }).last().click();

  await desk.choose("default/web", "Clone");
  await page.locator("#clone-name").fill("twin");
  await desk.accessible();
  await desk.agree("Clone");
  await desk.says("Machine twin is there");
  await desk.accessible();
  await desk.agree("Open twin");
  await desk.heading("twin");
  await desk.becomes(`${KUBEVIRT}/virtualmachines/twin`, { spec: { instancetype: { name: "u1.micro" } } });

  await desk.at("/machines/default/web/snapshots");
  await desk.choose(name, "Restore");
  await desk.says("stays stopped: start it when the restore is complete.");
  await desk.dialog.getByRole("textbox").fill("web");
  await desk.accessible();
  const first = await run();
  await desk.agree("Restore");
  const complete = async () => {
    const all = await desk.read<List<Thing & { status?: { complete?: boolean } }>>(
      `${snapshots}/virtualmachinerestores`,
    );
    return all.items.map((one) => one.status?.complete);
  };
  await expect.poll(complete, { timeout: PATIENT, interval: 500 }).toEqual([true]);
  // It was stopped for it, and is started by who wants it to run.
  await desk.becomes(WEB, { spec: { runStrategy: "Halted" }, status: { printableStatus: "Stopped" } });
  await desk.button("Start").click();
  await expect.poll(run, { timeout: PATIENT, interval: 500 }).not.toBe(first);
  await desk.becomes(INSTANCE, { status: { phase: "Running" } });
  await desk.choose(name, "Delete");
  await desk.agree("Delete");
  await desk.vanishes(`${snapshots}/virtualmachinesnapshots/${name}`);
});

test("a deletion names what is lost, wants the machine's name, and leaves nothing of it", async () => {
  const { desk } = on;
  for (const name of ["twin", "web"]) {
    await desk.at(`/machines/default/${name}`);
    await desk.choose(`default/${name}`, "Delete");
    await desk.says(/was created with the machine and is deleted with it/);
    const sure = desk.dialog.getByRole("button", { name: "Delete", exact: true });
    expect(await sure.isDisabled()).toBe(true);
    await desk.dialog.getByRole("textbox").fill(name);
    await desk.accessible();
    await sure.click();
    await desk.heading("Machines");
    await desk.vanishes(`${KUBEVIRT}/virtualmachines/${name}`);
  }
  const left = async () => (await desk.read<List<Thing>>(DISKS)).items.map(({ metadata }) => metadata.name);
  await expect.poll(left, { timeout: PATIENT, interval: 500 }).toEqual(["small"]);
});

test("who operates one project has his own image and machine there, and nothing of another one", async () => {
  const bob = await on.visitor();
  await bob.logIn("bob");
  await bob.at("/images");
  await bob.text("No images yet");
  await bob.button("Create image").click();
  await bob.page.locator("#image-url").fill(given("SHEAF_IMAGE_URL"));
  await bob.page.locator("#image-checksum").fill(given("SHEAF_IMAGE_SHA256"));
  await bob.page.locator("#image-size").fill("1");
  await bob.agree("Create");
  await bob.says(/cannot create resource "datavolumes".* in the namespace "default"/);
  await bob.accessible();
  await bob.select("image-project", "shop");
  await bob.agree("Create");
  await bob.row(/small shop Disk image Ready/);
  await bob.at("/create");
  await bob.enter({ name: "till", project: "shop", image: "small", network: "masquerade" });
  await bob.button("Create and start").click();
  await bob.heading("till");
  await bob.page.getByText("Running", { exact: true }).first().waitFor();
  await bob.accessible();
  await bob.at("/machines");
  await bob.row(/till shop Running/);
  await bob.at("/machines/default/web");
  await bob.text("Machine default/web");
  await on.desk.at("/machines");
  await on.desk.row(/till shop Running/);
  expect(await bob.status(`/api${KUBEVIRT}/virtualmachines`)).toBe(403);
});

test("no page did anything that its policy forbids, or threw", () => {
  expect(on.wrong()).toEqual([]);
});
