/**
 * Another size, other credentials, a clone, an export: what the server is asked for.
 *
 * Why here: which change a guest takes up while it runs is the server's to say (docs/operate.md, "Change memory and CPU while the VM
 * runs"); the page says beforehand what it can know, and shows the condition RestartRequired afterwards. Pure. Route in: a machine.
 * Route out: merge patches and objects.
 */
import type { AccessCredential, VirtualMachine, VirtualMachineClone, VirtualMachineExport } from "../types/crds.ts";
import { bytes, quantity } from "../units.ts";
import { keys } from "./create/build.ts";
import { condition, type Machine } from "./view.ts";

const MIB = 2 ** 20;

/** Merge patch with another size of the cluster's; the machine takes it as it is now. */
export const sized = (vm: VirtualMachine, size: string) => ({
  metadata: { resourceVersion: vm.metadata.resourceVersion },
  spec: { instancetype: { name: size, kind: null, revisionName: null } },
});

/** Merge patch with processors and memory of a machine without a size of the cluster's. */
export const resized = (vm: VirtualMachine, sockets: string, mib: string) => ({
  metadata: { resourceVersion: vm.metadata.resourceVersion },
  spec: { template: { spec: { domain: { cpu: { sockets: Number(sockets) }, memory: { guest: `${mib}Mi` } } } } },
});

/** Sockets and MiB that a machine has in its template. */
export function ownSize(vm: VirtualMachine): { sockets: string; mib: string; each: number } {
  const { cpu, memory } = vm.spec.template.spec.domain;
  return {
    sockets: String(cpu?.sockets ?? 1),
    mib: String(Math.round((quantity(memory?.guest) ?? 1024 * MIB) / MIB)),
    each: (cpu?.cores ?? 1) * (cpu?.threads ?? 1),
  };
}

/** What is wrong with a number of sockets, and of MiB. */
export const socketsProblem = (text: string): string | undefined =>
  /^[1-9][0-9]{0,2}$/.test(text) ? undefined : "A whole number, 1 or more.";
export const memoryProblem = (text: string): string | undefined =>
  /^[1-9][0-9]{1,7}$/.test(text) && Number(text) >= 32 && Number(text) % 2 === 0
    ? undefined
    : "An even number of MiB, 32 or more.";

/** How far a machine can grow while it runs. */
export function reach(vm: VirtualMachine): string {
  const { cpu, memory } = vm.spec.template.spec.domain;
  const most = [
    cpu?.maxSockets ? `${cpu.maxSockets} sockets` : "",
    quantity(memory?.maxGuest) ? bytes(quantity(memory?.maxGuest)) : "",
  ].filter(Boolean);
  return most.length > 0
    ? `While it runs it can grow to ${most.join(" and ")}; anything else takes effect after the next restart.`
    : "It takes effect after the next restart.";
}

/** What waits for a restart, in the server's words; empty if nothing does. */
export function waitsForRestart(machine: Machine): string {
  const found = condition(machine.vm.status?.conditions, "RestartRequired");
  return machine.vmi && found?.status === "True" ? (found.message ?? "") : "";
}

const VM = { apiGroup: "kubevirt.io", kind: "VirtualMachine" };
const SNAPSHOT = { apiGroup: "snapshot.kubevirt.io", kind: "VirtualMachineSnapshot" };

/** What a clone or an export is made from. */
export interface From {
  project: string;
  kind: "machine" | "snapshot";
  name: string;
}

const source = (from: From) => ({ ...(from.kind === "machine" ? VM : SNAPSHOT), name: from.name });
const stamp = (now: number): string => Math.floor(now / 1000).toString(36);

/** A clone; the object goes with the machine that it makes. */
export const cloned = (from: From, target: string, now: number): VirtualMachineClone => ({
  apiVersion: "clone.kubevirt.io/v1beta1",
  kind: "VirtualMachineClone",
  metadata: { name: `${target}-clone-${stamp(now)}`, namespace: from.project },
  spec: { source: source(from), target: { ...VM, name: target } },
});

/** An export, for two hours; the server makes its token. */
export const exporting = (from: From, now: number): VirtualMachineExport => ({
  apiVersion: "export.kubevirt.io/v1beta1",
  kind: "VirtualMachineExport",
  metadata: { name: `${from.name}-download-${stamp(now)}`, namespace: from.project },
  spec: { source: source(from) },
});

/** How a key gets into the guest. */
export type Way = "agent" | "cloud-init";

/** The ways that a machine has: cloud-init needs its disk. */
export function ways(vm: VirtualMachine): Way[] {
  const volumes = vm.spec.template.spec.volumes ?? [];
  const isSeeded = volumes.some((volume) => volume.cloudInitNoCloud ?? volume.cloudInitConfigDrive);
  return isSeeded ? ["agent", "cloud-init"] : ["agent"];
}

const wayOf = (vm: VirtualMachine, way: Way, user: string) => {
  if (way === "agent") return { qemuGuestAgent: { users: [user] } };
  const isDrive = vm.spec.template.spec.volumes?.some((volume) => volume.cloudInitConfigDrive);
  return isDrive ? { configDrive: {} } : { noCloud: {} };
};

/** Merge patch with these credentials. */
const credentialed = (vm: VirtualMachine, accessCredentials: AccessCredential[]) => ({
  metadata: { resourceVersion: vm.metadata.resourceVersion },
  spec: { template: { spec: { accessCredentials } } },
});

export const credentialsOf = (vm: VirtualMachine): AccessCredential[] => vm.spec.template.spec.accessCredentials ?? [];

/** Public keys in cloud-init's data of a machine, as far as it has them inline: kind and comment, or the key's end. */
export function seededKeys(vm: VirtualMachine): string[] {
  const volumes = vm.spec.template.spec.volumes ?? [];
  const data = volumes.map(
    (volume) => volume.cloudInitNoCloud?.userData ?? volume.cloudInitConfigDrive?.userData ?? "",
  );
  const found = data.join("\n").matchAll(/\b((?:ssh-|ecdsa-|sk-)[-\w@.]+) ([A-Za-z0-9+/=]{16,})(?: ([^\s"']+))?/g);
  return [...found].map(([, kind = "", key = "", comment]) => `${kind} ${comment ?? `…${key.slice(-8)}`}`);
}

const secret = (vm: VirtualMachine, name: string, stringData: Record<string, string>) => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: {
    name,
    namespace: vm.metadata.namespace,
    ownerReferences: [
      { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: vm.metadata.name, uid: vm.metadata.uid },
    ],
  },
  type: "Opaque",
  stringData,
});

/** A Secret with keys, which goes with the machine, and the patch that names it. */
export function withKeys(vm: VirtualMachine, text: string, way: Way, user: string, now: number) {
  const secretName = `${vm.metadata.name}-keys-${stamp(now)}`;
  const data = Object.fromEntries(keys(text).map((key, index) => [`key-${index + 1}`, key]));
  const added: AccessCredential = {
    sshPublicKey: { source: { secret: { secretName } }, propagationMethod: wayOf(vm, way, user) },
  };
  return { secret: secret(vm, secretName, data), patch: credentialed(vm, [...credentialsOf(vm), added]) };
}

/** A Secret with a user's password, which goes with the machine, and the patch that names it. */
export function withPassword(vm: VirtualMachine, user: string, password: string, now: number) {
  const secretName = `${vm.metadata.name}-password-${stamp(now)}`;
  const added: AccessCredential = {
    userPassword: { source: { secret: { secretName } }, propagationMethod: { qemuGuestAgent: {} } },
  };
  return {
    secret: secret(vm, secretName, { [user]: password }),
    patch: credentialed(vm, [...credentialsOf(vm), added]),
  };
}

/** Without one of them; what it set stays in the guest. */
export const withoutCredential = (vm: VirtualMachine, index: number) =>
  credentialed(
    vm,
    credentialsOf(vm).filter((_one, at) => at !== index),
  );

/** A user of a guest, as Linux and Windows have them; a key of a Secret, too. */
export const userProblem = (user: string): string | undefined =>
  /^[A-Za-z_][-.A-Za-z0-9_]{0,31}$/.test(user) ? undefined : "A user of the guest, such as admin.";
