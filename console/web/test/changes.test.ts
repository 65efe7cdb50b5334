/** Uploads, and what is changed of a machine: each task once, what the server was asked, and what is shown when it refuses. */
import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import type { Thing } from "../src/types/meta.ts";
import { accessible } from "./browser.ts";
import { ground } from "./ground.ts";
import { machine } from "./objects.ts";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";
const WEB = "/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/web-1";
const ACTS = "/apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachines/web-1";
const DISKS = "/apis/cdi.kubevirt.io/v1beta1/namespaces/shop/datavolumes";

const on = ground();
const { at, asked } = on;

/** Opens the dialog of an act of a row or a page. */
async function choose(page: Page, of: string, act: string): Promise<void> {
  await page.getByRole("button", { name: `Actions of ${of}`, exact: true }).click();
  await page.getByRole("menuitem", { name: act, exact: true }).click();
}

const button = (page: Page, name: string) => page.getByRole("dialog").getByRole("button", { name, exact: true });

/** Chooses a file of the name in the dialog of an upload. */
const file = (page: Page, name: string, bytes: Buffer) =>
  page.locator("input[type=file]").setInputFiles({ name, mimeType: "application/octet-stream", buffer: bytes });

/** The disk of the image takes bytes, as its node reports. */
function ready(name: string): void {
  const image = on.server.objects.get("datavolumes")?.find((one) => one.metadata.name === name);
  on.server.set("datavolumes", { ...image, status: { phase: "UploadReady", progress: "N/A" } } as unknown as Thing);
}

test("an image is uploaded with progress while other pages are looked at", async () => {
  const page = await at("#/images");
  await page.getByRole("button", { name: "Upload an image" }).click();
  const qcow2 = Buffer.alloc(8 << 20);
  qcow2.write("QFI\xfb", "latin1");
  qcow2.writeUInt32BE(3, 4);
  qcow2.writeBigUInt64BE(6n << 30n, 24);
  await file(page, "Debian_13.qcow2", qcow2);
  await page.getByText("8 MiB, qcow2.").waitFor();
  expect(await page.locator("#upload-name").inputValue()).toBe("debian-13");
  expect(await page.locator("#upload-size").inputValue()).toBe("6");
  await page.locator("#upload-name").fill("mine");
  await page.locator("#upload-project").selectOption("shop");
  await accessible(page);
  let release = () => {};
  on.server.holdUpload = new Promise((then) => (release = then));
  await button(page, "Upload").click();
  expect((await asked())[0]).toMatchObject({
    method: "POST",
    path: DISKS,
    body: { metadata: { name: "mine" }, spec: { source: { upload: {} } } },
  });
  await page.getByText("Waits for its disk").waitFor();
  ready("mine");
  await page.getByText(/ of 8 MiB|Sent; the node fills the disk/).waitFor();
  await accessible(page);
  await page.goto(`${on.server.url}#/machines`);
  await page.getByRole("row", { name: /web-1/ }).waitFor();
  await page.goto(`${on.server.url}#/images`);
  await page.getByText(/ of 8 MiB|Sent; the node fills the disk/).waitFor();
  release();
  await page.getByText("Upload image mine").waitFor();
  await page.getByRole("row", { name: /mine shop .*Ready/ }).waitFor();
  expect((await asked(2))[1]).toEqual({
    method: "POST",
    path: "/console/upload/shop/mine",
    body: { bytes: 8 << 20, length: 8 << 20 },
  });
});

test("a file that is no image is refused before it is sent, and one that the node refuses after; a cancelled one is deleted", async () => {
  const page = await at("#/images");
  await page.getByRole("button", { name: "Upload an image" }).click();
  await file(page, "disk.vmdk", Buffer.from("KDMV and more"));
  await page.getByText("This is a VMDK image. Convert it, for example with qemu-img convert -O qcow2.").waitFor();
  await button(page, "Upload").click();
  expect(on.server.asked).toEqual([]);
  await file(page, "disk.img", Buffer.alloc(1 << 20));
  await page.getByText("1 MiB, raw.").waitFor();
  await page.locator("#upload-project").selectOption("shop");
  await button(page, "Upload").click();
  await asked();
  on.server.refuse = { code: 422, reason: "Invalid", message: "the image is larger than the volume" };
  ready("disk");
  await page
    .getByText(
      "the image is larger than the volume. Send it or another file again, or delete the image and create it larger.",
    )
    .waitFor();
  await choose(page, "shop/disk", "Delete");
  await button(page, "Cancel upload").click();
  await page.getByRole("row", { name: /disk shop/ }).waitFor({ state: "detached" });
  expect(on.server.asked.at(-1)).toMatchObject({ method: "DELETE", path: `${DISKS}/disk` });
});

test("a disk is added to a machine that runs, and nothing stays of one that is refused", async () => {
  const page = await at("#/machines/shop/web-1/disks");
  await page.getByRole("button", { name: "Add disk" }).click();
  await page.locator("#disk-name").fill("root");
  await button(page, "Add").click();
  await page.getByText("The machine has root already.").waitFor();
  await page.locator("#disk-name").fill("data");
  await accessible(page);
  await button(page, "Add").click();
  const [made, added] = await asked(2);
  expect(made).toMatchObject({ method: "POST", path: DISKS, body: { metadata: { name: "web-1-data" } } });
  expect(added).toMatchObject({
    method: "PUT",
    path: `${ACTS}/addvolume`,
    body: { name: "data", volumeSource: { dataVolume: { name: "web-1-data", hotpluggable: true } } },
  });
  await page.getByRole("button", { name: "Add disk", exact: true }).click();
  await page.locator("#disk-name").fill("more");
  on.server.refuse = { code: 409, reason: "Conflict", message: "the machine was changed", at: "/addvolume" };
  await button(page, "Add").click();
  await page.getByText("the machine was changed").waitFor();
  expect((await asked(5)).slice(2).map(({ method, path }) => `${method} ${path}`)).toEqual([
    `POST ${DISKS}`,
    `PUT ${ACTS}/addvolume`,
    `DELETE ${DISKS}/web-1-more`,
  ]);
});

test("a disk that was added is removed and stays, and a disk that no machine has is added or deleted by its name", async () => {
  const [vm] = machine({ project: "shop", name: "web-1", status: "Running", node: "node-1" });
  vm.spec.template.spec.volumes?.push({ name: "data", dataVolume: { name: "web-1-data", hotpluggable: true } });
  on.server.set("virtualmachines", vm);
  const disk = { apiVersion: "cdi.kubevirt.io/v1beta1", kind: "DataVolume", status: { phase: "Succeeded" } };
  const storage = { resources: { requests: { storage: "5Gi" } } };
  const free = { ...disk, metadata: { name: "old", namespace: "shop" }, spec: { source: { blank: {} }, storage } };
  on.server.set("datavolumes", free as Thing);
  const page = await at("#/machines/shop/web-1/disks");
  await choose(page, "data", "Remove");
  await page.getByText("Disk web-1-data stays with what is on it, and can be added again.").waitFor();
  await button(page, "Remove").click();
  expect((await asked())[0]).toMatchObject({ path: `${ACTS}/removevolume`, body: { name: "data" } });
  await choose(page, "old", "Add to web-1");
  await button(page, "Add").click();
  expect((await asked(2))[1]).toMatchObject({ path: `${ACTS}/addvolume`, body: { name: "old" } });
  await choose(page, "old", "Delete");
  await page.getByRole("dialog").getByRole("textbox").fill("old");
  await button(page, "Delete").click();
  expect((await asked(3))[2]).toMatchObject({ method: "DELETE", path: `${DISKS}/old` });
});

test("a disk grows and does not shrink", async () => {
  const claim = { metadata: { name: "web-1-root", namespace: "shop" }, status: { capacity: { storage: "20Gi" } } };
  on.server.objects.set("persistentvolumeclaims", [claim as Thing]);
  const page = await at("#/machines/shop/web-1/disks");
  await choose(page, "root", "Grow");
  await page.locator("#grow-size").fill("20");
  await button(page, "Grow").click();
  await page.getByText("More than the 20 GiB that it has: a disk cannot shrink.").waitFor();
  await page.locator("#grow-size").fill("40");
  await button(page, "Grow").click();
  expect((await asked())[0]).toMatchObject({
    method: "PATCH",
    path: "/api/v1/namespaces/shop/persistentvolumeclaims/web-1-root",
    body: { spec: { resources: { requests: { storage: "40Gi" } } } },
  });
});

test("an ISO is inserted as a copy, which is deleted when it is ejected", async () => {
  const [vm] = machine({ project: "shop", name: "web-1", status: "Running", node: "node-1" });
  vm.spec.template.spec.domain.devices.disks?.push({ name: "cd", cdrom: { bus: "sata" } });
  on.server.set("virtualmachines", vm);
  const iso = on.server.objects.get("datavolumes")?.find((one) => one.metadata.name === "debian-iso");
  const metadata = { ...iso?.metadata, namespace: "shop", name: "debian-iso" };
  on.server.set("datavolumes", { ...iso, metadata, status: { phase: "Succeeded" } } as unknown as Thing);
  const page = await at("#/machines/shop/web-1/disks");
  await choose(page, "cd", "Insert");
  await page.locator("#insert-iso").selectOption("debian-iso");
  await accessible(page);
  await button(page, "Insert").click();
  const [copy, added] = await asked(2);
  const name = (copy?.body as Thing).metadata.name;
  expect(copy).toMatchObject({
    method: "POST",
    path: DISKS,
    body: { spec: { source: { pvc: { name: "debian-iso" } } } },
  });
  expect(added).toMatchObject({ path: `${ACTS}/addvolume`, body: { name: "cd" } });
  vm.spec.template.spec.volumes?.push({ name: "cd", dataVolume: { name, hotpluggable: true } });
  on.server.set("virtualmachines", vm);
  await page.getByRole("row", { name: new RegExp(`cd CD-ROM .*${name}`) }).waitFor();
  await choose(page, "cd", "Eject");
  await page.getByText("The copy is deleted; the image stays.").waitFor();
  await button(page, "Eject").click();
  const [, , removed, deleted] = await asked(4);
  expect(removed).toMatchObject({ path: `${ACTS}/removevolume`, body: { name: "cd" } });
  expect(deleted).toMatchObject({ method: "DELETE", path: `${DISKS}/${name}` });
});

test("a NIC is added, its cable is pulled, and it is removed", async () => {
  const page = await at("#/machines/shop/web-1/networks");
  await page.getByRole("button", { name: "Add NIC" }).click();
  await page.locator("#nic-network").selectOption("default/lan100");
  await accessible(page);
  await button(page, "Add").click();
  const nics = (index: number) => ({
    method: "PATCH",
    path: WEB,
    body: {
      spec: {
        template: {
          spec: {
            domain: {
              devices: { interfaces: [{ name: "default" }, [{}, { state: "down" }, { state: "absent" }][index]] },
            },
          },
        },
      },
    },
  });
  expect((await asked())[0]).toMatchObject(nics(0));
  await page.getByRole("row", { name: /lan100 default\/lan100/ }).waitFor();
  await choose(page, "lan100", "Disconnect");
  expect((await asked(2))[1]).toMatchObject(nics(1));
  await page.getByRole("button", { name: "Actions of lan100", exact: true }).click();
  await page.getByRole("menuitem", { name: "Connect", exact: true }).waitFor();
  await page.getByRole("menuitem", { name: "Remove", exact: true }).click();
  await button(page, "Remove").click();
  expect((await asked(3))[2]).toMatchObject(nics(2));
});

test("another size says when it takes effect, and the machine says that it waits for a restart", async () => {
  const page = await at("#/machines/shop/web-1");
  await choose(page, "shop/web-1", "Change size");
  await page.getByText("It takes effect after the next restart.").waitFor();
  await page.locator("#resize-size").selectOption("u1.large");
  await button(page, "Change size").click();
  expect((await asked())[0]).toMatchObject({
    method: "PATCH",
    path: WEB,
    body: { spec: { instancetype: { name: "u1.large" } } },
  });
  const [vm] = machine({ project: "shop", name: "web-1", status: "Running", node: "node-1", size: "u1.large" });
  const message = "spec.template.spec.domain.cpu.sockets takes effect at the next start";
  vm.status?.conditions?.push({ type: "RestartRequired", status: "True", reason: "", message });
  on.server.set("virtualmachines", vm);
  await page.getByText("A change takes effect after the next restart").waitFor();
  await page.getByText(message).first().waitFor();
  await accessible(page);
});

test("a machine is cloned, and the clone is opened when it is there", async () => {
  const page = await at("#/machines/shop/web-1");
  await choose(page, "shop/web-1", "Clone");
  await page.locator("#clone-name").fill("db");
  await button(page, "Clone").click();
  await page.getByText("Project shop has a machine db already.").waitFor();
  await page.locator("#clone-name").fill("twin");
  await button(page, "Clone").click();
  const [made] = await asked();
  expect(made).toMatchObject({
    body: { kind: "VirtualMachineClone", spec: { source: { name: "web-1" }, target: { name: "twin" } } },
  });
  await page.getByText("It is waiting.").waitFor();
  const [vm] = machine({ project: "shop", name: "twin", status: "Stopped" });
  on.server.set("virtualmachines", vm);
  on.server.set("virtualmachineclones", { ...(made?.body as Thing), status: { phase: "Succeeded" } } as Thing);
  await button(page, "Open twin").click();
  await page.getByRole("heading", { name: "twin" }).waitFor();
});

test("disks of a snapshot are downloaded once they are ready, and those of a machine that runs are not", async () => {
  const page = await at("#/machines/shop/db");
  await choose(page, "shop/db", "Download disks");
  await page.getByText("The machine runs").first().waitFor();
  await button(page, "Close").first().click();
  await page.goto(`${on.server.url}#/machines/shop/db/snapshots`);
  await choose(page, "db-20261129-220000", "Download disks");
  const [made] = await asked();
  expect(made).toMatchObject({ body: { spec: { source: { kind: "VirtualMachineSnapshot" } } } });
  const body = made?.body as Thing;
  const conditions = [{ type: "Ready", status: "False", message: "a volume is being prepared" }];
  on.server.set("virtualmachineexports", { ...body, status: { phase: "Pending", conditions } } as Thing);
  await page.getByText("a volume is being prepared").waitFor();
  const links = { external: { cert: "", volumes: [{ name: "db-root" }] } };
  on.server.set("virtualmachineexports", { ...body, status: { phase: "Ready", links } } as Thing);
  const link = page.getByRole("link", { name: "Download db-root, packed by gzip" });
  await link.waitFor();
  expect(await link.getAttribute("href")).toBe(`/console/download/shop/${body.metadata.name}/db-root/disk.img.gz`);
  await accessible(page);
  await button(page, "End downloads").click();
  expect((await asked(2))[1]).toMatchObject({ method: "DELETE" });
});

test("a key is added to a machine by its guest's agent, in a Secret that nobody reads here", async () => {
  const page = await at("#/machines/shop/web-1");
  await page.getByRole("button", { name: "Add SSH keys" }).click();
  await page.locator("#key-text").fill("no key");
  await button(page, "Add").click();
  await page.getByText("This is not a public SSH key: no key…").waitFor();
  await page.getByText("A user of the guest, such as admin.").waitFor();
  await page.locator("#key-text").fill(KEY);
  await page.locator("#key-user").fill("admin");
  await accessible(page);
  await button(page, "Add").click();
  const [secret, change] = await asked(2);
  expect(secret).toMatchObject({ path: "/api/v1/namespaces/shop/secrets", body: { stringData: { "key-1": KEY } } });
  const { name } = (secret?.body as Thing).metadata;
  expect(change).toMatchObject({
    path: WEB,
    body: {
      spec: {
        template: {
          spec: {
            accessCredentials: [
              {
                sshPublicKey: {
                  source: { secret: { secretName: name } },
                  propagationMethod: { qemuGuestAgent: { users: ["admin"] } },
                },
              },
            ],
          },
        },
      },
    },
  });
  await page.getByRole("row", { name: /SSH keys of admin/ }).waitFor();
});
