import { expect, test } from "vitest";
import { machine as played } from "../../test/objects.ts";
import type { VirtualMachine } from "../types/crds.ts";
import * as resize from "./resize.ts";
import { machines } from "./view.ts";

const NOW = 1_796_000_000_000;
const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@desk";

function web() {
  const [vm, vmi] = played({ project: "shop", name: "web", status: "Running", node: "node-1" });
  return machines([vm], vmi ? [vmi] : [])[0]!;
}

const of = (vm: VirtualMachine, domain: VirtualMachine["spec"]["template"]["spec"]["domain"]): VirtualMachine => ({
  ...vm,
  spec: { ...vm.spec, template: { spec: { ...vm.spec.template.spec, domain } } },
});

test("another size is taken as it is now, not as the machine once had it", () => {
  expect(resize.sized(web().vm, "u1.large")).toEqual({
    metadata: { resourceVersion: "7" },
    spec: { instancetype: { name: "u1.large", kind: null, revisionName: null } },
  });
});

test("a size of its own is sockets and memory, and says how far it goes without a restart", () => {
  const vm = of(web().vm, {
    devices: {},
    cpu: { sockets: 2, cores: 2, maxSockets: 8 },
    memory: { guest: "4Gi", maxGuest: "16Gi" },
  });
  expect(resize.ownSize(vm)).toEqual({ sockets: "2", mib: "4096", each: 2 });
  expect(resize.resized(vm, "4", "8192").spec.template.spec.domain).toEqual({
    cpu: { sockets: 4 },
    memory: { guest: "8192Mi" },
  });
  expect(resize.reach(vm)).toBe(
    "While it runs it can grow to 8 sockets and 16 GiB; anything else takes effect after the next restart.",
  );
  expect(resize.reach(web().vm)).toBe("It takes effect after the next restart.");
  expect(resize.socketsProblem("0")).toBe("A whole number, 1 or more.");
  expect(resize.memoryProblem("31")).toBe("An even number of MiB, 32 or more.");
  expect(resize.memoryProblem("4097")).toBe("An even number of MiB, 32 or more.");
  expect([resize.socketsProblem("4"), resize.memoryProblem("512")]).toEqual([undefined, undefined]);
});

test("what waits for a restart is the server's to say, of a machine that runs", () => {
  const machine = web();
  const conditions = [{ type: "RestartRequired", status: "True" as const, message: "spec.x" }];
  const waiting = { ...machine, vm: { ...machine.vm, status: { ...machine.vm.status, conditions } } };
  expect(resize.waitsForRestart(waiting)).toBe("spec.x");
  expect(resize.waitsForRestart({ ...waiting, vmi: undefined })).toBe("");
  expect(resize.waitsForRestart(machine)).toBe("");
});

test("a clone and an export are of a machine or of a snapshot", () => {
  const from = { project: "shop", kind: "machine" as const, name: "web" };
  expect(resize.cloned(from, "twin", NOW)).toMatchObject({
    metadata: { name: "twin-clone-tpaigw", namespace: "shop" },
    spec: {
      source: { apiGroup: "kubevirt.io", kind: "VirtualMachine", name: "web" },
      target: { apiGroup: "kubevirt.io", kind: "VirtualMachine", name: "twin" },
    },
  });
  expect(resize.exporting({ ...from, kind: "snapshot", name: "web-monday" }, NOW).spec).toEqual({
    source: { apiGroup: "snapshot.kubevirt.io", kind: "VirtualMachineSnapshot", name: "web-monday" },
  });
});

test("keys that a machine was created with are named by their comment, or by their end", () => {
  const { vm } = web();
  const userData = `#cloud-config\nssh_authorized_keys:\n  - "${KEY}"\n  - ${KEY.split(" ").slice(0, 2).join(" ")}\n`;
  const volumes = [{ name: "seed", cloudInitNoCloud: { userData } }];
  const seeded = { ...vm, spec: { ...vm.spec, template: { spec: { ...vm.spec.template.spec, volumes } } } };
  expect(resize.seededKeys(seeded)).toEqual(["ssh-ed25519 me@desk", "ssh-ed25519 …h2l9GKJl"]);
  expect(resize.seededKeys(vm)).toEqual([]);
});

test("keys are in a Secret that goes with the machine, beside the credentials that are there", () => {
  const { vm } = web();
  expect(resize.ways(vm)).toEqual(["agent", "cloud-init"]);
  const first = resize.withKeys(vm, `${KEY}\n\n${KEY}2`, "agent", "admin", NOW);
  expect(first.secret).toMatchObject({
    metadata: { namespace: "shop", ownerReferences: [{ kind: "VirtualMachine", name: "web", uid: vm.metadata.uid }] },
    stringData: { "key-1": KEY, "key-2": `${KEY}2` },
  });
  const name = first.secret.metadata.name;
  const added = {
    sshPublicKey: {
      source: { secret: { secretName: name } },
      propagationMethod: { qemuGuestAgent: { users: ["admin"] } },
    },
  };
  expect(first.patch.spec.template.spec.accessCredentials).toEqual([added]);
  const has = {
    ...vm,
    spec: { ...vm.spec, template: { spec: { ...vm.spec.template.spec, accessCredentials: [added] } } },
  };
  const second = resize.withKeys(has, KEY, "cloud-init", "", NOW).patch.spec.template.spec.accessCredentials;
  expect(second[1]?.sshPublicKey?.propagationMethod).toEqual({ noCloud: {} });
  const third = resize.withPassword(has, "admin", "correct horse", NOW);
  expect(third.secret.stringData).toEqual({ admin: "correct horse" });
  expect(third.patch.spec.template.spec.accessCredentials).toHaveLength(2);
  expect(resize.withoutCredential(has, 0).spec.template.spec.accessCredentials).toEqual([]);
  expect(resize.userProblem("a b")).toBe("A user of the guest, such as admin.");
  expect(resize.userProblem("admin")).toBeUndefined();
});
