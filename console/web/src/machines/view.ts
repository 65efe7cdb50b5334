/**
 * A machine as lists show it, from a VirtualMachine and its VirtualMachineInstance.
 *
 * Why here: KubeVirt's words become those of the page in one place. Pure. Route in: objects. Route out: a [`Machine`].
 */
import type { Condition, VirtualMachine, VirtualMachineInstance } from "../types/crds.ts";
import { quantity } from "../units.ts";

/** How a state is coloured. */
export type Tone = "success" | "danger" | "warning" | "info" | "quiet";

export interface Machine {
  key: string;
  project: string;
  name: string;
  state: string;
  tone: Tone;
  /** Why it is in this state, in the server's words; empty if it needs no explanation. */
  why: string;
  node: string;
  address: string;
  /** `u1.small`, or what the template has. */
  size: string;
  cpus: number | undefined;
  memory: number | undefined;
  created: string | undefined;
  vm: VirtualMachine;
  vmi: VirtualMachineInstance | undefined;
}

type Printable = NonNullable<NonNullable<VirtualMachine["status"]>["printableStatus"]>;

const STATES: Record<Printable, [string, Tone]> = {
  Stopped: ["Stopped", "quiet"],
  Starting: ["Starting", "info"],
  Running: ["Running", "success"],
  Paused: ["Paused", "warning"],
  Stopping: ["Stopping", "info"],
  Provisioning: ["Preparing disks", "info"],
  WaitingForVolumeBinding: ["Preparing disks", "info"],
  DataVolumeError: ["Disk failed", "danger"],
  Terminating: ["Deleting", "info"],
  CrashLoopBackOff: ["Fails to run", "danger"],
  ErrorUnschedulable: ["No node fits", "danger"],
  ErrImagePull: ["Image not pulled", "danger"],
  ImagePullBackOff: ["Image not pulled", "danger"],
  Unknown: ["Not reported", "danger"],
};

/** The condition of a type. */
export function condition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((one) => one.type === type);
}

/** Whether a condition is True. */
export const holds = (conditions: readonly Condition[] | undefined, type: string): boolean =>
  condition(conditions, type)?.status === "True";

/** The first message that explains why a machine is not as it should be. */
function reason(vm: VirtualMachine, vmi: VirtualMachineInstance | undefined): string {
  const own = condition(vm.status?.conditions, "Failure");
  const candidates = [
    own?.status === "True" ? own : undefined,
    condition(vmi?.status?.conditions, "Paused"),
    ...["PodScheduled", "Synchronized", "Ready"]
      .map((type) => condition(vmi?.status?.conditions, type))
      .filter((one) => one?.status === "False"),
    condition(vm.status?.conditions, "Ready"),
  ];
  return candidates.find((one) => one?.message)?.message ?? "";
}

function build(vm: VirtualMachine, vmi: VirtualMachineInstance | undefined): Machine {
  const project = vm.metadata.namespace ?? "";
  const printable = vm.status?.printableStatus ?? (vmi ? "Starting" : "Stopped");
  const [state, tone] = STATES[printable] ?? [printable, "info"];
  const domain = (vmi?.spec ?? vm.spec.template?.spec)?.domain;
  const cpu = domain?.cpu;
  const cpus = cpu ? (cpu.sockets ?? 1) * (cpu.cores ?? 1) * (cpu.threads ?? 1) : undefined;
  const memory = quantity(domain?.memory?.guest);
  const address = vmi?.status?.interfaces?.find((one) => one.ipAddress)?.ipAddress ?? "";
  const isQuiet = tone === "success" || printable === "Stopped";
  return {
    key: `${project}/${vm.metadata.name}`,
    project,
    name: vm.metadata.name,
    state,
    tone,
    why: isQuiet ? "" : reason(vm, vmi),
    node: vmi?.status?.nodeName ?? "",
    address,
    size: vm.spec.instancetype?.name ?? "",
    cpus,
    memory,
    created: vm.metadata.creationTimestamp,
    vm,
    vmi,
  };
}

const known = new WeakMap<VirtualMachine, { vmi: VirtualMachineInstance | undefined; machine: Machine }>();

/** All machines. One whose objects are the same as before is the same value as before. */
export function machines(vms: readonly VirtualMachine[], vmis: readonly VirtualMachineInstance[]): Machine[] {
  const byKey = new Map(vmis.map((vmi) => [`${vmi.metadata.namespace}/${vmi.metadata.name}`, vmi]));
  return vms.map((vm) => {
    const vmi = byKey.get(`${vm.metadata.namespace}/${vm.metadata.name}`);
    const before = known.get(vm);
    if (before && before.vmi === vmi) return before.machine;
    const machine = build(vm, vmi);
    known.set(vm, { vmi, machine });
    return machine;
  });
}
