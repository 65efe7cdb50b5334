/**
 * Keys and passwords of a machine: Secrets that go with it, and what its template says of them.
 *
 * Why here: the console writes Secrets and never reads one, so each addition is a Secret of its own, and what is in it is not shown
 * again. Pure. Route in: a machine, what was typed. Route out: a Secret and a merge patch (docs/vms.md, "Access credentials").
 */
import type { AccessCredential, VirtualMachine } from "../types/crds.ts";
import { stamp } from "./change.ts";
import { keys } from "./create/build.ts";

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
