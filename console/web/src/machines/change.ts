/**
 * Changes of a machine's disks and NICs, as the server takes them.
 *
 * Why here: what is written is decided in one place and tested without a page. A disk comes and goes by `addvolume` and `removevolume`, which
 * change the machine and the guest that runs (docs/operate.md, "Add a disk while the VM runs"); NICs by the machine's template, with
 * the version that was read, so that nobody's change is lost. Pure. Route in: objects. Route out: bodies and merge patches.
 */
import { isLabel } from "../parts/names.ts";
import type { DataVolume, Interface, Network, VirtualMachine, Volume } from "../types/crds.ts";
import type { Machine } from "./view.ts";

/** Label of images: docs/decisions/0055. */
const IMAGE = "console.sheaf.dev/image";
/** A disk's serial number, by which the guest finds it, has at most so many characters. */
const MOST_SERIAL = 20;

/** A part of a name that differs from second to second. */
export const stamp = (now: number): string => Math.floor(now / 1000).toString(36);

/** What is wrong with a name of a disk or NIC, which is also a part of names of objects. */
export function nameProblem(name: string, taken: readonly string[]): string | undefined {
  if (!isLabel(name, 40)) return "At most 40 lowercase letters, digits and hyphens.";
  return taken.includes(name) ? `The machine has ${name} already.` : undefined;
}

/** What is wrong with a size in GiB, of which there are `least` already. */
export function sizeProblem(size: string, least = 0): string | undefined {
  if (!/^[1-9][0-9]{0,5}$/.test(size)) return "A whole number of GiB, 1 or more.";
  return Number(size) > least ? undefined : `More than the ${Math.floor(least)} GiB that it has: a disk cannot shrink.`;
}

/** What a volume of a machine is in, as disks of the project are named. */
export const diskOf = (volume: Volume): string | undefined =>
  volume.dataVolume?.name ?? volume.persistentVolumeClaim?.claimName;

/** Whether a disk, or the medium of a drive, can come and go while the machine runs. */
export const isRemovable = (volume: Volume): boolean =>
  volume.dataVolume?.hotpluggable === true || volume.persistentVolumeClaim?.hotpluggable === true;

const volumesOf = (vm: VirtualMachine): Volume[] => vm.spec.template.spec.volumes ?? [];

/** Names that disks of a machine have. */
export const diskNames = (vm: VirtualMachine): string[] => [
  ...volumesOf(vm).map((volume) => volume.name),
  ...(vm.spec.template.spec.domain.devices?.disks ?? []).map((disk) => disk.name),
];

/** CD-ROM drives without a medium. */
export function emptyDrives(vm: VirtualMachine): string[] {
  const full = new Set(volumesOf(vm).map((volume) => volume.name));
  const disks = vm.spec.template.spec.domain.devices?.disks ?? [];
  return disks.filter((disk) => disk.cdrom && !full.has(disk.name)).map((disk) => disk.name);
}

const isIn = (project: string, volume: DataVolume): boolean =>
  volume.metadata.namespace === project && !volume.metadata.deletionTimestamp;

/** Disks of a project that no machine has, and that are no images. */
export function freeDisks(
  volumes: readonly DataVolume[],
  vms: readonly VirtualMachine[],
  project: string,
): DataVolume[] {
  const inProject = vms.filter((vm) => vm.metadata.namespace === project);
  const used = new Set(inProject.flatMap((vm) => volumesOf(vm).map(diskOf)));
  return volumes.filter(
    (volume) =>
      isIn(project, volume) &&
      !used.has(volume.metadata.name) &&
      volume.metadata.labels?.[IMAGE] === undefined &&
      !volume.metadata.ownerReferences?.some((owner) => owner.kind === "VirtualMachine") &&
      (volume.status?.phase === "Succeeded" || volume.status?.phase === "WaitForFirstConsumer"),
  );
}

/** An empty disk of its own; it stays when the machine is deleted. */
export function blank(project: string, name: string, size: string, kind: string): DataVolume {
  return {
    apiVersion: "cdi.kubevirt.io/v1beta1",
    kind: "DataVolume",
    metadata: { name, namespace: project },
    spec: {
      source: { blank: {} },
      storage: {
        resources: { requests: { storage: `${size}Gi` } },
        ...(kind ? { storageClassName: kind } : {}),
      },
    },
  };
}

/** Body of `addvolume`. On scsi: disks on virtio share four ports with NICs. */
export const adding = (name: string, disk: string) => ({
  name,
  disk: { disk: { bus: "scsi" }, serial: name.slice(0, MOST_SERIAL) },
  volumeSource: { dataVolume: { name: disk, hotpluggable: true } },
});

/** Body of `removevolume`. */
export const removing = (name: string) => ({ name });

/** A copy of an ISO for the drive of a machine, which goes with the machine: a disk is in one machine at a time. */
export function medium(machine: Machine, drive: string, image: string, now: number): DataVolume {
  const { metadata } = machine.vm;
  return {
    apiVersion: "cdi.kubevirt.io/v1beta1",
    kind: "DataVolume",
    metadata: {
      // Another one each time: the former copy goes when its drive has released it.
      name: `${machine.name}-${drive}-${stamp(now)}`,
      namespace: machine.project,
      ownerReferences: [
        { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: machine.name, uid: metadata.uid ?? "" },
      ],
    },
    spec: { source: { pvc: { name: image, namespace: machine.project } }, storage: {} },
  };
}

/** The copy that a drive has and that goes when it is ejected; one that the machine was created with stays. */
export function mediumToDelete(machine: Machine, volume: Volume, volumes: readonly DataVolume[]): string | undefined {
  const name = volume.dataVolume?.name;
  const isTemplate = machine.vm.spec.dataVolumeTemplates?.some((one) => one.metadata?.["name"] === name);
  const copy = volumes.find((one) => isIn(machine.project, one) && one.metadata.name === name);
  const isOwn = copy?.metadata.ownerReferences?.some((owner) => owner.uid === machine.vm.metadata.uid);
  return isOwn && !isTemplate ? name : undefined;
}

/** Merge patch of a claim that becomes larger. */
export const growing = (size: string) => ({ spec: { resources: { requests: { storage: `${size}Gi` } } } });

/** NICs and networks of a machine; one that names none has a private one. */
export function nicsOf(vm: VirtualMachine): { interfaces: Interface[]; networks: Network[] } {
  const { domain, networks } = vm.spec.template.spec;
  const interfaces = domain.devices?.interfaces;
  const isImplied = interfaces === undefined && domain.devices?.autoattachPodInterface !== false;
  return isImplied
    ? { interfaces: [{ name: "default", masquerade: {} }], networks: [{ name: "default", pod: {} }] }
    : { interfaces: interfaces ?? [], networks: networks ?? [] };
}

/** Merge patch with these NICs, of the machine as it was read. */
const patched = (vm: VirtualMachine, interfaces: Interface[], networks: Network[]) => ({
  metadata: { resourceVersion: vm.metadata.resourceVersion },
  spec: { template: { spec: { domain: { devices: { interfaces } }, networks } } },
});

/** A further NIC in a network, `namespace/name`. */
export function withNic(vm: VirtualMachine, name: string, network: string) {
  const { interfaces, networks } = nicsOf(vm);
  return patched(vm, [...interfaces, { name, bridge: {} }], [...networks, { name, multus: { networkName: network } }]);
}

/** The cable of a NIC, or the NIC itself, is pulled. */
export function withState(vm: VirtualMachine, name: string, state: "up" | "down" | "absent") {
  const { interfaces, networks } = nicsOf(vm);
  return patched(
    vm,
    interfaces.map((one) => (one.name === name ? { ...one, state } : one)),
    networks,
  );
}

/** Without a NIC, which no guest has any more. */
export function withoutNic(vm: VirtualMachine, name: string) {
  const { interfaces, networks } = nicsOf(vm);
  return patched(
    vm,
    interfaces.filter((one) => one.name !== name),
    networks.filter((one) => one.name !== name),
  );
}

/** How a NIC can be removed now: the guest is asked, or only the machine changes; the private network's cannot. */
export function removal(machine: Machine, name: string): "guest" | "machine" | "none" {
  const { interfaces, networks } = nicsOf(machine.vm);
  const isMultus = networks.some((one) => one.name === name && one.multus);
  if (!machine.vmi) return interfaces.length > 1 ? "machine" : "none";
  const isThere = machine.vmi.status?.interfaces?.some((one) => one.name === name) ?? false;
  const isAbsent = interfaces.some((one) => one.name === name && one.state === "absent");
  if (!isMultus) return "none";
  if (isAbsent) return isThere ? "none" : "machine";
  return "guest";
}
