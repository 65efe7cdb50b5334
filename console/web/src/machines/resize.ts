/**
 * Another size of a machine, as the server takes it.
 *
 * Why here: which change a guest takes up while it runs is the server's to say (docs/operate.md, "Change memory and CPU while the VM
 * runs"); the page says beforehand what it can know, and shows the condition RestartRequired afterwards. Pure. Route in: a machine.
 * Route out: merge patches.
 */
import type { VirtualMachine } from "../types/crds.ts";
import { bytes, quantity } from "../units.ts";
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
