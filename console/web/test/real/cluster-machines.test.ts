/**
 * The pages on a real control plane: machines, from the first entry to what is lost with them. `tests/tests/console_pages.rs` starts the
 * control plane and this, after `cluster-storage.test.ts`.
 *
 * Why here: a machine is what the API server, sheaf-controller, the scheduler and an agent make of what a page wrote. Nodes run machines as
 * domains in memory that obey the power button: a machine starts, has disks and NICs added, stops and goes, and nobody is in it. Route in: `anna`
 * and `bob`, pools, an image, two networks. Route out: each object as it must be afterwards; no machine is left but `till` of bob's.
 */
import { expect, test } from "vitest";
import { PATIENT } from "../browser.ts";
import type { VirtualMachineInstance } from "../../src/types/crds.ts";
import type { List, Thing } from "../../src/types/meta.ts";
import { type Desk, given, ground } from "./ground.ts";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";
const KUBEVIRT = "/apis/kubevirt.io/v1/namespaces/default";
const WEB = `${KUBEVIRT}/virtualmachines/web`;
const INSTANCE = `${KUBEVIRT}/virtualmachineinstances/web`;
const DISKS = "/apis/cdi.kubevirt.io/v1beta1/namespaces/default/datavolumes";

const on = ground();

/** The five entries of a new machine; of the project's image there is one. */
async function fill(desk: Desk, name: string, project: string, image: string, network: string): Promise<void> {
  const { page } = desk;
  await page.locator("#name").fill(name);
  await desk.select("project", project);
  await desk.select("image", image);
  await page.locator("#disk").fill("1");
  await desk.select("size", "u1.nano");
  await page.locator("#key").fill(KEY);
  await desk.select("network", network);
}

/** Which run of the machine it is. */
const run = async () => (await on.desk.read<VirtualMachineInstance>(INSTANCE).catch(() => undefined))?.metadata.uid;

test("a machine is created from an image, with a size, a key and a network, and runs where its image is", async () => {
  const { desk } = on;
  await desk.logIn("anna");
  await desk.at("/machines");
  await desk.text("No machines yet");
  await desk.page.getByRole("link", { name: "Create machine" }).first().click();
  await desk.heading("Create machine");
  await fill(desk, "web", "default", "small", "default/lan100");
  await desk.accessible();
  await desk.button("Create and start").click();
  await desk.heading("web");
  await desk.page.getByText("Running", { exact: true }).first().waitFor();
  await desk.accessible();
  await desk.becomes(WEB, {
    spec: {
      runStrategy: "Always",
      instancetype: { name: "u1.nano" },
      template: { spec: { networks: [{ multus: { networkName: "default/lan100" } }] } },
    },
    status: { printableStatus: "Running" },
  });
  await desk.becomes(INSTANCE, { status: { phase: "Running", nodeName: "fleet-0000" } });
  await desk.text("Created with the SSH keys ssh-ed25519 me@desk.");
  await desk.at("/machines/default/web/events");
  await desk.row(/Normal (Started|Created|SuccessfulCreate)/);
  await desk.accessible();
  await desk.at("/");
  await desk.page
    .getByText("default/web")
    .or(desk.page.getByRole("link", { name: "web" }))
    .first()
    .waitFor();
  await desk.accessible();
});

test("a name that is taken is refused at its entry", async () => {
  const { desk } = on;
  await desk.at("/create");
  await fill(desk, "web", "default", "small", "masquerade");
  await desk.button("Create and start").click();
  await desk.text("There is a machine of this name in the project.");
  await desk.accessible();
});

test("a machine is shut down, started, restarted and powered off, and its state follows without reload", async () => {
  const { desk } = on;
  await desk.at("/machines");
  await desk.row(/web default Running fleet-0000/);
  await desk.accessible();
  await desk.choose("default/web", "Shut down");
  await desk.row(/web default Stopped/);
  await desk.becomes(WEB, { spec: { runStrategy: "Halted" }, status: { printableStatus: "Stopped" } });
  await desk.vanishes(INSTANCE);
  await desk.choose("default/web", "Start");
  await desk.row(/web default Running fleet-0000/);
  const first = await run();
  await desk.at("/machines/default/web");
  await desk.button("Restart").click();
  await expect.poll(run, { timeout: PATIENT, interval: 500 }).not.toBe(first);
  await desk.becomes(INSTANCE, { status: { phase: "Running" } });
  await desk.button("Shut down").waitFor();
  await desk.choose("default/web", "Power off");
  await desk.dialog.getByText("what it has not written to its disks is lost").waitFor();
  await desk.accessible();
  await desk.agree("Power off");
  await desk.page.getByText("Stopped", { exact: true }).first().waitFor();
  await desk.button("Start").click();
  await desk.page.getByText("Running", { exact: true }).first().waitFor();
});

test("YAML is refused by the server with the line, and saved when it is right", async () => {
  const { desk } = on;
  await desk.at("/machines/default/web/yaml");
  const area = desk.page.getByLabel("YAML of machine web");
  await area.waitFor();
  await expect.poll(() => area.inputValue(), { timeout: PATIENT }).toContain("runStrategy:");
  const whole = await area.inputValue();
  const selected = () =>
    area.evaluate((one) => {
      const { value, selectionStart, selectionEnd } = one as HTMLTextAreaElement;
      return value.slice(selectionStart, selectionEnd);
    });
  await area.fill(whole.replace(/runStrategy: \w+/, "runStrategy: Sometimes"));
  await desk.button("Save").click();
  await desk.text(/spec\.runStrategy: .*"Sometimes"/);
  await desk.accessible();
  await desk.button(/^Line \d+$/).click();
  expect(await selected()).toBe("  runStrategy: Sometimes");
  await area.fill(`${whole}\nspec: {}`);
  await desk.button("Save").click();
  await desk.text("The text is not YAML");
  await area.fill(whole.replace("spec:\n", "spec:\n  colour: red\n"));
  await desk.button("Save").click();
  await desk.text(/unknown field "spec\.colour"/);
  await area.fill(whole.replace("metadata:\n", "metadata:\n  labels:\n    tier: front\n"));
  await desk.button("Save").click();
  await desk.text("Change machine web");
  await desk.becomes(WEB, { metadata: { labels: { tier: "front" } } });
});

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
  await desk.dialog.getByText("More than the 1 GiB that it has: a disk cannot shrink.").waitFor();
  await page.locator("#grow-size").fill("2");
  await desk.accessible();
  await desk.agree("Grow");
  await desk.becomes("/api/v1/namespaces/default/persistentvolumeclaims/web-data", {
    status: { capacity: { storage: "2Gi" } },
  });
  await desk.choose("data", "Remove");
  await desk.dialog.getByText("Disk web-data stays with what is on it, and can be added again.").waitFor();
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
  await desk.dialog.getByText("Connections through it end.").waitFor();
  await desk.agree("Remove");
  await desk.row(/trunk shop\/trunk .*Removed/);
  await desk.choose("trunk", "Remove");
  await desk.agree("Remove");
  await desk.gone(/trunk shop\/trunk/);
});

test("another size waits for the next restart, and the machine says so", async () => {
  const { desk } = on;
  await desk.at("/machines/default/web");
  await desk.choose("default/web", "Change size");
  await desk.select("resize-size", "u1.micro");
  await desk.accessible();
  await desk.agree("Change size");
  await desk.text("A change takes effect after the next restart");
  await desk.accessible();
  await desk.becomes(WEB, { spec: { instancetype: { name: "u1.micro" } } });
  const first = await run();
  await desk.button("Restart").click();
  await expect.poll(run, { timeout: PATIENT, interval: 500 }).not.toBe(first);
  await desk.page.getByText("A change takes effect after the next restart").waitFor({ state: "detached" });
  await desk.becomes(INSTANCE, { status: { phase: "Running" }, spec: { domain: { memory: { guest: "1Gi" } } } });
});

test("keys and a password are added in Secrets that nobody reads here, and one is removed", async () => {
  const { desk } = on;
  const { page } = desk;
  await desk.at("/machines/default/web");
  await desk.button("Add SSH keys").click();
  await page.locator("#key-text").fill(KEY);
  await page.locator("#key-user").fill("admin");
  await desk.accessible();
  await desk.agree("Add");
  await desk.row(/SSH keys of admin/);
  await desk.button("Set a password").click();
  await page.locator("#password-user").fill("root");
  await page.locator("#password-new").fill("a password of twelve");
  await page.locator("#password-new-again").fill("a password of twelve");
  await desk.accessible();
  await desk.agree("Set");
  await desk.row(/Passwords By the guest's agent/);
  await desk.accessible();
  const vm = await desk.read<{ spec: { template: { spec: { accessCredentials: object[] } } } }>(WEB);
  expect(vm.spec.template.spec.accessCredentials).toMatchObject([
    { sshPublicKey: { propagationMethod: { qemuGuestAgent: { users: ["admin"] } } } },
    { userPassword: {} },
  ]);
  expect(await desk.status("/api/api/v1/namespaces/default/secrets")).toBe(404);
  await desk.page
    .getByRole("row", { name: /Passwords/ })
    .getByRole("button")
    .click();
  await page.getByRole("menuitem", { name: "Remove" }).click();
  await desk.agree("Remove");
  await desk.gone(/Passwords By the guest's agent/);
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

  await desk.choose("default/web", "Clone");
  await page.locator("#clone-name").fill("twin");
  await desk.accessible();
  await desk.agree("Clone");
  await desk.dialog.getByText("Machine twin is there").waitFor();
  await desk.accessible();
  await desk.agree("Open twin");
  await desk.heading("twin");
  await desk.becomes(`${KUBEVIRT}/virtualmachines/twin`, { spec: { instancetype: { name: "u1.micro" } } });

  await desk.at("/machines/default/web/snapshots");
  await desk.choose(name, "Restore");
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
    await desk.dialog.getByText(/was created with the machine and is deleted with it/).waitFor();
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
  await bob.dialog
    .getByText(/cannot create resource "datavolumes".* in the namespace "default"/)
    .first()
    .waitFor();
  await bob.accessible();
  await bob.select("image-project", "shop");
  await bob.agree("Create");
  await bob.row(/small shop Disk image Ready/);
  await bob.at("/create");
  await fill(bob, "till", "shop", "small", "masquerade");
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
