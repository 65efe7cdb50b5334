import { expect, test } from "vitest";
import { machine as played } from "../../test/objects.ts";
import type { DataVolume, VirtualMachine } from "../types/crds.ts";
import { fates } from "./acts.ts";
import * as change from "./change.ts";
import { machines } from "./view.ts";

/** web of the project shop, which runs unless it is said otherwise. */
function web(status: "Running" | "Stopped" = "Running") {
  const [vm, vmi] = played({ project: "shop", name: "web", status, node: "node-1" });
  return machines([vm], vmi ? [vmi] : [])[0]!;
}

/** With a drive, and a disk that was added. */
function withMore(vm: VirtualMachine): VirtualMachine {
  const { spec } = vm.spec.template;
  const { devices } = spec.domain;
  const disks = [...(devices?.disks ?? []), { name: "cd", cdrom: { bus: "sata" as const } }, { name: "data" }];
  const volumes = [...(spec.volumes ?? []), { name: "data", dataVolume: { name: "web-data", hotpluggable: true } }];
  return {
    ...vm,
    spec: {
      ...vm.spec,
      template: { spec: { ...spec, volumes, domain: { ...spec.domain, devices: { ...devices, disks } } } },
    },
  };
}

test("a disk is added so that the guest finds it by its name, and can be removed again", () => {
  expect(change.adding("a-very-long-name-of-a-disk", "web-data")).toEqual({
    name: "a-very-long-name-of-a-disk",
    disk: { disk: { bus: "scsi" }, serial: "a-very-long-name-of-" },
    volumeSource: { dataVolume: { name: "web-data", hotpluggable: true } },
  });
  expect(change.removing("data")).toEqual({ name: "data" });
  expect(change.blank("shop", "web-data", "20", "fast").spec).toEqual({
    source: { blank: {} },
    storage: { resources: { requests: { storage: "20Gi" } }, storageClassName: "fast" },
  });
  expect(change.blank("shop", "web-data", "20", "").spec.storage).toEqual({
    resources: { requests: { storage: "20Gi" } },
  });
});

test("names that are taken and sizes that shrink are refused with the reason", () => {
  expect(change.nameProblem("root", change.diskNames(web().vm))).toBe("The machine has root already.");
  expect(change.nameProblem("Data", [])).toBe("At most 40 lowercase letters, digits and hyphens.");
  expect(change.nameProblem("data", change.diskNames(web().vm))).toBeUndefined();
  expect(change.sizeProblem("10", 10)).toBe("More than the 10 GiB that it has: a disk cannot shrink.");
  expect(change.sizeProblem("1.5")).toBe("A whole number of GiB, 1 or more.");
  expect(change.sizeProblem("11", 10)).toBeUndefined();
  expect(change.growing("11")).toEqual({ spec: { resources: { requests: { storage: "11Gi" } } } });
});

test("only what was added can be removed, and a drive without a volume is empty", () => {
  const vm = withMore(web().vm);
  const removable = vm.spec.template.spec.volumes?.filter(change.isRemovable).map((volume) => volume.name);
  expect(removable).toEqual(["data"]);
  expect(change.emptyDrives(vm)).toEqual(["cd"]);
});

test("free disks are those of the project that no machine has and that are no images", () => {
  const disk = (name: string, more: Partial<DataVolume["metadata"]> = {}, project = "shop"): DataVolume => {
    const made = change.blank(project, name, "1", "");
    return { ...made, metadata: { ...made.metadata, ...more }, status: { phase: "Succeeded" } };
  };
  const owner = { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "web", uid: "u" };
  const volumes = [
    disk("free"),
    disk("web-data"),
    disk("debian", { labels: { "console.sheaf.dev/image": "disk" } }),
    disk("web-cd-x", { ownerReferences: [owner] }),
    disk("leaving", { deletionTimestamp: "2026-11-30T00:00:00Z" }),
    disk("elsewhere", {}, "lab"),
    { ...disk("filling"), status: { phase: "ImportInProgress" as const } },
  ];
  const found = change.freeDisks(volumes, [withMore(web().vm)], "shop");
  expect(found.map((one) => one.metadata.name)).toEqual(["free"]);
});

test("a medium is a copy that the machine owns and that is deleted when it is ejected", () => {
  const machine = web();
  const copy = change.medium(machine, "cd", "debian-iso", 1_796_000_000_000);
  expect(copy.spec).toEqual({ source: { pvc: { name: "debian-iso", namespace: "shop" } }, storage: {} });
  expect(copy.metadata.ownerReferences?.[0]).toMatchObject({ kind: "VirtualMachine", uid: machine.vm.metadata.uid });
  const volume = { name: "cd", dataVolume: { name: copy.metadata.name, hotpluggable: true } };
  expect(change.mediumToDelete(machine, volume, [copy])).toBe(copy.metadata.name);
  const vm = withMore(machine.vm);
  vm.spec.template.spec.volumes?.push(volume);
  expect(fates({ ...machine, vm }).find((fate) => fate.disk === "cd")).toEqual({
    disk: "cd",
    isLost: false,
    why: `${copy.metadata.name} is a copy of an ISO, which goes with the machine; the ISO stays`,
  });
  const root = { name: "root", dataVolume: { name: "web-root" } };
  expect(change.mediumToDelete(machine, root, [{ ...copy, metadata: { ...copy.metadata, name: "web-root" } }])).toBe(
    undefined,
  );
});

test("a NIC is added beside the private one that a machine has without naming it, and nobody's change is lost", () => {
  const { vm } = web();
  const bare: VirtualMachine = {
    ...vm,
    spec: { ...vm.spec, template: { spec: { domain: { devices: {} } } } },
  };
  expect(change.withNic(bare, "lan", "default/lan100")).toEqual({
    metadata: { resourceVersion: "7" },
    spec: {
      template: {
        spec: {
          domain: {
            devices: {
              interfaces: [
                { name: "default", masquerade: {} },
                { name: "lan", bridge: {} },
              ],
            },
          },
          networks: [
            { name: "default", pod: {} },
            { name: "lan", multus: { networkName: "default/lan100" } },
          ],
        },
      },
    },
  });
});

test("a NIC leaves the guest before it leaves the machine, and the private network's stays", () => {
  const running = web();
  const stopped = web("Stopped");
  expect(change.removal(running, "default")).toBe("none");
  expect(change.removal(stopped, "default")).toBe("none");
  const added = change.withNic(running.vm, "lan", "default/lan100");
  const has = (state?: "absent", isThere = true) => {
    const { spec } = running.vm.spec.template;
    const interfaces = added.spec.template.spec.domain.devices.interfaces.map((one) =>
      one.name === "lan" && state ? { ...one, state } : one,
    );
    const template = {
      spec: {
        ...spec,
        domain: { ...spec.domain, devices: { interfaces } },
        networks: added.spec.template.spec.networks,
      },
    };
    const vmi = { ...running.vmi!, status: { ...running.vmi!.status, interfaces: isThere ? [{ name: "lan" }] : [] } };
    return { ...running, vm: { ...running.vm, spec: { ...running.vm.spec, template } }, vmi };
  };
  expect(change.removal(has(), "lan")).toBe("guest");
  expect(change.removal(has("absent"), "lan")).toBe("none");
  expect(change.removal(has("absent", false), "lan")).toBe("machine");
  expect(change.removal({ ...has(), vmi: undefined }, "lan")).toBe("machine");
  const state = change.withState(has().vm, "lan", "absent").spec.template.spec.domain.devices.interfaces;
  expect(state[1]).toEqual({ name: "lan", bridge: {}, state: "absent" });
  const left = change.withoutNic(has().vm, "lan").spec.template.spec;
  expect([left.domain.devices.interfaces.length, left.networks.length]).toEqual([1, 1]);
});
